"""One settlement as the hospital remembers it: durable after every step, so that a crash at any point loses nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from clients.hospital import coordination
from clients.hospital.coordination import Compensation
from clients.store import Job, Store
from clients.store.jobs import ALL
from zhifu import cbor, consent, envelope
from zhifu.capsule import Terms
from zhifu.consent import Grant
from zhifu.envelope import Envelope
from zhifu.errors import Refused

KIND: Final = "settlement"
PUBLIC: Final = "public"
DIRECT: Final = "direct"
FINAL: Final = ("confirmed", "failed", "cancelled", "reversed", "lapsed")
UNFINISHED: Final = ("open", "reserved", "reversing")
WISHES: Final = ("confirm", "cancel", "reverse")
_MAX_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy that the patient claims under: her grant, who attested her key, the sealed terms, and its kind.

    ``kind`` is a word of the coordination rule (`clients.hospital.coordination`). ``ticket`` is the hash of the ticket
    that a direct-pay grant is used with, in ``workflow``; ``narrow`` are, by schema hash, the finest levels that this
    claim is to show.
    """

    kind: str
    grant: bytes
    attestations: tuple[bytes, ...]
    terms: tuple[bytes, bytes] = field(repr=False)
    ticket: bytes = b""
    workflow: bytes = b""
    narrow: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def signed_grant(self) -> Envelope:
        return envelope.from_bytes(envelope.GRANT, self.grant)

    @property
    def read_grant(self) -> Grant:
        return consent.verify_grant(self.signed_grant)

    @property
    def sealed_terms(self) -> Terms:
        return Terms(*self.terms)

    @property
    def cap(self) -> int | None:
        """The most the patient agreed to have claimed, in fen; None for no cap."""
        _, cap, _, _ = cbor.array(self.sealed_terms.content, 65_536, 4)
        return cap if isinstance(cap, int) else None


@dataclass(frozen=True, slots=True)
class Desk:
    """What the desk wants. ``hold``: stop at the split until it confirms. ``patient``: wait for a reviewer.

    ``account`` is the most that is taken from the personal account, ``deposit`` what the patient paid in advance, fen.
    ``wish`` is confirm, cancel or reverse, once somebody said so.
    """

    order: str = coordination.DEFAULT
    hold: bool = False
    patient: bool = False
    account: int = 0
    deposit: int = 0
    wish: str = ""


