"""Where the pseudonym service runs: within the broker, or by itself under another operator (DESIGN 4.5).

By itself it has a folder like a broker's: a log key, which is its identity and signs its statement, a log of its own,
operators. It meets nobody through the broker: its operator admits participants by their cards, and each shows the key
statement that its identity key signed, which lists the TLS key it came with.

callers/*.json   the admitted participants' cards        clients.crt   the authorities of their certificates
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker import directory, enrolment
from broker.audit import Log
from broker.clock import clock_ms
from broker.commit import Committer
from broker.core import Core
from broker.directory import Directory, Member
from broker.evaluator import Evaluator
from broker.home import Home, write_private
from broker.pseudonym import Rate
from broker.pseudonym_keys import PseudonymKeys
from broker.services import identity
from broker.services.pseudonym import Context, PseudonymService
from broker.store.interface import Store
from zhifu import envelope, statement
from zhifu.envelope import Envelope
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.v1 import signed_pb2

AUTHORITIES: Final = "clients.crt"
_CALLERS: Final = "callers"
_MAX_CARD: Final = 4096


def evaluator(core: Core, opened: Home, rate: Rate | None = None) -> Evaluator:
    """The evaluator of a running broker: its participants, its log."""
    return Evaluator(
        log=core.log,
        reader=core.store.reader,
        committer=core.committer,
        keys=PseudonymKeys(opened.path),
        state=opened.key_statement,
        roles=lambda: {one.id: one.role for one in core.directory.members if one.status == "active"},
        operators=opened.operators,
        clock_ms=core.clock_ms,
        rate=rate or Rate(),
    )


def within(core: Core, opened: Home) -> PseudonymService:
    """The service as a part of a running broker."""

    async def caller(context: Context, _: signed_pb2.Envelope | None) -> Member:
        return identity.caller(context, core.directory, core.now())

    return PseudonymService(evaluator(core, opened), caller)


@dataclass(frozen=True, slots=True)
class Alone:
    """The service by itself, without its socket."""

    store: Store
    committer: Committer
    service: PseudonymService


def alone(opened: Home) -> Alone:
    """Put the parts together over the folder's own database. Raises `Refused`, `NotAuthentic` (log.corrupt)."""
    store = opened.open_store()
    log = Log(opened.origin, opened.log_key, store.reader)
    committer = Committer(store, log, store.clock_ms)
    admission = Admission(opened.path, Directory(store.reader), committer)
    own = Evaluator(
        log=log,
        reader=store.reader,
        committer=committer,
        keys=PseudonymKeys(opened.path),
        state=opened.key_statement,
        roles=admission.roles,
        operators=opened.operators,
        clock_ms=store.clock_ms,
    )
    return Alone(store, committer, PseudonymService(own, admission.caller))


class Admission:
    """Who may call: participants whose cards lie in the folder, enrolled here when they first show themselves."""

    def __init__(self, path: Path, known: Directory, committer: Committer) -> None:
        self._path = path
        self._known = known
        self._committer = committer

    def roles(self) -> Mapping[bytes, str]:
        """Who is admitted and has shown itself: a recipient that never did is nobody's to ask for."""
        cards = self._cards()
        return {one.id: one.role for one in self._known.members if one.id in cards}

    async def caller(self, context: Context, shown: signed_pb2.Envelope | None) -> Member:
        """Raises `Refused` (participant.*), `NotAuthentic` (key.*, signature.invalid), `Malformed`."""
        spki = identity.spki_hash(identity.certificate(context))
        if shown is not None:
            await self._meet(envelope.from_proto(envelope.KEY_STATEMENT, shown), spki)
        found = self._known.peer(spki)
        if found.id not in self._cards():
            raise Refused("participant.suspended", "the card was taken back")
        return found

    async def _meet(self, signed: Envelope, spki: bytes) -> None:
        participant = statement.claimed_participant(signed)
        card = self._cards().get(participant)
        if card is None:
            raise Refused("participant.unknown", "not admitted to this service")
        before = {one.id: one.envelope for one in self._known.members}.get(participant)
        if before == signed:
            return
        if spki not in statement.verify_key_statement(signed, participant, clock_ms() // 1000).tls_spki:
            raise NotAuthentic("key.unknown", "the TLS key is not in the key statement")
        if before is None:
            await self._committer.run(lambda *given: directory.enrol(participant, *card, signed, *given))
        else:
            await self._committer.run(lambda *given: directory.state_keys(participant, signed, *given))
        self._known.reload()

    def _cards(self) -> dict[bytes, tuple[str, str]]:
        return dict(read_card(path) for path in (self._path / _CALLERS).glob("*.json"))


def admit(path: Path, card: Path, authority: Path | None) -> None:
    """Admit the participant of a card; ``authority`` (PEM) signed its TLS certificate.

    Raises `Malformed`, `Refused` (usage.file).
    """
    participant, (role, name) = read_card(card)
    (path / _CALLERS).mkdir(mode=0o700, exist_ok=True)
    content = json.dumps({"id": participant.hex(), "role": role, "name": name}, ensure_ascii=False)
    write_private(path / _CALLERS / f"{participant.hex()}.json", content.encode())
    if authority is not None:
        known = path / AUTHORITIES
        before, given = known.read_bytes() if known.exists() else b"", authority.read_bytes()
        if given not in before:
            write_private(known, before + given)


def read_card(path: Path) -> tuple[bytes, tuple[str, str]]:
    """(participant id, (role, name)) of a card. Raises `Malformed` (usage.file)."""
    try:
        if path.stat().st_size > _MAX_CARD:
            raise ValueError
        found = json.loads(path.read_text("utf-8"))
        participant, role, name = bytes.fromhex(found["id"]), found["role"], found["name"]
        if len(participant) != 32 or role not in enrolment.ROLES or not 1 <= len(name) <= 128:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Malformed("usage.file", f"{path.name} is not a participant's card") from error
    return participant, (role, name)
