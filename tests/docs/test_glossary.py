"""The documents use the terms of the glossary: each defined once, linked once a page, in plain words."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.docs.test_documents import DOCUMENTS, ROOT

GLOSSARY = "docs/glossary.md"
MADE = "docs/reference.md"  # its words are those of the docstrings
OURS = [name for name in DOCUMENTS if name.isascii() and name not in {"ARCHITECTURE.md", MADE, "README.zh-CN.md"}]
# Sentences of documents, not headings.
HEADLESS = re.compile(r"(?:^(?:[-*] )?|[.!] |\| )(?:Who|Whoever|Whether|What) .*", re.MULTILINE)
BANNED = ("whoever", "nobody", "everybody", "held for dead", "let go", "is told", "are told", "hand out", "handed out")

_FENCE = re.compile(r"^```.*?^```$|^    .*$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def prose(name: str) -> str:
    """Return a document without its code."""
    return _FENCE.sub("", (ROOT / name).read_text())


def terms() -> list[str]:
    return re.findall(r"^### (.+)$", (ROOT / GLOSSARY).read_text(), re.MULTILINE)


def test_each_term_is_defined_once() -> None:
    assert len(terms()) > 30
    assert [term for term, times in Counter(terms()).items() if times > 1] == []
    assert [term for term in terms() if term != term.lower()] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_term_is_linked_once_a_page(name: str) -> None:
    linked = Counter(re.findall(r"glossary\.md#([\w-]+)\)", (ROOT / name).read_text()))
    assert {term: times for term, times in linked.items() if times > 1} == {}


@pytest.mark.parametrize("name", OURS)
def test_words_are_plain(name: str) -> None:
    text = prose(name)
    assert [word for word in BANNED if re.search(rf"\b{word}\b", text, re.IGNORECASE)] == []
    assert HEADLESS.findall(text) == []


@pytest.mark.parametrize("text", ["Whoever asks, loads.", "It is so. Who says hello is known.", "| Who asks |"])
def test_headless_sentences_are_found(text: str) -> None:
    assert HEADLESS.search(text)
