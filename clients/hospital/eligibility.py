"""Questions of cover, before there is a bill: whether payers cover this visit, and what is left of the year.

The public payer is asked by statute; an insurer under a grant for just this question, which shows it less than a claim.
A question is sealed once for all who are asked; their answers are signed and wait in the node's memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from clients import decision, naming
from clients.decision import ELIGIBILITY
from clients.hospital import consented, encounter, record
from clients.hospital.asking import Exchange
from clients.hospital.case import Policy
from clients.hospital.consented import Consented
from clients.hospital.icd_tables import NO_TABLES, Tables
from clients.hospital.mandates import Mandates
from clients.hospital.openbill import AnyBill
from clients.hospital.pseudonym import Pseudonyms
from clients.hospital.tokens import Called
from clients.reasons import reason
from clients.store import Job
from zhifu import cbor, schema
from zhifu.errors import Error

_KIND: Final = "eligibility"
_MAX_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Question:
    """``exchanges`` are (payer's id, exchange hash), the public payer first."""

    id: bytes
    exchanges: tuple[tuple[bytes, bytes], ...]


class Questions:
    """One hospital's. ``names`` are participants' by id; ``public_payer`` is empty where nobody is pinned as one."""

    def __init__(
        self,
        node: Exchange,
        mandates: Mandates,
        pseudonyms: Pseudonyms,
        names: Mapping[bytes, str],
        public_payer: bytes,
        clock_ms: Callable[[], int],
        tables: Tables = NO_TABLES,
    ) -> None:
        self._node = node
        self._mandates = mandates
        self._pseudonyms = pseudonyms
        self._names = names
        self._public_payer = public_payer
        self._clock_ms = clock_ms
        self._tables = tables

    async def ask(self, visit: AnyBill, given: Sequence[Consented]) -> Question:
        """Ask the public payer, and the insurer of each consent; durable on return.

        A grant is used once: who asks again under the same ones finds the question that was asked. Raises `Refused`
        (consent.*, pseudonym.*, unavailable.*), `NotAuthentic`, `Malformed`.
        """
        store, now = self._node.store, self._clock_ms()
        policies = [consented.policy(store, one, visit, now // 1000) for one in given]
        name = self._name(policies)
        if (job := store.jobs.get(_KIND, name)) is not None:
            return _read(job)
        called = await asyncio.gather(*(self._called(one, visit) for one in policies))
        kind, secret = schema.load(ELIGIBILITY), encounter.secret(store, visit, now // 1000)
        with store.transaction():
            if (job := store.jobs.get(_KIND, name)) is not None:
                # Asked a second time while names were fetched for the first.
                return _read(job)
            sealed = self._node.outbox.seal(kind.name, record.eligibility(visit, secret, self._tables))
            asked = [(self._public_payer, self._mandates.statute(self._public_payer, secret, kind))]
            for one, names in zip(policies, called, strict=True):
                mandate = self._mandates.granted(one, kind, os.urandom(16), os.urandom(16), names)
                asked.append((one.read_grant.recipient, mandate))
            rows = [[payer, self._node.outbox.present(sealed, mandate)] for payer, mandate in asked]
            job = Job(_KIND, name, "asked", cbor.encode(rows), now)
            store.jobs.put(job)
        return _read(job)

    def find(self, name: bytes) -> Question:
        """Raises `Refused` (exchange.unknown)."""
        return _read(self._node.store.jobs.need(_KIND, name))

    async def wait(self, question: Question, seconds: float) -> None:
        """Until everybody answered, or for so long."""
        await asyncio.gather(*(self._answered(exchange, seconds) for _, exchange in question.exchanges))

    async def _answered(self, exchange: bytes, seconds: float) -> None:
        # What ended without an answer, or has none yet, the document says.
        with suppress(Error):
            await self._node.answer_to(exchange, seconds)

    def document(self, question: Question, language: str) -> dict[str, Any]:
        """What each payer said so far, as JSON; amounts in fen, words in ``language`` (zh or en)."""
        rows = [self._row(payer, exchange, language) for payer, exchange in question.exchanges]
        return {"eligibility": question.id.hex(), "payers": rows}

    def _row(self, payer: bytes, exchange: bytes, language: str) -> dict[str, Any]:
        role = "public-payer" if payer == self._public_payer else "insurer"
        found = {"payer": payer.hex(), "name": self._names.get(payer, ""), "role": role}
        answers = self._node.store.incoming.answers(exchange)
        if not answers:
            return found | self._unanswered(exchange)
        decided = decision.read_decision(answers[0].values)
        rows = [
            {"field": one.field, "fen": one.amount, "clause": one.clause, "reason": one.reason}
            | {"words": reason(one, language)}
            for one in decided.clauses
        ]
        left = {f"{token}_fen": fen for token, fen in decided.amounts.items()}
        return found | {"state": "answered", "outcome": decided.outcome, "rows": rows} | left

    def _unanswered(self, exchange: bytes) -> dict[str, Any]:
        sent = self._node.store.outgoing.latest(exchange)
        ended = sent is not None and sent.is_final
        return {"state": sent.state if sent and ended else "waiting", "reason": sent.reason if sent and ended else ""}

    async def _called(self, policy: Policy, visit: AnyBill) -> Called:
        grant = policy.read_grant
        return await self._pseudonyms.called(grant.recipient, grant.subject, visit)

    def _name(self, policies: Sequence[Policy]) -> bytes:
        if not policies:
            return os.urandom(16)
        grants = sorted(hashlib.sha256(one.grant).hexdigest() for one in policies)
        return naming.name(self._node.store, _KIND, *grants)[:16]


def _read(job: Job) -> Question:
    return Question(job.id, tuple((payer, exchange) for payer, exchange in cbor.decode(job.payload, _MAX_BYTES)))
