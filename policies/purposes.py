"""A directory of a policy with a TOML file for each purpose, a table in it for each role (`policies.tables`,
`policies.retention`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from policies.bundle import Files
from zhifu.errors import Error, Refused
from zhifu.presentation import PURPOSES

K = TypeVar("K")
V = TypeVar("V")


def read(files: Files, make: Callable[[str, dict[str, Any]], Mapping[K, V]]) -> dict[K, V]:
    """What ``make`` gives for each purpose and the tables of its file, by role.

    Raises `Refused` (policy.invalid) with the file at fault: not TOML, a purpose that is not the file's name or none of
    the protocol's, or what ``make`` refuses.
    """
    found: dict[K, V] = {}
    for name, source in files.items():
        try:
            found |= make(*_purpose(name.rpartition("/")[2].removesuffix(".toml"), source))
        except Error as error:
            raise Refused("policy.invalid", f"{name}: {error.detail}") from None
    return found


def _purpose(stem: str, source: bytes) -> tuple[str, dict[str, Any]]:
    try:
        document: dict[str, Any] = tomllib.loads(source.decode())
    except ValueError as error:  # not UTF-8, or not TOML
        raise Refused("policy.invalid", str(error)) from None
    if document.pop("purpose", None) != stem or stem not in PURPOSES:
        raise Refused("policy.invalid", f"purpose must be the file's name, one of {', '.join(PURPOSES)}")
    return stem, document
