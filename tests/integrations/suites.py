"""The public tests of frameworks, from their source distributions: fetched from the package index, never copied."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

FETCHED = Path(sys.prefix) / ".suites"  # in the virtual environment, so that each is fetched once


def fetched(name: str) -> Path:
    """Return the folder of the source distribution of the installed version of a package."""
    FETCHED.mkdir(exist_ok=True)
    folder = FETCHED / f"{name}-{version(name)}"
    with (FETCHED / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _fetch(name, folder)
    (root,) = folder.iterdir()
    return root


def _fetch(name: str, folder: Path) -> None:
    into = FETCHED / f"{name}.part"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--no-binary", name, "--dest", into, f"{name}=={version(name)}"], check=True, timeout=300)
    (archive,) = into.glob("*.tar.gz")
    unpacked = into / "unpacked"
    with tarfile.open(archive) as contents:
        contents.extractall(unpacked, filter="data")
    archive.unlink()
    unpacked.rename(folder)
