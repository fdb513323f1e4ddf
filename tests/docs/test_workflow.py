"""The workflow of the public CI is valid, runs `.ci/run`, and builds with every Python that is supported."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from typing import Any

import yaml
from tools import wheels

from tests.docs.test_documents import ROOT

PATH = ROOT / ".github/workflows/ci.yml"
WORKFLOW: dict[str, Any] = yaml.safe_load(PATH.read_text())
STEPS = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]


def test_it_follows_the_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(PATH)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout.decode()


def test_actions_are_pinned_by_major_version() -> None:
    used = [step["uses"] for step in STEPS if "uses" in step]
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w./-]+@v\d+", action)] == []


def test_it_runs_the_script_of_every_ci() -> None:
    assert ".ci/run" in [step.get("run") for step in STEPS]
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
    versions = WORKFLOW["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert versions == ["3.11", "3.12", "3.13", "3.14"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={versions[0]}" == f">={wheels.OLDEST}"
    named = [each.rpartition(" ")[2] for each in project["classifiers"] if "Python :: 3." in each]
    assert named == versions == list(wheels.VERSIONS)


def test_it_builds_every_wheel() -> None:
    job = WORKFLOW["jobs"]["wheels"]
    (made,) = (step["run"] for step in job["steps"] if step.get("run", "").startswith("make wheels"))
    machines = [each["machine"] for each in job["strategy"]["matrix"]["include"]]
    endings = re.findall(r"\$MACHINE(\S+?)[ \"]", made)
    assert sorted(machine + ending for machine in machines for ending in endings) == sorted(wheels.TARGETS)


def test_what_the_source_distribution_needs_is_there() -> None:
    assert [name for name in wheels.NEEDED - {"PKG-INFO"} if not (ROOT / name).is_file()] == []
