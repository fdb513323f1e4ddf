"""Hit ratios: recorded traces against published figures, a seeded Zipf trace against the plain-Python models."""

import pytest

from kamacache._engine import PolicyRun, Store
from tests.support import sizes, traces
from tests.support.policies import MODELS

CAPACITIES = (0.01, 0.05, 0.10)  # of the unique keys
# libCacheSim's figures in percent, at those capacities.
LRU = {
    "cache2k/orm-busy": (77.03, 84.13, 88.01),
    "cache2k/web12": (39.79, 60.02, 68.49),
    "arc/OLTP": (41.64, 60.08, 66.52),
}
S3FIFO = {
    "cache2k/orm-busy": (75.64, 85.24, 88.89),
    "cache2k/web12": (41.04, 64.80, 72.12),
    "arc/OLTP": (46.47, 62.09, 67.66),
}


def ratios(policy: str, keys: list[int]) -> list[float]:
    unique = len(set(keys))
    return [100 * PolicyRun(policy, round(unique * share)).run(keys) / len(keys) for share in CAPACITIES]


@pytest.mark.parametrize("name", traces.RECORDED)
def test_recorded(name: str) -> None:
    folder = traces.folder()
    if folder is None:
        pytest.skip(f"{traces.VARIABLE} names no folder of recorded traces; a seeded Zipf trace ran instead")
    keys = traces.recorded(folder, name)
    assert ratios("lru", keys) == pytest.approx(LRU[name], abs=0.02)
    for ours, reference in zip(ratios("s3fifo", keys), S3FIFO[name], strict=True):
        assert ours > reference - 0.3


@pytest.mark.parametrize("policy", MODELS)
def test_zipf(policy: str) -> None:
    keys = traces.zipf(seed=1, requests=20_000, unique=2_000)
    for share in CAPACITIES:
        capacity = round(len(set(keys)) * share)
        model = MODELS[policy](capacity)
        assert PolicyRun(policy, capacity).run(keys) == sum(model.access(key) for key in keys)


@pytest.mark.parametrize("policy", MODELS)
@pytest.mark.parametrize(("size", "entries"), [(4_000_000, 15), (1_000_000, 66), (100_000, 600)])
def test_shards_are_no_smaller_caches(policy: str, size: int, entries: int) -> None:
    keys = traces.zipf(seed=1, requests=10_000, unique=entries * 20)
    store, one = sizes.hits(policy, keys, size, 64 << 20)
    assert abs(store - one) <= len(keys) * 0.005


@pytest.mark.parametrize("policy", MODELS)
def test_a_large_value_pushes_out_cold_entries_of_all_shards(policy: str) -> None:
    store = sizes.store_of(policy, 64 << 20)
    hot, cold = ([f"{name}{number}" for number in range(count)] for name, count in (("hot", 2_000), ("cold", 8_000)))
    for key in [*hot, *cold]:
        store.put(key, bytes(6_000), 1, None, Store.MAIN)
    for key in hot * 3:
        store.lookup(key)
    left = [0]
    for number in range(3):
        store.put(f"large{number}", bytes(8_000_000), 1, None, Store.MAIN)
        left.append(sum(store.peek(key) is None for key in cold))
    assert all(store.peek(key) is not None for key in hot)
    assert left == sorted(left)
    assert left[-1] > 2_500


def test_readers() -> None:
    assert traces.cache2k(b"\0\0\1\0\0\0\0\7\0\0\1\0") == [1, 0, 1]
    assert traces.arc(b"10 3 0 0\n11 1 0 1\n") == [0, 1, 2, 1]
