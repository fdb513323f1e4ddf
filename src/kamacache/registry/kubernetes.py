"""kubernetes://service:port: the pods of a service are the members, as the API of Kubernetes lists them."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path
from typing import Any

from kamacache.errors import ConfigError
from kamacache.net.addresses import Address
from kamacache.registry.dns import DnsRegistry

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")  # of every pod, unless that is forbidden
_TIME = 2.0  # seconds for an answer
_OK, _FORBIDDEN = 200, {401, 403}
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_FAMILIES = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}


class KubernetesRegistry(DnsRegistry):
    """The addresses of a service's pods, ready or not, each with the port of the URL. They are read every two seconds.

    The service account of the pod must be allowed to list `endpointslices`. `kubernetes://namespace/service:port` is a
    service of another namespace. `?family=6` prefers IPv6, as with dns://.
    """

    def __init__(self, url: str) -> None:
        """Read the URL; ConfigError if it names no service and port."""
        rest, _, query = url.partition("://")[2].rstrip("/").partition("?")
        if "@" in rest:  # not shown: it may be a password
            raise ConfigError(
                "registry kubernetes://: a service and a port come after it; give the password as password="
            )
        try:
            super().__init__(f"dns://{rest.rpartition('/')[2]}{query and '?'}{query}")
        except ConfigError as error:
            raise ConfigError(str(error).replace("dns://", "kubernetes://")) from None
        self._namespace = rest.rpartition("/")[0]
        if not _NAME.fullmatch(self._name.host) or (self._namespace and not _NAME.fullmatch(self._namespace)):
            raise ConfigError("registry kubernetes://: write service:port or namespace/service:port")

    def __repr__(self) -> str:
        return f"<KubernetesRegistry {self._name}>"

    def _addresses(self) -> list[Address]:
        found: list[tuple[int, str]] = [
            (_FAMILIES[one["addressType"]], str(address))
            for one in self._slices()
            if one.get("addressType") in _FAMILIES
            for endpoint in one.get("endpoints") or []
            for address in endpoint.get("addresses") or []
        ]
        return self._chosen(found)

    def _slices(self) -> list[dict[str, Any]]:
        """Return the EndpointSlices of the service; ConnectionError if the API does not list them."""
        from http.client import HTTPException  # noqa: PLC0415 - only here

        try:
            status, content = self._ask()
            slices: list[dict[str, Any]] = json.loads(content)["items"] if status == _OK else []
        except KeyError as error:
            raise ConnectionError(
                f"this is no pod of Kubernetes, or no answer of its API: {error} is missing"
            ) from None
        except (OSError, ValueError, HTTPException) as error:
            raise ConnectionError(f"the API of Kubernetes cannot be read: {error}") from None
        if status != _OK:
            advice = "; allow the service account to list endpointslices" if status in _FORBIDDEN else ""
            raise ConnectionError(f"the API of Kubernetes answers {status}{advice}")
        return slices

    def _ask(self) -> tuple[int, bytes]:
        """Return the status and the content of the answer."""
        import ssl  # noqa: PLC0415 - only here
        from http.client import HTTPSConnection  # noqa: PLC0415 - the same

        host, port = os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])
        namespace = self._namespace or (ACCOUNT / "namespace").read_text().strip()
        token = (ACCOUNT / "token").read_text().strip()  # it changes every hour
        trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
        path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        query = f"labelSelector=kubernetes.io%2Fservice-name%3D{self._name.host}"
        connection = HTTPSConnection(host, port, timeout=_TIME, context=trust)
        try:
            connection.request("GET", f"{path}?{query}", headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()
