"""Proxies before nodes: the network between processes, which a soak cuts one way, slows down and resets."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import Self


class Proxy:
    """Pass bytes to a node and back. `delay` says how long each piece takes on either way."""

    def __init__(self, loop: asyncio.AbstractEventLoop, target: int) -> None:
        self._loop = loop
        self.target = target
        self.port = 0
        self.delay = {"to": 0.0, "back": 0.0}
        self._open = {"to": asyncio.Event(), "back": asyncio.Event()}
        self._writers: set[asyncio.StreamWriter] = set()
        for event in self._open.values():
            event.set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:  # nothing listens: refuse, as far as a proxy can
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        try:
            await asyncio.gather(self._pass("to", reader, back), self._pass("back", there, writer))
        finally:
            self._writers -= {writer, back}
            writer.close()
            back.close()

    async def _pass(self, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while piece := await reader.read(65536):
                await self._open[way].wait()
                if writer.transport.is_closing():  # it was reset meanwhile: what was held is lost
                    return
                if self.delay[way]:
                    await asyncio.sleep(self.delay[way])
                writer.write(piece)
                await writer.drain()
        with suppress(OSError):
            await self._open[way].wait()
            if writer.can_write_eof():
                writer.write_eof()

    def cut(self, way: str, *, cut: bool) -> None:
        """Hold all that goes one way, or let it go on: as packets that are lost, and sent again."""
        event = self._open[way]
        self._loop.call_soon_threadsafe(event.clear if cut else event.set)

    def reset(self) -> None:
        """Break all connections."""

        def abort() -> None:
            for writer in list(self._writers):
                writer.transport.abort()

        self._loop.call_soon_threadsafe(abort)

    def close(self) -> None:
        """Refuse connections from now on."""
        self._loop.call_soon_threadsafe(self._server.close)
        self.reset()


class Proxies:
    """A thread with the loop of all proxies."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._made: list[Proxy] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for proxy in self._made:
            proxy.close()
        asyncio.run_coroutine_threadsafe(self._end(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def make(self, target: int) -> Proxy:
        proxy = Proxy(self.loop, target)
        started: Future[None] = asyncio.run_coroutine_threadsafe(proxy.start(), self.loop)
        started.result(10)
        self._made.append(proxy)
        return proxy
