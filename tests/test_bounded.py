"""Our pages' and local APIs' ports: nobody keeps a place, and what takes its time rightly is left alone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from clients.web import bounded

ASKED = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
BRINGS = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n"
ENDED = asyncio.Queue[None]()
LONG = b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n"


async def _read(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def _long(_request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(65_536)
                await asyncio.sleep(0)
        finally:
            ENDED.put_nowait(None)

    return StreamingResponse(pieces())


async def _slow(_request: Request) -> Response:
    await asyncio.sleep(5 * bounded.STILL_S)
    return PlainTextResponse("at last")


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    bound = socket.create_server(("127.0.0.1", 0))
    routes = [Route("/", _read, methods=["GET", "POST"]), Route("/long", _long), Route("/slow", _slow)]
    server = uvicorn.Server(bounded.settings(Starlette(routes=routes)))
    running = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        yield int(bound.getsockname()[1])
    finally:
        server.should_exit = True
        await running


@asynccontextmanager
async def saying(port: int, words: bytes) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
    try:
        writer.write(words)
        await writer.drain()
        yield reader, writer
    finally:
        writer.close()


@pytest.mark.parametrize("words", [b"", ASKED[:-2], BRINGS, BRINGS + b"x" * 100])
async def test_who_does_not_get_on_is_closed(monkeypatch: pytest.MonkeyPatch, words: bytes) -> None:
    monkeypatch.setattr(bounded, "STILL_S", 0.2)
    async with served() as port, saying(port, words) as (reader, _):
        with suppress(ConnectionError):
            async with asyncio.timeout(60):
                assert await reader.read() in (b"", b"Internal Server Error")


async def test_who_takes_no_answer_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "STILL_S", 0.2)
    async with served() as port, saying(port, LONG), asyncio.timeout(60):
        await ENDED.get()


async def test_a_byte_now_and_then_does_not_keep_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "STILL_S", 0.3)
    async with served() as port, saying(port, BRINGS) as (reader, writer):
        closed = asyncio.create_task(reader.read())
        async with asyncio.timeout(60):
            with suppress(ConnectionError):
                while not closed.done():
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.02)
        closed.cancel()


async def test_what_gets_on_and_what_is_still_worked_at_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "STILL_S", 0.3)
    monkeypatch.setattr(bounded, "LEAST", 1)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(60):
            yield b"x" * 10
            await asyncio.sleep(0.02)

    async with served() as port, httpx.AsyncClient(trust_env=False, timeout=60) as client:
        brought = client.post(f"http://127.0.0.1:{port}/", content=body())
        awaited = client.get(f"http://127.0.0.1:{port}/slow")
        assert [one.text for one in await asyncio.gather(brought, awaited)] == ["600", "at last"]


async def test_when_all_places_are_taken_the_one_that_asks_nothing_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "MAX_CALLERS", 2)
    async with served() as port, saying(port, b"") as (first, _), saying(port, b"") as (second, _), asyncio.timeout(60):
        async with saying(port, ASKED) as (reader, _):
            assert b"200 OK" in await reader.readuntil(b"\r\n")
        with suppress(ConnectionError):
            assert await first.read() == b""
        assert not second.at_eof()
