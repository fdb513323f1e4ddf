"""Nodes with a password and with TLS, served and asked from the command line."""

from __future__ import annotations

from pathlib import Path

import trustme

from tests.cli.conftest import Program


def test_a_password(program: Program) -> None:
    (program.directory / "password").write_text("a-secret\n")
    (program.directory / "wrong").write_text("another\n")
    node = program.serve("--group", "bag", "--password-file", "password")
    assert "--password-file" in program.fails(4, "members", "--node", node.address)
    assert "WRONGPASS" in program.fails(4, "members", "--node", node.address, "--password-file", "wrong")
    for everyone in (("stats", "--all"), ("stats", "--all", "--node", node.address)):
        assert "NOAUTH" in program.fails(4, *everyone)
        assert "WRONGPASS" in program.fails(4, *everyone, "--password-file", "wrong")
        program.out(*everyone, "--password-file", "password")
    program.out("set", "bag", "k", "v", "--password-file", "password")
    assert program.out("get", "bag", "k", environment={"KAMACACHE_PASSWORD": "a-secret"}) == "v"
    assert b"KAMACACHE_PASSWORD" in program.run("doctor").stdout
    assert Path(f"/proc/{node.popen.pid}/cmdline").read_bytes().find(b"a-secret") == -1


def test_beyond_this_machine_only_with_one_of_them(program: Program) -> None:
    said = program.fails(2, "serve", "--registry", "none", "--listen", "0.0.0.0:0", "--group", "bag")
    assert "--insecure" in said
    assert "password" in said
    open_ = program.serve("--registry", "none", "--listen", "0.0.0.0:0", "--group", "bag", "--insecure")
    assert open_.address


def test_the_password_of_the_environment_comes_before_the_files(program: Program) -> None:
    """Prefer the environment, as for every option."""
    (program.directory / "old").write_text("of-the-file")
    (program.directory / "secured.toml").write_text('password_file = "old"\n[groups.bag]\n')
    new = {"KAMACACHE_PASSWORD": "of-the-environment"}
    program.serve("--config", "secured.toml", environment=new)
    program.out("members", environment=new)


def test_a_password_that_no_node_asked_for(program: Program) -> None:
    program.serve("--group", "bag")
    given = {"KAMACACHE_PASSWORD": "a-secret"}
    assert "leave --password-file and KAMACACHE_PASSWORD out" in program.fails(4, "members", environment=given)
    done = program.run("doctor", environment=given)
    assert done.returncode == 1
    assert b"started without a password" in done.stdout


def test_tls(program: Program) -> None:
    authority, own = trustme.CA(), program.directory
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(own / "ca.pem"))
    certificate.private_key_pem.write_to_path(str(own / "node.key"))
    certificate.cert_chain_pems[0].write_to_path(str(own / "node.pem"))
    (own / "tls.toml").write_text(
        'listen = "127.0.0.1:0"\n[tls]\ncert = "node.pem"\nkey = "node.key"\nca = "ca.pem"\n[groups.bag]\n'
    )
    node = program.serve("--registry", "none", "--config", "tls.toml")
    mine = ("--tls-ca", "ca.pem", "--tls-cert", "node.pem", "--tls-key", "node.key", "--node", node.address)
    program.out("set", "bag", "k", "v", *mine)
    assert program.out("get", "bag", "k", *mine) == "v"
    trusting = ("members", "--node", node.address, "--tls-ca", "ca.pem")
    assert "it requires TLS: give --tls-ca" in program.fails(3, "members", "--node", node.address)
    assert "it requires a certificate: give --tls-cert and --tls-key" in program.fails(3, *trusting)
    stranger = trustme.CA()
    stranger.cert_pem.write_to_path(str(own / "other-ca.pem"))
    stranger.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(own / "other.pem"))
    shown = ("--tls-cert", "other.pem", "--tls-key", "other.pem")
    assert "does not trust the certificate of --tls-cert" in program.fails(3, *trusting, *shown)
    assert "--tls-ca does not vouch for" in program.fails(3, *trusting[:-1], "other-ca.pem")
    plain = program.serve("--group", "bag", "--registry", "none", "--listen", "127.0.0.1:0")
    assert "it has no TLS" in program.fails(3, "ping", "--node", plain.address, "--tls-ca", "ca.pem")
    assert "all three" in program.fails(2, "serve", "--tls-ca", "ca.pem")
    assert "--tls-ca gone.pem: No such file" in program.fails(2, "ping", "--tls-ca", "gone.pem")
    assert "--tls-ca tls.toml: has no certificate" in program.fails(2, "ping", "--tls-ca", "tls.toml")
    assert "--tls-cert gone.pem: No such file" in program.fails(2, "ping", "--tls-cert", "gone.pem")
    mixed = ("--tls-cert", "node.pem", "--tls-key", "other.pem")
    assert "--tls-cert node.pem with --tls-key other.pem: " in program.fails(2, "ping", *mixed)
    assert "--tls-cert ca.pem: " in program.fails(2, "ping", "--tls-cert", "ca.pem")
    assert "--tls-key node.key: give --tls-cert" in program.fails(2, "ping", "--tls-key", "node.key")
