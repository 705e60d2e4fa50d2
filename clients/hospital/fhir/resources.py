"""The resources of a file, found by reference; each is pruned to what may be read and valid FHIR before it is used.

`Resources` is all that one conversion may look at: a Bundle's entries, one resource, or the NDJSON files of a bulk
export (one a resource type). A reference to anything else dangles, and is refused by its path.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Final

from clients.hospital.fhir import document
from clients.hospital.fhir.allowed import ALLOWED, MAX_ROWS, keep
from clients.hospital.fhir.document import REASON, below
from clients.hospital.fhir.place import Place
from zhifu.errors import Malformed

CLAIM: Final = "Claim"
_VERSION: Final = re.compile(r"/_history/[^/]*$")
_ABSOLUTE: Final = re.compile(r"(https?://.+/)[A-Z][A-Za-z]+/[^/]+")
_TYPE: Final = re.compile(r"[A-Z][A-Za-z]{0,63}")
_NDJSON: Final = re.compile(r"([A-Z][A-Za-z]*)(?:\.[A-Za-z0-9_-]+)*\.ndjson")


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Held:
    """A resource as it stands in the file, unread. ``kind`` is its type, "?" where it says none."""

    place: Place
    kind: str
    full_url: str = ""

    @property
    def id(self) -> str:
        found = self.place.value.get("id") if isinstance(self.place.value, dict) else None
        return found if isinstance(found, str) else ""


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Resource:
    """A resource that may be read: ``place`` holds nothing but what `allowed` names; ``dropped`` counts the rest."""

    held: Held
    place: Place
    dropped: Counter[str]


class Resources:
    """What one conversion may look at."""

    def __init__(self, held: Iterable[Held]) -> None:
        self._all = list(held)
        self._index: dict[str, list[Held]] = {}
        self._read: dict[int, Resource] = {}
        for one in self._all:
            for name in _names(one):
                self._index.setdefault(name, []).append(one)

    @classmethod
    def of_json(cls, data: bytes) -> Resources:
        """A Bundle, or one resource. Raises `Malformed` (bill.syntax) with a path."""
        top = Place(document.parse(data), "")
        kind = _kind(top)
        if kind != "Bundle":
            return cls([Held(top, kind)])
        found = keep(top.value, ALLOWED["Bundle"], "", "Bundle", Counter())
        validate("Bundle", found, "")
        return cls(_entries(top))

    @classmethod
    def of_ndjson(cls, files: Mapping[str, bytes]) -> Resources:
        """The files of a bulk export by name ("Patient.ndjson"); a file of a type that is never read is not opened."""
        named = {name: _NDJSON.fullmatch(name) for name in files}
        readable = [name for name, match in named.items() if match is not None and match[1] in ALLOWED]
        return cls(
            Held(Place(value, where), _kind(Place(value, where)))
            for name in readable
            for where, value in document.lines(files[name], name)
        )

    def claims(self) -> list[Held]:
        """Every Claim of the file, in its order. Raises `Malformed` (bill.syntax) where there is none."""
        found = [one for one in self._all if one.kind == CLAIM]
        if not found and len(self._all) == 1:
            raise Malformed(
                REASON, f"{below(self._all[0].place.path, 'resourceType')}: must be Claim, or a Bundle with one"
            )
        if not found:
            where = self._all[0].place.path.partition("[")[0] if self._all else "entry"
            raise Malformed(REASON, f"{where}: holds no Claim")
        return found

    def unread(self) -> dict[str, int]:
        """How many resources of each type nothing has read so far."""
        count = Counter(one.kind for one in self._all if id(one) not in self._read)
        return dict(sorted(count.items()))

    def read(self, held: Held) -> Resource:
        """The part of a resource that may be read. Raises `Malformed` (bill.syntax) with the path at fault."""
        found = self._read.get(id(held))
        if found is None:
            dropped: Counter[str] = Counter()
            value = keep(held.place.value, ALLOWED[held.kind], held.place.path, held.kind, dropped)
            validate(held.kind, value, held.place.path)
            found = self._read[id(held)] = Resource(held, Place(value, held.place.path), dropped)
        return found

    def find(self, reference: Place, within: Resource) -> Held | None:
        """What ``reference`` of the resource ``within`` names; None where it names nothing (identifier or display).

        Raises `Malformed` (bill.syntax): the file does not hold it, or holds more than one.
        """
        named = reference.maybe("reference")
        if named is None:
            return None
        found = self._look_up(named.text(), within.held)
        if not found:
            raise named.refusal("names no resource of this file")
        if any(one.place.value != found[0].place.value for one in found[1:]):
            raise named.refusal("names more than one resource")
        return found[0]

    def follow(self, reference: Place, within: Resource, kind: str) -> Resource | None:
        """Like `find`, read. Raises `Malformed` where it is of another type than ``kind``."""
        found = self.find(reference, within)
        if found is not None and found.kind != kind:
            raise below_reference(reference, f"names no {kind}")
        return None if found is None else self.read(found)

    def _look_up(self, text: str, within: Held) -> list[Held]:
        if text.startswith("#"):
            return [one for one in _contained(within) if text == f"#{one.id}"]
        bare = _VERSION.sub("", text)
        base = _ABSOLUTE.fullmatch(within.full_url)
        return (self._index.get(base[1] + bare, []) if base else []) or self._index.get(bare, [])


def below_reference(reference: Place, why: str) -> Malformed:
    """The refusal of a reference by the path of its text."""
    return Malformed(REASON, f"{below(reference.path, 'reference')}: {why}")


def _entries(top: Place) -> Iterator[Held]:
    entries = top.rows("entry")
    if len(entries) > MAX_ROWS:
        raise Malformed(REASON, f"entry: has more than {MAX_ROWS} members")
    for entry in entries:
        held, url = entry.maybe("resource"), entry.maybe("fullUrl")
        if held is not None:
            yield Held(held, _kind(held), url.text() if url is not None else "")


def _contained(within: Held) -> Iterator[Held]:
    for one in within.place.rows("contained"):
        yield Held(one, _kind(one))


def _kind(place: Place) -> str:
    found = place.maybe("resourceType")
    return found.value if found is not None and isinstance(found.value, str) and _TYPE.fullmatch(found.value) else "?"


def _names(held: Held) -> set[str]:
    """What a reference to it may say. In a bulk export an id that is a UUID stands for its URN too."""
    local = {f"{held.kind}/{held.id}", f"urn:uuid:{held.id}"} if held.id else set()
    return local | ({held.full_url} if held.full_url else set())


@cache
def _model(kind: str) -> Any:
    """The model of a resource type. Imported when first needed: they take half a second."""
    return getattr(import_module(f"fhir.resources.R4B.{kind.lower()}"), kind)


def validate(kind: str, value: object, path: str) -> None:
    """Whether a resource is valid FHIR R4. Raises `Malformed` (bill.syntax) with the path, never the value."""
    try:
        _model(kind).model_validate(value)
    except (ValueError, TypeError, ArithmeticError) as error:
        # Neither its text nor its cause goes on: both carry the value.
        raise Malformed(REASON, _told(path, error)) from None


def _told(path: str, error: Exception) -> str:
    errors = getattr(error, "errors", None)
    details = errors(include_url=False, include_context=False, include_input=False) if errors else []
    first = details[0] if details else {"loc": (), "type": ""}
    for step in first["loc"]:
        path = f"{path}[{step}]" if isinstance(step, int) else below(path, str(step))
    why = "is missing" if "missing" in first["type"] else "is not valid in FHIR R4"
    return f"{path}: {why}" if path else why