@dataclass(frozen=True, slots=True)
class QuickClaim:
    """A bill that the patient paid: what she may claim of it afterwards from one insurer, and what was paid before.

    ``settlement`` is the one she paid the rest of, empty where there was none; ``request`` the hash of what she is
    asked, ``rows`` who paid what so far: (role, name, fen). ``until`` is Unix s.
    """

    insurer: bytes
    request: bytes
    until: int
    settlement: bytes = b""
    before: Compensation = field(default_factory=Compensation)
    rows: tuple[tuple[str, str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """``state`` is open, reserved, confirmed, cancelled, reversing, reversed or failed. A quick claim is offered
    first, and lapsed if nobody filed it.

    ``policies`` stand in the order in which they pay. ``exchanges`` maps step to exchange hash; amounts are fen.
    ``route`` says whether the public payer comes first. ``record`` is the manifest hash of the bill, sealed once.
    Times are Unix ms, 0 while it has not happened; ``expires`` (Unix s) is when the first reservation ends. ``quick``
    makes it a claim after payment: what others paid is there already, and the insurer pays the patient.
    """

    id: bytes
    state: str
    route: str
    bill: bytes = field(repr=False)
    encounter: bytes = field(repr=False)
    record: bytes
    policies: tuple[Policy, ...]
    public_payer: bytes
    started: int
    desk: Desk = Desk()
    finished: int = 0
    expires: int = 0
    reason: str = ""
    detail: str = ""
    exchanges: Mapping[str, bytes] = field(default_factory=dict)
    amounts: Mapping[str, int] = field(default_factory=dict)
    quick: QuickClaim | None = None

    def with_exchange(self, step: str, exchange: bytes) -> Case:
        return replace(self, exchanges={**self.exchanges, step: exchange})

    def anew(self, payer: str, exchange: bytes) -> Case:
        """``payer`` was asked again, since its reservation was over; what was asked first is kept as lapsed."""
        step = self.claim(payer)
        before = f"{step}-lapsed-{len(self.lapsed(payer)) + 1}"
        return replace(self, exchanges={**self.exchanges, before: self.exchanges[step], step: exchange})

    def lapsed(self, payer: str) -> list[bytes]:
        """Exchanges with ``payer`` whose reservations were over before anything was confirmed."""
        begins = f"{self.claim(payer)}-lapsed-"
        return [exchange for step, exchange in self.exchanges.items() if step.startswith(begins)]

    def with_wish(self, wish: str) -> Case:
        return replace(self, desk=replace(self.desk, wish=wish))

    @property
    def payers(self) -> tuple[str, ...]:
        """The payers' names within the case, in the order in which they pay."""
        policies = tuple(numbered("commercial", place) for place in range(len(self.policies)))
        return (("public",) if self.route == PUBLIC and self.quick is None else ()) + policies

    def claim(self, payer: str) -> str:
        """The step that asked this payer."""
        return "public-claim" if payer == "public" else payer.replace("commercial", "claim")

    def pay(self, payer: str) -> int:
        """What a payer reserved, fen."""
        return self.amounts[payer if payer == "public" else payer.replace("commercial", "insurer")]


def numbered(word: str, place: int) -> str:
    """``word`` for the first policy, ``word-2`` for the second."""
    return word if place == 0 else f"{word}-{place + 1}"


def put(store: Store, case: Case, now_ms: int) -> None:
    """Durable with the transaction."""
    desk = case.desk
    payload = cbor.encode(
        [
            case.route,
            case.bill,
            case.encounter,
            case.record,
            [_policy_row(one) for one in case.policies],
            case.public_payer,
            case.started,
            [desk.order, desk.hold, desk.patient, desk.account, desk.deposit, desk.wish],
            case.finished,
            case.expires,
            case.reason,
            case.detail,
            [[step, exchange] for step, exchange in case.exchanges.items()],
            [[token, fen] for token, fen in case.amounts.items()],
            _quick_row(case.quick),
        ]
    )
    store.jobs.put(Job(KIND, case.id, case.state, payload, now_ms))


def _quick_row(one: QuickClaim | None) -> cbor.Value:
    if one is None:
        return None
    paid = [one.before.public, one.before.in_catalog, one.before.out_of_catalog]
    return [one.insurer, one.request, one.until, one.settlement, paid, [list(row) for row in one.rows]]


def _quick(row: cbor.Value) -> QuickClaim | None:
    if row is None:
        return None
    insurer, request, until, settlement, paid, rows = row
    named = tuple((role, name, fen) for role, name, fen in rows)
    return QuickClaim(insurer, request, until, settlement, Compensation(*paid), named)


def _policy_row(one: Policy) -> list[cbor.Value]:
    narrow = [list(pair) for pair in one.narrow]
    return [one.kind, one.grant, list(one.attestations), list(one.terms), one.ticket, one.workflow, narrow]


def _policy(
    kind: str, grant: bytes, attested: tuple[bytes, ...], terms: tuple[bytes, bytes], ticket: bytes, workflow: bytes,
    narrow: tuple[tuple[bytes, bytes], ...],
) -> Policy:  # fmt: skip
    return Policy(kind, grant, attested, terms, ticket, workflow, narrow)


def get(store: Store, case_id: bytes) -> Case:
    """Raises `Refused` (exchange.unknown)."""
    return _read(store.jobs.need(KIND, case_id))


def unfinished(store: Store) -> list[Case]:
    """What a restarted node takes up again, the oldest first."""
    return [_read(job) for job in store.jobs.find(KIND, *UNFINISHED, limit=ALL)]


def lapsed_splits(store: Store, now: int) -> list[Case]:
    """Splits that wait for the desk though a payer's reservation has run out (``now`` in Unix s)."""
    held = (_read(job) for job in store.jobs.find(KIND, "reserved", limit=ALL))
    return [case for case in held if not case.desk.wish and case.desk.hold and 0 < case.expires < now]


def offered(store: Store) -> list[Case]:
    """Quick claims that their patients have not filed."""
    return [_read(job) for job in store.jobs.find(KIND, "offered", limit=ALL)]


def lapsed(case: Case, now_ms: int) -> Case:
    """An offer that nobody took."""
    return replace(case, state="lapsed", finished=now_ms)


def changed(store: Store, since_ms: int) -> Iterator[Case]:
    """Those that were put since then (Unix ms), in no order that means anything."""
    for state in (*UNFINISHED, *FINAL, "offered"):
        yield from map(_read, store.jobs.since(KIND, state, since_ms))


def every(store: Store) -> Iterator[Case]:
    """All of them, in no order that means anything."""
    return map(_read, store.jobs.every(KIND))


def wish(store: Store, case_id: bytes, said: str, now_ms: int) -> Case:
    """Confirm, cancel or reverse a settlement; saying it again changes nothing. Durable on return.

    Raises `Refused` (exchange.unknown, exchange.state): it is past that, or what a payer decided is erased.
    """
    with store.transaction():
        case = get(store, case_id)
        told = any(step.startswith(("public-confirm", "commercial-confirm")) for step in case.exchanges)
        if case.desk.wish == said:
            return case
        late = case.state not in UNFINISHED or told or case.desk.wish
        if late if said != "reverse" else case.state != "confirmed":
            raise Refused("exchange.state", f"{said}: the settlement is {case.state}")
        if said == "reverse" and not all(
            store.incoming.answers(case.exchanges[case.claim(one)]) for one in case.payers
        ):
            # Its time is over, or it was erased: some would be told and others not, and both would call it taken back.
            raise Refused("exchange.unknown", "what a payer decided is not kept here any more: it is told without us")
        state = "reversing" if said == "reverse" else case.state
        changed = replace(case.with_wish(said), state=state)
        put(store, changed, now_ms)
        return changed


def heard(store: Store, case: Case) -> Case:
    """``case`` with what the desk said since it was read: whoever drives it waits for payers in between."""
    job = None if case.desk.wish else store.jobs.get(KIND, case.id)
    return case if job is None else case.with_wish(_read(job).desk.wish)


def _read(job: Job) -> Case:
    route, bill, encounter, record, policies, payer, started, desk, *rest = cbor.decode(job.payload, _MAX_BYTES)
    finished, expires, reason, detail, steps, sums, *quick = rest
    return Case(
        job.id,
        job.state,
        route,
        bill,
        encounter,
        record,
        tuple(_policy(*row) for row in policies),
        payer,
        started,
        Desk(*desk),
        finished,
        expires,
        reason,
        detail,
        dict(steps),
        dict(sums),
        _quick(quick[0]) if quick else None,
    )
