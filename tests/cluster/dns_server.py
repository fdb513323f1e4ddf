"""A DNS server with SRV records."""

from __future__ import annotations

import socket
import threading

import dns.message
import dns.rrset

NAME = "_kamacache._tcp.shop.test"


def absolute(name: str) -> str:
    return f"{name.rstrip('.')}."


class Server:
    """A DNS server with the SRV records in `targets`, such as "localhost:8001" or ".:0"; None: it does not answer."""

    def __init__(self) -> None:
        self.targets: list[str] | None = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.url = f"dns+srv://{NAME}?server=127.0.0.1:{self.socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        while True:
            asked, asker = self.socket.recvfrom(4096)
            if not asked:
                return
            if self.targets is None:
                continue
            answer = dns.message.make_response(dns.message.from_wire(asked))
            name = answer.question[0].name
            if self.targets:
                records = (target.rpartition(":") for target in self.targets)
                answer.answer.append(
                    dns.rrset.from_text(
                        name, 1, "IN", "SRV", *(f"1 1 {port} {absolute(host)}" for host, _, port in records)
                    )
                )
            self.socket.sendto(answer.to_wire(), asker)

    def close(self) -> None:
        self.socket.sendto(b"", self.socket.getsockname())
        self.thread.join(10)
        self.socket.close()
