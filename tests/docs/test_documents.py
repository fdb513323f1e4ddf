"""The documents are true: their Python runs, their commands exist, their links lead somewhere.

The Python blocks of a document run in order, in one process of their own, as a reader would paste them.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.environment import own_environment

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "examples/*.md")
    for path in ROOT.glob(pattern)
)
INDEX, WITHOUT_CODE = "docs/guide/README.md", {"docs/guide/README.md", "docs/guide/alternatives.md"}
GUIDE = [name for name in DOCUMENTS if name.startswith("docs/guide/") and name not in WITHOUT_CODE]
TIMEOUT = 60.0

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#]*)(?:#([^)]*))?\)")
_TARGET = re.compile(r"^([a-z]+):", re.MULTILINE)


def blocks(text: str, *languages: str) -> list[tuple[int, str]]:
    """Return the line on which each block of these languages begins, and its source."""
    return [(text[: match.start(2)].count("\n"), match[2]) for match in _BLOCK.finditer(text) if match[1] in languages]


def program(text: str) -> str:
    """Return all Python blocks on the lines of the document, so that tracebacks point there."""
    source = ""
    for line, block in blocks(text, "python"):
        source += "\n" * (line - source.count("\n")) + block
    return source


def test_that_there_are_documents() -> None:
    assert {"README.md", "README.zh-CN.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"} <= set(DOCUMENTS)
    assert len(GUIDE) > 10
    assert all(blocks((ROOT / name).read_text(), "python") for name in ("README.md", "README.zh-CN.md", *GUIDE))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_python_blocks_run(name: str, tmp_path: Path) -> None:
    source = program((ROOT / name).read_text())
    if not source:
        return
    script = tmp_path / "document.py"
    script.write_text(source)
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=tmp_path,
        env=own_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, f"{name}: lines as in the document\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("name", DOCUMENTS)
def test_shell_blocks_name_commands_that_exist(name: str) -> None:
    targets = set(_TARGET.findall((ROOT / "Makefile").read_text()))
    text = (ROOT / name).read_text()
    shell = "\n".join(block for _, block in blocks(text, "sh"))
    asked = set(re.findall(r"\bmake ([a-z]+)", shell)) | set(re.findall(r"`make ([a-z]+)", text))
    assert asked <= targets
    for module in set(re.findall(r"python -m (bench\.\w+)", text)):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    path = ROOT / name
    for target, anchor in _LINK.findall(path.read_text()):
        if not re.match(r"https?://", target):
            to = path.parent / target if target else path
            assert to.exists(), f"{name} links to {target}"
            assert not anchor or anchor in anchors(to.read_text()), f"{name} links to {target}#{anchor}"


def test_the_index_of_the_guide_has_every_page() -> None:
    linked = re.findall(r"^\| \[[^]]+\]\(([^)]+)\)", (ROOT / INDEX).read_text(), re.MULTILINE)
    pages = {Path(name).name for name in DOCUMENTS if name.startswith("docs/guide/")}
    assert sorted([*linked, "README.md"]) == sorted(pages)


def anchors(text: str) -> set[str]:
    """Return the anchors of a document: its headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_two_readmes_are_alike() -> None:
    """Compare their code, headings, rows of tables, items of lists and links, but not their words."""
    english, chinese = (shape((ROOT / name).read_text()) for name in ("README.md", "README.zh-CN.md"))
    for what, there in english.items():
        assert there, what
        assert there == chinese[what], what


def shape(text: str) -> dict[str, list[str]]:
    """Return the parts that a translation does not change."""
    prose = _BLOCK.sub("", text)
    return {
        "code": [re.sub(r" *#.*", "", block) for _, block in blocks(text, "python", "sh")],  # comments are translated
        "headings": re.findall(r"^#+", prose, re.MULTILINE),
        "rows": re.findall(r"^\|(?: (`\w+`) \|)?", prose, re.MULTILINE),  # with the name of an option
        "items": re.findall(r"^(?:-|\d+\.) ", prose, re.MULTILINE),
        "links": sorted(f"{to}#{at}" for to, at in _LINK.findall(prose) if not to.startswith("README")),
    }
