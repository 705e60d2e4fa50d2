"""The adversaries of DESIGN section 1 at the level of the formats: what each gains at most (section 4.6), and no more.

An attack that must fail is also run with the check that stops it taken away, where that is cheap: then it must succeed,
or the test would not notice a broken check.

Long, since what each adversary gains is compared with what the others do.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from nacl.signing import SigningKey

from tests.formats import (
    CLAIM,
    HOSPITAL,
    INSURER,
    NOW,
    PATIENT,
    PAYER,
    RIVAL,
    Exchange,
    Log,
    Party,
    bill,
    claim,
    grant_for,
    known,
    lying,
    recipient,
    refused,
    seed,
    some_levels,
    subject_key,
)
from zhifu import acknowledgement, consent, ladder, leaf, merkle, presentation, receipt, receive, sealed
from zhifu.cbor import encode
from zhifu.keys import participant_id
from zhifu.manifest import Manifest
from zhifu.receipt import Head, Meta
from zhifu.receive import Opened, Received
from zhifu.schema import ABSENT, coarser
from zhifu.sealed import SealedRecord
from zhifu.v1.signed_pb2 import BASIS_KIND_STATUTE

Place = tuple[int, int]


# --- what colluding parties can compute -------------------------------------------------------------------------------
#
# All that anybody ever learns of a leaf's secret are 32-byte strings that are meant to be XORed: own shares a = s XOR g
# out of capsules, and gate shares g from the broker. "Every combination" of them is their linear span over GF(2): a
# secret that lies outside cannot be reached by any combination of any size.


class Span:
    """The XOR combinations of some 32-byte strings."""

    def __init__(self, vectors: Iterable[bytes]) -> None:
        self.basis: dict[int, int] = {}
        for vector in vectors:
            rest = self._reduced(int.from_bytes(vector, "big"))
            if rest:
                self.basis[rest.bit_length()] = rest

    def _reduced(self, rest: int) -> int:
        while rest and rest.bit_length() in self.basis:
            rest ^= self.basis[rest.bit_length()]
        return rest

    def __contains__(self, vector: bytes) -> bool:
        return self._reduced(int.from_bytes(vector, "big")) == 0


def own_shares(*exchanges: Exchange) -> list[bytes]:
    """a[u,l] out of the recipients' capsules."""
    return [share for one in exchanges for share in one.contents().shares.values()]


def gate_shares(*exchanges: Exchange, whole: bool = False) -> list[bytes]:
    """g[u,l] as the broker hands them out; ``whole``: as an active broker has them, of every leaf."""
    found = []
    for one in exchanges:
        every = one.shares()
        found += every if whole else [every[i] for i in sealed.released_places(CLAIM, one.released)]
    return found


def reachable(vectors: Iterable[bytes]) -> set[Place]:
    """The leaves of the bill whose secret is some combination; each is then opened, to be sure."""
    record, span = bill(), Span(vectors)
    every = dict(zip(CLAIM.leaves, sealed.slices(CLAIM, record.manifest.size_class, record.leaves), strict=True))
    found = set()
    for at in CLAIM.leaves:
        secret = leaf.secret(record.key, record.manifest.rid, *at)
        if secret in span:
            leaf.open_leaf(every[at], secret, record.manifest.rid, *at, CLAIM.hash)
            found.add(at)
    return found


def released(*exchanges: Exchange) -> set[Place]:
    return {CLAIM.leaves[i] for one in exchanges for i in sealed.released_places(CLAIM, one.released)}


def ceilings(*exchanges: Exchange) -> set[Place]:
    """Every level that the hospital's own ceilings allow."""
    return {(u, rank) for one in exchanges for u, rank in CLAIM.leaves if one.ceilings[u] <= rank}


FINE = {"encounter": 0, "name": 0, "birth-date": 0, "sex": 0, "address": 0, "diagnosis": 0, "item-charges": 0}
COARSE = {"encounter": 0, "name": 1, "birth-date": 2, "address": 2, "diagnosis": 2, "item-charges": 1, "totals": 0}


