"""Decisions and notices as records: what payers and the hospital put into the units and read out of them.

Amounts travel by token and in fen; each side reads the other's through here, so that both mean the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from zhifu.cbor import Value
from zhifu.errors import Malformed
from zhifu.explain import Explanation

DECISION: Final = "decision"
NOTICE: Final = "settlement-notice"
COORDINATION: Final = "coordination"
STATEMENT: Final = "statement"
INPATIENT: Final = "inpatient-claim"
OUTPATIENT: Final = "outpatient-claim"
CLAIMS: Final = (INPATIENT, OUTPATIENT)
"""What a bill is sealed as."""
ELIGIBILITY: Final = "eligibility"
COVERED: Final = "covered"
NOT_COVERED: Final = "not-covered"
UNCLEAR: Final = "unclear"
"""What a question of cover is answered with; it holds nothing, and a claim is decided anew."""
ACTIONS: Final = ("confirm", "cancel", "reverse")
OUTCOMES: Final = (
    *("reserved", "review", "committed", "cancelled", "reversed", "refused"),
    *(COVERED, NOT_COVERED, UNCLEAR),
)
RESERVED_S: Final = 3600
"""How long a payer holds a reservation for the patient to pay the rest at the desk."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A payer's answer. ``amounts`` are fen by token; ``expires`` is Unix s, 0 where nothing is held."""

    outcome: str
    amounts: Mapping[str, int]
    clauses: tuple[Explanation, ...]
    reservation: bytes
    expires: int

    def values(self, encounter: bytes) -> dict[str, Value]:
        """The units of a ``decision`` record."""
        return {
            "encounter": encounter,
            "outcome": self.outcome,
            "amounts": money(self.amounts),
            "clauses": [[one.field, one.amount, one.clause, one.reason] for one in self.clauses],
            "reservation": self.reservation,
            "expires": self.expires,
        }


def read_decision(values: Mapping[str, Value]) -> Decision:
    """A decision out of an opened record. Raises `Malformed` (schema.value)."""
    clauses = tuple(Explanation(*row) for row in values.get("clauses") or ())
    outcome, reservation, expires = (values.get(name) for name in ("outcome", "reservation", "expires"))
    if outcome not in OUTCOMES or not isinstance(reservation, bytes) or not isinstance(expires, int):
        raise Malformed("schema.value", "a decision without outcome, reservation or time")
    return Decision(outcome, read_money(values, "amounts"), clauses, reservation, expires)


def notice(encounter: bytes, action: str, reservation: bytes, amounts: Mapping[str, int]) -> dict[str, Value]:
    """The units of a ``settlement-notice``."""
    return {"encounter": encounter, "action": action, "amounts": money(amounts), "reservation": reservation}


def read_notice(values: Mapping[str, Value]) -> tuple[str, bytes, dict[str, int]]:
    """(action, reservation, amounts) of a notice. Raises `Malformed` (schema.value)."""
    action, reservation = values.get("action"), values.get("reservation")
    if action not in ACTIONS or not isinstance(reservation, bytes):
        raise Malformed("schema.value", "a notice without action or reservation")
    return action, reservation, read_money(values, "amounts")


def money(amounts: Mapping[str, int]) -> list[list[Value]]:
    """Fen by token as the form ``money``."""
    return [[token, fen] for token, fen in amounts.items()]


def read_money(values: Mapping[str, Value], unit: str) -> dict[str, int]:
    """The form ``money`` as fen by token. Raises `Malformed` (schema.value) for a token that stands there twice."""
    rows: Sequence[Sequence[Value]] = values.get(unit) or ()
    found = {token: fen for token, fen in rows}  # noqa: C416
    if len(found) != len(rows):
        raise Malformed("schema.value", f"{unit}: a token stands there twice")
    return found
