"""Details that are gone: each by an order of two officers that stands in the log, or it is an alarm (DESIGN section 7).

An erased entry comes before the entry that records its erasure, so what was met is kept until that is read.
"""

from __future__ import annotations

from clients.auditor.faults import Fault
from clients.auditor.participants import check_only
from clients.auditor.pins import Pins
from zhifu import cbor, envelope, erasure
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.receipt import MAX_DETAIL, Detail, Erased, Meta, parse_meta


class Erasures:
    """The erased entries up to one point of the log, and which of them an order covers."""

    def __init__(self, pins: Pins) -> None:
        self._origin = pins.origin
        self._officers = pins.operators
        self._met: dict[int, Meta] = {}
        self._kinds: dict[Meta, int] = {}
        self._due: set[int] = set()

    def meet(self, one: Erased) -> None:
        """An entry without its detail. Raises `Malformed` where its meta is none."""
        meta = self._met[one.index] = parse_meta(one.meta)
        self._kinds[Meta(meta.event, meta.sender, meta.recipient, meta.purpose, meta.schema_hash)] = one.index
        self._due.add(one.index)

    def is_erased(self, index: int) -> bool:
        return index in self._met

    def recipient(self, index: int) -> bytes:
        """Who was to get the exchange that an erased entry accepted."""
        return self._met[index].recipient

    def of(self, event: str) -> list[tuple[int, Meta]]:
        """The erased entries of an event, one for all that have parties, purpose and schema in common: what later
        entries name may have been one of them.
        """
        return [(index, meta) for meta, index in self._kinds.items() if meta.event == event]

    def recorded(self, index: int, meta: Meta, detail: Detail, now: int) -> None:
        """The order behind erasures: signed by two pinned officers, carried out as far as it says; ``now`` in Unix s.

        Raises `NotAuthentic` (key.unknown, signature.invalid, log.corrupt), `Refused` (erasure.orders), `Malformed`.
        """
        if len(detail.documents) != 1 + erasure.OFFICERS:
            raise Malformed("malformed.field", "not the entry of an erasure")
        listed = _numbers(detail.documents[0])
        signed = [envelope.from_bytes(envelope.ERASURE, one) for one in detail.documents[1:]]
        order = erasure.verify_order(signed, self._officers, self._origin, now)
        check_only(meta, Meta(meta.event, reason=order.basis))
        if not listed or not listed <= set(order.entries) or max(listed) >= index:
            raise NotAuthentic("log.corrupt", "other entries were erased than were ordered")
        if listed - self._due:
            raise NotAuthentic("log.corrupt", "an entry is called erased whose detail is still there")
        self._due -= listed

    def hold(self, meta: Meta, detail: Detail, now: int) -> None:
        """A legal hold that officers placed or lifted. Raises as `recorded`."""
        signed = [envelope.from_bytes(envelope.HOLD, one) for one in detail.documents]
        order = erasure.verify_hold(signed, self._officers, self._origin, now)
        event = "hold.lifted" if order.lifted else "hold.placed"
        check_only(meta, Meta(event, reason=order.basis))

    def finish(self) -> None:
        """Every erased detail has its order. Raises `Fault` (log.erased) at the first that has none."""
        if self._due:
            raise Fault(min(self._due), Refused("log.erased"))


def _numbers(document: bytes) -> set[int]:
    found = cbor.decode(document, MAX_DETAIL)
    if not isinstance(found, tuple) or any(type(one) is not int for one in found):
        raise Malformed("malformed.field", "not a list of entries")
    return {one for one in found if isinstance(one, int)}
