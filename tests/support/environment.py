"""The environment of processes of tests: it has no variable of ours but those of the test."""

from __future__ import annotations

import os


def own_environment() -> dict[str, str]:
    """Return this process's environment without KAMACACHE_*."""
    return {name: value for name, value in os.environ.items() if not name.startswith("KAMACACHE_")}
