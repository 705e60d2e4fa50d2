"""``/metrics``, ``/livez`` and ``/readyz`` over HTTP: for the operator's own monitoring, on loopback by default."""

from __future__ import annotations

import asyncio

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broker import metrics
from broker.core import Core
from broker.home import Home
from broker.readiness import Readiness
from zhifu.errors import Error

_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def app(core: Core, opened: Home, readiness: Readiness) -> Starlette:
    """Figures of ``core``, whose folder is ``opened``; probes answer 200 for yes and 503 for no, with reasons."""
    one_at_a_time = asyncio.Lock()

    async def figures(_request: Request) -> Response:
        # Whoever asks often waits; counting the queue takes the database's time.
        async with one_at_a_time:
            try:
                queue = await asyncio.to_thread(opened.waiting)
            except Error:
                queue = []
            return Response(metrics.render(core, opened, readiness, queue), media_type=_TEXT)

    async def alive(_request: Request) -> Response:
        return JSONResponse({"alive": readiness.alive}, 200 if readiness.alive else 503)

    async def ready(_request: Request) -> Response:
        said = {"ready": readiness.ready, "reasons": readiness.why_not, "notes": readiness.notes}
        return JSONResponse(said, 200 if readiness.ready else 503)

    return Starlette(routes=[Route("/metrics", figures), Route("/livez", alive), Route("/readyz", ready)])
