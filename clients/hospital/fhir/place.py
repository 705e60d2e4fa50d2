"""A value of a document and where it stands: typed access, and refusals that name the path, never the value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TypeVar

from clients.hospital.fhir.document import REASON, below
from zhifu import ladder
from zhifu.errors import Malformed
from zhifu.fields import Grammar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, repr=False)
class Place:
    """``path`` is "entry[3].resource.item[0]", or "" at the top. No repr: it is patient data."""

    value: object
    path: str

    def refusal(self, why: str) -> Malformed:
        """The error about this place; ``why`` carries no value."""
        return Malformed(REASON, f"{self.path}: {why}" if self.path else why)

    def maybe(self, name: str) -> Place | None:
        """What stands under ``name``; None for nothing, or null. Raises `Malformed` if this is no object."""
        if not isinstance(self.value, dict):
            raise self.refusal("must be an object")
        found = self.value.get(name)
        return None if found is None else Place(found, below(self.path, name))

    def need(self, name: str) -> Place:
        """Like `maybe`. Raises `Malformed` where there is nothing."""
        found = self.maybe(name)
        if found is None:
            raise Malformed(REASON, f"{below(self.path, name)}: is missing")
        return found

    def inside(self, *names: str) -> Place | None:
        """What stands at the end of ``names``; None where one of them is not there."""
        found: Place | None = self
        for name in names:
            found = found.maybe(name) if found is not None else None
        return found

    def rows(self, name: str) -> tuple[Place, ...]:
        """The members of the list under ``name``; none where there is nothing. Raises `Malformed` if it is no list."""
        found = self.maybe(name)
        if found is None:
            return ()
        if not isinstance(found.value, list):
            raise found.refusal("must be a list")
        return tuple(Place(one, f"{found.path}[{i}]") for i, one in enumerate(found.value))

    def text(self) -> str:
        """Raises `Malformed` where it is no text."""
        return self._typed(str, "a text")

    def whole(self) -> int:
        """Raises `Malformed` where it is no whole number."""
        return self._typed(int, "a whole number")

    def flag(self) -> bool:
        """Raises `Malformed` where it is neither true nor false."""
        return self._typed(bool, "true or false")

    def number(self) -> Decimal:
        """Exact. Raises `Malformed` where it is no number, or one beyond 15 digits before or 12 after the point."""
        found = Decimal(self.value) if type(self.value) is int else self._typed(Decimal, "a number")
        _, _, exponent = found.as_tuple()
        # 27 digits: arithmetic in the default context, 28, stays exact.
        if not isinstance(exponent, int) or exponent < -12 or found.adjusted() > 14:
            raise self.refusal("is a number with too many digits")
        return found

    def read(self, grammar: Grammar[T]) -> T:
        """The text by a grammar of the national bill. Raises `Malformed`."""
        found = grammar.read(self.text())
        if found is None:
            raise self.refusal(f"must be {grammar.expected}")
        return found

    def day(self) -> date | None:
        """The day of a date or dateTime, as it is written there; None where it is coarser than a day."""
        found = self.text()[:10]
        return date.fromisoformat(found) if ladder.conforms("date", found) else None

    def _typed(self, kind: type[T], expected: str) -> T:
        # bool is an int for Python, not here
        if type(self.value) is not kind:
            raise self.refusal(f"must be {expected}")
        return self.value
