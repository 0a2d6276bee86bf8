"""A door to the policy server, and to nothing else: a Unix socket that is mounted into containers.

A container without any network then reaches a server wherever this process does: on the loopback
interface, on another machine, behind a Unix socket. Bytes are passed on as they are, TLS too.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

_CHUNK_BYTES = 256 * 2**10
_GOODBYE_S = 0.2


class Relay:
    """While entered, what connects to `path` is connected to `address`, HOST:PORT or unix:PATH.

    Where the server is gone, a connection is closed at once, as if it had been made to the server.
    """

    def __init__(self, path: Path, address: str) -> None:
        self._path = path
        self._address = address
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        serving = asyncio.start_unix_server(self._pass_on, self._path)
        self._server = asyncio.run_coroutine_threadsafe(serving, self._loop).result()
        # Whoever sees the folder may connect; it is private, and only this file is mounted.
        self._path.chmod(0o666)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._path.unlink(missing_ok=True)

    async def _pass_on(
        self, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter
    ) -> None:
        own = {client_writer}
        self._writers |= own
        try:
            # A cancelled task would be told of as an error by the streams' own code.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                server_reader, server_writer = await self._connect()
                own.add(server_writer)
                self._writers |= own
                # The first side that ends ends both: a half-closed connection is no use to HTTP/2.
                await asyncio.wait(
                    [
                        asyncio.ensure_future(_copy(client_reader, server_writer)),
                        asyncio.ensure_future(_copy(server_reader, client_writer)),
                    ],
                    return_when=asyncio.FIRST_COMPLETED,
                )
        finally:
            self._writers -= own
            for writer in own:
                writer.close()

    async def _close(self) -> None:
        self._server.close()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for writer in self._writers:
                writer.transport.abort()
            _, waiting = await asyncio.wait(others, timeout=_GOODBYE_S)
            # One is still on its way to a server that does not answer.
            for task in waiting:
                task.cancel()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._address.startswith("unix:"):
            path = self._address.removeprefix("unix:").removeprefix("//")
            return await asyncio.open_unix_connection(path)
        host, _, port = self._address.rpartition(":")
        return await asyncio.open_connection(host.strip("[]"), int(port))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
