"""The files are valid for their readers: Compose, Kubernetes, the builder of images, systemd."""

from __future__ import annotations

import copy
import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import PATIENCE
from tests.deploy.files import EXAMPLES, ROOT, documents, instructions

kubernetes_validate = importlib.import_module("kubernetes_validate")  # it has no types of its own

MANIFESTS = [
    pytest.param(document, id=f"{document['kind']}-{document['metadata']['name']}")
    for path in sorted(EXAMPLES.glob("kubernetes*/*.yaml"))
    for document in documents(path)
]


def test_compose() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*command, EXAMPLES / "compose" / "compose.yaml"], capture_output=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout.decode()


@pytest.mark.parametrize("document", MANIFESTS)
def test_kubernetes(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_kubernetes_schemas_know_every_name() -> None:
    """Refuse a name that is misspelt anywhere: the test before could not fail otherwise."""
    deployment = copy.deepcopy(documents(EXAMPLES / "kubernetes" / "kamacache.yaml")[0])
    deployment["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["httpGet"]["pfad"] = "/"
    with pytest.raises(kubernetes_validate.ValidationError, match="pfad"):
        kubernetes_validate.validate(deployment, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("name", ["kamacache.service", "kamacache.socket"])
def test_systemd(tmp_path: Path, name: str) -> None:
    """Check that systemd warns of no unknown setting, and that the programs named exist."""
    for each in (EXAMPLES / "systemd").glob("kamacache.*"):
        (tmp_path / each.name).write_text(each.read_text().replace("/opt/kamacache/bin/kamacache", sys.executable))
    unit = tmp_path / name
    done = subprocess.run(
        ["systemd-analyze", "verify", unit],  # noqa: S607 - wherever the system has it
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert unit.name not in done.stderr  # it may warn of others, which are the system's


def test_the_sources_of_the_image(tmp_path: Path) -> None:
    """Check that every copied path exists, is visible to the builder, and is all that cargo and maturin need."""
    copied = [
        source
        for name, text in instructions(EXAMPLES / "compose" / "Dockerfile")
        if name == "COPY" and not text.startswith("--from=")
        for source in text.split()[:-1]
    ]
    seen = (EXAMPLES / "compose" / "Dockerfile.dockerignore").read_text().splitlines()
    assert sorted(line.removeprefix("!") for line in seen if line.startswith("!")) == sorted(copied)
    for source in copied:
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        else:
            shutil.copy(ROOT / source, tmp_path)
    metadata = ["cargo", "metadata", "--no-deps", "--offline", "--locked", "--format-version=1"]
    done = subprocess.run(metadata, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "examples/compose/app/node.toml").is_file()
