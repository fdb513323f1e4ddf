"""An etcd that asks for a password, and one that speaks TLS with those alone whose certificate it knows."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from kamacache import ConfigError, Node, RegistryError
from tests.cluster.cluster import wait_until
from tests.etcd.conftest import Registered
from tests.etcd.server import PACKAGED, Etcd

MakeNode = Callable[..., Node]
SECRET = "s3cret/pass:word"  # noqa: S105 - of an etcd that lives as long as its tests
QUOTED = "s3cret%2Fpass%3Aword"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """Start an etcd with passwords; the user kama has the rights that a node needs, the user poor none."""
    with Etcd(tmp_path_factory.mktemp("guarded")) as made:
        for user in ("root", "kama", "poor"):
            made.ctl("user", "add", f"{user}:{SECRET}" if user != "root" else "root:root")
        made.ctl("role", "add", "root")
        made.ctl("user", "grant-role", "root", "root")
        made.ctl("role", "add", "nodes")
        for prefix in ("/kamacache/", "/services/"):
            made.ctl("role", "grant-permission", "nodes", "readwrite", "--prefix=true", prefix)
        made.ctl("user", "grant-role", "kama", "nodes")
        made.ctl("auth", "enable")
        made.ctl_options = ["--user=root:root"]
        yield made


def login(etcd: Etcd, user: str) -> str:
    return etcd.url.replace("//", f"//{user}@")


def test_with_the_right_password(guarded: Etcd, node_at: MakeNode) -> None:
    nodes = [node_at(login(guarded, f"kama:{QUOTED}")) for _ in range(2)]
    wait_until(lambda: all(len(node.members()) == 2 for node in nodes))
    guarded.kill()
    guarded.start()  # its earlier tokens are no longer valid
    late = node_at(login(guarded, f"kama:{QUOTED}"))
    wait_until(lambda: all(len(node.members()) == 3 for node in [*nodes, late]), 20.0)


@pytest.mark.parametrize("user", ["kama:wr0ngpass", f"nobody:{QUOTED}", f"poor:{QUOTED}", ""])
def test_users_that_etcd_refuses(
    guarded: Etcd, node_at: MakeNode, user: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Raise in start, and answer a call that starts the node by itself. No password shows anywhere."""
    caplog.set_level(logging.DEBUG)
    node = node_at(login(guarded, user) if user else guarded.url, start=False)
    assert node.groups["g"].get("k") == b"value of k"
    with pytest.raises(RegistryError, match=f"etcd at 127.0.0.1:{guarded.port}") as caught:
        node.start()
    shown = [str(caught.value), repr(caught.value), repr(node), repr(node._registry), repr(node._options), caplog.text]
    for text in [*shown, *capfd.readouterr()]:
        assert not any(secret in text for secret in ("wr0ngpass", SECRET, QUOTED))


def test_an_etcd_without_passwords_takes_any(own_etcd: Etcd) -> None:
    """Accept any password, as etcd's own clients do, if etcd has none."""
    one = Registered(login(own_etcd, f"kama:{QUOTED}"), "app")
    one.register()
    assert one.ids() == ["id1"]
    one.registry.close()


