"""Feed random inputs to the parsers that are written in Python.

Each input is a seed, changed at random. A parser may refuse an input with the errors that its contract names. Any other
error, a batch that takes too long, or memory that grows ends the run, and the input is kept for the seeds.
"""

from __future__ import annotations

import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from kamacache import codecs, keycodec, keys, packed, typed, units
from kamacache.callkey import call_key
from kamacache.cli import config
from kamacache.errors import CodecError, ConfigError
from kamacache.load.loader import Keyed
from kamacache.net.addresses import parse_address
from kamacache.registry import etcd, record, static

SEEDS = Path(__file__).parents[2] / "fuzz/seeds"
LONGEST = 8192
BATCH = 1_000
PATIENCE = 60  # seconds for a batch: a thousand times the usual
GROWTH = 64 * 1024  # KiB of the process, for all inputs of a parser
PIECES = (
    *(
        b"\0",
        b"\xff",
        b"[" * 1500,
        b'{"a":' * 1500,
        b"9" * 4400,
        b"1e999",
        b"-",
        b"'",
        b'"',
        b"(",
        b")",
        b",",
        b":",
        b"@",
    ),
    *(b"%", b"\\", b"\n", b"\xc1i", b"\xffKZ\x01", b"NaN", b"null", "ß\u2028\U0001f600".encode()),
)


class Target(NamedTuple):
    """A parser, the errors by which it refuses an input, and inputs to begin with."""

    parse: Callable[[bytes], object]
    refuses: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _records(data: bytes) -> None:
    for address in (None, "10.0.0.1:8001"):
        member = record.read(data, address=address)
        if member is not None:
            assert record.read(record.written(member, address=True)) == member


def _units(data: bytes) -> None:
    text = _text(data)
    for parse in (units.parse_duration, units.parse_size, partial(units.parse_ttl, name="ttl")):
        try:
            found = parse(text, name="x") if not isinstance(parse, partial) else parse(text)
        except ConfigError:
            continue
        assert found is not None
        assert 0 <= found < float("inf")
    units.check_full_name(text)


def _addresses(data: bytes) -> None:
    address = parse_address(_text(data), name="listen")
    assert parse_address(str(address), name="again") == address


def _urls(data: bytes) -> None:
    text = _text(data)
    for registry in (static.StaticRegistry, _etcd):
        try:
            registry(f"x://{text}")
        except ConfigError as error:
            hidden = text.startswith("user:secret@") and text.count("secret") == 1
            assert not hidden or "secret" not in str(error)  # noqa: PT017


def _etcd(url: str) -> None:
    # As the constructor does, but without a session, which has a thread.
    rest, _, query = url.partition("://")[2].partition("?")
    for host in rest.rpartition("@")[2].removesuffix("/").split(","):
        etcd._endpoint(host.strip())  # noqa: SLF001
    etcd._files(query)  # noqa: SLF001


def _keys(data: bytes) -> None:
    text = data.decode()
    key = keycodec.decode(text)
    assert keycodec.decode(keycodec.encode(key)) == key
    assert keycodec.decode(keycodec.encode(text)) == text
    assert len(keys.quoted(text)) > len(text)


