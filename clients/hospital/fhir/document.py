"""FHIR files to documents and back: JSON with exact decimals, with one meaning, bounded in size and depth.

A number keeps its digits (`Decimal`); with too many of them it becomes `Unusable`, which only refuses where it is
read: a geolocation in an extension is nobody's amount.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from zhifu.errors import Malformed
from zhifu.strict_json import Unusable

REASON: Final = "bill.syntax"
MAX_BYTES: Final = 16 << 20
MAX_LINES: Final = 100_000
MAX_DEPTH: Final = 64
_DIGITS: Final = 40
_ELEMENT: Final = re.compile(r"_?[a-z][A-Za-z0-9]{0,63}")


@dataclass(frozen=True, slots=True)
class _Forbidden:
    """Stands where the document has no single meaning; ``why`` continues a sentence that names the place."""

    why: str


def parse(data: bytes, where: str = "") -> object:
    """The document in ``data`` (UTF-8, at most `MAX_BYTES`): objects, lists, str, int, Decimal, bool, None, `Unusable`.

    ``where`` begins the path of a refusal. Raises `Malformed` (bill.syntax): too large, not JSON (with line and
    column), nested more than `MAX_DEPTH` deep, a key twice, NaN.
    """
    if len(data) > MAX_BYTES:
        raise Malformed(REASON, _at(where, f"larger than {MAX_BYTES} bytes"))
    try:
        text = data.decode("utf-8-sig")
        document = json.loads(
            text, object_pairs_hook=_object, parse_int=_whole, parse_float=_exact, parse_constant=_constant
        )
    except RecursionError:
        raise Malformed(REASON, _at(where, "nested too deeply")) from None
    except json.JSONDecodeError as error:
        # The cause is left out on purpose: it carries the whole document.
        raise Malformed(REASON, _at(where, f"line {error.lineno} column {error.colno} is not JSON")) from None
    except ValueError:
        raise Malformed(REASON, _at(where, "not JSON in UTF-8")) from None
    _check(document, where)
    return document


def lines(data: bytes, where: str) -> Iterator[tuple[str, object]]:
    """Each document of an NDJSON file and where it stands ("Claim.ndjson:17"). Raises `Malformed` as `parse` does."""
    if len(data) > MAX_BYTES:
        raise Malformed(REASON, f"{where} is larger than {MAX_BYTES} bytes")
    rows = data.split(b"\n")
    if len(rows) > MAX_LINES:
        raise Malformed(REASON, f"{where} has more than {MAX_LINES} lines")
    for number, row in enumerate(rows, start=1):
        if row.strip():
            yield f"{where}:{number}", parse(row, f"{where}:{number}")


def dumps(value: object, indent: str | None = None, margin: str = "\n") -> str:
    """JSON with every decimal written out as it is: never through a float. ``indent`` None: on one line."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if not isinstance(value, dict | list) or not value:
        return json.dumps(value, ensure_ascii=False)
    inner = margin if indent is None else margin + indent
    if isinstance(value, dict):
        parts = [f"{json.dumps(key, ensure_ascii=False)}: {dumps(one, indent, inner)}" for key, one in value.items()]
    else:
        parts = [dumps(one, indent, inner) for one in value]
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    if indent is None:
        return opening + ", ".join(parts) + closing
    return opening + inner + f",{inner}".join(parts) + margin + closing


def leaves(value: object) -> int:
    """How many values other than objects and lists ``value`` holds."""
    count, waiting = 0, [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict | list):
            waiting.extend(one.values() if isinstance(one, dict) else one)
        else:
            count += 1
    return count


def _check(document: object, where: str) -> None:
    waiting = [(document, where, 0)]
    while waiting:
        value, path, depth = waiting.pop()
        if isinstance(value, _Forbidden):
            raise Malformed(REASON, _at(path, value.why))
        if depth > MAX_DEPTH:
            raise Malformed(REASON, _at(where, f"nested more than {MAX_DEPTH} deep"))
        if isinstance(value, dict):
            waiting.extend((inner, below(path, key), depth + 1) for key, inner in value.items())
        elif isinstance(value, list):
            waiting.extend((inner, f"{path}[{i}]", depth + 1) for i, inner in enumerate(value))


def below(path: str, key: str) -> str:
    """The path of the value under ``key``. A key that no element of FHIR could have is not shown: it might be data."""
    name = key if _ELEMENT.fullmatch(key) else "?"
    return f"{path}.{name}" if path else name


def _at(where: str, why: str) -> str:
    return f"{where}: {why}" if where else why


def _object(pairs: list[tuple[str, object]]) -> object:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Forbidden("has a key twice")


def _whole(text: str) -> int | Unusable:
    return int(text) if len(text) <= _DIGITS else Unusable("is a number with too many digits")


def _exact(text: str) -> Decimal | Unusable:
    # An exponent is short to write and can be a number that no memory holds.
    found = Decimal(text) if len(text) <= _DIGITS else None
    if found is None or abs(found.adjusted()) > _DIGITS:
        return Unusable("is a number with too many digits")
    return found


def _constant(_: str) -> _Forbidden:
    return _Forbidden("is not a number that JSON has")