def test_the_span_is_every_combination() -> None:
    """The tool itself: it finds sums of three, and does not find what is not there."""
    vectors = [seed(f"vector {i}") for i in range(150)]
    span = Span(vectors)
    assert sealed.xor(sealed.xor(vectors[3], vectors[90]), vectors[140]) in span
    assert bytes(32) in span
    assert all(vector in span for vector in vectors)
    assert not any(seed(f"other {i}") in span for i in range(1000))


def test_an_insurer_with_the_whole_envelope_opens_what_was_released() -> None:
    """It holds all leaves as the hospital sent them, its capsule, and the shares that the broker gave it."""
    one = claim(ceilings=FINE, policy=COARSE)
    assert reachable(own_shares(one) + gate_shares(one)) == released(one)
    assert (3, 2) in released(one), "the decade of birth"
    assert (3, 0) not in released(one)


def test_an_insurer_with_another_recipients_everything() -> None:
    """Two recipients of one record, capsules and shares thrown together: the union of their releases."""
    one = claim(INSURER, ceilings=FINE, policy=COARSE)
    two = claim(RIVAL, ceilings=COARSE, policy=FINE)
    three = claim(PAYER, ceilings={"encounter": 0, "citizen-id": 0, "phone": 0}, policy={"encounter": 0, "phone": 0})
    both = reachable(own_shares(one, two, three) + gate_shares(one, two, three))
    assert both == released(one, two, three)
    assert (2, 0) not in both, "the citizen id was in a ceiling, but never released to anybody"


def test_pairs_by_hand() -> None:
    """The same without linear algebra: each share, and every XOR of two, tried as the secret of every leaf."""
    one, two = claim(INSURER, ceilings=FINE, policy=COARSE), claim(RIVAL, ceilings=COARSE, policy=FINE)
    strings = sorted({*own_shares(one, two), *gate_shares(one, two)})
    candidates = {*strings, *(sealed.xor(a, b) for i, a in enumerate(strings) for b in strings[i + 1 :])}
    record = bill()
    every = dict(zip(CLAIM.leaves, sealed.slices(CLAIM, record.manifest.size_class, record.leaves), strict=True))
    place = {at: leaf.place(record.manifest.rid, *at) for at in CLAIM.leaves}
    opened = {
        at
        for at in CLAIM.leaves
        for secret in candidates
        if leaf.expand(secret, b"zhifu/v1 leaf\0" + place[at], 64)[32:] == every[at][:32]
    }
    assert opened == released(one, two)


def test_an_insurer_with_an_active_broker_gains_the_ceilings_and_no_more() -> None:
    """All of G: the ceilings, which the grant bounds. A coarser ceiling would have been the defence."""
    one = claim(ceilings=FINE, policy=COARSE)
    gained = reachable(own_shares(one) + gate_shares(one, whole=True))
    assert gained == ceilings(one)
    assert (3, 0) in gained
    assert not {(u, rank) for u, rank in gained if one.ceilings[u] == ABSENT}


def test_everybody_with_the_broker_gains_the_ceilings_of_those_who_collude() -> None:
    one, two = claim(INSURER, ceilings=FINE, policy=COARSE), claim(RIVAL, ceilings=COARSE, policy=COARSE)
    all_shares = gate_shares(one, two, whole=True)
    assert reachable(own_shares(two) + all_shares) == ceilings(two)
    assert reachable(own_shares(one, two) + all_shares) == ceilings(one, two)


def test_the_broker_alone_opens_nothing() -> None:
    one, two = claim(INSURER, ceilings=FINE, policy=FINE), claim(RIVAL, ceilings=FINE, policy=FINE)
    assert reachable(gate_shares(one, two, whole=True)) == set()


def test_a_stolen_capsule_key_alone_opens_nothing() -> None:
    one, two = claim(INSURER, ceilings=FINE, policy=FINE), claim(RIVAL, ceilings=FINE, policy=FINE)
    assert reachable(own_shares(one, two)) == set()


