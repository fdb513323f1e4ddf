"""Use KamaCache as a Redis client does, in any language."""

from __future__ import annotations

import json
import os

import redis

URL = os.environ.get(
    "CACHE_URL", "redis://:let-me-in@127.0.0.1:6390"
)  # the client authenticates with the password in it


def main() -> None:
    """Use each command once."""
    with redis.Redis.from_url(URL, decode_responses=True) as cache:
        book = cache.get("books:1")  # group:key; the node loads it if no node has it
        print("GET books:1 is", book)
        print("its title:", json.loads(str(book))["title"])
        print("GET books:99 is", cache.get("books:99"))  # nil: the source has no such book
        print("MGET is", cache.mget("books:1", "books:2", "books:99"))  # those missing are loaded together

        cache.set(
            "sessions:ada", "logged in", ex=60
        )  # set on every node when it returns; without EX the ttl of the group
        print("GET sessions:ada is", cache.get("sessions:ada"), "for", cache.ttl("sessions:ada"), "s")
        print("DEL says", cache.delete("sessions:ada", "books:1"))  # the number of keys that it named
        print("GET sessions:ada is", cache.get("sessions:ada"))
        print("EXISTS books:1 says", cache.exists("books:1"))  # looks into memory, loads nothing

        for key in ("books:one", "films:1", "1"):
            try:
                cache.get(key)
            except redis.ResponseError as error:  # the connection stays good
                print(f"GET {key} fails: {error}")


if __name__ == "__main__":
    main()
