"""Readers of the files of the deployment examples: YAML, a Dockerfile, a systemd unit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kamacache.cli.config import read
from kamacache.cli.serve import serve
from kamacache.net.security import PASSWORD
from kamacache.units import parse_duration, parse_size

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
APP = EXAMPLES / "compose" / "app"
BESIDE = 64 * 2**20  # bytes for Python, the examples' loaders and values under way
GOODBYE = 5.0  # seconds beside the drain


class Container(NamedTuple):
    """The command and variables of a process, its files, and the command that runs `kamacache …` in it."""

    command: list[str]
    environment: Mapping[str, str]
    files: list[Path]
    access: tuple[str, ...] = ()


def app() -> list[Path]:
    """Return the files of the application that compose and Kubernetes share."""
    return [path for path in APP.iterdir() if path.is_file()]


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile, each with its arguments in one line."""
    lines = path.read_text().replace("\\\n", " ").splitlines()
    words = (line.split(maxsplit=1) for line in lines if line.strip() and not line.startswith("#"))
    return [(name, text) for name, text in words]


def command_of(path: Path) -> list[str]:
    """Return the command that a container of a Dockerfile runs."""
    found: list[str] = json.loads(dict(instructions(path))["CMD"])
    return found


def unit(path: Path) -> dict[str, dict[str, str]]:
    """Return the settings of each section of a systemd unit, none of which is given twice."""
    sections: dict[str, dict[str, str]] = {}
    for line in path.read_text().splitlines():
        if line.startswith("["):
            sections[line.strip("[]")] = section = {}
        elif line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            assert equals, line
            assert name not in section, line
            section[name] = value
    return sections


def budget(config: Path) -> float:
    """Return the bytes that a node with this file may take, as docs/operations.md reckons."""
    groups = read(str(config)).groups.values()
    return 1.25 * sum(parse_size(group["max_bytes"], name="max_bytes") for group in groups) + BESIDE


def goodbye(config: Path) -> float:
    """Return the seconds that a node with this file may take to end."""
    return parse_duration(read(str(config)).node["drain"], name="drain") + GOODBYE


def unknown(environment: Mapping[str, str]) -> set[str]:
    """Return the variables that look like ours and mean nothing to `kamacache serve`, nor to a client node."""
    known = {PASSWORD, "KAMACACHE_CLIENT", "KAMACACHE_ALLOW_FLUSH", *(option.envvar for option in serve.params)}
    return {name for name in environment if name.startswith("KAMACACHE_")} - known