def test_two_presentations_to_one_recipient_never_combine_finer() -> None:
    """Step-up and its reverse: fine ceilings under a coarse policy, then coarse ceilings under a fine one."""
    one = claim(ceilings=FINE, policy=COARSE)
    two = replace(claim(ceilings=COARSE, policy=FINE), nonce=seed("second")[:16])
    assert reachable(own_shares(one, two) + gate_shares(one, two)) == released(one, two)
    refined = replace(claim(ceilings=FINE, policy=FINE), nonce=seed("third")[:16])
    withheld = reachable(own_shares(one, two, refined) + gate_shares(one, two))
    assert withheld == released(one, two), "the capsule of a step-up that was withdrawn adds nothing"


def test_an_insurer_with_the_shares_that_another_was_sent() -> None:
    """The rival's delivery was seen, its capsule key was not: its shares open nothing with another's capsule."""
    one, two = claim(INSURER, ceilings=FINE, policy=COARSE), claim(RIVAL, ceilings=FINE, policy=FINE)
    assert reachable(own_shares(one) + gate_shares(one, two)) == released(one)


def test_were_the_gate_root_the_same_for_all_they_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "gate_root", lambda epoch, rid, *_: hashlib.sha256(epoch + rid).digest())
    one, two = claim(INSURER, ceilings=FINE, policy=COARSE), claim(RIVAL, ceilings=FINE, policy=FINE)
    assert reachable(own_shares(one) + gate_shares(one, two)) == released(one, two)


@settings(max_examples=25)
@given(some_levels(CLAIM), some_levels(CLAIM), some_levels(CLAIM), some_levels(CLAIM))
def test_any_two_recipients_gain_the_union(one: bytes, one_policy: bytes, two: bytes, two_policy: bytes) -> None:
    first = replace(claim(INSURER), ceilings=one, released=coarser(one, one_policy))
    second = replace(claim(RIVAL), ceilings=two, released=coarser(two, two_policy))
    assert reachable(own_shares(first, second) + gate_shares(first, second)) == released(first, second)
    with_broker = reachable(own_shares(first) + gate_shares(first, second, whole=True))
    assert with_broker == ceilings(first)


def test_handles_of_one_encounter_do_not_match() -> None:
    """Two recipients and the broker lay everything side by side: of one bill only the manifest's hash is the same."""
    one, two = claim(INSURER).send(), claim(RIVAL).send()
    assert one.exchange.grant
    assert two.exchange.grant
    assert one.shown.manifest_hash == two.shown.manifest_hash
    for name in ("encounter", "basis", "key_id", "capsule_hash", "gate_commitment", "nonce"):
        assert getattr(one.shown, name) != getattr(two.shown, name), name
    assert one.exchange.pseudonym != two.exchange.pseudonym
    assert one.exchange.grant.subject != two.exchange.grant.subject
    handles = {sealed.encounter_handle(PATIENT["encounter"], who.id) for who in (HOSPITAL, PAYER, INSURER, RIVAL)}
    assert len(handles) == 4


# --- guessing ---------------------------------------------------------------------------------------------------------


def known_strings() -> dict[str, bytes]:
    """What an insurer could think of as the secret of a leaf that was not released to it."""
    one = claim(ceilings=FINE, policy=COARSE)
    own, shares = one.contents().shares, dict(zip(CLAIM.leaves, one.shares(), strict=True))
    return {
        "nothing": bytes(32),
        "its own share": own[3, 0],
        "its own share and the released share": sealed.xor(own[3, 0], shares[3, 2]),
        "the secret of the released level": sealed.xor(own[3, 2], shares[3, 2]),
    }


def dropped(unit: str) -> tuple[bytes, bytes]:
    """(digest, leaf) of a finest level that the gate dropped, as someone on the hospital's wire has them."""
    place = CLAIM.leaves.index((CLAIM.unit(unit).index, 0))
    return bill().manifest.digests[place], sealed.slices(CLAIM, bill().manifest.size_class, bill().leaves)[place]


