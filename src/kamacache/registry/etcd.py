"""etcd://host1:2379,host2:2379 — nodes on many machines find each other in an etcd cluster.

    etcd://user:password@host1:2379,host2:2379?ca=/etc/etcd/ca.pem&cert=/etc/etcd/me.pem&key=/etc/etcd/me.key

Special characters of the password are percent-encoded. `ca` is the PEM file of the authorities of etcd and turns on
TLS; `cert` and `key` are those of this client.

The engine's session does the work on a thread of its own. It keeps leases alive, and two keys under one: nodes know
each other by `/kamacache/{service}/nodes/{address}`, which is written first; other clients of the service find the node
by `/services/{service}/{address}`, which a client node does not write. A process that writes only the second
key is a client of another kind: it may call nodes, and nodes never call it.

An etcd that was away, or that some nodes could not reach, has forgotten nodes that live. Until they are registered
again, a node that starts would not know them. So a copy of the first key is under `/kamacache/@known/{service}/`, with
a lease of a day: nodes that are known and not listed are `lost`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from urllib.parse import parse_qsl, unquote

from kamacache import thread
from kamacache._engine import EtcdSession
from kamacache.deadline import Deadline
from kamacache.errors import ConfigError
from kamacache.member import Member
from kamacache.net.addresses import RESOLVE, Address, advertised, is_on_this_machine, parse_address
from kamacache.registry import record
from kamacache.registry.base import Registry
from kamacache.units import check_name

_PORT = 2379
_SYNTAX = "an address is host:port, as in etcd://10.0.0.5:2379 or etcd://[fd00::5]:2379"
_FILES = ("ca", "cert", "key")
_nodes, _services = "/kamacache/{}/nodes/".format, "/services/{}/".format
_known = "/kamacache/@known/{}/".format  # no service can have this name
_DAY = 86_400
_Read = dict[str, tuple[bytes, Member | None]]  # by address: what stays is parsed once
_LIST, _REGISTER, _WITHDRAW, _END = 1.0, 2.0, 1.0, 0.5  # seconds that calls wait for etcd
_LONG = 3600.0


class EtcdRegistry(Registry):
    """Members are the keys under `/kamacache/{service}/nodes/`, each bound to its node's lease."""

    lease = 10.0

    def __init__(self, url: str) -> None:
        """Read the URL, and connect to nothing yet. ConfigError never shows a password."""
        rest, _, query = url.partition("://")[2].partition("?")
        login, at, hosts = rest.rpartition("@")
        if "@" in login or "@" in query:
            raise ConfigError("registry etcd://: write @ , / ? and : in a user or password as %40 %2C %2F %3F and %3A")
        user, colon, password = login.partition(":")
        if at and not (user and colon and password):
            raise ConfigError("registry etcd://: a user comes with a password, etcd://user:password@host:2379")
        self._endpoints = [_endpoint(host.strip()) for host in hosts.removesuffix("/").split(",")]
        self._login = (unquote(user), unquote(password)) if at else (None, None)
        self._files = _files(query)
        self._closed = False
        try:
            self._session = self._make()
            self._session.check()
        except ValueError as error:
            raise ConfigError(f"registry etcd://: {error}") from None
        self._service = ""
        self._keys: tuple[str, ...] = ()
        self._changed: Callable[[], None] = lambda: None
        self._watcher: threading.Thread | None = None
        self._read: _Read = {}
        self._sure = False  # the list was read in the last round, so what is lost since is missing in it now
        self._lost: list[Member] = []
        self._dropped: set[str] = set()  # ids

    def __repr__(self) -> str:
        return f"<EtcdRegistry {', '.join(map(str, self._endpoints))}>"

    def default_listen(self, service: str, node_id: str) -> str | None:  # noqa: ARG002 - the same for all
        """Return a free port, on loopback if etcd is on this machine."""
        return "127.0.0.1:0" if is_on_this_machine(self._farthest(), Deadline.after(RESOLVE)) else "0.0.0.0:0"

    def foresee(self, listen: str | None, advertise: str | None) -> str | None:  # noqa: ARG002 - the same for all
        """Return the address to listen on; a name of etcd is looked up."""
        return listen or self.default_listen("", "")

    def advertise(self, address: str) -> str:
        """Return the address; ConfigError if it is loopback and etcd is on another machine."""
        return advertised(address, str(self._farthest()))

    def register(self, service: str, me: Member, changed: Callable[[], None]) -> None:
        """Have the engine keep this registration, whatever happens to etcd.

        RegistryError if etcd refuses, ConnectionError if it cannot be reached now.
        """
        check_name(service, what="service")
        if me.address is None:
            raise ConfigError("registry etcd://: a node that others find has an address: give listen=")
        if self._closed:  # the node has begun a new life
            self._session, self._closed = self._make(), False
        lease, mine = int(self.lease), record.written(me, address=False)
        entries = [(f"{_nodes(service)}{me.address}", mine, lease), (f"{_known(service)}{me.address}", mine, _DAY)]
        if not me.client:
            entries.append((f"{_services(service)}{me.address}", me.address.encode(), lease))
        keys = tuple(key for key, *_ in entries)
        if self._keys and self._keys != keys:
            self._session.withdraw(_WITHDRAW)
        self._keys, self._changed = keys, changed
        try:
            self._session.register(entries, _REGISTER)
        except ConnectionError:
            self._watch()  # the session registers as soon as it can
            raise
        self._watch()

    def members(self, service: str) -> list[Member]:
        """Return the members that are registered now; ConnectionError while etcd cannot be reached."""
        check_name(service, what="service")
        before = self._read if service == self._service else {}
        sure, self._sure = self._sure and service == self._service, False
        read = self._list(service, before)
        if not sure or self._lost or not before.keys() <= read.keys():
            known = self._session.entries(_known(service), _LIST)
            read = self._list(service, read)  # so that none that has registered meanwhile counts as lost
            lost = (record.read(value, address=address) for address, value in known if address not in read)
            self._lost = [member for member in lost if member is not None]
            self._dropped &= {member.id for member in self._lost}
            for member in self._lost:
                if member.id in self._dropped:  # etcd did not answer
                    self._session.drop(f"{_known(service)}{member.address}")
        self._service, self._read, self._sure = service, read, True
        return [member for _, member in read.values() if member is not None]

    def _list(self, service: str, before: _Read) -> _Read:
        read: _Read = {}
        for address, value in self._session.entries(_nodes(service), _LIST):
            known = before.get(address)
            read[address] = known if known and known[0] == value else (value, record.read(value, address=address))
        return read

    def lost(self, service: str) -> list[Member]:
        """Return the members that are known, and not listed."""
        return [member for member in self._lost if member.id not in self._dropped] if service == self._service else []

    def drop(self, member: Member) -> None:
        """Know a member no more."""
        self._dropped.add(member.id)
        self._session.drop(f"{_known(self._service)}{member.address}")

    def clients(self, service: str) -> list[str]:
        """Return the addresses under `/services/` alone; ConnectionError while etcd cannot be reached."""
        check_name(service, what="service")
        if service != self._service:
            self.members(service)  # not if it was just read: each round calls both
        listed = [address for address, _ in self._session.entries(_services(service), _LIST)]
        return [address for address in listed if address not in self._read]

    @property
    def registered(self) -> bool:
        """Return whether the registration of this node is in etcd now, under a lease that lives."""
        return self._session.registered

    def deregister(self) -> None:
        """Revoke the leases; ConnectionError if etcd cannot be reached: then one runs out, and others drop the copy."""
        self._keys = ()
        self._session.withdraw(_WITHDRAW)

    def close(self) -> None:
        """End the session and its threads."""
        self._closed = True
        self._session.close(_END)
        watcher, self._watcher = self._watcher, None
        if watcher is not None and watcher is not threading.current_thread():
            watcher.join(_END)

    def after_fork_in_child(self) -> None:
        """Leave the session to the parent, and begin another."""
        self._session = self._make()
        self._watcher = None
        self._keys = ()
        self._service, self._read, self._lost, self._sure = "", {}, [], False
        if self._closed:
            self._session.close(0.0)

    def _make(self) -> EtcdSession:
        user, password = self._login
        endpoints = [str(endpoint) for endpoint in self._endpoints]
        return EtcdSession(endpoints, user=user, password=password, **self._files)

    def _farthest(self) -> Address:
        """Return an endpoint on another machine, if there is one."""
        until = Deadline.after(RESOLVE)
        beyond = (endpoint for endpoint in self._endpoints if not is_on_this_machine(endpoint, until))
        return next(beyond, self._endpoints[0])

    def _watch(self) -> None:
        if self._watcher is None:
            self._watcher = thread.start("kamacache-registry", self._watching)

    def _watching(self) -> None:
        session, seen = self._session, 0
        while True:
            try:
                now = session.wait(seen, _LONG)
            except ConnectionError:  # closed
                return
            if now != seen:
                seen = now
                self._changed()


