"""A connection that a test can cut, as a network does: without a word to either side."""

from __future__ import annotations

import asyncio


class Wire:
    """Between a node and the broker; once it is cut, it takes bytes and passes none on, and closes nothing itself.

    ``closed``: the broker closed its end.
    """

    def __init__(self, to: int, host: str = "127.0.0.1") -> None:
        self._to, self._host, self.port = to, host, 0
        self._cut = False
        self.closed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """From now on bytes go nowhere; whoever connects finds nobody."""
        self._cut = True

    def drop(self) -> None:
        """End the connections that there are."""
        for task in self._tasks:
            task.cancel()

    async def __aenter__(self) -> Wire:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._host, self._to)
        self._tasks.add(asyncio.create_task(self._pass_on(reader, far_writer)))
        self._tasks.add(asyncio.create_task(self._pass_on(far_reader, writer, self.closed)))

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ended: asyncio.Event | None = None
    ) -> None:
        try:
            while data := await reader.read(65_536):
                if not self._cut:
                    writer.write(data)
        except ConnectionError:
            pass
        finally:
            if ended is not None:
                ended.set()
            writer.close()

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