def guesses(unit: str, values: Iterable[Any], secret: bytes) -> Iterator[tuple[Any, bytes, bytes]]:
    """(value, digest, leaf) of each guess, sealed under a secret."""
    at = CLAIM.unit(unit).index, 0
    size = CLAIM.units[at[0]].levels[0].sizes[bill().manifest.size_class]
    for value in values:
        made = leaf.seal(value, size, secret, bill().manifest.rid, *at, CLAIM.hash)
        yield value, leaf.digest(made, bill().manifest.rid, *at, CLAIM.hash), made


def all_dates() -> Iterator[str]:
    day = date(1900, 1, 1)
    while day <= date(2026, 12, 31):
        yield day.isoformat()
        day += timedelta(1)


@pytest.mark.parametrize("known_as", ["nothing", "the secret of the released level"])
def test_a_dropped_birth_date_is_not_confirmed_by_trying_all(known_as: str) -> None:
    """All 46,386 dates of this century and the last, against the digest and the ciphertext."""
    digest, sealed_leaf = dropped("birth-date")
    tried = 0
    for _, guessed, made in guesses("birth-date", all_dates(), known_strings()[known_as]):
        assert guessed != digest
        assert made[32:48] != sealed_leaf[32:48]
        tried += 1
    assert tried == 46_386


def test_the_decade_that_was_released_does_not_help() -> None:
    """Only ten years of dates are left, and every string that the insurer has is tried with each."""
    digest, sealed_leaf = dropped("birth-date")
    decade = [day for day in all_dates() if day[:3] == "198"]
    for secret in known_strings().values():
        assert all(
            guessed != digest and made != sealed_leaf for _, guessed, made in guesses("birth-date", decade, secret)
        )


def test_a_dropped_citizen_id_is_not_confirmed() -> None:
    """The prefix and the birth date known, 10,000 last digits left; also with plain hashes of the padded value."""
    digest, sealed_leaf = dropped("citizen-id")
    tails = [f"00000019840517{tail:04d}" for tail in range(10_000)]
    assert PATIENT["citizen-id"] in tails
    for value, guessed, made in guesses("citizen-id", tails, bytes(32)):
        assert digest not in (guessed, hashlib.sha256(encode(value)).digest(), hashlib.sha256(made).digest())
        assert made != sealed_leaf


def test_guessing_works_once_the_secret_is_known() -> None:
    """The same loop finds the date at once under the leaf's own secret: the test can find it."""
    digest, sealed_leaf = dropped("birth-date")
    secret = leaf.secret(bill().key, bill().manifest.rid, 3, 0)
    hits = [
        (value, made == sealed_leaf)
        for value, guessed, made in guesses("birth-date", ["1984-05-16", "1984-05-17"], secret)
        if guessed == digest
    ]
    assert hits == [("1984-05-17", True)]


# --- an active broker -------------------------------------------------------------------------------------------------


def to_insurer(received: Received, now: int = NOW, **changed: Any) -> Opened:
    return receive.receive(received, recipient(INSURER, **changed), now)


def test_a_broker_cannot_release_more_than_it_records() -> None:
    """It hands out a finer level, in the delivery alone, in the log alone, or honestly in both."""
    one = claim(ceilings=FINE, policy=COARSE)
    honest, finer = one.send(), replace(one, released=CLAIM.levels(FINE))
    silently = replace(finer.send().deliver(), entry=None)
    refused("receipt.missing", to_insurer, silently)
    recorded = honest.deliver()
    swapped = finer.send().deliver()
    refused("receipt.invalid", to_insurer, replace(swapped, entry=recorded.entry, proven=recorded.proven))
    # Within the ceilings, recorded and shown: that is its right, and the officer sees the levels in the log.
    opened = to_insurer(finer.send().deliver())
    assert receipt.parse_meta(opened.entry.meta).released == CLAIM.levels(FINE)


