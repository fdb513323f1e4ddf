"""Nodes tell by module and qualified name whether they load a group by the same functions."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kamacache.load.loader import Loader
from tests.support.environment import own_environment


def load(key: str) -> bytes:
    return key.encode()


def load_many(keys: list[str]) -> dict[str, bytes]:
    return {key: load(key) for key in keys}


class Source:
    def load(self, key: str) -> bytes:
        return key.encode()

    def __call__(self, key: str) -> bytes:
        return key.encode()


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (load, "load"),
        (Source().load, "Source.load"),
        (Source(), "Source"),
        (functools.partial(load), "load"),
        (lambda key: key, "<lambda>"),
    ],
    ids=["function", "method", "object", "partial", "lambda"],
)
def test_names(function: Any, name: str) -> None:
    assert Loader(function, None).identity() == {"loader": f"{__name__}.{name}", "load_many": "none"}


def test_both_functions_are_named() -> None:
    expected = {"loader": "none", "load_many": f"{__name__}.load_many"}
    assert Loader(None, load_many).identity() == expected
    assert Loader(load, load_many).identity() == expected | {"loader": f"{__name__}.load"}
    assert Loader(None, None).identity() == {"loader": "none", "load_many": "none"}


@pytest.mark.parametrize("command", [["shop.py"], ["-m", "shop"], ["-c", "import shop"]])
def test_a_program_and_its_module_are_the_same(tmp_path: Path, command: list[str]) -> None:
    """Name the file instead of __main__: one process may run what another imports."""
    text = (
        "from kamacache.load.loader import Loader\ndef load(key): ...\nprint(Loader(load, None).identity()['loader'])\n"
    )
    (tmp_path / "shop.py").write_text(text)
    run = [sys.executable, *command]
    done = subprocess.run(run, cwd=tmp_path, env=own_environment(), capture_output=True, check=True, timeout=60)
    assert done.stdout.decode().strip() == "shop.load"


def test_a_program_keeps_its_name_at_its_end(tmp_path: Path) -> None:
    """Python takes __file__ away from a program that has run, while its node still says goodbye."""
    text = (
        "import atexit\nfrom kamacache.load.loader import Loader\ndef load(key): ...\n"
        "tell = lambda: print(Loader(load, None).identity()['loader'])\ntell()\natexit.register(tell)\n"
    )
    (tmp_path / "shop.py").write_text(text)
    run = [sys.executable, "shop.py"]
    done = subprocess.run(run, cwd=tmp_path, env=own_environment(), capture_output=True, check=True, timeout=60)
    assert done.stdout.decode().splitlines() == ["shop.load"] * 2


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
@pytest.mark.parametrize("command", [["shop.py"], ["-m", "shop"]])
def test_children_of_multiprocessing_name_the_program_alike(tmp_path: Path, method: str, command: list[str]) -> None:
    """Name the file also in children, which run it as __mp_main__: keys made of arguments have its name in them."""
    text = f"""
import multiprocessing
from dataclasses import dataclass
from kamacache.keys import write
from kamacache.load.loader import Loader

@dataclass(frozen=True)
class Item:
    number: int

def load(key): ...

def tell():
    print(Loader(load, None).identity()["loader"], write(Item(1)), flush=True)

if __name__ == "__main__":
    tell()
    child = multiprocessing.get_context({method!r}).Process(target=tell)
    child.start()
    child.join()
"""
    (tmp_path / "shop.py").write_text(text)
    run = [sys.executable, *command]
    done = subprocess.run(run, cwd=tmp_path, env=own_environment(), capture_output=True, check=True, timeout=60)
    assert done.stdout.decode().splitlines() == ["shop.load shop.Item(number=1)"] * 2
