"""Pseudonyms: which spellings are one person, what two recipients, the service and a thief of its transcript can join
(DESIGN 4.5, 4.6), and what a rotation may change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from tests.formats import DAY, INSURER, NOW, ORIGIN, RIVAL, Exchange, claim, recipient, refused, seed
from zhifu import envelope, pseudonym, quota, receive, ristretto, strict, voprf
from zhifu.bill_forms import citizen_check_digit
from zhifu.envelope import Envelope
from zhifu.errors import Malformed
from zhifu.pseudonym import CITIZEN_ID, by_epoch, check_as_before, identifier, tokens
from zhifu.quota import Quota
from zhifu.receive import Opened
from zhifu.v1 import signed_pb2
from zhifu.voprf import KeyPair

P1, P2, PX = seed("under 1"), seed("under 2"), seed("somebody else")
KEYS: Final = {one: KeyPair.derive(seed(f"key of {one}"), b"") for one in ("insurer", "rival")}


def citizen(number: int) -> str:
    """A citizen ID in a region that is none."""
    first17 = f"999999{1950 + number % 50}0101{number % 1000:03d}"
    return first17 + citizen_check_digit(first17)


def called(key: KeyPair, person: bytes) -> bytes:
    """A person's pseudonym as who holds the key could make it without asking."""
    return voprf.evaluate(key, person)[: pseudonym.PSEUDONYM_BYTES]


def asked(key: KeyPair, persons: Sequence[bytes]) -> list[bytes]:
    """The same by asking."""
    blinded = pseudonym.blind(persons)
    return pseudonym.finish(blinded, voprf.blind_evaluate(key, [one.element for one in blinded]), key.public)


# --- identifiers ------------------------------------------------------------------------------------------------------


def test_an_identifier_is_label_type_and_number() -> None:
    assert identifier(CITIZEN_ID, citizen(1)) == b"zhifu/v1 pid\x0001" + citizen(1).encode()
    assert identifier("03", "p-123 4567") == b"zhifu/v1 pid\x0003P1234567"


@pytest.mark.parametrize(
    "spell",
    [
        lambda number: f" {number}\t",
        lambda number: f"{number[:6]} {number[6:14]}　{number[14:].lower()}",
        lambda number: f"{number[:6]}-{number[6:14]}–{number[14:]}",
        lambda number: "".join(chr(ord(sign) + 0xFEE0) for sign in number),
    ],
    ids=["spaces around", "spaces within, small", "dashes", "full-width"],
)
def test_spellings_of_one_number_are_one_person(spell: Callable[[str], str]) -> None:
    number = next(one for one in map(citizen, range(100)) if one.endswith("X"))
    assert identifier(CITIZEN_ID, spell(number)) == identifier(CITIZEN_ID, number)


def test_one_number_of_two_types_is_two_persons() -> None:
    assert identifier("01", citizen(1)) != identifier("99", citizen(1))


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("01", citizen(1)[:17] + ("0" if citizen(1)[17] != "0" else "1")),
        ("01", citizen(1)[:15]),
        ("01", ""),
        ("01", "九" * 18),
        ("01", citizen(1) * 8),
        ("1", citizen(1)),
        ("011", citizen(1)),
        ("", citizen(1)),
        ("0A", citizen(1)),
        ("03", "12"),
        ("03", "-- --"),
        ("03", "A" * 33),
    ],
)
def test_what_is_no_number_of_its_type_is_refused(kind: str, number: str) -> None:
    """Another person's pseudonym would come of it; the refusal does not repeat the number."""
    error = refused("pseudonym.identifier", identifier, kind, number)
    assert not number or number not in str(error)


@given(st.text(max_size=140), st.sampled_from(["01", "03", "99"]))
def test_any_text_is_one_identifier_or_refused(number: str, kind: str) -> None:
    try:
        found = identifier(kind, number)
    except Malformed as error:
        found = b""
        assert error.reason == "pseudonym.identifier"  # noqa: PT017
    assert not found or identifier(kind, found.decode().removeprefix("zhifu/v1 pid\0" + kind)) == found


# --- who can join what (DESIGN 4.6) -----------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=8, unique=True))
def test_two_recipients_never_match(persons: list[bytes]) -> None:
    """Not for the same persons, and not in any order: nothing of one table stands in the other."""
    ours, theirs = asked(KEYS["insurer"], persons), asked(KEYS["rival"], persons)
    assert not set(ours) & set(theirs)
    assert ours == [called(KEYS["insurer"], one) for one in persons]
    assert len(set(ours)) == len(persons)


