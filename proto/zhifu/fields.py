"""Typed access to one object of a parsed file: every value has a grammar, every refusal says where.

A path names places ("feedetail[3].amt"), never what stands there, so a refusal can be shown and logged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Generic, TypeVar

from zhifu import money
from zhifu.errors import Malformed
from zhifu.strict_json import Unusable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Grammar(Generic[T]):
    """What a value must be: its exact type in the file, and ``read``, which answers None for what does not fit."""

    expected: str
    read: Callable[[Any], T | None]
    kind: type = str


def at_least(low: int, read: Callable[[str], int | None]) -> Callable[[str], int | None]:
    """``read``, with None for what is below ``low``."""
    return lambda text: value if (value := read(text)) is not None and value >= low else None


def text(most: int) -> Grammar[str]:
    """A text of 1 to ``most`` characters, spaces around it removed."""
    return Grammar(f"a text of 1 to {most} characters", lambda given: _short(given.strip(), most))


def _short(given: str, most: int) -> str | None:
    return given if 1 <= len(given) <= most else None


FEN: Final = Grammar("yuan as a string with two places", money.fen)
AMOUNT: Final = Grammar(f"{FEN.expected}, not negative", at_least(0, money.fen))
RATIO: Final = Grammar("a ratio from 0 to 1 as a string with up to four places", money.ratio)
FLAG: Final[Grammar[bool]] = Grammar("true or false", lambda value: bool(value), bool)
DAY: Final[Grammar[date]] = Grammar("a date", lambda value: date(value.year, value.month, value.day), date)


class Fields:
    """One object of a file. ``reason`` is what its refusals carry; ``path`` is where it stands ("" at the top)."""

    def __init__(self, values: Mapping[str, object], path: str, reason: str) -> None:
        self._values = values
        self._path = path
        self._reason = reason
        self._asked: set[str] = set()

    def need(self, grammar: Grammar[T], *names: str) -> T:
        """The value under the first of ``names``, or the others that mean the same. Raises `Malformed`."""
        found = self.maybe(grammar, *names)
        if found is None:
            raise self.refusal(names[0], "is missing")
        return found

    def maybe(self, grammar: Grammar[T], *names: str) -> T | None:
        """Like `need`; None where the value is absent: no such key, null, or an empty string."""
        found: T | None = None
        for name in names:
            value = self._one(grammar, name)
            if found is not None and value is not None and value != found:
                raise self.refusal(name, f"is not the same as {names[0]}")
            found = value if found is None else found
        return found

    def inner(self, name: str) -> Fields:
        """The object under ``name``. Raises `Malformed`."""
        return self._object(self._value(name), self._at(name))

    def rows(self, name: str, most: int) -> list[Fields]:
        """The objects of the list under ``name``, one to ``most`` of them. Raises `Malformed`."""
        value = self._value(name)
        if not isinstance(value, list) or not 1 <= len(value) <= most:
            raise self.refusal(name, f"must be a list of 1 to {most} objects")
        return [self._object(row, f"{self._at(name)}[{index}]") for index, row in enumerate(value)]

    def maybe_rows(self, name: str, most: int) -> list[Fields]:
        """Like `rows`; none where there is no such list, or an empty one. Raises `Malformed`."""
        return self.rows(name, most) if self._value(name) not in (None, []) else []

    def texts(self, name: str) -> tuple[str, ...]:
        """The strings of the list under ``name``, at least one. Raises `Malformed`."""
        value = self._value(name)
        if not isinstance(value, list) or not value or not all(type(item) is str and item for item in value):
            raise self.refusal(name, "must be a list of strings")
        return tuple(value)

    def has(self, name: str) -> bool:
        """Whether something stands under ``name``; it counts as asked for."""
        return self._value(name) is not None

    def unread(self) -> list[str]:
        """The keys that nobody asked for so far."""
        return sorted(self._values.keys() - self._asked)

    def finish(self) -> None:
        """Refuse a key that nobody asked for: a misspelt rule must not be a rule left out. Raises `Malformed`."""
        for name in self.unread():
            raise self.refusal(name, "is not a key of this file")

    def refusal(self, name: str, what: str) -> Malformed:
        """The error for the key ``name``; ``what`` carries no value."""
        return Malformed(self._reason, f"{self._at(name)} {what}")

    def _one(self, grammar: Grammar[T], name: str) -> T | None:
        value = self._value(name)
        if value is None or value == "":
            return None
        read = grammar.read(value) if type(value) is grammar.kind else None
        if read is None:
            raise self.refusal(name, f"must be {grammar.expected}")
        return read

    def _value(self, name: str) -> object:
        self._asked.add(name)
        value = self._values.get(name)
        if isinstance(value, Unusable):
            raise self.refusal(name, value.why)
        return value

    def _object(self, value: object, path: str) -> Fields:
        if not isinstance(value, dict):
            raise Malformed(self._reason, f"{path} must be an object")
        return Fields(value, path, self._reason)

    def _at(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name
