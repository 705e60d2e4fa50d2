"""What the pages say, in Chinese and English: one TOML table a text, so that a translator reads both side by side.

``[refuse]`` / ``zh = "不同意"`` / ``en = "Refuse"``. Texts may have ``{name}`` places. Both languages must be there.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Final

LANGUAGES: Final = ("zh", "en")
FILE: Final = "words.toml"


@dataclass(frozen=True, slots=True)
class Words:
    """Texts by key and language."""

    texts: Mapping[str, Mapping[str, str]]

    def say(self, language: str, key: str, **places: object) -> str:
        """The text called ``key``. Raises `KeyError` for one that is not there: a page is never shown half."""
        text = self.texts[key][language]
        return text.format(**places) if places else text

    def all(self, language: str) -> dict[str, str]:
        """Every text of a language by key: what a page hands to its JavaScript."""
        return {key: texts[language] for key, texts in self.texts.items()}


def load(*packages: str) -> Words:
    """The words of several packages, the later ones before the earlier. Raises `ValueError` for a missing language."""
    found: dict[str, Mapping[str, str]] = {}
    for package in packages:
        document = tomllib.loads(resources.files(package).joinpath(FILE).read_text("utf-8"))
        for key, texts in document.items():
            if set(texts) != set(LANGUAGES):
                raise ValueError(f"{package}: {key} is not in {' and '.join(LANGUAGES)}")
        found |= document
    return Words(found)


def chosen(asked: str | None, kept: str | None, accepted: str) -> str:
    """The language to show: asked for now, kept from before, or the first of ``Accept-Language`` that we have."""
    for one in (asked, kept):
        if one in LANGUAGES:
            return str(one)
    for part in accepted.split(","):
        tag = part.partition(";")[0].strip().lower().partition("-")[0]
        if tag in LANGUAGES:
            return tag
    return LANGUAGES[0]