def _config(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    found = config.read(str(file))
    assert found.node.keys() <= config.NODE | {f"tls_{name}" for name in ("cert", "key", "ca", "mutual")}


def _values(all_codecs: list[Any], data: bytes) -> None:
    for codec in all_codecs:
        try:
            value = codecs.decode(codec, data)
            again = codecs.decode(codec, codecs.encode(codec, value))
        except CodecError:
            continue
        assert repr(again) == repr(value)  # nan is not itself


def _calls(data: bytes) -> None:
    text = data.decode()
    template, _, argument = text.partition("|")
    made = call_key(Keyed(lambda first, second=1, *, third=(): None, template, frozenset()))
    try:
        key = made.strict(argument, third=(argument, 1))
    except (TypeError, ValueError, AttributeError):  # of the user's format, or an attribute that the argument has not
        return
    assert isinstance(key, str)
    assert len(key) <= keys.LONGEST


def targets(directory: Path) -> dict[str, Target]:
    """Return all parsers by name. The directory is for files that they read."""
    one = packed.Packed(codecs.resolve("json"), 10)
    found: list[Any] = [one, *map(codecs.resolve, ("bytes", "text", "json", "msgpack"))]
    found += [typed.codec_for(dict[int, tuple[str, ...]]), typed.codec_for(list[float])]
    file = directory / "kamacache.toml"
    member = (
        b'{"id": "a", "weight": 1.5, "groups": ["g"], "protocol": 3, "loads": ["g"], "client": true, "address": "b:1"}'
    )
    return {
        "records": Target(_records, (), (member,)),
        "units": Target(_units, (ConfigError,), (b"1h30m", b"1.5s", b"500ms", b"64 MiB", b"10", b"products@2")),
        "addresses": Target(
            _addresses, (ConfigError,), (b"10.0.0.1:8001", b"[::1]:80", b"unix:/run/a.sock", b"host:0")
        ),
        "urls": Target(_urls, (), (b"a:1,b:2/", b"user:secret@h:2379,[::1]?ca=/a&cert=/b&key=/c", b"h", b"unix:/a")),
        "keys": Target(
            _keys, (UnicodeDecodeError,), (b"42", b"(1,'a')", b"'42'", b"ada", b"UUID('" + b"0" * 36 + b"')")
        ),
        "config": Target(
            partial(_config, file),
            (ConfigError,),
            (b'listen = "127.0.0.1:1"\n[tls]\nca = "x"\n[groups.users]\nloader = "a:b"\nttl = 5\n', b"weight = 1e9"),
        ),
        "values": Target(
            partial(_values, found),
            (),
            (
                b'{"a":[1,2.5,null]}',
                b"\xc1i42",
                b"\xc1r\xc1",
                one.encode("long" * 99),
                b"\x81\x01\x92\xa1a\xa1b",
                b"\xff",
            ),
        ),
        "calls": Target(
            _calls, (UnicodeDecodeError, ConfigError), (b"{first}:{third}|ada", b"{first.real:>9}|4", b"{{}}")
        ),
    }


def inputs(seeds: list[bytes], chance: random.Random) -> Iterator[bytes]:
    """Yield the seeds, then endlessly what becomes of them."""
    yield from seeds
    while True:
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 6)):
            _change(data, seeds, chance)
        yield bytes(data[:LONGEST])


def _change(data: bytearray, seeds: list[bytes], chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    end = min(len(data), at + chance.randint(1, 16))
    match chance.randrange(6):
        case 0 if data:
            data[at - 1] ^= 1 << chance.randrange(8)
        case 1:
            data.insert(at, chance.randrange(256))
        case 2:
            del data[at:end]
        case 3:
            data[at:at] = data[at:end]
        case 4:
            data[at:at] = chance.choice(PIECES)
        case _:
            other = chance.choice(seeds)
            data[at:] = other[chance.randrange(len(other) + 1) :]


def fuzz(name: str, target: Target, count: int, seed: int) -> float:
    """Feed so many inputs to a parser, and return the seconds that took; SystemExit if it fails."""
    kept = SEEDS / name
    seeds = [*target.seeds, *(path.read_bytes() for path in sorted(kept.glob("*")))]
    data = b""

    def late(*_: object) -> NoReturn:
        raise TimeoutError(f"{BATCH} inputs took over {PATIENCE} s")

    before, begun = signal.signal(signal.SIGALRM, late), time.monotonic()
    size = None
    try:
        for number, data in enumerate(inputs(seeds, random.Random(f"{name} {seed}"))):
            if number % BATCH == 0:
                signal.alarm(PATIENCE)
                size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if number == 10 * BATCH else size
            if number >= max(count, len(seeds)):
                break
            try:
                target.parse(data)
            except target.refuses:
                pass
    except Exception as error:
        if data not in seeds:
            kept.mkdir(parents=True, exist_ok=True)
            (kept / f"found-{blake2b(data, digest_size=6).hexdigest()}").write_bytes(data)
        error.add_note(f"{name}: the input {data[:100]!r} is kept in {kept}")
        raise
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - (size or 1 << 40)
    if grown > GROWTH:
        raise SystemExit(f"{name}: the process grew by {grown} KiB")
    return time.monotonic() - begun