def test_a_broker_cannot_make_a_sender() -> None:
    """It signs with its own key, in the hospital's name, and lists that key in a statement of its own making."""
    forger = SigningKey(seed("broker"))
    key = bytes(subject_key().verify_key)
    one = replace(claim(), signer=forger, attestations=(PAYER.attests(key), INSURER.attests(key)))
    forged = one.send().deliver()
    refused("key.unknown", to_insurer, forged)
    statements = known() | {HOSPITAL.id: replace(HOSPITAL.statement(), signing_key=bytes(forger.verify_key))}
    assert to_insurer(forged, statements=statements), "so a statement is verified against the pinned identity"


def test_a_broker_cannot_misroute_replay_or_hold_back() -> None:
    sent = claim().send()
    received = sent.deliver()
    refused("presentation.recipient", receive.receive, received, recipient(RIVAL), NOW)
    refused("presentation.replayed", to_insurer, received, seen=(sent.hash,))
    refused("presentation.expired", to_insurer, received, now=sent.shown.not_after + 1)


def test_a_broker_cannot_swap_recipients_shares_or_capsules() -> None:
    mine, theirs = claim(INSURER).send().deliver(), claim(RIVAL).send().deliver()
    refused("capsule.hash", to_insurer, replace(mine, capsule=theirs.capsule))
    refused("leaf.commitment", to_insurer, replace(mine, shares=theirs.shares))
    refused("consent.missing", to_insurer, replace(mine, grant=theirs.grant))
    refused("presentation.recipient", to_insurer, replace(mine, presentation=theirs.presentation))


def test_an_epoch_secret_of_one_node_gates_no_other_record() -> None:
    """The gate root that the sender signed is the only one the broker takes."""
    one = claim()
    shown = one.send().shown
    sealed.check_gate_root(shown.gate_commitment, bill().manifest.rid, one.root)
    for other in (
        replace(one, epoch_secret=seed("another day")), replace(one, nonce=bytes(16)), replace(one, recipient=RIVAL),
    ):  # fmt: skip
        refused("gate.root", sealed.check_gate_root, shown.gate_commitment, bill().manifest.rid, other.root)


# --- forked and rewritten logs ----------------------------------------------------------------------------------------


def forked() -> tuple[Log, Log]:
    """One log key, two histories: they differ in the third entry."""
    one, two = Log().fill(2), Log().fill(2)
    one.append(Meta("grant.registered"), receipt.Detail())
    two.append(Meta("grant.revoked"), receipt.Detail())
    return one, two


def test_a_fork_is_found_by_one_party_with_a_head() -> None:
    one, two = forked()
    head = one.head
    two.fill(4)
    refused("log.inconsistent", two.proven, 2, 3, head)
    one.fill(4)
    assert one.proven(2, 3, head).head_after(head) == one.head


def test_a_log_never_goes_back() -> None:
    """The same size with another root; a smaller log; a proof that starts elsewhere than at our head."""
    one, two = forked()
    refused("log.inconsistent", two.proven, 2, 3, one.head)
    short = Log().fill(2)
    refused("log.inconsistent", short.proven, 0, 1, one.head)
    proof = one.fill(3).proof(0, 1, Head(2, seed("x")))
    refused("log.inconsistent", receipt.verify_proof, replace(proof, known_size=3), Head(2, seed("x")), one.verifier)
    refused("log.inconsistent", receipt.verify_proof, proof, Head(2, seed("x")), one.verifier)
    assert receipt.verify_proof(proof, Head(), one.verifier).head_after(Head()) == one.head


def test_an_older_checkpoint_does_not_move_the_head_back() -> None:
    log = Log().fill(3)
    old_note, old_proof = log.note(), log.proof(0, 2)
    log.fill(5)
    head = log.head
    back = tuple(merkle.consistency_proof(3, 8, merkle.in_memory(log.leaf_hashes)))
    proof = replace(old_proof, note=old_note, known_size=8, consistency=back)
    assert receipt.verify_proof(proof, head, log.verifier).head_after(head) == head


