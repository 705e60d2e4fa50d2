"""One conversion as it goes on: the resources it reached, and the notes about what has no exact place in a unit."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from typing import TypeVar

from clients.hospital.fhir.place import Place
from clients.hospital.fhir.resources import Resource, Resources
from zhifu.fields import Grammar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Note:
    """Something that is valid FHIR and that no unit can hold exactly, so it is left out. Carries no value."""

    path: str
    why: str


@dataclass(slots=True)
class Reading:
    """What the modules that read one claim share."""

    resources: Resources
    reached: list[Resource] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def reach(self, resource: Resource | None) -> Resource | None:
        """Keep count of a resource that was read."""
        if resource is not None and resource not in self.reached:
            self.reached.append(resource)
        return resource

    def follow(self, reference: Place | None, within: Resource, kind: str) -> Resource | None:
        """The resource that a reference names. Raises `Malformed` as `Resources.follow` does."""
        return None if reference is None else self.reach(self.resources.follow(reference, within, kind))

    def note(self, place: Place, why: str) -> None:
        """Say why something is left out."""
        self.notes.append(Note(place.path, why))

    def fit(self, place: Place | None, grammar: Grammar[T]) -> T | None:
        """The text by a grammar of the national bill; what does not fit is left out, with a note."""
        if place is None:
            return None
        found = grammar.read(place.text())
        if found is None:
            self.note(place, f"left out: not {grammar.expected}")
        return found

    def day(self, place: Place | None) -> date | None:
        """A day; a date that is coarser is left out, with a note."""
        if place is None:
            return None
        found = place.day()
        if found is None:
            self.note(place, "left out: coarser than a day")
        return found

    def dropped(self) -> dict[str, int]:
        """How many values default deny has left out, by path without places; over the resources that were reached."""
        total: Counter[str] = Counter()
        for resource in self.reached:
            total += resource.dropped
        return dict(sorted(total.items()))
