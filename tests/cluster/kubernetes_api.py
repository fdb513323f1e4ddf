"""The part of the API of Kubernetes that lists EndpointSlices, over HTTPS, and the files that a pod has for it."""

from __future__ import annotations

import json
import ssl
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import trustme

from kamacache.registry import kubernetes

PATH = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dcache"


class Api:
    """A server with the addresses in `pods`, half of which are not ready. It makes this process look like a pod."""

    def __init__(self, account: Path) -> None:
        self.pods: list[str] = []
        self.status = 200
        self.content: bytes | None = None  # sent in place of the slices, if it is set
        self.pause = 0.0  # seconds between the bytes of that
        account.mkdir()
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(account / "ca.crt"))
        (account / "token").write_text("of-the-pod")
        (account / "namespace").write_text("shop")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                trusted = self.headers["Authorization"] == "Bearer of-the-pod"
                self.send_response(api.status if trusted and self.path == PATH else 403)
                self.end_headers()
                content = api.content or json.dumps(api.answer()).encode()
                with suppress(OSError):  # the client had enough
                    for part in [content] if not api.pause else [bytes([byte]) for byte in content]:
                        self.wfile.write(part)
                        time.sleep(api.pause)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()
        environment = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.server.server_port)}
        self.patches: list[Any] = [
            mock.patch.dict("os.environ", environment),
            mock.patch.object(kubernetes, "ACCOUNT", account),
        ]
        for patch in self.patches:
            patch.start()

    def answer(self) -> dict[str, Any]:
        slices: list[dict[str, Any]] = [{"addressType": "FQDN", "endpoints": [{"addresses": ["name.test"]}]}]
        for ready in (0, 1):
            endpoints = [{"addresses": [pod], "conditions": {"ready": bool(ready)}} for pod in self.pods[ready::2]]
            slices.append({"addressType": "IPv4", "endpoints": endpoints or None})
        return {"kind": "EndpointSliceList", "items": slices}

    def close(self) -> None:
        for patch in self.patches:
            patch.stop()
        self.server.shutdown()
        self.thread.join(10)
        self.server.server_close()
