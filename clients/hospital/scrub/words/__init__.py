"""The words that finders of names go by, in lists that a hospital can read."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Final

_COMMENT: Final = "#"


@cache
def read(name: str) -> tuple[str, ...]:
    """The words of one list of this package, in its order."""
    lines = (resources.files(__package__) / f"{name}.txt").read_text("utf-8").splitlines()
    return tuple(word for line in lines if not line.startswith(_COMMENT) for word in line.split())
