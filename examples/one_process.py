"""Cache values in one process: a loaded value stays in memory until its ttl ends or the program deletes it."""

from __future__ import annotations

import time

import kamacache

CAPITALS = {"fr": "Paris", "it": "Rome", "kz": "Astana", "pt": "Lisbon"}  # in place of a database

node = kamacache.Node()


def load_capitals(countries: list[str]) -> dict[str, str]:
    """Load several at once, which takes the source no longer than one."""
    time.sleep(0.2)
    print(f"  the source was asked for {', '.join(sorted(countries))}")
    return {country: CAPITALS[country] for country in countries if country in CAPITALS}


@node.loader("capitals", load_many=load_capitals, codec="text", ttl="1h", max_bytes="16 MiB")
def capitals(country: str) -> str | None:
    """Return the capital, or None: there is no such country."""
    time.sleep(0.2)
    print(f"  the source was asked for {country}")
    return CAPITALS.get(country)


if __name__ == "__main__":
    with node:
        print("fr:", capitals.get("fr"))
        print("fr:", capitals.get("fr"))  # from memory
        print("xx:", capitals.get("xx"))  # absent, which is remembered too

        print("many:", capitals.get_many(["fr", "it", "kz", "xx"]))  # the two that are missing, in one request

        CAPITALS["kz"] = "Nur-Sultan"  # change the source first,
        capitals.delete("kz")  # then the cache: the next get loads again
        print("kz:", capitals.get("kz"))

        capitals.set("fr", "Versailles", ttl="100ms")  # valid for that time; then a get asks the source
        print("fr:", capitals.get("fr"))
        time.sleep(0.2)
        print("fr:", capitals.get("fr"))

        stats = capitals.stats()
        print(f"{stats.gets} gets: {stats.hits} hits, {stats.absent} known to be absent, {stats.loads} loads")
