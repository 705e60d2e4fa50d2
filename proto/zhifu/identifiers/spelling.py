"""One spelling for what people type in many: full width, spaces, separators, accents, Chinese numerals.

`fold`, `lower` and `digits` keep the length, character by character, so that a place in their result is a place in
the text given. `compact` drops what people put between the characters of one number or name.
"""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from typing import Final

SEPARATORS: Final = frozenset("-._/·'")
"""What may stand between the characters of one number or name, besides spaces and what is not visible."""

_DROPPED: Final = "\0"
_HIDDEN: Final = ("Cc", "Cf", "Mn")
_DASHES: Final = frozenset("‐‑‒–—―−")
_DOTS: Final = frozenset("•・‧∙⋅")
_QUOTES: Final = frozenset("‘’ʼ′`")
# Superscripts, fractions and units (10⁹, ½, ㎎) are not here: as plain characters they would make other numbers.
_SAFE: Final = ("<wide>", "<narrow>", "<font>", "<noBreak>")
_NUMERALS: Final = str.maketrans("〇零○一二三四五六七八九幺壹贰叁肆伍陆柒捌玖", "0001234567891123456789")


def fold(text: str) -> str:
    """``text`` in half width, with ASCII digits, one kind of space, dash, middle dot and quote; as long as ``text``."""
    return text.translate(_FOLDS)


def lower(text: str) -> str:
    """``text`` in lower case; as long as ``text``: a letter whose lower case is longer stays."""
    return text.translate(_LOWERS)


def digits(text: str) -> str:
    """``text`` with Chinese numerals as digits (〇 or 零 to 九, 幺, and the formal ones); as long as ``text``."""
    return text.translate(_NUMERALS)


def compact(text: str) -> str:
    """Folded, lower case, without accents, spaces, separators and what is not visible. Idempotent."""
    return text.translate(_COMPACTS).replace(_DROPPED, "")


def compact_places(text: str) -> tuple[str, list[int]]:
    """`compact` of ``text``, and for each of its characters the index in ``text`` where it stood."""
    return _places(text.translate(_COMPACTS))


def visible_places(text: str) -> tuple[str, list[int]]:
    """`fold` of ``text`` without what is not visible (zero-width characters, accents that stand alone), and where."""
    return _places(text.translate(_VISIBLES))


def _places(marked: str) -> tuple[str, list[int]]:
    where = [index for index, character in enumerate(marked) if character != _DROPPED]
    return marked.replace(_DROPPED, ""), where


class _ByCharacter(dict[int, str], ABC):
    """A table for `str.translate` that works out one character at a time, when it first occurs."""

    def __missing__(self, code: int) -> str:
        self[code] = found = self._work_out(chr(code))
        return found

    @abstractmethod
    def _work_out(self, character: str) -> str:
        """What a character becomes."""


class _Folds(_ByCharacter):
    def _work_out(self, character: str) -> str:
        for group, plain in ((_DASHES, "-"), (_DOTS, "·"), (_QUOTES, "'")):
            if character in group:
                return plain
        if character.isspace() and character != "\n":
            return " "
        # A superscript has a digit's value but is no decimal digit, so it stays.
        digit = unicodedata.decimal(character, None)
        return _half_width(character) if digit is None else str(digit)


class _Lowers(_ByCharacter):
    def _work_out(self, character: str) -> str:
        found = character.lower()
        return found if len(found) == 1 else character


class _Compacts(_ByCharacter):
    def _work_out(self, character: str) -> str:
        found = _base(lower(fold(character)))
        # One letter can need several turns: the lower case of İ has an accent of its own.
        return found if found in (character, _DROPPED) else self[ord(found)]


class _Visibles(_ByCharacter):
    def _work_out(self, character: str) -> str:
        hidden = unicodedata.category(character) in _HIDDEN and not character.isspace()
        return _DROPPED if hidden else fold(character)


def _half_width(character: str) -> str:
    tag = unicodedata.decomposition(character).split(" ")
    if len(tag) == 1 or tag[0] in _SAFE:
        found = unicodedata.normalize("NFKC", character)
        return found if len(found) == 1 else character
    return character


def _base(character: str) -> str:
    """A letter without its accents, or `_DROPPED`."""
    if character.isspace() or character in SEPARATORS or unicodedata.category(character) in _HIDDEN:
        return _DROPPED
    parts = unicodedata.normalize("NFD", character)
    return parts[0] if all(unicodedata.category(mark) == "Mn" for mark in parts[1:]) else character


_FOLDS: Final = _Folds()
_LOWERS: Final = _Lowers()
_COMPACTS: Final = _Compacts()
_VISIBLES: Final = _Visibles()
