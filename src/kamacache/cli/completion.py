"""Complete names of files, and whole descriptions, in the shells that click supports."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, FishComplete, add_completion_class


def files(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Leave the rest of a name to the shell, as `shell_complete` of an option."""
    return [CompletionItem(incomplete, type="file")]


@add_completion_class
class Fish(FishComplete):
    """Split the type of a completion off at the first comma alone: descriptions have commas, too."""

    source_template = FishComplete.source_template.replace('string split ","', 'string split --max 1 ","')
