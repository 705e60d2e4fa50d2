"""The webhook to an insurer's own core system: it is asked what the rules leave open, and may decide at once or later.

A request is one JSON document, signed with HMAC-SHA256 of its bytes under a secret that both sides keep (header
``Zhifu-Signature: v1=<hex>``) and named by the claim (``Idempotency-Key``): asked again, it is the same question. An
answer 200 decides (``{"outcome": "pay"|"refuse", "pay": "120.00", "clause": …, "reason": …}``); 202 says that a person
will, with ``zhifu insurer decide``, or with ``Retry-After: S`` when it is asked again. Anything else, or none in time,
is tried again, ever later. The first decision counts. It goes to https, or to this computer.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from clients import durable
from clients.insurer.review import Item, Verdict
from zhifu import money, strict_json
from zhifu.errors import Malformed, Refused
from zhifu.explain import CLAUSE
from zhifu.fields import AMOUNT, Fields, Grammar, text

SECRET_FILE: Final = "core.secret"
TIMEOUT_S: Final = 10.0
_MAX_ANSWER: Final = 65_536
_DAY_S: Final = 86_400
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_OUTCOME: Final[Grammar[str]] = Grammar('"pay" or "refuse"', {"pay": "pay", "refuse": "refuse"}.get)
_log = logging.getLogger("zhifu.insurer")


def secret(folder: Path) -> bytes:
    """The shared secret, drawn the first time, in a file that only the node's owner can read."""
    return durable.once(folder / SECRET_FILE, lambda: secrets.token_hex(32).encode(), 256)


def sign(key: bytes, body: bytes) -> str:
    """The header's value for a body."""
    return "v1=" + hmac.digest(key, body, "sha256").hex()


@dataclass(frozen=True, slots=True)
class Later:
    """A person decides; ``again_s``: when the core system is to be asked again, None for never."""

    again_s: float | None


class CoreSystem:
    """Asks one address. Raises `Malformed` (usage.argument) for one that is neither https nor on this computer."""

    def __init__(self, url: str, key: bytes, timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise Malformed("usage.argument", "a core system is asked over https, or on this computer")
        self._url = url
        self._key = key
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(timeout=timeout_s, trust_env=False, follow_redirects=False)

    async def ask(self, item: Item) -> Verdict | Later:
        """The decision on one claim, or that a person will make it.

        Raises `Refused` (unavailable.recipient) where there was no answer, `Malformed` (usage.file) for another one.
        """
        body = json.dumps(_document(item), ensure_ascii=False).encode()
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": item.claim.hex(),
            "Zhifu-Signature": sign(self._key, body),
        }
        try:
            # The client's own time is for each piece of an answer: one that trickles in would take for ever.
            async with asyncio.timeout(self._timeout_s):
                answer, content = await self._post(body, headers)
        except (httpx.HTTPError, TimeoutError) as error:
            raise Refused("unavailable.recipient", "the core system does not answer") from error
        if answer.status_code == httpx.codes.ACCEPTED:
            return Later(_seconds(answer.headers.get("Retry-After")))
        if answer.status_code != httpx.codes.OK:
            raise Refused("unavailable.recipient", f"the core system answers {answer.status_code}")
        if len(content) > _MAX_ANSWER:
            raise Malformed("usage.file", "the core system's answer is too long")
        return _verdict(content)

    async def _post(self, body: bytes, headers: Mapping[str, str]) -> tuple[httpx.Response, bytes]:
        """The answer and what it says, read no further than to know that it is too long."""
        content = b""
        async with self._client.stream("POST", self._url, content=body, headers=headers) as answer:
            async for piece in answer.aiter_bytes(_MAX_ANSWER):
                content += piece
                if len(content) > _MAX_ANSWER:
                    break
        return answer, content

    async def close(self) -> None:
        await self._client.aclose()


def _seconds(text: str | None) -> float | None:
    """A number of seconds from 1 to a day; anything else counts as none."""
    return float(text) if text is not None and text.isdecimal() and 1 <= int(text) <= _DAY_S else None


def _document(item: Item) -> dict[str, object]:
    rows = [
        {"field": r.field, "amount": money.yuan(r.amount), "clause": r.clause, "reason": r.reason} for r in item.rows
    ]
    return {
        "claim": item.claim.hex(),
        "policy": item.policy,
        "proposed": money.yuan(item.proposed),
        "reasons": list(item.reasons),
        "clauses": rows,
        "deadline": item.deadline,
    }


def _verdict(content: bytes) -> Verdict:
    document = strict_json.loads(content, _MAX_ANSWER, "usage.file")
    if not isinstance(document, dict):
        raise Malformed("usage.file", "the core system's answer is not an object")
    top = Fields(document, "", "usage.file")
    outcome = top.need(_OUTCOME, "outcome")
    pay = top.need(AMOUNT, "pay") if outcome == "pay" else 0
    return Verdict(pay, top.need(CLAUSE, "clause"), top.need(text(64), "reason"), "core system", outcome == "refuse")
