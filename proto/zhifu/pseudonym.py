"""Pairwise pseudonyms: what one recipient calls a person, and nobody else can (DESIGN 4.5).

A pseudonym is the first 32 of the 64 bytes that the VOPRF gives for a person's number under the recipient's key: any
part of a PRF's output is one. Key and number are bound by it, so there is nothing more to hash in.
"""

from __future__ import annotations

import hmac
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from zhifu import voprf
from zhifu.bill_forms import citizen_check_digit
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.voprf import Blinded, Evaluated

CITIZEN_ID: Final = "01"
"""The national interface's type of a resident's identity card (psn_cert_type)."""
PSEUDONYM_BYTES: Final = 32
MAX_EPOCHS: Final = 2
"""How many keys of one recipient may be announced at a time: the one before a rotation, and the one after."""
MAX_EPOCH: Final = 10**9
UNSTATED: Final = 0
"""Stands for the epoch of a pseudonym that comes without one: it links to nobody's table."""
_LABEL: Final = b"zhifu/v1 pid\0"
_TOKEN: Final = "pseudonym."
_EPOCH: Final = re.compile(r"[1-9][0-9]{0,8}")
_KIND: Final = re.compile(r"[0-9]{2}")
_CITIZEN: Final = re.compile(r"[0-9]{17}[0-9X]")
_MIN_NUMBER: Final = 4
_MAX_NUMBER: Final = 32
_MAX_RAW: Final = 128


def identifier(kind: str, number: str) -> bytes:
    """The VOPRF's input for a person: ``"zhifu/v1 pid\\0" || type || normalised number``.

    ``kind`` is the two digits of psn_cert_type. Of the number count letters and digits alone, full-width as half-width
    and small as capital; a citizen ID has a valid check digit (GB 11643). Raises `Malformed` (pseudonym.identifier).
    """
    if not _KIND.fullmatch(kind):
        raise Malformed("pseudonym.identifier", "a type has two digits")
    return _LABEL + kind.encode() + _normal(kind, number).encode()


def _normal(kind: str, number: str) -> str:
    if len(number) > _MAX_RAW:
        raise Malformed("pseudonym.identifier", "the number is too long")
    found = "".join(sign for sign in unicodedata.normalize("NFKC", number).upper() if sign.isalnum())
    if not _MIN_NUMBER <= len(found) <= _MAX_NUMBER:
        raise Malformed("pseudonym.identifier", f"a number has {_MIN_NUMBER} to {_MAX_NUMBER} letters and digits")
    if kind == CITIZEN_ID and not (_CITIZEN.fullmatch(found) and citizen_check_digit(found[:17]) == found[17]):
        raise Malformed("pseudonym.identifier", "not a citizen ID of 18 digits with its check digit")
    return found


def blind(identifiers: Iterable[bytes]) -> list[Blinded]:
    """Blind persons' identifiers, each under a fresh scalar: what leaves is uniform, whoever it is."""
    return [voprf.blind(one) for one in identifiers]


def finish(blinded: Sequence[Blinded], answer: Evaluated, public: bytes) -> list[bytes]:
    """The pseudonyms, 32 bytes each, once the proof holds under the announced key of recipient and epoch.

    Raises `NotAuthentic` (pseudonym.proof), `Malformed`.
    """
    return [output[:PSEUDONYM_BYTES] for output in voprf.finalize(blinded, answer, public)]


# In a capsule: the pseudonym under the newest epoch, and a token ``pseudonym.<epoch>`` for each epoch that is announced


def tokens(by_epoch: Mapping[int, bytes]) -> tuple[tuple[str, bytes], ...]:
    """The capsule's tokens that say under which epoch each pseudonym is, ascending."""
    return tuple((f"{_TOKEN}{epoch}", by_epoch[epoch]) for epoch in sorted(by_epoch))


def by_epoch(pseudonym: bytes | None, found: Iterable[tuple[str, bytes]]) -> dict[int, bytes]:
    """A capsule's pseudonyms by epoch; empty where it carries none. Raises `Malformed` (malformed.field)."""
    shown = {_epoch(name): value for name, value in found if name.startswith(_TOKEN)}
    if pseudonym is None and not shown:
        return {}
    if pseudonym is not None and not shown:
        return {UNSTATED: pseudonym}
    if len(shown) > MAX_EPOCHS or pseudonym is None or not hmac.compare_digest(shown[max(shown)], pseudonym):
        raise Malformed("malformed.field", "not the pseudonym of the newest of one or two epochs")
    return shown


def _epoch(name: str) -> int:
    digits = name.removeprefix(_TOKEN)
    if not _EPOCH.fullmatch(digits):
        raise Malformed("malformed.field", "not the epoch of a pseudonym")
    return int(digits)


def check_as_before(
    shown: Mapping[int, bytes], seen: Mapping[int, bytes], announced: Collection[int] | None = None
) -> None:
    """A subject is called as before by the same sender, but for an announced rotation (DESIGN 4.3, step 8).

    ``shown`` and ``seen`` are by epoch; ``announced`` are the epochs of this recipient's keys that it knows itself,
    None where it keeps no table. Raises `NotAuthentic` (pseudonym.changed), `Refused` (pseudonym.epoch): later.
    """
    if announced is not None and not shown.keys() <= {UNSTATED, *announced}:
        raise Refused("pseudonym.epoch")
    both = shown.keys() & seen.keys()
    if any(not hmac.compare_digest(shown[epoch], seen[epoch]) for epoch in both):
        raise NotAuthentic("pseudonym.changed")
    if shown and seen and not both and not (announced and min(shown) > max(seen)):
        raise NotAuthentic("pseudonym.changed", "under another epoch, which no rotation explains")
