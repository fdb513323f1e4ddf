"""Show all members, groups and hot keys at a terminal, again and again: `kamacache top`."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any, NoReturn

import click

from kamacache.cli import output
from kamacache.cli.client import Client, OutOfReach, Refused
from kamacache.cli.finding import Place, places
from kamacache.errors import KamaCacheError
from kamacache.process import printable
from kamacache.units import parse_duration

_BARS = "▁▂▃▄▅▆▇█"
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # another screen without a cursor, and back
_HOME, _REST_OF_LINE, _REST = "\x1b[H", "\x1b[K", "\x1b[J"
_QUITS = (b"q", b"Q", b"\x1b", b"")
_PICTURE = 60  # characters of a picture at most
_LABEL = 22  # characters beside a picture
_KEY = 48
_GROUPS = "GROUP|HIT RATIO|GETS/S|LOADS/S|LOAD MEAN|99 % BELOW|ERRORS|ENTRIES|MEMORY|NEAR"
_KEYS = "HOT KEY|GROUP|SHARE|GETS/S"
_MEMBERS = "MEMBER|STATE|KEYS|HIT RATIO|GETS/S|LOADS/S|ENTRIES|MEMORY|UP|VERSION|PROCESS"
_BOLD = "\x1b[1m"
_PLAIN = "\x1b[0m"

Document = dict[str, Any]


@click.command()
@click.option("--once", is_flag=True, help="Print one picture and end, as without a terminal.")
@click.option("--json", "as_json", is_flag=True, help="One JSON value, for machines.")
@click.option("--every", default="2s", show_default=True, metavar="TIME", help="The pause between two pictures.")
@places
def top(place: Place, once: bool, as_json: bool, every: str) -> None:
    """Show members, groups and hot keys of all members, live. q or Ctrl-C ends it.

    One node asks the others; --node says which one. The web page of each node shows the same.
    """
    pause = parse_duration(every, name="--every", least=0.1)
    with closing(Source(place)) as source:
        if as_json:
            output.show_json(source.next())
        elif once or not sys.stdout.isatty():
            for line in frame(source.next(), shutil.get_terminal_size((120, 0)).columns):
                click.echo(line.text)
        else:
            watch(source, pause)


class Source:
    """The document of a node, over one connection for as long as that lasts."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._client: Client | None = None

    def next(self) -> Document:
        """Return the document of now. Raises OutOfReach, Refused."""
        if self._client is None:
            self._client = self._place.connect()
        try:
            document: Document = self._client.ask_json("KC.STATUS")
        except OutOfReach:
            self.close()  # the next time another member may answer
            raise
        return document

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._client is not None:
            self._client.close()
            self._client = None


class Line:
    """One line of a picture, without characters that a terminal obeys: keys and names may hold anything."""

    def __init__(self, text: str = "", *, bold: bool = False) -> None:
        self.text = printable(text, "\ufffd")
        self.bold = bold

    def cut(self, width: int, *, styled: bool) -> str:
        """Return what a terminal of this width shows of it."""
        text = output.clip(self.text, width)
        return f"{_BOLD}{text}{_PLAIN}" if self.bold and styled else text


def watch(source: Source, pause: float) -> None:
    """Draw again and again, until q, Ctrl-C, or the end of standard input. Raises OutOfReach at the first picture."""
    document = source.next()
    styled = not os.environ.get("NO_COLOR")
    with _screen() as pressed:
        lost = ""
        while True:
            size = shutil.get_terminal_size()
            lines = [Line(f"no answer: {lost}", bold=True)] if lost else []
            rows = size.lines - 1  # the last one stays free for the cursor
            lines += frame(document, size.columns, rows - len(lines))
            shown = [line.cut(size.columns, styled=styled) for line in lines[:rows]]
            drawn = "".join(f"{line}{_REST_OF_LINE}\r\n" for line in shown)
            click.echo(_HOME + drawn + _REST, nl=False, color=True)
            if pressed(pause):
                return
            try:
                document, lost = source.next(), ""
            except (OutOfReach, Refused, KamaCacheError) as error:
                lost = str(error)


@contextmanager
def _screen() -> Iterator[Callable[[float], bool]]:
    """Take the terminal. Yield a function that waits, and returns True once a key that ends was pressed."""
    with _raised_signals(), _other_screen():
        if not sys.stdin.isatty():
            yield _slept
            return
        import termios  # noqa: PLC0415 - there is a terminal
        import tty  # noqa: PLC0415 - the same

        keyboard = sys.stdin.fileno()
        before = termios.tcgetattr(keyboard)

        def pressed(pause: float) -> bool:
            until = time.monotonic() + pause
            while (left := until - time.monotonic()) > 0:
                ready, _, _ = select.select([keyboard], [], [], left)
                if ready and os.read(keyboard, 1) in _QUITS:
                    return True
            return False

        try:
            tty.setcbreak(keyboard)
            yield pressed
        finally:
            with suppress(termios.error):  # it is gone
                termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


@contextmanager
def _raised_signals() -> Iterator[None]:
    """Have signals that would end the process at once raise SystemExit, once, so that the terminal is restored."""

    def end(number: int, _: object) -> NoReturn:
        restore()
        raise SystemExit(128 + number)  # as a shell has it

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:  # as nohup has it
                signal.signal(number, end)
        yield
    finally:
        restore()


@contextmanager
def _other_screen() -> Iterator[None]:
    try:
        click.echo(_ENTER, nl=False, color=True)
        yield
    finally:
        try:
            click.echo(_LEAVE, nl=False, color=True)
        except OSError:  # the terminal is gone; what is left is written at the exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _slept(pause: float) -> bool:
    time.sleep(pause)
    return False


