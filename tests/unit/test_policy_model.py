"""The native policies against the plain-Python ones: the same answers and the same order after every step."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kamacache._engine import PolicyRun
from tests.support.policies import MODELS, Model

KEYS = st.integers(0, 24)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["access"]), KEYS),
    st.tuples(st.sampled_from(["access", "access", "remove", "demote"]), KEYS),
    st.tuples(st.just("reweigh"), KEYS, st.integers(1, 40)),
)


def both(policy: str, capacity: int) -> tuple[PolicyRun, Model]:
    return PolicyRun(policy, capacity), MODELS[policy](capacity)


@pytest.mark.parametrize("policy", MODELS)
@settings(max_examples=300, deadline=None)
@given(capacity=st.integers(1, 32), steps=st.lists(STEPS, max_size=120))
def test_every_step_agrees(policy: str, capacity: int, steps: list[tuple[str, int] | tuple[str, int, int]]) -> None:
    native, model = both(policy, capacity)
    for name, *arguments in steps:
        assert getattr(native, name)(*arguments) == getattr(model, name)(*arguments), (name, arguments)
        assert native.contents() == model.contents(), (name, arguments)


@pytest.mark.parametrize("policy", MODELS)
@settings(max_examples=100, deadline=None)
@given(capacity=st.integers(1, 20), keys=st.lists(KEYS, max_size=300))
def test_run_is_access_of_each(policy: str, capacity: int, keys: list[int]) -> None:
    native, model = both(policy, capacity)
    assert native.run(keys) == sum(model.access(key) for key in keys)
    assert native.contents() == model.contents()
    assert len(native.contents()) <= capacity


@pytest.mark.parametrize("policy", MODELS)
def test_demoted_goes_first_and_a_hit_saves_it(policy: str) -> None:
    run = PolicyRun(policy, 10)
    run.run(list(range(10)))
    run.demote(7)
    run.demote(3)
    assert run.contents()[:2] == [3, 7]
    run.access(3)
    run.access(10)
    assert 7 not in run.contents()
    assert 3 in run.contents()


def test_heavy_newcomer_does_not_evict_itself() -> None:
    run = PolicyRun("s3fifo", 100)
    for _ in range(3):
        run.run(list(range(100)))
    run.access(1000)
    run.reweigh(1000, 20)
    assert 1000 in run.contents()


@pytest.mark.parametrize("arguments", [("lfu", 10), ("", 10), ("lru", 0)])
def test_bad_arguments(arguments: tuple[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        PolicyRun(*arguments)
