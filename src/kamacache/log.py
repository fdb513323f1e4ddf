"""The logger `kamacache`, looked up at the first word: importing logging costs as much as all of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging

    log = logging.getLogger("kamacache")
else:

    class _Log:
        def __getattr__(self, method: str) -> Any:
            import logging  # noqa: PLC0415 - see above

            return getattr(logging.getLogger("kamacache"), method)

    log = _Log()
