"""The log over HTTP, for everybody: checkpoint and tiles (C2SP tlog-tiles). What is served is public and signed."""

from __future__ import annotations

from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from broker import tiles
from broker.core import Core
from zhifu.errors import Error, Malformed

_BINARY: Final = "application/octet-stream"
_FOREVER: Final = "public, max-age=604800, immutable"


def app(core: Core) -> Starlette:
    """``/checkpoint`` (with the cosignatures so far) and ``/tile/…``."""

    async def newest(request: Request) -> Response:
        shown = core.witnesses.shown
        if not shown.commit.size and core.log.size:
            shown = type(shown)(core.log.commit_at(core.log.size))
        if not shown.commit.size:
            return PlainTextResponse("the log is empty\n", 404)
        return PlainTextResponse(shown.note, headers={"Cache-Control": "no-cache"})

    async def tile(request: Request) -> Response:
        try:
            found, is_full = tiles.read(request.path_params["path"], core.store.reader)
        except Malformed as error:
            return PlainTextResponse(f"{error}\n", 400)
        except Error as error:
            return PlainTextResponse(f"{error}\n", 503 if error.retryable or error.reason == "log.corrupt" else 404)
        return Response(found, media_type=_BINARY, headers={"Cache-Control": _FOREVER if is_full else "no-cache"})

    return Starlette(routes=[Route("/checkpoint", newest), Route("/tile/{path:path}", tile)])
