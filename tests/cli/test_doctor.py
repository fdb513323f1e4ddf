"""`kamacache doctor` finds faults of real nodes, and says how to repair them."""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

from kamacache import Node, __version__
from kamacache.cli.client import Client
from kamacache.cli.doctor import Finding, Seen, _alone, _reachable, _together
from kamacache.cli.finding import Place
from kamacache.cluster.exchange import DENIED
from tests.cli.conftest import PATIENCE, Program
from tests.cluster.cluster import wait_until
from tests.cluster.conftest import free_ports


def test_nodes_that_are_well(running: Program) -> None:
    assert "checks are fine" in running.out("doctor")
    report = running.json("doctor")
    assert report["ok"]
    assert len(report["findings"]) >= 4
    assert running.json("doctor", "--node", running.served[0].address)["ok"]


def wrong(program: Program, *arguments: str) -> list[dict[str, Any]]:
    done = program.run("doctor", *arguments)
    assert done.returncode == 1, done
    assert b"->" in done.stdout
    found = program.run("doctor", "--json", *arguments)
    return [finding for finding in json.loads(found.stdout)["findings"] if not finding["ok"]]


def test_no_nodes_of_the_service(program: Program) -> None:
    (finding,) = wrong(program, "--service", "other")
    assert "lists no member of service 'other'" in finding["text"]
    assert "start a node" in finding["advice"]


def test_an_unsafe_registry(program: Program) -> None:
    (program.directory / "open").mkdir(mode=0o755)
    (finding,) = wrong(program, "--registry", f"local://{program.directory}/open")
    assert "chmod 700" in finding["text"]


def test_a_frozen_member(program: Program) -> None:
    stays, frozen = program.pair()
    frozen.signal(signal.SIGSTOP)

    def found_out() -> bool:
        states = {
            member["address"]: str(member["state"]) for member in program.json("members", "--node", stays.address)
        }
        return states[frozen.address] == "dead"

    wait_until(found_out, PATIENCE)
    done = program.run("doctor", "--json", "--timeout", "2s")
    assert done.returncode == 1, done
    texts = {finding["what"]: finding for finding in json.loads(done.stdout)["findings"] if not finding["ok"]}
    assert "no answer in time" in texts[frozen.address]["text"]
    assert "frozen" in texts[frozen.address]["advice"]
    assert f"considers {frozen.address} dead" in texts[stays.address]["text"]
    for _ in range(2):  # whichever is first on the list
        assert program.out("get", "users", "7", "--timeout", "20s") == "value of 7"


def test_a_static_member_that_is_not_there(program: Program) -> None:
    here, gone = (f"127.0.0.1:{port}" for port in free_ports(2))
    registry = f"static://{here},{gone}"
    program.serve("--registry", registry, "--listen", here)
    findings = wrong(program, "--registry", registry)
    gone_finding = next(finding for finding in findings if finding["what"] == gone)
    assert "nothing listens there" in gone_finding["text"]
    assert "start it again" in gone_finding["advice"]


def test_lists_that_differ(program: Program) -> None:
    """Find a node on no list but its own: the other hears from it, and owns all keys alone."""
    alone, both = (f"127.0.0.1:{port}" for port in free_ports(2))
    program.serve("--registry", f"static://{alone}", "--listen", alone)
    program.serve("--registry", f"static://{alone},{both}", "--listen", both)
    text = f"hears from {both}, which is not registered"
    registry = f"static://{alone},{both}"
    wait_until(lambda: text.encode() in program.run("doctor", "--registry", registry).stdout, PATIENCE)
    (finding,) = (finding for finding in wrong(program, "--registry", registry) if finding["text"] == text)
    assert finding["what"] == alone
    assert "see its log" in finding["advice"]


def test_codecs_that_differ(program: Program) -> None:
    for codec in ("text", "json"):
        (program.directory / f"{codec}.toml").write_text(f'[groups.users]\ncodec = "{codec}"\n')
        program.serve("--config", f"{codec}.toml")
    findings = wrong(program)
    assert any(f["what"] == "group users" and "text at" in f["text"] and "json at" in f["text"] for f in findings)


def test_members_without_the_loader_and_with_another(program: Program) -> None:
    """Tell of a member that only asks others, and fail on two programs whose groups have one name."""
    web, bare = program.serve("--group", "users=loaders:load"), program.serve("--group", "users")
    wait_until(lambda: program.run("doctor").returncode == 0, PATIENCE)
    (group,) = (f for f in program.json("doctor")["findings"] if f["what"] == "group users")
    assert group["text"] == f"has no loader at {bare.address}"
    assert "owns no keys" in group["advice"]
    for key in map(str, range(8)):
        assert program.out("get", "users", key, "--node", bare.address) == f"value of {key}"
    other = program.serve("--group", "users=loaders:slow")
    findings = wrong(program)
    (loader,) = (f for f in findings if f["what"] == "group users")
    assert loader["text"] == f"loader: loaders.load at {web.address}; loaders.slow at {other.address}"
    assert "a service of its own" in loader["advice"]


def test_clients_are_shown_and_not_queried(program: Program) -> None:
    member = program.serve("--group", "users=loaders:load")
    with Node(registry=program.registry, client=True) as client:
        assert client.group("users").get("7") == b"value of 7"
        (group,) = (f for f in program.json("doctor")["findings"] if f["what"] == "client nodes")
        assert group["ok"]
        assert group["text"] == f"{client.address}: own no keys, load for no other, and are notified of writes"
        assert [m["state"] for m in program.json("members", "--node", member.address)] == ["alive", "client"]
        assert program.json("ping")["address"] == member.address
        assert program.json("doctor", "--node", str(client.address))["ok"]


