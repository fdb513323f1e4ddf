"""docs/guide/configuration.md has every option with its default, and every variable that is read."""

from __future__ import annotations

import inspect
import re

import pytest

from kamacache import ConfigError, Node
from kamacache.options import GroupOptions, NodeOptions
from tests.deploy.files import unknown
from tests.docs.test_documents import DOCUMENTS, ROOT

TEXT = (ROOT / "docs/guide/configuration.md").read_text()
OTHER = {"KAMACACHE_NODE"} | {f"KAMACACHE_{name}" for name in ("TRACES", "SOAK", "SEEDS", "CASES")}  # of tests


def rows(heading: str) -> dict[str, str]:
    """Return the defaults by option, of the table below a heading."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", section, re.MULTILINE))


def defaults(function: object) -> dict[str, str]:
    parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    shown = {each.name: repr(each.default).replace("'", '"') for each in parameters}
    return {name: f"`{default}`" if default.startswith('"') else default for name, default in shown.items()}


def test_options_of_groups() -> None:
    assert rows("Options of a group") == {"load_many": "None", **defaults(GroupOptions.make)}


def test_options_of_nodes() -> None:
    expected = defaults(Node) | {"listen": "what the registry needs", "advertise": "the address that it listens on"}
    assert rows("Options of a node") == {name: text for name, text in expected.items() if name not in {"clock", "lane"}}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_variables_are_read(name: str) -> None:
    named = set(re.findall(r"\bKAMACACHE_[A-Z_]*[A-Z]\b", (ROOT / name).read_text()))
    assert unknown(dict.fromkeys(named - OTHER, "")) == set()


@pytest.mark.parametrize("option", sorted(set(NodeOptions._fields) - {"protection", "context"}))
def test_each_variable_reaches_its_option(option: str) -> None:
    variable = f"KAMACACHE_{option.upper()}"
    assert f"| `{variable}` | `{option}`" in TEXT
    with pytest.raises(ConfigError, match=f"(?i){option}"):
        Node.from_env({variable: "\0"})
