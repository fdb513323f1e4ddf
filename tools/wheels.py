"""Build the wheels and the source distribution into dist/, audit them, and try those that run on this machine.

python -m tools.wheels (or `make wheels`), with names of TARGETS, "sdist" or "free-threaded" for these alone

A wheel is audited for the platform that its name promises and for the stable ABI. It is tried with each CPython of
VERSIONS on PATH, in a fresh environment outside the tree. A free-threaded CPython of FREE on PATH gets a wheel of its
own. The table at the end says what could not be done, and why.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
TARGETS = {
    "x86_64-unknown-linux-gnu": "manylinux_2_17",
    "aarch64-unknown-linux-gnu": "manylinux_2_17",
    "x86_64-unknown-linux-musl": "musllinux_1_2",
    "aarch64-unknown-linux-musl": "musllinux_1_2",
}
OLDEST = "3.11"
VERSIONS = (OLDEST, "3.12", "3.13", "3.14")
FREE = ("3.14t",)  # free-threaded: each has a wheel of its own, as they have no stable ABI in common before 3.15
HERE = f"{platform.machine()}-unknown-linux-{'gnu' if platform.libc_ver()[0] == 'glibc' else 'musl'}"
NEEDED = {"PKG-INFO", "LICENSE", "README.md", "Cargo.lock", "proto/kamacache.proto", "crates/engine/src/port/page.html"}
# What a wheel is tried with: a hit, and two processes that share what each of them owns.
TRIAL = """
import subprocess, sys, tempfile
import kamacache

assert kamacache._engine.__file__.startswith(sys.prefix), kamacache._engine.__file__
alone = kamacache.Node().group("alone", str.encode)
assert alone.get("1") is alone.get("1") and alone.get("1") == b"1"
if "free-threading" in sys.version:
    assert not sys._is_gil_enabled(), "the import has taken the lock back"
OTHER = '''
import sys, kamacache

with kamacache.Node(registry=sys.argv[1], service="trial") as node:
    node.group("shared", lambda key: b"theirs")  # a loader of its own shows who answered
    print("ready", flush=True)
    sys.stdin.read()
'''
with tempfile.TemporaryDirectory() as directory:
    registry = f"local://{directory}"
    command = [sys.executable, "-I", "-c", OTHER, registry]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"ready\\n"
        node = kamacache.Node(registry=registry, service="trial")
        group = node.group("shared", lambda key: b"ours")
        with node:
            assert {group.get(str(key)) for key in range(200)} == {b"ours", b"theirs"}
        other.stdin.close()
"""


def run(*command: str | Path, cwd: Path = ROOT, **environ: str) -> str:
    """Run a command and return what it printed. Raises CalledProcessError if it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # maturin finds zig by its python
    everything = {**os.environ, "PATH": path, "VIRTUAL_ENV": sys.prefix, **environ}
    return subprocess.run(
        command, cwd=cwd, env=everything, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ).stdout


def has_standard_library(target: str) -> bool:
    """Return whether Rust can compile for the target, after an attempt to get what that needs."""
    library = Path(run("rustc", "--print", "sysroot").strip(), "lib/rustlib", target, "lib")
    if not library.is_dir() and shutil.which("rustup"):
        subprocess.run(["rustup", "target", "add", target], check=False, timeout=300)
    return library.is_dir()


def build(target: str, into: Path, python: str = OLDEST) -> Path:
    """Build the wheel for a target. Zig links it against the oldest C library that the platform's tag allows."""
    options = ("--release", "--locked", "--zig", "--auditwheel", "check", "--interpreter", python)
    run("maturin", "build", *options, "--target", target, "--compatibility", TARGETS[target], "--out", into)
    (wheel,) = into.glob("*.whl")
    if target.endswith("-musl"):
        name_musl(wheel, target)
    return wheel


def name_musl(wheel: Path, target: str) -> None:
    """Have the wheel's extension name the C library as auditwheel expects it.

    Zig gives it musl's own name, Alpine and so auditwheel another. The loader of musl takes both for itself.
    """
    run(sys.executable, "-m", "wheel", "unpack", wheel, "--dest", wheel.parent)
    (unpacked,) = (path for path in wheel.parent.iterdir() if path.is_dir())
    (extension,) = unpacked.glob("kamacache/_engine*.so")
    run("patchelf", "--replace-needed", "libc.so", f"libc.musl-{target.partition('-')[0]}.so.1", extension)
    wheel.unlink()
    run(sys.executable, "-m", "wheel", "pack", unpacked, "--dest-dir", wheel.parent)


