"""Witnesses are the participants: by which key they cosign, and when an exchange is final (DESIGN section 7).

A cosignature says: this is the largest head that I have seen, and every head that I saw before is a prefix of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from zhifu import receipt
from zhifu.checkpoint import SignatureType, VerifierKey
from zhifu.receipt import Head
from zhifu.statement import KeyStatement

_PREFIX: Final = "zhifu.participant/"


def name_of(participant: bytes) -> str:
    """The name under which a participant (32-byte id) cosigns."""
    return _PREFIX + participant.hex()


def key_of(stated: KeyStatement) -> VerifierKey:
    """The key by which a participant's cosignatures verify, out of its verified statement."""
    return VerifierKey(name_of(stated.participant), SignatureType.COSIGNATURE_V1, stated.cosigning_key)


def majority(witnesses: int) -> int:
    """How many of so many are more than half; none of none."""
    return witnesses // 2 + 1 if witnesses else 0


def is_final(size: int, parties: Collection[str], cosigned: Mapping[str, int]) -> bool:
    """Whether each of an exchange's ``parties`` and one other witness cosigned a tree of ``size`` or more.

    ``size`` is of the accepting checkpoint; ``cosigned`` has the largest size by witness name. Who is no participant,
    such as the patient, is no party here.
    """
    far = {name for name, seen in cosigned.items() if seen >= size}
    return far.issuperset(parties) and bool(far.difference(parties))


def check_extends(head: Head, signed: Head, known_size: int, consistency: tuple[bytes, ...]) -> bool:
    """Whether ``signed`` may be cosigned by who saw ``head``: it is no smaller. One tree must be a prefix of the other.

    Raises `NotAuthentic` (log.inconsistent): the log was forked or rolled back.
    """
    receipt.check_consistency(head, signed, known_size, consistency)
    return signed.size >= head.size
