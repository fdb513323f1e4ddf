"""Check the options of groups and nodes before they are used."""

# No annotations as text: NamedTuple compiles each, and the first compile of a process takes milliseconds.
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Literal, NamedTuple

from kamacache._engine import POLICIES
from kamacache.codecs import Codec, CodecName, codec_name, resolve
from kamacache.errors import ConfigError
from kamacache.net.security import NOTHING, TLS, Protection, password_from, tls_from
from kamacache.registry.base import Registry
from kamacache.rules import NO_RULES, Rules, near_life
from kamacache.units import Duration, Size, check_name, flag, number, parse_duration, parse_size, parse_ttl, shown

OnEvict = Callable[[str, Any, str], None]
"""on_evict(key, value, reason); `reason` is "capacity" or "expired"."""

PolicyName = Literal["s3fifo", "lru", "lru2"]  # POLICIES, for type checkers
ALONE = "none"  # the value of KAMACACHE_REGISTRY for a node without a registry
_LEAST_BYTES = 4096
_LEAST_MEMORY = 65_536  # of a node
_MOST_BYTES = 2**62  # more than any machine has, and the engine can count it
_GREATEST_VALUE = 2**30  # lengths on the wire are 32 bits with room to spare
_GREATEST_VERSION = 999_999_999
_MOST_THREADS = 1024
_LARGEST_BATCH = 1_000_000
_LONGEST_QUEUE = 1_000_000
_LEAST_WEIGHT, _MOST_WEIGHT = 0.001, 1000.0  # the placement of all members has 65,536 slots


class GroupOptions(NamedTuple):
    """Hold the options of a group. `differences` compares them by meaning, also after a reload of their module."""

    max_bytes: int
    ttl: float | None
    policy: str
    near_ttl: float
    negative_ttl: float
    jitter: float
    load_timeout: float | None
    codec: Codec[Any]
    on_evict: OnEvict | None
    compress_above: int | None
    version: int | None
    max_batch: int
    batch_window: float | None
    concurrency: int | None
    key_codec: str | None
    cache_none: bool
    rules: Rules | None = None

    @classmethod
    def make(
        cls,
        max_bytes: Size = "64 MiB",
        ttl: Duration | None = None,
        policy: PolicyName = "s3fifo",
        codec: CodecName | Codec[Any] = "bytes",
        near_ttl: Duration = "5s",
        negative_ttl: Duration = "5s",
        jitter: float = 0.05,
        load_timeout: Duration | None = "30s",
        on_evict: OnEvict | None = None,
        compress_above: Size | None = None,
        version: int | None = None,
        max_batch: int = 500,
        batch_window: Duration | None = None,
        concurrency: int | None = None,
        key_codec: Literal["auto"] | None = None,
        cache_none: bool = False,
        refresh_after: Duration | None = None,
        early: float = 0.0,
        stale_while_revalidate: Duration = 0,
        stale_if_error: Duration = 0,
        soft_timeout: Duration | None = None,
        error_ttl: Duration = 0,
    ) -> "GroupOptions":
        """Return the options of these arguments; ConfigError says which argument is wrong and what to write."""
        if max_bytes is None:
            raise ConfigError('max_bytes=None: a group always has a budget; write a size such as "64 MiB"')
        size = _memory(max_bytes, _LEAST_BYTES)
        if policy not in POLICIES:
            raise ConfigError(f"policy={policy!r}: must be one of {', '.join(POLICIES)}")
        if near_ttl is None:
            raise ConfigError("near_ttl=None: near copies never live forever; write 0 to keep none")
        if negative_ttl is None:
            raise ConfigError("negative_ttl=None: absence is never remembered forever; write 0 to forget it at once")
        if not 0 <= number(jitter, name="jitter", range_="a number from 0 to below 1") < 1:
            raise ConfigError(f"jitter={jitter!r}: must be a number from 0 to below 1; 0 keeps every ttl exact")
        timeout = None if load_timeout is None else parse_duration(load_timeout, name="load_timeout")
        if timeout == 0:
            raise ConfigError(f"load_timeout={load_timeout!r}: must be more than zero; None waits without limit")
        if on_evict is not None and not callable(on_evict):
            raise ConfigError(f"on_evict={on_evict!r}: must be a function of key, value and reason, or None")
        if version is not None and (type(version) is not int or not 1 <= version <= _GREATEST_VERSION):
            raise ConfigError(f"version={shown(version)}: must be a whole number from 1 to 999,999,999, or None")
        resolved = resolve(codec)
        above = None if compress_above is None else parse_size(compress_above, name="compress_above")
        if above is not None:
            from kamacache.packed import Packed  # noqa: PLC0415 - few groups need it

            resolved = Packed(resolved, above)
        _check_whole("max_batch", max_batch, _LARGEST_BATCH)
        if concurrency is not None:
            _check_whole("concurrency", concurrency, _MOST_THREADS)
        if key_codec is not None and key_codec != "auto":
            raise ConfigError(
                f'key_codec={key_codec!r}: must be "auto" for int, UUID and tuple keys, or None for str alone'
            )
        lifetime = parse_ttl(ttl, name="ttl")
        old = (refresh_after, early, stale_while_revalidate, stale_if_error, soft_timeout, error_ttl)
        rules = Rules.make(*old, lifetime)
        return cls(
            max_bytes=size,
            ttl=lifetime,
            policy=policy,
            near_ttl=near_life(parse_duration(near_ttl, name="near_ttl"), rules),
            negative_ttl=parse_duration(negative_ttl, name="negative_ttl"),
            jitter=float(jitter),
            load_timeout=timeout,
            codec=resolved,
            on_evict=on_evict,
            compress_above=above,
            version=version,
            max_batch=max_batch,
            batch_window=None if batch_window is None else parse_duration(batch_window, name="batch_window"),
            concurrency=concurrency,
            key_codec=key_codec,
            cache_none=flag("cache_none", cache_none),
            rules=rules,
        )

    def differences(self, other: "GroupOptions") -> list[str]:
        """Return each option that differs in `other` as "name: here, there", codecs and functions by their names."""
        mine, theirs = self.shown(), other.shown()
        return [f"{name}: {mine[name]!r}, {theirs[name]!r}" for name in mine if mine[name] != theirs[name]]

    def arguments(self) -> dict[str, Any]:
        """Return the options by name, as `make` takes them."""
        values = self._asdict()
        return values | (values.pop("rules") or NO_RULES)._asdict()

    def shown(self) -> dict[str, Any]:
        """Return the options by name, codecs and functions by their names."""
        values = self.arguments()
        values["codec"] = codec_name(self.codec)
        if (function := self.on_evict) is not None:
            name = getattr(function, "__qualname__", type(function).__qualname__)
            values["on_evict"] = f"{function.__module__}.{name}"
        return values


