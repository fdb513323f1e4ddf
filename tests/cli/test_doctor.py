"""`kamacache doctor`: it finds what is wrong with real nodes, and says what to do."""

from __future__ import annotations

import json
import signal
from typing import Any

from kamacache import __version__
from kamacache.cli.doctor import Finding, Seen, _alone, _together
from kamacache.cli.finding import Place
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


def test_nobody_there(program: Program) -> None:
    (finding,) = wrong(program, "--service", "other")
    assert "lists nobody for service 'other'" in finding["text"]
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
    findings = wrong(program, "--timeout", "2s")
    texts = {finding["what"]: finding for finding in findings}
    assert "no answer in time" in texts[frozen.address]["text"]
    assert "frozen" in texts[frozen.address]["advice"]
    assert f"holds {frozen.address} for dead" in texts[stays.address]["text"]


def test_a_static_member_that_is_not_there(program: Program) -> None:
    here, gone = (f"127.0.0.1:{port}" for port in free_ports(2))
    registry = f"static://{here},{gone}"
    program.serve("--registry", registry, "--listen", here)
    findings = wrong(program, "--registry", registry)
    gone_finding = next(finding for finding in findings if finding["what"] == gone)
    assert "nothing listens there" in gone_finding["text"]
    assert "start it again" in gone_finding["advice"]


def test_codecs_that_differ(program: Program) -> None:
    for codec in ("text", "json"):
        (program.directory / f"{codec}.toml").write_text(f'[groups.users]\ncodec = "{codec}"\n')
        program.serve("--config", f"{codec}.toml")
    findings = wrong(program)
    assert any(f["what"] == "group users" and "text at" in f["text"] and "json at" in f["text"] for f in findings)


PLACE = Place(None, "local://", "shop", 1.0, None, None)


def seen(address: str, *, ahead: float = 0.0, others: tuple[str, ...] = (), **info: Any) -> Seen:
    told = {"version": __version__, "protocol": 1, "joined": True, "service": "shop", "groups": {}} | info
    members = [{"address": other, "me": other == address, "registered": True, "state": "alive"} for other in others]
    return Seen(address, told, members, ahead)


def failed(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if not finding.ok]


def test_what_cannot_be_made_to_happen_here() -> None:
    """Other versions and other clocks, as members of other machines would tell."""
    (clock,) = failed(list(_alone(seen("a:1", ahead=-12.0), PLACE)))
    assert "12.0 s behind" in clock.text
    assert "NTP" in clock.advice
    (protocol,) = failed(list(_alone(seen("a:1", protocol=9), PLACE)))
    assert "protocol 9" in protocol.text
    (joined,) = failed(list(_alone(seen("a:1", joined=False), PLACE)))
    assert "has not joined" in joined.text
    (service,) = failed(list(_alone(seen("a:1", service="other"), PLACE)))
    assert "'other'" in service.text
    both = ("a:1", "b:1")
    (versions,) = failed(list(_together([seen("a:1", others=both), seen("b:1", others=both, version="0.0.9")])))
    assert "0.0.9 at b:1" in versions.text
    (view,) = failed(list(_together([seen("a:1", others=("a:1",)), seen("b:1", others=both)])))
    assert (view.what, view.text) == ("a:1", "does not know b:1")
    assert not failed(list(_together([])))
