"""The password and the certificates of a node."""

# No annotations as text: NamedTuple compiles each, and the first compile of a process takes milliseconds.
import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from kamacache._engine import Security
from kamacache.errors import ConfigError
from kamacache.log import log

_LONGEST = 512
PASSWORD = "KAMACACHE_PASSWORD"  # noqa: S105 - the variable's name
_PASSWORD = rf"[!-~]{{1,{_LONGEST}}}"


class _Certificates(NamedTuple):
    cert: str
    key: str
    ca: str
    mutual: bool


class TLS(_Certificates):
    """Certificates of a node, as PEM files. They are read again when they change.

    `cert` is the certificate of the node, followed by those between it and its authority. It must name the host that
    others use to reach the node, and be valid for servers and clients. `key` is its private key. `ca` has the
    authorities that sign the certificates of all nodes. Clients must show a certificate too, unless `mutual=False`.
    """

    __slots__ = ()

    def __new__(
        cls, cert: str | os.PathLike[str], key: str | os.PathLike[str], ca: str | os.PathLike[str], mutual: bool = True
    ) -> Self:
        if type(mutual) is not bool:
            raise ConfigError(f"tls: mutual={mutual!r}: must be True or False")
        return super().__new__(cls, _path("cert", cert), _path("key", key), _path("ca", ca), mutual)

    @property
    def files(self) -> tuple[str, str, str]:
        """Return the three paths, absolute."""
        return self[:3]


def _path(name: str, given: object) -> str:
    path = os.fspath(given) if isinstance(given, os.PathLike) else given
    if not isinstance(path, str) or not path or "\0" in path:
        raise ConfigError(f"tls: {name}={given!r}: must be the path of a PEM file")
    return os.path.abspath(path)  # noqa: PTH100 - as text, wherever a daemon goes


class Protection(NamedTuple):
    """The passwords and the TLS of a node, checked. The default is none."""

    password: str | None = None  # the one to send, and after a space each the others that are taken as well
    tls: TLS | None = None

    @classmethod
    def make(cls, password: object, tls: object) -> "Protection":
        """Return the protection of these options; ConfigError, which does not show the password."""
        given: Any = [password] if isinstance(password, str) else password
        good = isinstance(given, list | tuple) and given
        if given is not None and not (
            good and all(isinstance(one, str) and re.fullmatch(_PASSWORD, one) for one in given)
        ):
            raise ConfigError(
                f"password: must be text of 1 to {_LONGEST} visible ASCII characters without spaces, as in "
                "secrets.token_urlsafe(32), or a list of such texts"
            )
        if tls is not None and not isinstance(tls, TLS):
            raise ConfigError('tls: must be a kamacache.TLS(cert="node.pem", key="node.key", ca="ca.pem")')
        return cls(None if given is None else " ".join(given), tls)

    @property
    def sent(self) -> str | None:
        """Return the password that this node sends."""
        return None if self.password is None else self.password.split()[0]

    def __repr__(self) -> str:
        return f"Protection(password={'...' if self.password else None}, tls={self.tls!r})"

    @property
    def is_enough(self) -> bool:
        """Return whether the node can be used only with the password or a certificate."""
        return self.password is not None or (self.tls is not None and self.tls.mutual)

    def engine(self, service: str = "") -> Security:
        """Return the same for the engine, which reads the files, for a node of this service. ConfigError."""
        if self.tls is None:
            return Security(password=self.password, service=service)
        try:
            return Security(password=self.password, tls=self.tls.files, mutual=self.tls.mutual, service=service)
        except ValueError as error:
            raise ConfigError(f"tls: {error}") from None

    def warn(self, bound: str) -> None:
        """Log a warning if the password can be read on its way here."""
        if self.password is None or self.tls is not None:
            return
        from kamacache.net.addresses import parse_address  # noqa: PLC0415 - it brings the modules of the network

        address = parse_address(bound, name="listen")
        if not (address.is_unix or address.is_loopback):
            log.warning(
                "%(address)s: without TLS, the password can be read on its way here; pass tls= to encrypt it",
                address=bound,
            )


NOTHING = Protection()


def password_from(environ: Mapping[str, str], file: str | None = None) -> str | list[str] | None:
    """Return the password in `file`, else KAMACACHE_PASSWORD_FILE, else KAMACACHE_PASSWORD; None if none is set.

    Several lines are a list.
    """
    text = _text_from(environ, file)
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return lines if len(lines) > 1 else text


def _text_from(environ: Mapping[str, str], file: str | None) -> str | None:
    file = file or environ.get(f"{PASSWORD}_FILE", "").strip()
    if not file:
        return environ.get(PASSWORD, "").strip() or None
    from pathlib import Path  # noqa: PLC0415 - few keep it in a file

    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"password file {file}: {getattr(error, 'strerror', None) or 'is no text'}") from None


def tls_from(environ: Mapping[str, str]) -> TLS | None:
    """Return the TLS of KAMACACHE_TLS_CERT, _KEY, _CA and _MUTUAL; None if none is set."""
    prefix = "KAMACACHE_TLS_"
    if not any(text.strip() for name, text in environ.items() if f"{name}_".startswith(prefix)):
        return None
    given = {name: environ.get(prefix + name.upper(), "").strip() for name in ("cert", "key", "ca", "mutual")}
    missing = [prefix + name.upper() for name in ("cert", "key", "ca") if not given[name]]
    if missing:
        raise ConfigError(f"tls: {', '.join(missing)} must be set as well")
    mutual = {"": True, "1": True, "true": True, "0": False, "false": False}.get(given["mutual"].lower())
    if mutual is None:
        raise ConfigError(f"{prefix}MUTUAL={given['mutual']!r}: must be 1 or 0")
    return TLS(given["cert"], given["key"], given["ca"], mutual=mutual)


def look_after(security: Security) -> None:
    """Warn of wrong and missing passwords. Load certificates that have changed, and warn once if they are broken."""
    for address, count in security.guesses():
        log.warning("wrong passwords came from %(peer)s: %(count)s", peer=address, count=count)
    for address, count in security.unproven():
        log.warning(
            "gRPC calls without the password came from %(peer)s: %(count)s; they were refused. Give that client the "
            "password; a KamaCache-Go node cannot have one",
            peer=address,
            count=count,
        )
    try:
        if security.reload():
            log.info("new certificates are in use")
    except ValueError as error:
        log.warning("changed certificates cannot be used, those before stay in use: %(error)s", error=error)
