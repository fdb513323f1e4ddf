"""Load prices from a slow source; in place of this, query your database."""

from __future__ import annotations

import logging
import time

log = logging.getLogger(__name__)


def load_price(key: str) -> dict[str, float] | None:
    """Return a price after half a second, as slow sources do; None: there is no such item."""
    time.sleep(0.5)
    log.info("loaded %s", key)
    return None if key.startswith("no-") else {"price": len(key) + 0.99}