def test_the_two_parties_find_a_fork_between_themselves() -> None:
    """Each is shown a consistent log, but not the same: the signed acknowledgement tells the sender."""
    one, two = forked()
    sent = claim().send()
    at_insurer, at_hospital = sent.deliver(one), sent.deliver(two)
    assert to_insurer(at_insurer)
    word = acknowledgement.parse(sent.acknowledged(at_insurer).to_bytes())
    assert at_hospital.entry
    refused("log.fork", acknowledgement.check_same_log, word, at_hospital.entry, at_hospital.proven.checkpoint)
    assert at_insurer.entry
    acknowledgement.check_same_log(word, at_insurer.entry, at_insurer.proven.checkpoint)


@pytest.mark.parametrize("field", ["index", "size", "root", "leaf_hash", "aud"])
def test_every_part_of_an_acknowledgement_is_compared(field: str) -> None:
    sent = claim().send()
    received = sent.deliver()
    assert received.entry
    word = sent.acknowledged(received)
    changed: dict[str, Any] = {
        "index": word.index + 1,
        "size": word.size + 1,
        "root": seed("r"),
        "leaf_hash": seed("l"),
        "aud": "x",
    }
    other = replace(word, **{field: changed[field]})
    refused("log.fork", acknowledgement.check_same_log, other, received.entry, received.proven.checkpoint)


@pytest.mark.parametrize(
    "changed",
    [
        {"outcome": 0}, {"outcome": 2, "reason": ""}, {"outcome": 1, "reason": "leaf.grammar"}, {"outcome": 3},
        {"outcome": 2, "reason": "no such reason"}, {"index": 6}, {"root": b""}, {"leaf_hash": b"x"},
        {"recipient": b""}, {"presentation_hash": bytes(31)},
    ],
    ids=str,
)  # fmt: skip
def test_acknowledgements_that_no_recipient_makes(changed: dict[str, Any]) -> None:
    sent = claim().send()
    honest = sent.acknowledged(sent.deliver())
    assert acknowledgement.parse(honest.to_bytes()) == honest
    assert honest.opened
    refused("malformed.field", acknowledgement.parse, replace(honest, **changed).to_bytes())


def test_another_log_key_or_origin() -> None:
    log = Log().fill(3)
    proof = log.proof(0, 1)
    impostor = Log(key=SigningKey(seed("impostor"))).fill(3).proof(0, 1)
    refused("log.signature", receipt.verify_proof, impostor, Head(), log.verifier)
    elsewhere = Log(origin="other.example/log").fill(3).proof(0, 1)
    refused("log.signature", receipt.verify_proof, elsewhere, Head(), log.verifier)
    tampered = replace(proof, leaves=replace(proof.leaves, leaves=(seed("x"),)))
    refused("receipt.invalid", receipt.verify_proof, tampered, Head(), log.verifier)


def test_an_entry_opens_one_way() -> None:
    """Its commitments bind: no other meta, detail, key, time or index makes the same leaf."""
    log = Log()
    entry = log.append(Meta("grant.registered"), receipt.Detail())
    proven = log.proven(0, 1)
    proven.check_entry(entry)
    for other in (
        replace(entry, meta=Meta("grant.revoked").to_bytes()), replace(entry, detail=b"\xf6"),
        replace(entry, time_ms=entry.time_ms + 1), replace(entry, meta_key=bytes(32)),
        replace(entry, detail_key=entry.meta_key, meta_key=entry.detail_key),
        replace(entry, detail=entry.meta, meta=entry.detail),
    ):  # fmt: skip
        refused("receipt.invalid", proven.check_entry, other)


# --- a lying hospital -------------------------------------------------------------------------------------------------


