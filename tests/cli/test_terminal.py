"""At a terminal: tables and colours, Ctrl-C, and completion in the shell."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
import termios

import pytest

from tests.cli.conftest import PATIENCE, Program
from tests.cluster.cluster import wait_until

BOLD = "\x1b[1m"
COMMAND = [sys.executable, "-W", "error", "-m", "kamacache"]


def shown(program: Program, *arguments: str, **environment: str) -> str:
    """Return the output of a command whose standard output is a terminal."""
    ours, its = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        with os.fdopen(its, "wb", buffering=0) as terminal:
            popen = subprocess.Popen(
                [*COMMAND, *arguments],
                cwd=program.directory,
                env=program.environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=terminal,
            )
        printed = b""
        try:
            while chunk := screen.read(65536):
                printed += chunk
        except OSError:  # the other end is closed
            pass
        finally:
            popen.wait(PATIENCE)
    return printed.decode().replace("\r\n", "\n")


def test_tables_have_colours_unless_they_are_not_wanted(running: Program) -> None:
    lines = shown(running, "members").splitlines()
    assert lines[0].startswith(BOLD)
    assert len(lines) == 3
    assert len({line.find("alive") for line in lines[1:]}) == 1
    for arguments in [("members",), ("stats",), ("doctor",)]:
        assert BOLD not in shown(running, *arguments, NO_COLOR="1")
    assert "\x1b[32mok" in shown(running, "doctor")
    assert "\x1b" not in shown(running, "doctor", NO_COLOR="1")


def test_a_value_ends_its_line_at_a_terminal_alone(running: Program) -> None:
    assert shown(running, "get", "users", "7") == "value of 7\n"
    assert running.out("get", "users", "7") == "value of 7"


def test_ctrl_c_ends_a_command_without_words(program: Program) -> None:
    node = program.serve("--config", "node.toml")
    asking = subprocess.Popen(
        [*COMMAND, "get", "slow", "k", "--node", node.address],
        cwd=program.directory,
        env=program.environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    )
    wait_until((program.directory / "entered").exists, PATIENCE)
    os.killpg(asking.pid, signal.SIGINT)
    assert asking.communicate(timeout=PATIENCE) == (b"", b"")
    assert asking.returncode == 130


def test_ctrl_c_ends_top(running: Program) -> None:
    ours, its = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "top", "--node", running.served[0].address],
        env=running.environment({}),
        stdin=subprocess.DEVNULL,
        stdout=its,
        stderr=its,
        process_group=0,
    ) as watching:
        os.close(its)
        seen = b""
        while b"HIT RATIO" not in seen:
            seen += os.read(ours, 65536)
        os.killpg(watching.pid, signal.SIGINT)
        try:
            while chunk := os.read(ours, 65536):
                seen += chunk
        except OSError:  # it has ended
            pass
        assert watching.wait(PATIENCE) == 130
    os.close(ours)
    assert seen.endswith(b"\x1b[?25h\x1b[?1049l")


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("keyboard", [True, False])
def test_a_signal_that_ends_top_leaves_the_terminal_as_it_was(
    running: Program, end: signal.Signals, *, keyboard: bool
) -> None:
    ours, its = pty.openpty()
    before = termios.tcgetattr(its)
    with subprocess.Popen(
        [*COMMAND, "top", "--node", running.served[0].address],
        env=running.environment({}),
        stdin=its if keyboard else subprocess.DEVNULL,
        stdout=its,
        stderr=its,
        start_new_session=True,
    ) as watching:
        seen = b""
        while b"HIT RATIO" not in seen:
            seen += os.read(ours, 65536)
        watching.send_signal(end)
        assert watching.wait(PATIENCE) == 128 + end
    assert termios.tcgetattr(its) == before
    os.close(its)
    try:
        while chunk := os.read(ours, 65536):
            seen += chunk
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert seen.endswith(b"\x1b[?25h\x1b[?1049l")


def test_a_terminal_that_is_gone_ends_top_without_words(running: Program) -> None:
    """Close the window: SIGHUP, and nothing to restore."""
    ours, its = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "top", "--node", running.served[0].address],
        env=running.environment({}),
        stdin=its,
        stdout=its,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as watching:
        os.close(its)
        seen = b""
        while b"HIT RATIO" not in seen:
            seen += os.read(ours, 65536)
        os.kill(watching.pid, signal.SIGSTOP)  # so that it is the signal that it finds first
        os.close(ours)
        os.kill(watching.pid, signal.SIGHUP)
        os.kill(watching.pid, signal.SIGCONT)
        assert watching.stderr is not None
        assert watching.stderr.read() == b""
        assert watching.wait(PATIENCE) == 128 + signal.SIGHUP


def test_a_closed_pipe_ends_a_watch_without_words(running: Program) -> None:
    command = [*COMMAND, "stats", "--watch", "0.1s", "--node", running.served[0].address]
    with subprocess.Popen(
        command, env=running.environment({}), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        watching.stdout.readline()
        watching.stdout.close()
        assert watching.stderr.read() == b""
        assert watching.wait(PATIENCE) == 2


@pytest.mark.parametrize("asked", [["--help"], ["serve", "--help"], ["--version"]])
def test_help_to_a_closed_pipe(program: Program, asked: list[str]) -> None:
    ours, its = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [*COMMAND, *asked], env=program.environment({}), stdout=its, stderr=subprocess.PIPE, check=False
    )
    os.close(its)
    assert (done.returncode, done.stderr) == (2, b"")


def found_as_kamacache(program: Program) -> dict[str, str]:
    """Make the program known to a shell by its name, and return the variable for that."""
    (program.directory / "kamacache").write_text(f'#!/bin/sh\nexec {sys.executable} -W error -m kamacache "$@"\n')
    (program.directory / "kamacache").chmod(0o700)
    return {"PATH": f"{program.directory}{os.pathsep}{os.environ['PATH']}"}


def test_bash_completes(program: Program) -> None:
    """Complete as bash does, with the function that the script defines."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    script = """
        eval "$(_KAMACACHE_COMPLETE=bash_source kamacache)"
        complete -p kamacache > /dev/null || exit 1
        completed() {
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            _kamacache_completion kamacache; echo "${COMPREPLY[@]}"
        }
        completed kamacache s
        completed kamacache serve --l
        completed kamacache serve --log-level ''
        compopt() { echo "the shell completes: $1 $2"; }  # a real one is refused outside of a completion
        completed kamacache serve --config no
        completed kamacache ping --tls-ca ''
    """
    done = subprocess.run(
        [bash, "--norc", "-c", script],
        env=program.environment(found_as_kamacache(program)),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if "nosort: invalid option name" in done.stderr or "bash versions older than" in done.stderr.lower():
        pytest.skip("this bash is too old for click")
    assert done.stdout.splitlines() == [
        "serve set stats",
        "--listen --loader-threads --loader-queue --log-level",
        "debug info warning error",
        *["the shell completes: -o default", ""] * 2,
    ], done.stderr


def test_fish_completes(program: Program) -> None:
    fish = shutil.which("fish")
    if fish is None:
        pytest.skip("no fish here")
    script = """
        _KAMACACHE_COMPLETE=fish_source kamacache | source
        complete -C 'kamacache s'
        complete -C 'kamacache serve --log-level w'
        complete -C 'kamacache serve --config nod'
        complete -C 'kamacache ping --password-file '
        complete -C 'kamacache doc'
    """
    (program.directory / "password").touch()
    done = subprocess.run(
        [fish, "--no-config", "-c", script],
        env=program.environment(found_as_kamacache(program) | {"HOME": str(program.directory)}),
        cwd=program.directory,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    found = [line.split("\t") for line in done.stdout.splitlines()]
    names = ["serve", "set", "stats", "warning", "node.toml", "loaders.py", "node.toml", "password", "doctor"]
    assert [name for name, *_ in found if name != "kamacache"] == names, done.stderr
    assert found[-1][1].startswith("Check the registry, and every")


def test_zsh_completes(program: Program) -> None:
    """Press the tabulator at a terminal, and have zsh write down its line."""
    zsh = shutil.which("zsh")
    if zsh is None:
        pytest.skip("no zsh here")
    line = program.directory / "line"
    script = f"""
        autoload -Uz compinit; compinit -u -D
        eval "$(_KAMACACHE_COMPLETE=zsh_source kamacache)"
        write() {{ print -r -- "$BUFFER" > {line}.part; mv {line}.part {line}; BUFFER= }}
        zle -N write; bindkey '^X' write; PS1='ready'
    """
    (program.directory / ".zshrc").write_text(script)
    environment = program.environment(found_as_kamacache(program) | {"ZDOTDIR": str(program.directory), "TERM": "dumb"})
    ours, its = pty.openpty()
    with os.fdopen(its, "rb", buffering=0) as terminal, os.fdopen(ours, "r+b", buffering=0) as screen:
        shell = subprocess.Popen(
            [zsh, "-d", "-i"], cwd=program.directory, env=environment, stdin=terminal, stdout=terminal, stderr=terminal
        )
        try:
            printed = b""
            while b"ready" not in printed:
                printed += screen.read(100)
            completed = []
            for typed in (b"kamacache own", b"kamacache serve --log-level w", b"kamacache serve --config nod"):
                screen.write(typed + b"\t\x18")
                wait_until(line.exists, PATIENCE)
                completed.append(line.read_text().split())
                line.unlink()
        finally:
            shell.kill()
            shell.wait(PATIENCE)
    serve = ["kamacache", "serve"]
    assert completed == [["kamacache", "owner"], [*serve, "--log-level", "warning"], [*serve, "--config", "node.toml"]]
