"""kubernetes://service:port: the pods of a service are the members, as the API of Kubernetes lists them."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kamacache.deadline import Deadline
from kamacache.errors import ConfigError
from kamacache.net.addresses import Address
from kamacache.registry.dns import DnsRegistry

if TYPE_CHECKING:
    from ssl import SSLSocket

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")  # of every pod, unless that is forbidden
_TIME = 2.0  # seconds for an answer
_MAX = 16 << 20  # bytes of an answer: enough for 20,000 pods
_TOKEN = re.compile(r"[!-~]+")
_OK, _FORBIDDEN = 200, {401, 403}
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_FAMILIES = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}


class KubernetesRegistry(DnsRegistry):
    """The addresses of a service's pods, ready or not, each with the port of the URL. They are read every two seconds.

    The service account of the pod must be allowed to list `endpointslices`. `kubernetes://namespace/service:port` is a
    service of another namespace. `?family=6` prefers IPv6, as with dns://.
    """

    scheme = "kubernetes"

    def __init__(self, url: str) -> None:
        """Read the URL; ConfigError if it names no service and port."""
        rest, _, query = url.partition("://")[2].rstrip("/").partition("?")
        if "@" in rest:  # not shown: it may be a password
            raise ConfigError(
                "registry kubernetes://: a service and a port come after it; give the password as password="
            )
        super().__init__(f"kubernetes://{rest.rpartition('/')[2]}{query and '?'}{query}")
        self._namespace = rest.rpartition("/")[0]
        if not _NAME.fullmatch(self._name.host) or (self._namespace and not _NAME.fullmatch(self._namespace)):
            raise ConfigError("registry kubernetes://: write service:port or namespace/service:port")

    def __repr__(self) -> str:
        return f"<KubernetesRegistry {self._name}>"

    def _addresses(self) -> list[Address]:
        content = self._list()
        try:
            found: list[tuple[int, str]] = [
                (_FAMILIES[one["addressType"]], address)
                for one in _array(json.loads(content), "items")
                if one.get("addressType") in _FAMILIES
                for endpoint in _array(one, "endpoints")
                for address in _array(endpoint, "addresses")
                if isinstance(address, str)
            ]
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise ConnectionError("the API of Kubernetes answers with something other than EndpointSlices") from None
        return self._chosen(found)

    def _list(self) -> bytes:
        """Return the EndpointSlices of the service, in JSON; ConnectionError if the API does not list them."""
        from http.client import HTTPException  # noqa: PLC0415 - only here

        try:
            status, content = self._ask()
        except KeyError as error:
            raise ConnectionError(f"this is no pod of Kubernetes: {error} is missing") from None
        except (OSError, ValueError, HTTPException) as error:
            raise ConnectionError(f"the API of Kubernetes cannot be read: {error}") from None
        if status != _OK:
            advice = "; allow the service account to list endpointslices" if status in _FORBIDDEN else ""
            raise ConnectionError(f"the API of Kubernetes answers {status}{advice}")
        return content

    def _ask(self) -> tuple[int, bytes]:
        """Return the status and the content of the answer. Raises KeyError if this process is not in a pod."""
        import ssl  # noqa: PLC0415 - only here
        from http.client import HTTPSConnection  # noqa: PLC0415 - the same

        host, port = os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])
        namespace = self._namespace or (ACCOUNT / "namespace").read_text().strip()
        token = (ACCOUNT / "token").read_text(errors="replace").strip()  # it changes every hour
        if not _TOKEN.fullmatch(token):  # http.client would show it in its error, which is logged
            raise ValueError(f"{ACCOUNT / 'token'} does not hold one token")
        until = Deadline.after(_TIME)
        trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
        trust.sslsocket_class = _socket_until(until)
        path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        query = f"labelSelector=kubernetes.io%2Fservice-name%3D{self._name.host}"
        connection = HTTPSConnection(host, port, timeout=_TIME, context=trust)
        try:
            connection.request("GET", f"{path}?{query}", headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            content = answer.read(_MAX + 1)
            if len(content) > _MAX:
                raise ValueError(f"the answer has more than {_MAX >> 20} MiB")
            return answer.status, content
        finally:
            connection.close()


def _array(of: Any, name: str) -> list[Any]:
    """Return the array of this name, empty if there is none; AttributeError or TypeError for another kind of JSON."""
    found = of.get(name)
    if not isinstance(found, list | None):
        raise TypeError(name)
    return found or []


def _socket_until(until: Deadline) -> type[SSLSocket]:
    """Return a class of sockets that read until then: a timeout of its own starts anew with each read."""
    import ssl  # noqa: PLC0415 - only here

    class Until(ssl.SSLSocket):
        def recv_into(self, *args: Any, **options: Any) -> int:
            if until.passed:
                raise TimeoutError(f"no whole answer within {_TIME:g} s")
            self.settimeout(max(until.left(), 0.001))  # zero would not wait for the TLS record
            return super().recv_into(*args, **options)

    return Until