def suspects(transcript: Sequence[bytes], table: Mapping[bytes, bytes], key: KeyPair | None = None) -> set[bytes]:
    """The attack of the service's transcript with an insurer's table: which persons can be tied to it.

    ``transcript`` holds elements that came and went; ``table`` maps pseudonyms to persons. Tries every person against
    every element, in the clear and, where the service helps, under its key, and every element against the table.
    """
    found = set()
    for name, person in table.items():
        point = voprf.blind(person, (1).to_bytes(32, "little")).element
        traces = {point, name, *((ristretto.multiply(key.secret, point),) if key else ())}
        if any(trace in (one, one[: len(trace)]) for one in transcript for trace in traces):
            found.add(person)
    return found


def test_the_services_transcript_and_an_insurers_table_do_not_link() -> None:
    """Not even with the service's key: it was asked about elements that are nobody's."""
    key, persons = KEYS["insurer"], [identifier(CITIZEN_ID, citizen(i)) for i in range(20)]
    table = dict(zip(asked(key, persons), persons, strict=True))
    blinded = pseudonym.blind(persons)
    answer = voprf.blind_evaluate(key, [one.element for one in blinded])
    transcript = [*(one.element for one in blinded), *answer.elements, answer.proof]
    assert suspects(transcript, table) == suspects(transcript, table, key) == set()


def test_the_attack_would_see_a_client_that_does_not_blind() -> None:
    """So that the test above means something."""
    key, persons = KEYS["insurer"], [identifier(CITIZEN_ID, citizen(i)) for i in range(5)]
    table = dict(zip(asked(key, persons), persons, strict=True))
    bare = [voprf.blind(one, (1).to_bytes(32, "little")).element for one in persons[:2]]
    assert suspects(bare, table) == set(persons[:2])
    assert suspects(list(voprf.blind_evaluate(key, bare).elements), table, key) == set(persons[:2])


def test_service_and_insurer_together_can_enumerate() -> None:
    """What DESIGN 4.6 concedes, and why the service can run under another operator."""
    table = {called(KEYS["insurer"], identifier(CITIZEN_ID, citizen(i))): i for i in range(50)}
    assert table[asked(KEYS["insurer"], [identifier(CITIZEN_ID, citizen(7))])[0]] == 7


# --- in the capsule ---------------------------------------------------------------------------------------------------


def test_a_capsule_says_under_which_epochs() -> None:
    assert tokens({2: P2, 1: P1}) == (("pseudonym.1", P1), ("pseudonym.2", P2))
    assert by_epoch(P2, (*tokens({1: P1, 2: P2}), ("visit-number", PX))) == {1: P1, 2: P2}
    assert by_epoch(None, [("visit-number", PX)]) == {}
    assert by_epoch(P1, []) == {pseudonym.UNSTATED: P1}


@pytest.mark.parametrize(
    ("found", "names"),
    [
        (P1, {"pseudonym.1": P1, "pseudonym.2": P2}),
        (None, {"pseudonym.1": P1}),
        (P1, {"pseudonym.1": PX}),
        (P1, {"pseudonym.01": P1}),
        (P1, {"pseudonym.0": P1}),
        (P1, {"pseudonym.": P1}),
        (P1, {"pseudonym.one": P1}),
        (P1, {"pseudonym.1234567890": P1}),
        (PX, {"pseudonym.1": P1, "pseudonym.2": P2, "pseudonym.3": PX}),
    ],
)
def test_a_capsule_with_two_meanings_is_refused(found: bytes | None, names: dict[str, bytes]) -> None:
    refused("malformed.field", by_epoch, found, names.items())


# --- as before, but for an announced rotation -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "seen", "announced"),
    [
        ({1: P1}, {}, {1}),
        ({1: P1}, {1: P1}, {1}),
        ({1: P1, 2: P2}, {1: P1}, {1, 2}),
        ({2: P2}, {1: P1}, {1, 2}),
        ({2: P2}, {1: P1, 2: P2}, {1, 2}),
        ({0: P1}, {0: P1}, set()),
        ({0: P1}, {}, None),
        ({1: P1}, {}, None),
        ({}, {1: P1}, {1}),
    ],
)
def test_the_same_person_is_taken(shown: Any, seen: Any, announced: Any) -> None:
    check_as_before(shown, seen, announced)


