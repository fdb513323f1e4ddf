"""What processes of tests find in their environment: nothing of ours that a test did not give them."""

from __future__ import annotations

import os


def own_environment() -> dict[str, str]:
    """This process's environment without KAMACACHE_*."""
    return {name: value for name, value in os.environ.items() if not name.startswith("KAMACACHE_")}