def _endpoint(host: str) -> Address:
    if not host:
        raise ConfigError("registry etcd://: name a host, or several with commas, as in etcd://10.0.0.5:2379")
    if _has_port(host) and not host.rpartition(":")[2].isdigit():  # not shown: it may be a login without a host
        raise ConfigError(f"registry etcd://: {_SYNTAX}")
    try:
        address = parse_address(host if _has_port(host) else f"{host}:{_PORT}", name="registry etcd://")
    except ConfigError:
        if host.replace("-", "").replace(".", "").isalnum():
            raise
        raise ConfigError(f"registry etcd://: {_SYNTAX}") from None
    if address.is_unix or address.is_unspecified or address.port == 0:
        raise ConfigError(f"registry etcd://: {address} is no place to connect to; name a host and a port")
    return address


def _has_port(host: str) -> bool:
    return host.startswith("unix:") or ":" in host.rpartition("]")[2]


def _files(query: str) -> dict[str, str]:
    """Return the files of ?ca=…&cert=…&key=…; errors show names alone."""
    given = parse_qsl(query, keep_blank_values=True)
    files = dict(given)
    unknown = sorted(files.keys() - set(_FILES))
    if unknown or len(files) != len(given) or (query and not given):
        raise ConfigError(f"registry etcd://: after ? come {', '.join(_FILES)}, once each, not {', '.join(unknown)}")
    if not all(files.values()):
        raise ConfigError("registry etcd://: ca, cert and key are the paths of PEM files")
    if ("cert" in files) != ("key" in files) or (files and "ca" not in files):
        raise ConfigError("registry etcd://: TLS needs ca; cert and key are given together or not at all")
    return files
