"""`PseudonymService`: decode, ask the evaluator, encode. Callers are participants, by their TLS key (mTLS)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from broker.directory import Member
from broker.evaluator import Evaluator
from broker.pseudonym import Question
from broker.services.errors import refusing
from broker.services.frames import Known
from zhifu import envelope, quota
from zhifu.errors import Malformed, Refused
from zhifu.receipt import Head
from zhifu.v1 import pseudonym_pb2, pseudonym_pb2_grpc, signed_pb2
from zhifu.voprf import MAX_BATCH

Context = grpc.aio.ServicerContext[Any, Any]
Caller = Callable[[Context, signed_pb2.Envelope | None], Awaitable[Member]]
"""Who is calling, with the key statement that the caller showed of itself. Raises `Refused` (participant.*)."""


class PseudonymService(pseudonym_pb2_grpc.PseudonymServiceServicer):
    """On the node port of the broker, or of a service of its own (`broker.pseudonym_home`)."""

    def __init__(self, evaluator: Evaluator, caller: Caller) -> None:
        self._evaluator = evaluator
        self._caller = caller

    async def FetchKeys(
        self, request: pseudonym_pb2.FetchKeysRequest, context: Context
    ) -> pseudonym_pb2.FetchKeysResponse:
        async with refusing(context):
            await self._caller(context, _shown(request))
            if len(request.head_root) not in (0, 32):
                raise Malformed("malformed.field", "not a tree head")
            found, log = await self._evaluator.announce(), self._evaluator.log
            known = Known(Head(request.head_size, request.head_root or Head().root))
            commit = log.commit_of(found.entry)
            return pseudonym_pb2.FetchKeysResponse(
                key_statement=found.signed.to_proto(),
                proof=known.prove(log, commit, found.entry, found.entry + 1),
                time_ms=found.time_ms,
            )
        raise AssertionError  # the context manager ended the call

    async def Evaluate(
        self, request: pseudonym_pb2.EvaluateRequest, context: Context
    ) -> pseudonym_pb2.EvaluateResponse:
        async with refusing(context):
            caller = await self._caller(context, _shown(request))
            # Before anything is made of it: the count alone says how much work is asked for.
            if len(request.blinded) > MAX_BATCH or len(request.recipient) != 32:
                raise Malformed("malformed.size", f"1 to {MAX_BATCH} elements, for one recipient")
            role = self._evaluator.roles().get(request.recipient)
            if role is None:
                raise Refused("participant.unknown", "no such recipient")
            question = Question(caller.id, caller.role, request.recipient, role, request.epoch, len(request.blinded))
            answer = await self._evaluator.evaluate(question, tuple(request.blinded))
            return pseudonym_pb2.EvaluateResponse(evaluated=answer.elements, proof=answer.proof)
        raise AssertionError  # the context manager ended the call

    async def RaiseQuota(
        self, request: pseudonym_pb2.RaiseQuotaRequest, context: Context
    ) -> pseudonym_pb2.RaiseQuotaResponse:
        async with refusing(context):
            caller = await self._caller(context, _shown(request))
            if len(request.quota) != quota.OPERATORS:
                raise Refused("pseudonym.quota", "two operators sign a quota")
            signed = [envelope.from_proto(envelope.QUOTA, one) for one in request.quota]
            found = await self._evaluator.raise_quota(signed, caller.id)
            return pseudonym_pb2.RaiseQuotaResponse(allowed=found.allowed, used=found.used)
        raise AssertionError  # the context manager ended the call


def _shown(
    request: pseudonym_pb2.FetchKeysRequest | pseudonym_pb2.EvaluateRequest | pseudonym_pb2.RaiseQuotaRequest,
) -> signed_pb2.Envelope | None:
    return request.key_statement if request.HasField("key_statement") else None
