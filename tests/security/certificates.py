"""Certificates made for a test, as files."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import trustme

from kamacache import TLS
from kamacache._engine import Security


@dataclass(frozen=True)
class Files:
    """The paths of a node's certificate, its key and its authority."""

    cert: Path
    key: Path
    ca: Path

    @property
    def all(self) -> tuple[str, str, str]:
        return str(self.cert), str(self.key), str(self.ca)

    @property
    def tls(self) -> TLS:
        return TLS(self.cert, self.key, self.ca)

    def security(self, *, password: str | None = None, mutual: bool = True) -> Security:
        """Return the security of a transport with these files."""
        return Security(password=password, tls=self.all, mutual=mutual)


def issue(
    directory: Path, authority: trustme.CA, *hosts: str, trust: trustme.CA | None = None, expired: bool = False
) -> Files:
    """Write a certificate by `authority` for these hosts (by default this machine's), and the trusted authority."""
    directory.mkdir(exist_ok=True)
    until = dt.datetime.now(dt.UTC) - dt.timedelta(days=1) if expired else None
    leaf = authority.issue_cert(*(hosts or ("127.0.0.1", "localhost")), not_after=until)
    files = Files(directory / "node.pem", directory / "node.key", directory / "ca.pem")
    for n, blob in enumerate(leaf.cert_chain_pems):
        blob.write_to_path(str(files.cert), append=n > 0)
    leaf.private_key_pem.write_to_path(str(files.key))
    (trust or authority).cert_pem.write_to_path(str(files.ca))
    return files
