"""JSON from outside, read so that every bill has one meaning: no float, no NaN, no key twice (SETTLEMENT 1).

What JSON allows and money does not is put into the document as `Unusable`, so that whoever reads the field there
can say where it stands; what nobody reads is found by `find_unusable`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from zhifu.errors import Malformed

_DIGITS: Final = 18


@dataclass(frozen=True, slots=True)
class Unusable:
    """Stands where a value cannot be used; ``why`` continues a sentence that names the place."""

    why: str


def loads(data: bytes, most: int, reason: str) -> object:
    """The document in ``data``: UTF-8, with or without a byte order mark, at most ``most`` bytes.

    Raises `Malformed` with ``reason`` where it is longer (checked first), nested too deeply, or not JSON.
    """
    if len(data) > most:
        raise Malformed(reason, f"larger than {most} bytes")
    try:
        return json.loads(
            data.decode("utf-8-sig"),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_fraction,
            parse_constant=_fraction,
        )
    except RecursionError:
        raise Malformed(reason, "nested too deeply") from None
    except ValueError:
        # The cause is left out on purpose: the decoder's error carries the whole document.
        raise Malformed(reason, "not JSON in UTF-8") from None


def find_unusable(document: object) -> Unusable | None:
    """The first value anywhere in ``document`` that cannot be used, None where there is none."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Unusable):
            return value
        waiting.extend(_inside(value))
    return None


def _inside(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                found[key] = Unusable("stands there twice")
            seen.add(key)
    return found


def _integer(text: str) -> int | Unusable:
    return int(text) if len(text) <= _DIGITS else Unusable("is a number with too many digits")


def _fraction(text: str) -> Unusable:
    return Unusable("is a number with a fraction or exponent, which is not exact: write it as a string")
