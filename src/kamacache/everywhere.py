"""What a node does in all of its groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kamacache.decorator import FunctionMethods
from kamacache.tags import check_tag

if TYPE_CHECKING:
    from kamacache.groups import Groups
    from kamacache.member import Member
    from kamacache.options import NodeOptions
    from kamacache.runtime import Runtime


class EverywhereMethods(FunctionMethods):
    """Delete by tag in all groups of the node, and show what they do."""

    if TYPE_CHECKING:
        _groups: Groups
        _runtime: Runtime
        _options: NodeOptions

        @property
        def address(self) -> str | None: ...
        def members(self) -> list[Member]: ...

    def delete_tag(self, tag: str) -> bool:
        """Delete everything that was kept with a tag, on every node, in each group that this node has.

        Return True if every node has confirmed for every group. It costs one delete for each; see Group.delete_tag.
        """
        check_tag(tag)
        confirmed = [group.delete_tag(tag) for group in list(self.groups.values())]  # whatever one of them says
        return all(confirmed)

    def metrics(self, *, machine: bool = False) -> str:
        """Return the metrics of this node, for the /metrics of an application, in the text format of Prometheus 0.0.4.

        - `machine`: add those of the other members that have a Unix socket here, as all of local:// do. Each sample has
          the label `member` then, the address of its node. A member that does not answer within 250 ms is left out.
        """
        from kamacache.serve.metrics import render  # noqa: PLC0415 - few processes show them

        own = render(self._groups.cores, self._runtime)
        if not machine:
            return own
        from kamacache.serve.scrape import gather, merged  # noqa: PLC0415 - the same

        others = [member.address for member in self.members()[1:] if (member.address or "").startswith("unix:")]
        pages = gather([address for address in others if address], self._options.protection.sent)
        return merged({self.address or "": own, **pages})

    async def adelete_tag(self, tag: str) -> bool:
        """Do what delete_tag does, without blocking the event loop."""
        check_tag(tag)
        confirmed = [await group.adelete_tag(tag) for group in list(self.groups.values())]
        return all(confirmed)