PLACE = Place(None, "local://", "shop", 1.0, None, None)


def seen(address: str, *, ahead: float = 0.0, others: tuple[str, ...] = (), **info: Any) -> Seen:
    told = {
        "version": __version__,
        "protocol": 1,
        "joined": True,
        "troubles": [],
        "service": "shop",
        "groups": {},
    } | info
    members = [{"address": other, "me": other == address, "registered": True, "state": "alive"} for other in others]
    return Seen(address, told, members, ahead)


def failed(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if not finding.ok]


def test_findings_that_cannot_be_caused_here() -> None:
    """Find other versions and other clocks, as members of other machines would report them."""
    both = ("a:1", "b:1")
    (clocks,) = failed(list(_together([seen("a:1", others=both, ahead=-12.0), seen("b:1", others=both)])))
    assert clocks.text == "b:1 is 12.0 s ahead of a:1"
    assert "NTP" in clocks.advice
    here = list(_together([seen(address, others=both, ahead=-12.0) for address in both]))
    assert not failed(here)
    assert any("this machine's clock is 12.0 s ahead of theirs" in finding.text for finding in here)
    (protocol,) = failed(list(_alone(seen("a:1", protocol=9), PLACE)))
    assert "protocol 9" in protocol.text
    (joined,) = failed(list(_alone(seen("a:1", joined=False), PLACE)))
    assert "has not joined" in joined.text
    troubles = [f"{DENIED}b:1: WRONGPASS the password is wrong", "the registry is away: no answer"]
    distrust, away = failed(list(_alone(seen("a:1", troubles=troubles), PLACE)))
    assert "password" in distrust.advice
    assert "reaches" in away.advice
    (service,) = failed(list(_alone(seen("a:1", service="other"), PLACE)))
    assert "'other'" in service.text
    (versions,) = failed(list(_together([seen("a:1", others=both), seen("b:1", others=both, version="0.0.9")])))
    assert "0.0.9 at b:1" in versions.text
    (view,) = failed(list(_together([seen("a:1", others=("a:1",)), seen("b:1", others=both)])))
    assert (view.what, view.text) == ("a:1", "does not know b:1")
    assert not failed(list(_together([])))


def unreachable(registry: str, *addresses: str) -> list[str]:
    return [finding.what for finding in _reachable(replace(PLACE, registry=registry), list(addresses))]


def test_addresses_that_other_machines_cannot_use() -> None:
    mine, local, theirs = "127.0.0.1:8001", "unix:/run/app.sock", "10.0.0.1:8001"
    assert unreachable("etcd://10.0.0.5", mine, local, theirs) == [mine, local]
    assert unreachable("etcd://127.0.0.1", mine, "127.0.0.1:8002") == []  # all of it is on this machine
    assert unreachable("etcd://127.0.0.1", mine, theirs) == [mine]
    assert unreachable(f"static://{mine},{theirs}", mine, theirs) == []  # the user wrote them
    assert unreachable("local://", local) == []


def test_a_group_that_not_all_have(program: Program) -> None:
    program.serve("--group", "users", "--group", "bag")
    one = program.serve("--group", "users")
    wait_until(lambda: program.run("doctor").returncode == 0, PATIENCE)
    (group,) = (f for f in program.json("doctor")["findings"] if f["what"].startswith("group "))
    assert (group["what"], group["text"]) == ("group bag", f"is not at {one.address}")
    assert "NOGROUP" in group["advice"]
    assert "NOGROUP" in program.fails(4, "get", "bag", "k", "--node", one.address)
    program.fails(1, "get", "bag", "k")  # not named, a member that has the group is asked


class Altered:
    """A member of the list that answers as the node behind it, with other facts in KC.INFO."""

    def __init__(self, node: str, **facts: Any) -> None:
        self._node, self._facts = node, facts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with suppress(OSError), connection, connection.makefile("rb") as asked, Client(self._node) as behind:
                while asked.readline():  # *1
                    asked.readline()  # $7
                    command = asked.readline().decode().strip()
                    facts = behind.ask_json(command)
                    text = json.dumps(facts | self._facts if command == "KC.INFO" else facts).encode()
                    connection.sendall(b"$%d\r\n%s\r\n" % (len(text), text))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        self._listener.close()


def test_another_version_and_another_clock_are_shown(program: Program) -> None:
    here = f"127.0.0.1:{free_ports(1)[0]}"
    node = program.serve("--registry", f"static://{here}", "--listen", here, "--group", "bag")
    other = Altered(node.address, version="0.0.9", protocol=9, clock=time.time() + 3600)
    try:
        registry = f"static://{here},{other.address}"
        found = {finding["text"]: finding["advice"] for finding in wrong(program, "--registry", registry)}
    finally:
        other.close()
    assert "speaks protocol 9, not 1" in found
    assert f"0.0.9 at {other.address}; {__version__} at {here}" in found
    (clocks,) = (text for text in found if "ahead of" in text)
    assert re.fullmatch(f"{other.address} is 3[56][0-9]{{2}}.[0-9] s ahead of {here}", clocks)
