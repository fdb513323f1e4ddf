"""Look up the logger `kamacache` at the first message: importing logging takes as long as importing this package."""

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
