"""What a node does in all of its groups."""

from __future__ import annotations

from kamacache.decorator import FunctionMethods
from kamacache.tags import check_tag


class EverywhereMethods(FunctionMethods):
    """Delete by tag in all groups of the node."""

    def delete_tag(self, tag: str) -> bool:
        """Delete everything that was kept with a tag, on every node, in each group that this node has.

        Return True if every node has confirmed for every group. It costs one delete for each; see Group.delete_tag.
        """
        check_tag(tag)
        confirmed = [group.delete_tag(tag) for group in list(self.groups.values())]  # whatever one of them says
        return all(confirmed)

    async def adelete_tag(self, tag: str) -> bool:
        """Do what delete_tag does, without blocking the event loop."""
        check_tag(tag)
        confirmed = [await group.adelete_tag(tag) for group in list(self.groups.values())]
        return all(confirmed)
