"""docs/from-kamacache-go.md names everything of KamaCache-Go, and nothing of ours that does not exist."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

import kamacache
from kamacache import Node
from kamacache.cli.commands import cli
from kamacache.options import GroupOptions
from kamacache.rules import Rules
from kamacache.serve.metrics import render
from tests.docs.test_documents import ROOT

# The names of KamaCache-Go, by its source.
OPTIONS = {*GroupOptions._fields, *Rules._fields, "load_many"} - {"rules"}
THEIRS = {
    *{"NewGroup", "GetGroup", "ListGroups", "DestroyGroup", "DestroyAllGroups", "Getter", "GetterFunc"},
    *{"Group.Get", "Group.Set", "Group.Delete", "Group.Clear", "Group.Close", "Group.Stats", "RegisterPeers"},
    *{"WithExpiration", "WithPeers", "WithCacheOptions", "ErrKeyRequired", "ErrValueRequired", "ErrGroupClosed"},
    *{"ByteView", "Len", "ByteSLice", "String", "NewCache", "DefaultCacheOptions", "Cache", "CacheOptions"},
    *{"CacheType", "MaxBytes", "BucketCount", "CapPerBucket", "Level2Cap", "CleanupTime", "OnEvicted"},
    *{"CleanupInterval", "NewOptions", "Store", "SetWithExpiration", "UsedBytes", "SetMaxBytes"},
    *{"GetWithExpiration", "GetExpiration", "UpdateExpiration", "NewServer", "Server.Start", "Server.Stop"},
    *{"DefaultServerOptions", "EtcdEndpoints", "WithEtcdEndpoints", "DialTimeout", "WithDialTimeout", "MaxMsgSize"},
    *{"TLS", "CertFile", "KeyFile", "WithTLS", "NewClientPicker", "WithServiceName", "PrintPeers", "PickPeer"},
    *{"ClientPicker.Close", "PeerPicker", "Peer", "NewClient", "registry.Config", "registry.DefaultConfig"},
    *{"registry.Register", "consistenthash.New", "Config", "DefaultConfig", "WithConfig", "DefaultReplicas"},
    *{"MinReplicas", "MaxReplicas", "HashFunc", "LoadBalanceThreshold", "Map.Add", "GetStats"},
    *{"singleflight.Group.Do", "store.NewStore", "store.Options", "store.LRU2"},
    *{"name", "closed", "expiration", "loads", "local_hits", "local_misses", "peer_hits", "peer_misses", "loader_hits"},
    *{"loader_errors", "hit_rate", "avg_load_time_ms", "cache_initialized", "cache_closed", "cache_hits"},
    *{"cache_misses", "cache_hit_rate", "cache_size"},
}
# Their names that stand without their owner, and codes of gRPC and Redis.
OTHERS = {"Get", "Set", "Delete", "Close", "Remove", "Stop", "SERVING", "NOT_FOUND", "INTERNAL", "DEL", "TTL", "PTTL"}
OURS = (kamacache.Node, kamacache.Group, kamacache.GroupStats, kamacache.LoadError)


@pytest.fixture(scope="module")
def codes() -> list[str]:
    """Return all text between backticks, outside of blocks."""
    text = (ROOT / "docs/from-kamacache-go.md").read_text()
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def test_everything_of_theirs_is_there(codes: list[str]) -> None:
    named = {word for code in codes for word in re.findall(r"[\w.]+", code)}
    assert named >= THEIRS, sorted(THEIRS - named)


def test_everything_of_ours_is_there(codes: list[str]) -> None:
    named = {word for code in codes for word in re.findall(r"\w+", code)}
    node = set(inspect.signature(Node).parameters) - {"clock", "lane"}  # those are for tests
    for names in (node, OPTIONS, set(kamacache.GroupStats().as_dict())):
        assert names <= named, sorted(names - named)


def test_names_of_ours_exist(codes: list[str]) -> None:
    """Find members as `Group.get`, options as `Node(listen=…)`, and names that stand alone as `InvalidKey`."""
    owners = {owner.__name__: owner for owner in OURS}
    members = [name for code in codes for name in re.findall(rf"\b({'|'.join(owners)})\.([a-z]\w*)", code)]
    assert len(members) > 50
    for owner, member in members:
        assert hasattr(owners[owner], member) or member in owners[owner].__annotations__, f"{owner}.{member}"
    options = [option for code in codes for option in re.findall(r"([\w.]+)\((\w+)=", code)]
    assert len(options) > 20
    for function, option in options:
        assert option in _options(function), f"{function}({option}=)"
    alone = {code.removeprefix("kamacache.") for code in codes if re.fullmatch(r"(kamacache\.)?[A-Z]\w+", code)}
    assert alone - THEIRS - OTHERS <= set(kamacache.__all__)


def _options(function: str) -> set[str]:
    called: Any = kamacache
    for name in function.removeprefix("kamacache.").split("."):
        called = getattr(called, name)
    more = OPTIONS if called is Node.group else set()
    return set(inspect.signature(called).parameters) | more


def test_metrics_and_commands_exist(codes: list[str]) -> None:
    with Node() as node:
        node.group("g")
        page = render(node._groups.cores, node._runtime)
    metrics = {name for code in codes for name in re.findall(r"kamacache_\w+", code)}
    assert metrics
    assert all(f"# TYPE {name} " in page for name in metrics)
    commands = {name for code in codes for name in re.findall(r"^kamacache ([a-z]+)", code)}
    assert {"doctor", "members", "owner"} <= commands <= set(cli.commands)