def invented(party: Party = INSURER) -> Exchange:
    """A patient that the hospital made up: it holds the subject key, signs the grant, and attests it itself."""
    key = SigningKey(seed("nobody"))
    one = claim(party)
    return replace(
        one, subject=key, grant=grant_for(party.id, one.ceilings, one.encounter, key),
        attestations=(HOSPITAL.attests(bytes(key.verify_key)),) * 2,
    )  # fmt: skip


def test_a_hospital_cannot_invent_a_patient() -> None:
    refused("consent.not_attested", to_insurer, invented().send().deliver())


def test_a_hospital_cannot_borrow_an_attestation() -> None:
    """The payer attested another key of the same person: it is not this one."""
    real = PAYER.attests(bytes(subject_key().verify_key))
    mixed = replace(invented(), attestations=(HOSPITAL.attests(bytes(SigningKey(seed("nobody")).verify_key)), real))
    refused("consent.not_attested", to_insurer, mixed.send().deliver())


def test_a_hospital_cannot_widen_a_grant_or_use_another_patients() -> None:
    wide = replace(claim(), ceilings=CLAIM.finest)
    refused("consent.exceeded", to_insurer, wide.send().deliver())
    other = replace(claim(), grant=claim(RIVAL).grant, subject=claim(RIVAL).subject)
    refused("consent.wrong_recipient", to_insurer, other.send().deliver())


def test_a_hospital_cannot_put_finer_values_into_coarse_slots() -> None:
    """Consent and log say "province" while the leaf holds a street: seen when it is opened, refused and reported."""
    cheating = replace(claim(), record=lying(bill(), "address", 2, PATIENT["address"]))
    error = refused("leaf.grammar", to_insurer, cheating.send().deliver())
    assert PATIENT["address"] not in str(error), "and the refusal does not repeat the value"


def test_refusals_carry_no_value() -> None:
    for unit, rank, value in (("birth-date", 2, 1984), ("diagnosis", 2, ["I21"]), ("address", 2, "样例市示范路")):
        error = refused(
            "leaf.grammar", to_insurer, replace(claim(), record=lying(bill(), unit, rank, value)).send().deliver()
        )
        assert str(value) not in str(error)
        assert not any(part in str(error) for part in ("1984", "I21", "示范路"))


def test_a_hospital_cannot_change_a_patients_pseudonym() -> None:
    """Another pseudonym would be another insured person's policy."""
    one = claim()
    assert one.grant
    before: Mapping[tuple[bytes, bytes], bytes] = {(HOSPITAL.id, one.grant.subject): seed("pseudonym insurer")}
    assert to_insurer(one.send().deliver(), pseudonyms=before)
    refused("pseudonym.changed", to_insurer, replace(one, pseudonym=seed("other")).send().deliver(), pseudonyms=before)


def test_a_spot_audit_finds_a_false_level() -> None:
    """A decade that is not the birth date's passes its grammar; with K the record is made again and compared."""
    cheating = lying(bill(), "birth-date", 2, 1990)
    assert to_insurer(replace(claim(), record=cheating).send().deliver()).values["birth-date"] == 1990
    for record, honest in ((bill(), True), (cheating, False)):
        made, found = again(record), record.manifest
        assert (made.digests == found.digests) is honest


def again(record: SealedRecord) -> Manifest:
    """The manifest that the finest values in the record give."""
    every = dict(zip(CLAIM.leaves, sealed.slices(CLAIM, record.manifest.size_class, record.leaves), strict=True))
    found, rid = record.manifest, record.manifest.rid
    finest = {
        unit.name: leaf.open_leaf(
            every[unit.index, 0], leaf.secret(record.key, rid, unit.index, 0), rid, unit.index, 0, CLAIM.hash
        )
        for unit in CLAIM.units
    }
    made = sealed.seal_with(CLAIM, finest, found.sealer, found.sealed_at, found.amends, rid=rid, key=record.key)
    return made.manifest


# --- taking the check away --------------------------------------------------------------------------------------------