class NodeOptions(NamedTuple):
    """Hold the options of a node; `registry` is still as the user gave it."""

    listen: str | None
    advertise: str | None
    registry: str | Registry | None
    service: str
    weight: float
    max_value: int
    loader_threads: int
    loader_queue: int
    insecure: bool
    protection: Protection = NOTHING
    client: bool = False
    max_bytes: int | None = None
    context: tuple[ContextVar[Any], ...] = ()

    def __repr__(self) -> str:
        return f"<NodeOptions of {self.service!r}>"  # a registry's URL may hold a password

    @classmethod
    def make(
        cls,
        listen: str | None = None,
        advertise: str | None = None,
        registry: str | Registry | None = None,
        service: str = "kamacache",
        weight: float = 1.0,
        max_value: Size = "4 MiB",
        loader_threads: int = 32,
        loader_queue: int = 10_000,
        tls: TLS | None = None,
        password: str | Sequence[str] | None = None,
        insecure: bool = False,
        client: bool = False,
        max_bytes: Size | None = None,
        context: Sequence[ContextVar[Any]] = (),
    ) -> "NodeOptions":
        """Return the options of these arguments; ConfigError says which argument is wrong and what to write."""
        protection = Protection.make(password, tls)
        flag("insecure", insecure)
        flag("client", client)
        if client and registry is None:
            raise ConfigError(
                "client=True: a client node asks the members of a service; give registry= as they have it"
            )
        if listen is not None:
            check_listen(listen, protected=insecure or protection.is_enough)
        if advertise is not None:
            from kamacache.net.addresses import check_advertise  # noqa: PLC0415 - few nodes get an address

            check_advertise(advertise)
        weights = "a number from 0.001 to 1000; 2.0 owns twice the keys of 1.0"
        if not _LEAST_WEIGHT <= number(weight, name="weight", range_=weights) <= _MOST_WEIGHT:
            raise ConfigError(f"weight={weight!r}: must be {weights}")
        size = parse_size(max_value, name="max_value")
        if not 1 <= size <= _GREATEST_VALUE:
            raise ConfigError(f"max_value={max_value!r}: must be from 1 B to 1 GiB")
        memory = None if max_bytes is None else _memory(max_bytes, _LEAST_MEMORY)
        if context != ():
            from kamacache.carried import checked  # noqa: PLC0415 - few nodes carry anything

            context = checked(context)
        _check_whole("loader_threads", loader_threads, _MOST_THREADS)
        _check_whole("loader_queue", loader_queue, _LONGEST_QUEUE)
        return cls(
            listen=listen,
            advertise=advertise,
            registry=registry,
            service=check_name(service, what="service"),
            weight=float(weight),
            max_value=size,
            loader_threads=loader_threads,
            loader_queue=loader_queue,
            insecure=insecure,
            protection=protection,
            client=client,
            max_bytes=memory,
            context=tuple(context),
        )

    @property
    def protected(self) -> bool:
        """Whether the node may listen on addresses beyond this machine."""
        return self.insecure or self.protection.is_enough

    def check_codec(self, codec: Codec[Any], listen: str | None) -> None:
        """Raise ConfigError for pickle on a node that listens where strangers can reach it."""
        from kamacache.net.addresses import parse_address  # noqa: PLC0415 - few nodes get an address

        if listen is None or self.protection.is_enough or codec_name(codec) != "pickle":
            return
        address = parse_address(listen, name="listen")
        if not (address.is_unix or address.is_loopback):
            raise ConfigError(
                f'codec="pickle": others on the network can reach this node at {listen} without a password or a '
                "certificate, and reading a pickle runs the code that is in it, which a stranger could send; give all "
                "nodes a password= or a tls= (mutual), listen on 127.0.0.1 or a Unix socket, or take another codec, "
                "as kamacache.codec_for(...) returns for a type"
            )

    @classmethod
    def from_env(cls, environ: Mapping[str, str], **defaults: Any) -> "NodeOptions":
        """Return the options that the variables KAMACACHE_LISTEN and so on set, one for each option of make.

        - `environ`: the variables. Spaces around a value do not matter, and an empty one counts as not set. With
          KAMACACHE_REGISTRY=none the node runs alone, and is no client node, whatever the defaults say.
        - `defaults`: options of make, each used if its variable is not set.

        Raises ConfigError for an option that is not allowed.
        """
        given = dict(defaults)
        for option in ("listen", "advertise", "registry", "service", "max_value", "max_bytes"):
            if text := environ.get(f"KAMACACHE_{option.upper()}", "").strip():
                given[option] = text
        kinds: dict[str, Callable[[str], object]] = {
            "weight": float,
            "loader_threads": int,
            "loader_queue": int,
            "insecure": _flag,
            "client": _flag,
        }
        for option, read in kinds.items():
            variable = f"KAMACACHE_{option.upper()}"
            if text := environ.get(variable, "").strip():
                try:
                    given[option] = read(text)
                except ValueError:
                    kind = {float: "a number", int: "a whole number"}.get(read, "1 or 0")  # type: ignore[call-overload]
                    raise ConfigError(f"{variable}={text!r}: must be {kind}") from None
        if given.get("registry") == ALONE:
            given |= {"registry": None, "client": False}
        try:
            if (password := password_from(environ)) is not None:
                given["password"] = password
            if (tls := tls_from(environ)) is not None:
                given["tls"] = tls
            return cls.make(**given)
        except ConfigError as error:
            where = "from the environment (KAMACACHE_*)" + (" or the arguments" if defaults else "")
            raise ConfigError(f"{where}: {error}") from error


