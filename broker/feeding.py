"""A regulator's own witness is fed over HTTP (C2SP tlog-witness, ``add-checkpoint``).

Which there are stands in the broker's folder, ``witnesses.policy``, a C2SP tlog-policy: its witnesses with a URL are
fed, and what its quorum has not cosigned counts as unwitnessed.
"""

from __future__ import annotations

import asyncio
import logging
from base64 import b64encode
from pathlib import Path
from typing import Final

import httpx

from broker.witnesses import Witnesses
from zhifu import tlogpolicy
from zhifu.checkpoint import parse_decimal
from zhifu.errors import Error, Malformed, NotAuthentic, Refused
from zhifu.receipt import Head
from zhifu.tlogpolicy import Member, Policy

FILE: Final = "witnesses.policy"
EVERY_S: Final = 5.0
TIMEOUT_S: Final = 10.0
_MAX_ANSWER: Final = 1 << 16
_log = logging.getLogger("broker.feeding")


class Feeder:
    """Shows each of a policy's witnesses the checkpoint that the participants are shown."""

    def __init__(self, witnesses: Witnesses, policy: Policy, client: httpx.AsyncClient) -> None:
        self._witnesses = witnesses
        self._members = [member for member in policy.witnesses.values() if member.url]
        self._client = client
        self._sizes = {member.key.name: self._kept(member) for member in self._members}

    def _kept(self, member: Member) -> int:
        found = self._witnesses.seen.get(member.key.name)
        return found.size if found else 0

    async def run(self) -> None:
        """Feed for as long as the broker runs. What fails is tried again; a witness that is ahead ends all signing."""
        while self._members:
            for member in self._members:
                try:
                    await self.feed(member)
                except (Error, httpx.HTTPError) as error:
                    reason = error.reason if isinstance(error, Error) else "unavailable.witnesses"
                    _log.warning("witness not fed", extra={"reason": reason})
            await asyncio.sleep(EVERY_S)

    async def feed(self, member: Member) -> bool:
        """Show one witness the newest checkpoint; whether it cosigned. Raises `httpx.HTTPError`, `Error`."""
        commit = self._witnesses.shown.commit
        if commit.size <= self._sizes[member.key.name]:
            return False
        status, content = await self._post(member)
        if status == httpx.codes.CONFLICT:
            self._take_size(member, content)
            status, content = await self._post(member)
        if status != httpx.codes.OK:
            raise Refused("unavailable.witnesses", f"a witness answered {status}")
        for line in content.splitlines(keepends=True):
            await self._witnesses.keep(member.key, commit.size, line)
        self._sizes[member.key.name] = commit.size
        return True

    def _take_size(self, member: Member, content: bytes) -> None:
        """What the witness says it cosigned last. Raises `NotAuthentic` (log.inconsistent) if that is ahead of us."""
        size = parse_decimal(content.removesuffix(b"\n"))
        if not self._witnesses.reaches(size):
            self._witnesses.stop(member.key.name)
            raise NotAuthentic("log.inconsistent", "a witness has seen a larger log than is kept here")
        self._sizes[member.key.name] = size

    async def _post(self, member: Member) -> tuple[int, bytes]:
        """Status and body, as it stands on the wire. Raises `Refused` (unavailable.witnesses) for one without end."""
        url, found = f"{member.url.rstrip('/')}/add-checkpoint", b""
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                self._client.stream("POST", url, content=self._body(member)) as answer,
            ):
                async for part in answer.aiter_raw():
                    found += part
                    if len(found) > _MAX_ANSWER:
                        raise Refused("unavailable.witnesses", "a witness's answer has no end")
        except TimeoutError as error:
            raise Refused("unavailable.witnesses", "a witness's answer has no end") from error
        return answer.status_code, found

    def _body(self, member: Member) -> bytes:
        old, commit = self._sizes[member.key.name], self._witnesses.shown.commit
        proof = self._witnesses.consistency(Head(old)) if old else ()
        return b"\n".join([b"old %d" % old, *map(b64encode, proof), b"", commit.note])


def policy_of(folder: Path) -> Policy:
    """The policy in a broker's folder; one that asks for nobody where there is none.

    Raises `Malformed` (usage.file).
    """
    try:
        return tlogpolicy.parse((folder / FILE).read_bytes())
    except FileNotFoundError:
        return Policy()
    except OSError as error:
        raise Malformed("usage.file", f"{FILE} cannot be read") from error
    except Malformed as error:
        raise Malformed("usage.file", f"{FILE}: {error.detail}") from error