@pytest.mark.parametrize(
    ("shown", "seen", "announced", "reason"),
    [
        ({1: PX}, {1: P1}, {1}, "pseudonym.changed"),
        ({1: PX, 2: P2}, {1: P1}, {1, 2}, "pseudonym.changed"),
        ({1: P1, 2: PX}, {1: P1, 2: P2}, {1, 2}, "pseudonym.changed"),
        ({0: PX}, {0: P1}, set(), "pseudonym.changed"),
        ({0: PX}, {1: P1}, {1}, "pseudonym.changed"),  # says no epoch any more
        ({1: P1}, {2: P2}, {1, 2}, "pseudonym.changed"),  # back to a key that is over
        ({2: P2}, {1: P1}, None, "pseudonym.changed"),  # nothing was announced to us
        ({2: P2}, {1: P1}, {1}, "pseudonym.epoch"),  # not yet: it comes again
        ({7: PX}, {}, {1}, "pseudonym.epoch"),
        ({1: P1, 7: PX}, {1: P1}, {1}, "pseudonym.epoch"),
        ({1: P1}, {}, set(), "pseudonym.epoch"),
    ],
)
def test_another_person_is_refused(shown: Any, seen: Any, announced: Any, reason: str) -> None:
    error = refused(reason, check_as_before, shown, seen, announced)
    assert error.retryable == (reason == "pseudonym.epoch")


def received(one: Exchange, seen: Mapping[int, bytes], announced: set[int]) -> Opened:
    me = recipient(INSURER, announced=frozenset(announced), pseudonyms=None)
    return receive.receive(one.send().deliver(), replace(me, pseudonyms=lambda *_: seen), NOW)


def test_step_eight_of_what_a_recipient_checks() -> None:
    one = replace(claim(), pseudonym=P1, tokens=tokens({1: P1}))
    both = replace(claim(), pseudonym=P2, tokens=tokens({1: P1, 2: P2}))
    after = replace(claim(), pseudonym=P2, tokens=tokens({2: P2}))
    assert received(one, {}, {1}).capsule.pseudonym == P1
    assert received(both, {1: P1}, {1, 2})
    assert received(after, {1: P1, 2: P2}, {1, 2})
    assert received(after, {1: P1}, {1, 2})
    refused("pseudonym.changed", received, one, {1: PX}, {1})
    refused("pseudonym.epoch", received, after, {1: P1}, {1})
    refused("malformed.field", received, replace(both, pseudonym=P1), {}, {1, 2})


# --- quotas -----------------------------------------------------------------------------------------------------------

OPERATORS: Final = [SigningKey(seed(f"operator {i}")) for i in range(3)]
PINNED: Final = [bytes(one.verify_key) for one in OPERATORS[:2]]
QUOTA: Final = Quota(ORIGIN, INSURER.id, 1, 100_000, NOW)


def signed(one: Quota = QUOTA, by: Sequence[SigningKey] = OPERATORS[:2]) -> list[Envelope]:
    return [one.sign(key) for key in by]


def test_two_operators_set_a_quota() -> None:
    assert quota.verify(signed(), PINNED, ORIGIN, NOW + DAY) == QUOTA
    assert quota.verify(signed(by=OPERATORS[1::-1]), PINNED, ORIGIN, NOW) == QUOTA


@pytest.mark.parametrize(
    ("given_", "reason"),
    [
        (signed(by=OPERATORS[:1]), "pseudonym.quota"),
        (signed(by=[OPERATORS[0], OPERATORS[0]]), "pseudonym.quota"),
        (signed(by=OPERATORS), "pseudonym.quota"),
        ([], "pseudonym.quota"),
        ([*signed(by=OPERATORS[:1]), replace(QUOTA, allowed=1).sign(OPERATORS[1])], "pseudonym.quota"),
        (signed(by=OPERATORS[1:]), "key.unknown"),
        ([signed()[0], replace(signed()[1], signature=signed()[0].signature)], "signature.invalid"),
        (signed(replace(QUOTA, aud="log.example/other")), "presentation.audience"),
        (signed(replace(QUOTA, issued_at=NOW + DAY)), "pseudonym.quota"),
        (signed(replace(QUOTA, issued_at=NOW - 8 * DAY)), "pseudonym.quota"),
        (signed(replace(QUOTA, aud="")), "malformed.field"),
        (signed(replace(QUOTA, recipient=RIVAL.id[:31])), "malformed.field"),
        (signed(replace(QUOTA, epoch=0)), "malformed.field"),
        (signed(replace(QUOTA, allowed=0)), "malformed.field"),
        (signed(replace(QUOTA, allowed=10**10)), "malformed.field"),
    ],
)
def test_anything_less_is_refused(given_: list[Envelope], reason: str) -> None:
    refused(reason, quota.verify, given_, PINNED, ORIGIN, NOW)


def test_a_quota_is_read_strictly() -> None:
    payload = QUOTA.to_bytes()
    assert strict.parse(signed_pb2.PseudonymQuota, payload, envelope.QUOTA.cap).allowed == QUOTA.allowed
    refused("malformed.encoding", quota.parse, payload + payload[-6:])
