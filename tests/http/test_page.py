"""The page of a node in a real browser, which is skipped if there is none: in both colours, on a phone, live."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kamacache import Node
from kamacache._engine import Clock
from kamacache.history import PERIODS, STEP
from tests.http.browser import WITHOUT, Browser, find

PASSWORD = "of-the-page"  # noqa: S105 - of the test
STRANGE = "<b>1</b><script>alert(1)</script>"
REVERSING = "user \u202e321:resu\u2066\x07"
PHONE, DESK = (360, 780), (1280, 900)


def load(key: str) -> bytes:
    if key == "bad":
        raise ValueError(key)
    return bytes(1000)


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """Make a node that has five minutes behind it."""
    clock = Clock(manual=True)
    with Node("127.0.0.1:0", password=PASSWORD, service="shop", clock=clock) as node:
        users, prices = node.group("users", load), node.group("prices", load)
        for turn in range(PERIODS + 2):
            node._runtime.history.sample(node._groups.cores)
            clock.advance(STEP)
            for number in range(turn):
                users.get(f"user:{number % 7}")
                prices.get(f"sku-{turn}-{number}")
        for _ in range(5_000):
            users.get(STRANGE)
            users.get(REVERSING)
        clock.advance(STEP / 2)
        yield node


@pytest.fixture(scope="module")
def browser(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find()
    if program is None:
        pytest.skip(WITHOUT)
    with Browser(program, tmp_path_factory.mktemp("profile"), password=PASSWORD) as browser:
        browser.show(*DESK)
        browser.go(f"http://{node.address}/")
        browser.wait("document.querySelectorAll('#members tbody tr').length === 1")
        yield browser


def test_it_shows_the_node_and_its_groups(browser: Browser, node: Node) -> None:
    assert browser.run("document.querySelector('h1').innerText") == "KamaCache shop"
    assert browser.run("[...document.querySelectorAll('#groups .name')].map(e => e.innerText).sort()") == [
        "prices",
        "users",
    ]
    assert str(node.address) in browser.run("document.querySelector('#members').innerText")
    assert browser.run("document.querySelectorAll('.tile svg path').length") >= 4
    assert browser.run("document.querySelector('#when').innerText") == "live"
    assert browser.run("[...document.querySelectorAll('svg')].every(e => e.getAttribute('aria-label'))")
    assert browser.said == []


def test_a_key_that_looks_like_html_is_text(browser: Browser) -> None:
    assert STRANGE in browser.run("[...document.querySelectorAll('#hot code')].map(e => e.textContent)")
    assert browser.run("document.querySelectorAll('script').length") == 1


def test_a_key_does_not_reverse_what_is_beside_it(browser: Browser) -> None:
    keys = browser.run("[...document.querySelectorAll('#hot code')].map(e => e.textContent)")
    assert "user \ufffd321:resu\ufffd\ufffd" in keys
    assert browser.run("getComputedStyle(document.querySelector('#hot code')).unicodeBidi") == "isolate"


@pytest.mark.parametrize("size", [PHONE, DESK])
@pytest.mark.parametrize("dark", [False, True])
def test_both_colours_and_sizes(browser: Browser, size: tuple[int, int], dark: bool, tmp_path: Path) -> None:
    browser.show(*size, dark=dark)
    assert browser.run("document.documentElement.scrollWidth") <= size[0]
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(13, 20, 24)" if dark else "rgb(244, 246, 247)")
    assert len(browser.shoot(tmp_path / "page.png")) > 20_000  # an empty one has 5,000
    assert len(browser.run("[...document.querySelectorAll('.tile')].map(e => e.offsetHeight > 80)")) == 4


def test_it_goes_on_and_says_when_the_node_is_gone(tmp_path: Path) -> None:
    program = find()
    if program is None:
        pytest.skip(WITHOUT)
    with Node("127.0.0.1:0") as node, Browser(program, tmp_path / "profile") as browser:
        browser.go(f"http://{node.address}/")
        browser.wait("document.querySelector('#groups').innerText.includes('There are no groups yet')")
        node.group("late", load)
        browser.wait("document.querySelector('#groups').innerText.includes('late')")
        browser.run("document.querySelector('#pause').click()")
        assert browser.run("document.querySelector('#when').innerText") == "paused"
        browser.run("document.querySelector('#pause').click()")
        node.close()
        browser.run("ask()")
        assert browser.run("document.querySelector('#live').className") == "late"
        assert browser.run("document.querySelector('#when').innerText").startswith("no answer since")
