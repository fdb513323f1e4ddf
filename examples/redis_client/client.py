"""A client that knows Redis and nothing of KamaCache, in the place of one in another language."""

from __future__ import annotations

import json
import os

import redis

URL = os.environ.get("CACHE_URL", "redis://:let-me-in@127.0.0.1:6390")  # the client says AUTH with what is in it


def main() -> None:
    """Use each command once."""
    with redis.Redis.from_url(URL, decode_responses=True) as cache:
        book = cache.get("books:1")  # group:key; reads through: loaded where nobody has it
        print("GET books:1 is", book)
        print("its title:", json.loads(str(book))["title"])
        print("GET books:99 is", cache.get("books:99"))  # nil: the source has no such book
        print("MGET is", cache.mget("books:1", "books:2", "books:99"))  # those missing are loaded together

        cache.set("sessions:ada", "logged in", ex=60)  # everywhere, when it says OK; without EX the group's ttl
        print("GET sessions:ada is", cache.get("sessions:ada"), "for", cache.ttl("sessions:ada"), "s")
        print("DEL says", cache.delete("sessions:ada", "books:1"))  # how many it was told to forget
        print("GET sessions:ada is", cache.get("sessions:ada"))
        print("EXISTS books:1 says", cache.exists("books:1"))  # looks into memory, loads nothing

        for key in ("books:one", "films:1", "1"):
            try:
                cache.get(key)
            except redis.ResponseError as error:  # the connection stays good
                print(f"GET {key} fails: {error}")


if __name__ == "__main__":
    main()
