"""Why an amount is what it is: the clause and the reason code that made it (SETTLEMENT 3, Adjudication)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from zhifu.fields import text

CLAUSE: Final = text(160)
"""The grammar of a clause in a rules file; a decision's form "clauses" holds no longer one."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """One row of a statement: ``amount`` (fen) of ``field`` comes from ``clause``.

    ``field`` and ``reason`` are stable tokens; ``clause`` is for reading.
    """

    field: str
    amount: int
    clause: str
    reason: str