def audit(wheel: Path, target: str, abi: str = "abi3") -> str:
    """Return the platform that auditwheel finds. Raises ValueError if the wheel's name promises another one, or ABI."""
    promised = f"{TARGETS[target]}_{target.partition('-')[0]}"
    # It is not to look at the libraries of this machine, which may be of another platform.
    printed = run("auditwheel", "show", "--json", "--ldpaths", "/nowhere", wheel)
    said = json.loads(printed[printed.index("{") : printed.rindex("}") + 1])  # warnings stand around it
    *_, named, platforms = wheel.stem.split("-")
    if named != abi or promised not in platforms.split(".") or said["overall_tag"] != promised:
        raise ValueError(f"{wheel.name} is not {abi} for {promised}: {said}")
    if abi == "abi3":
        run("abi3audit", "--strict", "--assume-minimum-abi3", OLDEST, wheel)
    return promised


def attempt(wheel: Path, versions: Sequence[str] = VERSIONS) -> str:
    """Install the wheel with each Python that is here, run the trial, and return the versions."""
    here = [version for version in versions if works(f"python{version}")]
    for version in here:
        with tempfile.TemporaryDirectory() as directory:
            inside, outside = Path(directory, "bin/python"), Path(directory)
            run(f"python{version}", "-m", "venv", directory, cwd=outside)
            run(inside, "-m", "pip", "install", "--quiet", "--no-index", wheel, cwd=outside)
            run(inside, "-I", "-c", TRIAL, cwd=outside)
    absent = [version for version in versions if version not in here]
    return f"tried with {', '.join(here) or 'none'}" + (f" (not here: {', '.join(absent)})" if absent else "")


def works(python: str) -> bool:
    """Return whether a Python is here that can make environments."""
    try:
        run(python, "-c", "import ensurepip")
    except (FileNotFoundError, subprocess.CalledProcessError):
        return False
    return True


def wheel(target: str) -> str:
    """Build, audit and try the wheel for a target, and return what was done."""
    if not has_standard_library(target):
        return f"LEFT OUT: no standard library of Rust for it: rustup target add {target}"
    with tempfile.TemporaryDirectory() as directory:
        built = build(target, Path(directory))
        tag = audit(built, target)
        tried = attempt(built) if target == HERE else f"not tried: this machine is {HERE}"
        shutil.move(built, DIST / built.name)
    return f"{tag}, abi3; {tried}"


def free_threaded(_: str) -> str:
    """Build, audit and try the wheel of this machine for each free-threaded Python that is here."""
    told = []
    for version in FREE:
        if not works(f"python{version}"):
            told.append(f"LEFT OUT: no python{version} here")
            continue
        with tempfile.TemporaryDirectory() as directory:
            built = build(HERE, Path(directory), f"python{version}")
            tag = audit(built, HERE, f"cp{version.replace('.', '')}")
            told.append(f"{tag}; {attempt(built, [version])}")
            shutil.move(built, DIST / built.name)
    return "; ".join(told)


def sdist(_: str) -> str:
    """Make the source distribution, build a wheel of it as pip does, and try that."""
    with tempfile.TemporaryDirectory() as directory:
        run("maturin", "sdist", "--out", directory)
        (archive,) = Path(directory).glob("*.tar.gz")
        with tarfile.open(archive) as files:
            missing = NEEDED - {name.partition("/")[2] for name in files.getnames()}
        if missing:
            raise ValueError(f"{archive.name} has no {', '.join(sorted(missing))}")
        # The target directory of this tree has the dependencies already.
        command = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", directory, archive)
        run(*command, cwd=Path(directory), CARGO_TARGET_DIR=str(ROOT / "target"))
        (built,) = Path(directory).glob("*.whl")
        tried = attempt(built)
        shutil.move(archive, DIST / archive.name)
    return f"complete, builds; {tried}"


def main() -> None:
    """Do all that was asked for, then say what was done. The exit status is 1 if any of it failed."""
    arguments = argparse.ArgumentParser(prog="python -m tools.wheels", description=__doc__.partition("\n")[0])
    makers = {"sdist": sdist, **dict.fromkeys(TARGETS, wheel), "free-threaded": free_threaded}
    every = tuple(makers)
    arguments.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(every)}; all if none is given")
    names = arguments.parse_args().names or every
    if unknown := set(names) - set(every):
        arguments.error(f"there is no {', '.join(sorted(unknown))}")
    DIST.mkdir(exist_ok=True)
    said, failed = {}, False
    for name in names:
        print(f"{name} …", flush=True)
        try:
            said[name] = makers[name](name)
        except (subprocess.CalledProcessError, ValueError) as error:
            print(error, getattr(error, "stdout", ""), sep="\n")
            said[name], failed = "FAILED: see above", True
    print(*(f"{name:28}{text}" for name, text in said.items()), sep="\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