class Certificates:
    """Files of an authority, of etcd, and of a client; and of another authority."""

    def __init__(self, directory: Path) -> None:
        ours, theirs = trustme.CA(), trustme.CA()
        self.ca, self.other_ca = directory / "ca.pem", directory / "other_ca.pem"
        ours.cert_pem.write_to_path(self.ca)
        theirs.cert_pem.write_to_path(self.other_ca)
        self.server = self._issue(ours, directory / "server", "127.0.0.1", "localhost")
        self.elsewhere = self._issue(ours, directory / "elsewhere", "example.org")
        self.client = self._issue(ours, directory / "client", "client")
        self.stranger = self._issue(theirs, directory / "stranger", "client")

    @staticmethod
    def _issue(authority: trustme.CA, path: Path, *names: str) -> tuple[Path, Path]:
        issued = authority.issue_cert(*names)
        certificate, key = path.with_suffix(".pem"), path.with_suffix(".key")
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        return certificate, key


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def encrypted(directory: Path, certificates: Certificates, pair: tuple[Path, Path]) -> Etcd:
    """Start an etcd that speaks TLS, only to clients that have a certificate."""
    options = [f"--cert-file={pair[0]}", f"--key-file={pair[1]}"]
    options += ["--client-cert-auth", f"--trusted-ca-file={certificates.ca}"]
    made = Etcd(directory, PACKAGED / "etcd", *options, tls=True)
    client = certificates.client
    made.ctl_options = [f"--cacert={certificates.ca}", f"--cert={client[0]}", f"--key={client[1]}"]
    return made


@pytest.fixture(scope="module")
def tls_etcd(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Etcd]:
    with encrypted(tmp_path_factory.mktemp("tls"), certificates, certificates.server) as made:
        yield made


def with_files(etcd: Etcd, ca: Path, pair: tuple[Path, Path] | None) -> str:
    own = f"&cert={pair[0]}&key={pair[1]}" if pair is not None else ""
    return f"{etcd.url}?ca={ca}{own}"


def test_tls_with_a_client_certificate(tls_etcd: Etcd, certificates: Certificates, node_at: MakeNode) -> None:
    nodes = [node_at(with_files(tls_etcd, certificates.ca, certificates.client)) for _ in range(2)]
    wait_until(lambda: all(len(node.members()) == 2 for node in nodes))
    tls_etcd.kill()
    tls_etcd.start()
    late = node_at(with_files(tls_etcd, certificates.ca, certificates.client))
    wait_until(lambda: all(len(node.members()) == 3 for node in [*nodes, late]), 20.0)


def test_certificates_that_do_not_do(tls_etcd: Etcd, certificates: Certificates, node_at: MakeNode) -> None:
    for ca, pair in [
        (certificates.other_ca, certificates.client),
        (certificates.ca, certificates.stranger),
        (certificates.ca, None),
    ]:
        node = node_at(with_files(tls_etcd, ca, pair), start=False)
        with pytest.raises(RegistryError, match="TLS"):
            node.start()


def test_an_etcd_with_the_wrong_certificate(tmp_path: Path, certificates: Certificates) -> None:
    other = encrypted(tmp_path, certificates, certificates.elsewhere)
    other.launch()
    try:
        one = Registered(with_files(other, certificates.ca, certificates.client), "app")
        wait_until(lambda: is_refused(one), 30.0)
        one.registry.close()
    finally:
        other.kill()


def is_refused(one: Registered) -> bool:
    try:
        one.register()
    except RegistryError as error:
        return "TLS" in str(error)
    except ConnectionError:
        return False
    raise AssertionError("it registered")


def test_without_tls_at_a_port_that_wants_it(tls_etcd: Etcd) -> None:
    one = Registered(tls_etcd.url, "app")
    with pytest.raises(ConnectionError, match=f"127.0.0.1:{tls_etcd.port}"):
        one.register()
    one.registry.close()


def test_files_of_no_use_are_named(tmp_path: Path, certificates: Certificates) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    ca, (certificate, key) = certificates.ca, certificates.client
    for query, named in [
        (f"ca={tmp_path}/missing.pem", "missing.pem"),
        (f"ca={empty}", "empty.pem"),
        (f"ca={ca}&cert={certificate}&key={empty}", "empty.pem"),
        (f"ca={ca}&cert={certificate}&key={certificates.stranger[1]}", "client.pem"),
    ]:
        with pytest.raises(ConfigError, match=named):
            Node(registry=f"etcd://127.0.0.1:2379?{query}")
    with contextlib.closing(Registered(f"etcd://127.0.0.1:2379?ca={ca}&cert={certificate}&key={key}", "app").registry):
        pass