def frame(document: Document, width: int, height: int | None = None) -> list[Line]:
    """Return a picture of a document for a terminal of this width, and of this height if there is one."""
    answering = sum(member["answers"] for member in document["members"])
    clock = time.strftime("%H:%M:%S", time.localtime(document["clock"]))
    registry = document["registry"] or "none"
    title = f"KamaCache  {document['service']}  {answering} of {len(document['members'])} members answer"
    top = [Line(f"{title}  registry {registry}  {clock}", bold=True), Line()]
    top += [Line(line) for line in _pictures(document, width)]
    groups = sorted(document["groups"], key=lambda group: -group["rate"])
    tables = [
        _table(_GROUPS, [_group(group) for group in groups], range(1, 10)),
        _table(_KEYS, [_hot(key) for key in document["hot"]], (2, 3)) if document["hot"] else [],
        _table(_MEMBERS, [_member(member) for member in document["members"]], range(2, 9)),
    ]
    sections = [list(_troubles(document)), *(table[1:] for table in tables)]
    heads = [[], *([Line(), *table[:1]] if table else [] for table in tables)]
    if height is not None:
        sections = _shortened(sections, height - len(top) - sum(map(len, heads)))
    return [*top, *(line for head, section in zip(heads, sections, strict=True) for line in (*head, *section))]


def _shortened(sections: list[list[Line]], room: int) -> list[list[Line]]:
    """Share so many lines out: a section that needs fewer than its part leaves the rest to the others."""
    short: dict[int, list[Line]] = {}
    for place in sorted(range(len(sections)), key=lambda place: len(sections[place])):
        lines, part = sections[place], max(1, room // (len(sections) - len(short)))
        if len(lines) > part:
            lines = [*lines[: part - 1], Line(f"… and {len(lines) - part + 1:,} more")]
        short[place] = lines
        room -= len(lines)
    return [short[place] for place in range(len(sections))]


def _table(head: str, rows: list[list[str]], right: Container[int]) -> list[Line]:
    names, *lines = output.columns(head.split("|"), rows, right=right)
    return [Line(names, bold=True), *(Line(line) for line in lines)]


def _pictures(document: Document, width: int) -> Iterator[str]:
    history, minute = document["history"], round(60 / document["step"])
    room = max(10, min(_PICTURE, width - _LABEL - 30))
    ratios = [memory / gets if gets else 0.0 for memory, gets in zip(history["memory"], history["gets"], strict=True)]
    failed = sum(history["errors"][-minute:])
    stats = [group["stats"] for group in document["groups"]]
    used, most = sum(one["bytes"] for one in stats), sum(one["max_bytes"] for one in stats)
    near = sum(one["near_bytes"] for one in stats)
    errors = f"{failed:,} errors in a minute" if failed else ""
    for label, now, values, limit, more in (
        ("hit ratio", _ratio(document["hit_rate"]), ratios, 1.0, ""),
        ("gets/s", _number(document["rate"]), history["gets"], 0, f"{sum(history['gets']):,} in five minutes"),
        ("loads/s", _number(document["load_rate"]), history["loads"], 0, errors),
        ("memory", output.size(used), history["bytes"], most, f"of {output.size(most)}, {output.size(near)} near"),
    ):
        yield f"{label:<10}{now:>10}  {spark(values[-room:], limit)}  {more}".rstrip()


def spark(values: Sequence[float], limit: float = 0) -> str:
    """Return a picture of numbers from 0 to `limit`, or to the greatest of them."""
    most = limit or max(values, default=0)
    if not most:
        return " " * len(values)
    return "".join(" " if value <= 0 else _BARS[min(7, int(value / most * 8))] for value in values)


def _troubles(document: Document) -> Iterator[Line]:
    for member in document["members"]:
        for trouble in member.get("troubles", ()):
            yield Line(f"! {member['address'] or 'this node'}: {trouble}", bold=True)
        if not member["answers"] and member["error"]:
            yield Line(f"! {member['error']}", bold=True)


def _ratio(part: float | None) -> str:
    return "-" if part is None else f"{part:.1%}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or not value else f"{value:.2g}"  # noqa: PLR2004 - as people write it


def _seconds(value: float | None) -> str:
    if value is None:
        return "> 30 s"
    if value < 0.001:  # noqa: PLR2004 - a millisecond
        return f"{value * 1e6:.0f} µs"
    return f"{value:.2g} s" if value >= 1 else f"{value * 1000:.3g} ms"


def _group(group: Document) -> list[str]:
    stats, load = group["stats"], group["load"]
    times = [_seconds(load["mean"]), _seconds(load["p99"])] if load["count"] else ["-", "-"]
    return [
        group["name"],
        _ratio(group["hit_rate"]),
        _number(group["rate"]),
        _number(group["load_rate"]),
        *times,
        f"{stats['load_errors']:,}",
        f"{stats['entries']:,}",
        output.size(stats["bytes"]),
        output.size(stats["near_bytes"]),
    ]


def _hot(key: Document) -> list[str]:
    return [output.clip(key["key"], _KEY), key["group"], _ratio(key["share"]), _number(key["rate"])]


def _member(member: Document) -> list[str]:
    named = [f"{member['address'] or '-'}{' *' if member['me'] else ''}", member["state"], _ratio(member["share"])]
    if not member["answers"]:
        return [*named, *["-"] * 8]
    process = member["process"]
    return [
        *named,
        _ratio(member["hit_rate"]),
        _number(member["rate"]),
        _number(member["load_rate"]),
        f"{member['stats']['entries']:,}",
        output.size(member["stats"]["bytes"]),
        _lasting(member["uptime"]),
        member["version"],
        f"{process['pid']}@{process['host']}",
    ]


def _lasting(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"
