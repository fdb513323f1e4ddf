"""Places in the program: what made a node, to notice that a module or a cell ran again, and the names of functions."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import PurePath
from types import CodeType
from typing import TYPE_CHECKING, Any, NamedTuple

from kamacache.errors import encodable
from kamacache.log import log

if TYPE_CHECKING:
    from kamacache.node import Node

_MAIN = ("__main__", "__mp_main__")  # the program, as itself and as children of multiprocessing run it
_programs: dict[str, str] = {}  # their names: Python takes __file__ away when a program has run to its end
_FUNCTION = 2  # CO_NEWLOCALS: a flag of functions, which modules and the cells of notebooks lack


class Origin(NamedTuple):
    """The module that made a node, and the module or cell that ran at the time, with its code."""

    module: str
    running: str
    code: CodeType | None

    @classmethod
    def here(cls) -> Origin:
        """Return the origin of the call that came into this package."""
        frame = sys._getframe()  # noqa: SLF001 - the documented way to the caller
        module = ""
        while frame.f_back is not None and (not module or module.startswith("kamacache.")):
            frame = frame.f_back
            module = str(frame.f_globals.get("__name__", ""))
        top = frame
        while top.f_code.co_flags & _FUNCTION:
            if top.f_back is None:  # a thread's first function
                return cls(module, "", None)
            top = top.f_back
        return cls(module, str(top.f_globals.get("__name__", "")), top.f_code)

    def repeats(self, other: Origin) -> bool:
        """Return whether the same module made both, and its code has run again in between.

        Each import, reload or run of a cell has a code object of its own.
        """
        return self[:2] == other[:2] and None not in (self.code, other.code) and self.code is not other.code


def name_of(thing: Any) -> str:
    """Return the module and the qualified name of a function or class, alike in each process that has the same code.

    It can be written in UTF-8, also if the name of the program's file cannot.
    """
    module = str(getattr(thing, "__module__", None) or type(thing).__module__)
    if module in _MAIN:  # one file may be run by one process, and imported by another
        main = sys.modules.get(module)
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        if spec is not None or file:
            _programs[module] = spec.name.removesuffix(".__main__") if spec is not None else PurePath(str(file)).stem
        module = _programs.get(module, module)
    return encodable(f"{module}.{thing.__qualname__}")


def warn_of_twins(node: Node, others: Iterable[Node]) -> None:
    """Log a warning for each open node of the same registry and service that an earlier run of this code made."""
    for other in others:
        mine, its = node._options, other._options  # noqa: SLF001 - this file is the node's
        same = (mine.registry, mine.service) == (its.registry, its.service)
        if same and not other._closed and node._origin.repeats(other._origin):  # noqa: SLF001 - the same
            log.warning(
                "%(code)s has run again and made another node of service %(service)r, while %(node)s goes on with the "
                "old loaders and owns a part of the keys; call node.close() on a node before you replace it",
                code=node._origin.module,  # noqa: SLF001 - the same
                service=mine.service,
                node=repr(other),
            )
