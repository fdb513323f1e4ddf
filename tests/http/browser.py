"""A headless Chromium, driven over a pipe by its DevTools protocol: no package beside the browser is needed."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WITHOUT = "no Chromium on PATH, in $KAMACACHE_CHROMIUM or in Playwright's cache: apt-get install chromium, for example"
PATIENCE = 60.0  # seconds
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def find() -> str | None:
    """Return the program of a Chromium, if there is one."""
    if given := os.environ.get("KAMACACHE_CHROMIUM"):
        return given
    for name in NAMES:
        if found := shutil.which(name):
            return found
    cache = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache/ms-playwright")
    return next((str(path) for path in sorted(cache.glob("chromium*/chrome-linux*/*")) if path.name in NAMES), None)


def _high(descriptor: int) -> int:
    """Move a descriptor out of the way of 3 and 4."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD, 10)
    os.close(descriptor)
    return moved


class Browser:
    """One tab. `said` collects what the page logs as an error, violations of its policy included."""

    def __init__(self, program: str, profile: Path, *, password: str | None = None) -> None:
        its_input, self._out = os.pipe()
        self._in, its_output = os.pipe()
        its_input, its_output = _high(its_input), _high(its_output)
        # It reads from descriptor 3 and writes to 4.
        line = f'exec "$0" "$@" 3<&{its_input} 4>&{its_output}'
        self._process = subprocess.Popen(
            [shutil.which("bash") or "bash", "-c", line, program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(its_input, its_output),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(its_input)
        os.close(its_output)
        self._password = password
        self._number = 0
        self._read = b""
        self._session: str | None = None
        self._replies: dict[int, dict[str, Any]] = {}
        self.said: list[str] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")
        if password is not None:
            self.ask("Fetch.enable", handleAuthRequests=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait(PATIENCE)
        os.close(self._in)
        os.close(self._out)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command, and return its result."""
        number = self._send(method, parameters)
        deadline = time.monotonic() + PATIENCE
        while number not in self._replies:
            self._receive(deadline)
        reply = self._replies.pop(number)
        assert "error" not in reply, reply
        result: dict[str, Any] = reply["result"]
        return result

    def _send(self, method: str, parameters: dict[str, Any]) -> int:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        return self._number

    def _receive(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        assert left > 0, "the browser does not answer"
        if not select.select([self._in], [], [], left)[0]:
            return
        chunk = os.read(self._in, 1 << 20)
        assert chunk, "the browser has ended"
        *messages, self._read = (self._read + chunk).split(b"\0")
        for message in messages:
            self._take(json.loads(message))

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._replies[message["id"]] = message
            return
        method, about = message["method"], message.get("params", {})
        if method == "Fetch.requestPaused":
            self._send("Fetch.continueRequest", {"requestId": about["requestId"]})
        elif method == "Fetch.authRequired":
            answer = {"response": "ProvideCredentials", "username": "anyone", "password": self._password}
            self._send("Fetch.continueWithAuth", {"requestId": about["requestId"], "authChallengeResponse": answer})
        elif method == "Runtime.exceptionThrown":
            self.said.append(json.dumps(about["exceptionDetails"]))
        elif method == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.said.append(about["entry"]["text"])

    def show(self, width: int, height: int, *, dark: bool = False) -> None:
        """Set the size of the window and the scheme of colours."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def go(self, address: str) -> None:
        """Load a page."""
        self.ask("Page.navigate", url=address)

    def run(self, script: str) -> Any:
        """Return the value of an expression."""
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + PATIENCE
        while not self.run(
            f"(() => {{ try {{ return {script} }} catch {{ return false }} }})()"
        ):  # before it is loaded
            assert time.monotonic() < deadline, f"never true: {script}; {self.said}"
            time.sleep(0.05)

    def shoot(self, path: Path, *, whole: bool = True) -> bytes:
        """Write a picture of the page."""
        picture = base64.b64decode(self.ask("Page.captureScreenshot", captureBeyondViewport=whole)["data"])
        path.write_bytes(picture)
        return picture
