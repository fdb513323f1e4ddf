"""The base of every part of a group: its name, its life, and how it starts its node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

from kamacache._engine import Getter
from kamacache.errors import KamaCacheError
from kamacache.steps import needed_loop

if TYPE_CHECKING:  # imported when a group is made
    from kamacache.core import GroupCore
    from kamacache.load.given import Given

V = TypeVar("V")


class GroupBase(Getter[V]):
    """Hold the core of a group in the life of its node."""

    # No __dict__: with one, the interpreter would look into it before each call of a method.
    __slots__ = ("__weakref__", "_aensure", "_core", "_ensure", "_leave", "_name")

    def __new__(cls, _name: str, core: GroupCore, **_hooks: Any) -> Self:
        """Bind get to the store of this life of the node."""
        return super().__new__(cls, core.store)

    def __init__(
        self,
        name: str,
        core: GroupCore,
        *,
        ensure: Callable[[], None],
        aensure: Callable[[], Awaitable[None]],
        leave: Callable[[Any, KamaCacheError], None],
    ) -> None:
        self._name = name
        self._ensure = ensure  # starts the node if that is still to be done
        self._aensure = aensure
        self._leave = leave
        self._live(core)

    def _live(self, core: GroupCore) -> None:
        """Begin a life: when made, and again with each new life of the node."""
        core.store.on_miss = self._miss
        self._core = core
        self._bind(core.store)

    def __repr__(self) -> str:
        core = self._core
        return f"<kamacache.Group {self.name!r} {core.options.codec!r}{' closed' if core.misses.closed else ''}>"

    def __setattr__(self, name: str, value: object) -> None:
        if name not in GroupBase.__slots__:
            self.__delattr__(name)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"{name!r} of a Group cannot be replaced: in a test patch the class, mock.patch.object(Group, {name!r}), "
            "or make the group with a loader of the test's own"
        )

    def __deepcopy__(self, _: object = None) -> Self:
        return self

    __copy__ = __deepcopy__

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Group cannot be pickled: make it in each process, with the same node.group(...) call")

    @property
    def name(self) -> str:
        """Return the name of the group."""
        return self._name

    @property
    def loader(self) -> Any:
        """Return the function that loads, as it was given; None if there is none."""
        single, many = self._core.misses.loader.given
        return single or many

    def _miss(self, key: str, peeked: bool = False, given: Given | None = None) -> Any:
        """Answer a get of a key that the store does not have, loading it with `given` or the group's loader."""
        misses = self._core.misses
        if not misses.alone:
            try:
                self._ensure()
            except BaseException:
                self._core.gave_up(1)
                raise
        return misses.get(key, peeked, given)

    async def _aensure_for(self, keys: int) -> None:
        try:
            needed_loop()
            await self._aensure()
        except BaseException:
            self._core.gave_up(keys)
            raise
