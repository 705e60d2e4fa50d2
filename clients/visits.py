"""Which days of which visit a payer answered for, so that it pays no day of a visit twice by itself.

A claim is recognised by what the payer sees of it, whichever way it came: another workflow, another presentation,
other bytes. What is the same visit is the payer's word (its ``places``); parts of one visit, as interim bills are,
follow each other without a common day. What was cancelled, reversed or never confirmed in time holds no day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, replace
from datetime import date
from typing import Final

from clients.decision import Decision, read_decision
from clients.store import Job, Store
from zhifu import cbor
from zhifu.receive import Opened

_KIND: Final = "visit"
_MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """One claim for days of a visit: ``begin`` to ``end``, ISO days, both included.

    ``claim`` is the exchange that its holding is named by; ``message`` is the sealed bill and the workflow in which it
    is claimed, both of which it keeps when it is presented anew.
    """

    claim: bytes
    sender: bytes
    message: bytes
    begin: str
    end: str
    answer: bytes = b""

    def overlaps(self, other: Part) -> bool:
        return self.begin <= other.end and other.begin <= self.end

    def answered(self, found: Decision) -> Part:
        """The same with what it was answered, for whoever asks again with the same message."""
        values = [[name, value] for name, value in found.values(b"").items() if name != "encounter"]
        return replace(self, answer=cbor.encode(values))

    @staticmethod
    def of(opened: Opened, begin: date, end: date) -> Part:
        shown = opened.presentation
        message = shown.manifest_hash + shown.workflow
        return Part(opened.hash, shown.sender, message, begin.isoformat(), end.isoformat())

    @property
    def decision(self) -> Decision:
        """What it was answered."""
        rows = cbor.decode(self.answer, _MAX_BYTES)
        return read_decision({name: value for name, value in rows})  # noqa: C416


class Visits:
    """In the payer's own store; every method joins the transaction that is open.

    ``stands`` says of a claim's exchange whether something is held, paid or being decided for it.
    """

    def __init__(self, store: Store, stands: Callable[[bytes], bool]) -> None:
        self._store = store
        self._stands = stands

    def overlapping(self, places: Iterable[bytes], part: Part) -> list[Part]:
        """Parts that stand at one of ``places`` and share a day with ``part``."""
        return [one for place in places for one in self._at(place) if one.overlaps(part)]

    def put(self, places: Iterable[bytes], part: Part, now: int) -> None:
        """Remember a part that was answered; ``now`` is Unix s."""
        for place in places:
            rows = [list(astuple(one)) for one in (*self._at(place), part)]
            self._store.jobs.put(Job(_KIND, place, "open", cbor.encode(rows), now * 1000))

    def _at(self, place: bytes) -> list[Part]:
        job = self._store.jobs.get(_KIND, place)
        found = [Part(*row) for row in cbor.decode(job.payload, _MAX_BYTES)] if job else []
        return [one for one in found if self._stands(one.claim)]