def _memory(max_bytes: Size, least: int) -> int:
    size = parse_size(max_bytes, name="max_bytes")
    if size < least:
        raise ConfigError(f"max_bytes={max_bytes!r}: must be at least {least >> 10} KiB")
    if size > _MOST_BYTES:
        raise ConfigError(f"max_bytes={shown(max_bytes)}: is more than any machine has; a group's default is 64 MiB")
    return size


def _check_whole(name: str, number: object, most: int) -> None:
    if type(number) is not int or not 1 <= number <= most:
        raise ConfigError(f"{name}={number!r}: must be a whole number from 1 to {most}")


def _flag(text: str) -> bool:
    word = text.lower()
    if word in {"1", "true", "yes", "on"}:
        return True
    if word in {"0", "false", "no", "off"}:
        return False
    raise ValueError(text)


def check_listen(listen: str, *, protected: bool) -> None:
    """Raise ConfigError unless `listen` is an address that only this machine reaches, or that is protected."""
    from kamacache.net.addresses import parse_address  # noqa: PLC0415 - few nodes get an address

    address = parse_address(listen, name="listen")
    if not (address.is_unix or address.is_loopback or protected):
        raise ConfigError(
            f"listen={listen!r}: without a password or client certificates every host that reaches this port may "
            "read and write the cache; give all nodes a password= or a tls= (mutual), or listen on 127.0.0.1 or a Unix "
            "socket; if every host on the network is trusted, write insecure=True (KAMACACHE_INSECURE=1, --insecure)"
        )