@cache
def attacks() -> dict[str, tuple[Received, dict[str, Any]]]:
    """Deliveries that one check alone stops."""
    sent = claim().send()
    return {
        "consent.not_attested": (invented().send().deliver(), {}),
        "consent.exceeded": (replace(claim(), ceilings=CLAIM.finest).send().deliver(), {}),
        "presentation.expired": (replace(claim(), issued_at=NOW - 9, not_after=NOW - 1).send().deliver(), {}),
        "presentation.replayed": (sent.deliver(), {"seen": (sent.hash,)}),
        "leaf.grammar": (replace(claim(), record=lying(bill(), "birth-date", 2, 1984)).send().deliver(), {}),
        "manifest.sealer": (
            replace(claim(), record=sealed.seal(CLAIM, PATIENT, PAYER.id, 1)).send().deliver(), {},
        ),
        "capsule.terms": (replace(claim(), terms=None).send().deliver(), {}),
        "pseudonym.changed": (
            replace(claim(), pseudonym=seed("other")).send().deliver(),
            {"pseudonyms": {(HOSPITAL.id, participant_id(bytes(subject_key().verify_key))): seed("p")}},
        ),
    }  # fmt: skip


CHECKS: dict[str, tuple[object, str, Any]] = {
    "consent.not_attested": (receive, "check_attested", lambda *_: None),
    "consent.exceeded": (consent, "within", lambda *_: True),
    "presentation.expired": (presentation.Presentation, "check_time", lambda *_: None),
    "presentation.replayed": (
        receive,
        "_2_for_me_in_time_and_new",
        lambda one, *_: presentation.hash_of(one.presentation.payload),
    ),
    "leaf.grammar": (ladder, "conforms", lambda *_: True),
    "manifest.sealer": (receive, "_4_sealed_by_the_sender", lambda *_: None),
    "capsule.terms": (receive, "check_terms", lambda *_: None),
    "pseudonym.changed": (receive, "_8_pseudonym_is_as_before", lambda *_: None),
}


@pytest.mark.parametrize("reason", CHECKS)
def test_without_its_check_the_attack_succeeds(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    received, remembered = attacks()[reason]
    refused(reason, to_insurer, received, **remembered)
    where, name, nothing = CHECKS[reason]
    monkeypatch.setattr(where, name, nothing)
    assert to_insurer(received, **remembered).values


def test_without_the_digest_a_tampered_leaf_still_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digest, commitment and GCM stand behind each other; without the last the plaintext would be the attacker's."""
    received = claim().send().deliver()
    tampered = replace(received, leaves=received.leaves[:-1] + bytes([received.leaves[-1] ^ 1]))
    refused("leaf.digest", to_insurer, tampered)
    monkeypatch.setattr(sealed, "_check_digest", lambda *_: None)
    refused("leaf.open", to_insurer, tampered)


def test_without_the_commitment_a_leaf_could_open_two_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """kc is what makes a wrong share show as such, before anything is decrypted."""
    received = claim().send().deliver()
    wrong = replace(received, shares=bytes([received.shares[0] ^ 1]) + received.shares[1:])
    refused("leaf.commitment", to_insurer, wrong)
    monkeypatch.setattr(hmac, "compare_digest", lambda *_: True)
    refused("leaf.open", to_insurer, wrong)


# --- audiences --------------------------------------------------------------------------------------------------------


def test_statute_is_no_way_around_consent() -> None:
    """A recipient that no statute names keeps no statute's hash: the hospital cannot call a claim statutory."""
    one = replace(claim(), grant=None, subject=None, basis_kind=BASIS_KIND_STATUTE, basis=seed("policy"))
    held = frozenset({seed("policy")})
    refused("policy.denied", to_insurer, one.send().deliver())
    refused("policy.denied", to_insurer, one.send().deliver(), policy_hashes=held)
    renamed = replace(one, purpose="public-settlement").send().deliver()
    refused("policy.denied", to_insurer, renamed)
    assert to_insurer(renamed, policy_hashes=held).grant is None, "which is why an insurer holds no such hash"
