"""The parsers in Python refuse what they cannot read, and raise nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.fuzz import engine, python

NAMES = list(python.targets(Path("unused")))


@pytest.mark.parametrize("name", NAMES)
def test_a_parser_raises_what_it_promises(name: str, tmp_path: Path) -> None:
    python.fuzz(name, python.targets(tmp_path)[name], count=300, seed=1)


def test_an_input_that_breaks_a_parser_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python, "SEEDS", tmp_path)

    def parse(data: bytes) -> None:
        assert b"b" not in data

    with pytest.raises(AssertionError) as raised:
        python.fuzz("one", python.Target(parse, (), (b"aaaa", b"x")), count=1000, seed=1)
    (kept,) = (tmp_path / "one").iterdir()
    assert b"b" in kept.read_bytes()
    assert f"is kept in {kept.parent}" in raised.value.__notes__[0]


def test_every_parser_has_seeds() -> None:
    names = [*engine.parsers(), *NAMES]
    assert len(names) == len(set(names))
    kept = {place.name for place in engine.SEEDS.iterdir()}
    assert set(engine.parsers()) <= kept <= set(names)
