"""Spans for the stages of an exchange, where the operator asks for them (``--trace``; extra ``otel``).

The stages' methods are wrapped when the broker starts, so that without it the hot path has nothing of this. A span says
which stage, how long, how many, and the reason of a refusal; never who, nor anything of a record. The text of an
exception stays out too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final

from broker.core import Core
from zhifu.errors import Error, Refused

_SCOPE: Final = "zhifu.broker"
_COUNT: Final = "zhifu.count"
_REASON: Final = "zhifu.reason"


def instrument(core: Core) -> Callable[[], None]:
    """Wrap ``core``'s stages; spans go where OpenTelemetry's own environment variables say. What flushes them.

    Raises `Refused` (usage.argument) where the extra is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise Refused("usage.argument", "--trace needs: pip install 'zhifu[otel]'") from error
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: "zhifu-broker"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    wrap(core, provider.get_tracer(_SCOPE))
    return provider.shutdown


def wrap(core: Core, tracer: Any) -> None:
    """Spans of ``tracer`` around every stage of ``core``."""
    pipeline, consent, gate, committer = core.pipeline, core.pipeline.consent, core.gate, core.committer
    for owner, method, name in (
        (pipeline, "accept", "accept"),
        (pipeline, "permitted", "decide"),
        (consent, "check", "consent"),
        (consent, "consume", "consume"),
        (gate, "check", "gate.check"),
        (gate, "release", "gate.release"),
        (gate, "shares", "deliver"),
    ):
        setattr(owner, method, _traced(getattr(owner, method), name, tracer))
    committer.join = _awaited(committer.join, tracer)  # type: ignore[method-assign, assignment]


@contextmanager
def _span(tracer: Any, name: str, count: int) -> Iterator[None]:
    with tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as span:
        span.set_attribute(_COUNT, count)
        try:
            yield
        except Error as error:
            span.set_attribute(_REASON, error.reason)
            raise


def _traced(stage: Callable[..., Any], name: str, tracer: Any) -> Callable[..., Any]:
    @wraps(stage)
    def call(first: Any, *others: Any) -> Any:
        with _span(tracer, name, len(first) if isinstance(first, list) else 1):
            return stage(first, *others)

    return call


def _awaited(run: Callable[..., Awaitable[Any]], tracer: Any) -> Callable[..., Awaitable[Any]]:
    """From being handed in to being durable: waiting, the transaction, the disk."""

    @wraps(run)
    async def call(joint: Any, given: Any, weight: int = 1, *others: Any, **how: Any) -> Any:
        with _span(tracer, "commit", weight):
            return await run(joint, given, weight, *others, **how)

    return call
