"""Certificates by which servers and clients of the wire protect themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from tests.security.certificates import Files, issue


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Make the authority that signs the certificates of the nodes."""
    return trustme.CA()


@pytest.fixture(scope="session")
def stranger() -> trustme.CA:
    """Make another authority."""
    return trustme.CA()


@pytest.fixture
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nodes look at certificates and wrong passwords twenty times a second."""
    monkeypatch.setattr("kamacache.net.native._LOOK", 0.05)


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> Files:
    """Write a good certificate of this machine."""
    return issue(tmp_path / "good", authority)
