"""The three error families and the catalogue of reasons (DESIGN section 2).

Every error carries a stable ``reason`` from `CATALOGUE`; its message is safe to show and to log: it never
carries a value of a record. ``retryable`` says whether the same request, sent again later, can succeed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Final, Self


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    DENIED = 3
    CONSENT = 4
    INTEGRITY = 5
    UNAVAILABLE = 6


@dataclass(frozen=True, slots=True)
class Reason:
    """One row of the catalogue: a stable name, what it means, and what a command exits with."""

    name: str
    meaning: str
    exit: Exit
    retryable: bool = False

    @property
    def retry_s(self) -> float:
        """After how many seconds at the earliest, where a retry can help; else 0."""
        return _RETRY_S.get(self.name, _RETRY_USUAL_S) if self.retryable else 0.0


class Error(Exception):
    """Base of all refusals. ``reason`` is a key of `CATALOGUE`; ``detail`` holds no patient data."""

    def __init__(self, reason: str, detail: str = "", retry_s: float = 0.0) -> None:
        self.entry: Final = CATALOGUE[reason]
        self.detail: Final = detail
        self.retry_s: Final = retry_s or self.entry.retry_s
        """After how many seconds, at the earliest, a retry can help; 0 where none can."""
        super().__init__(f"{reason}: {detail or self.entry.meaning}")

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        """From a process to another, as what it is."""
        return type(self), (self.entry.name, self.detail)

    @property
    def reason(self) -> str:
        return self.entry.name

    @property
    def retryable(self) -> bool:
        return self.entry.retryable

    @property
    def exit(self) -> Exit:
        return self.entry.exit


class Malformed(Error):
    """Bytes or a file that no honest implementation produces: wrong size, grammar, or arithmetic."""


class NotAuthentic(Error):
    """Well-formed, but a signature, hash, key or proof does not hold."""


class Refused(Error):
    """Authentic, but not allowed: by consent, policy, time, state or capacity."""


def _rows(exit_code: Exit, retryable: bool, **meanings: str) -> list[Reason]:
    return [Reason(name.replace("__", "."), meaning, exit_code, retryable) for name, meaning in meanings.items()]


_RETRY_USUAL_S: Final = 1.0
_RETRY_S: Final = {
    "unavailable.overload": 2.0,
    "unavailable.store": 5.0,
    "unavailable.log": 60.0,
    "unavailable.space": 15.0,
}

_ROWS: Final = [
    *_rows(
        Exit.USAGE,
        False,
        malformed__size="larger than this kind of message may be",
        malformed__encoding="not the canonical encoding",
        malformed__field="a field has a value outside its grammar",
        malformed__version="unknown version or suite",
        bill__syntax="the bill file is not in the expected shape",
        bill__identity="the bill's amounts do not add up",
        bill__missing="the bill file cannot be read",
        pseudonym__identifier="a person's number is not one of its kind",
        schema__unknown="unknown record schema",
        schema__value="a value does not fit its unit's grammar",
        schema__overflow="a value does not fit the largest size class",
        usage__argument="an argument is not usable",
        usage__file="a file cannot be read or written",
    ),
    *_rows(
        Exit.DENIED,
        False,
        policy__denied="the access policy does not permit this exchange",
        policy__nothing_released="policy and consent leave no unit to release",
        policy__invalid="a policy file is not valid",
        pseudonym__quota="the quota of pseudonyms does not cover it",
    ),
    *_rows(
        Exit.CONSENT,
        False,
        consent__missing="no grant is named where the policy asks for one",
        consent__not_usable="the grant cannot be used",
        consent__unknown="the grant is not known",
        consent__signature="the grant's signature does not verify",
        consent__weak_key="the subject key is not a valid signing key",
        consent__key_status="the subject key is not enrolled or was revoked",
        consent__not_yet="the grant is not valid yet",
        consent__expired="the grant has expired",
        consent__revoked="the grant was revoked",
        consent__used_up="the grant has no use left",
        consent__wrong_sender="the grant names another sender",
        consent__wrong_recipient="the grant names another recipient",
        consent__wrong_purpose="the grant names another purpose",
        consent__wrong_audience="the grant names another log",
        consent__wrong_encounter="the grant names another encounter",
        consent__exceeded="a ceiling is finer than the grant allows",
        consent__subject_mismatch="the subject of the grant is not the patient of this encounter",
        consent__cap="the amount is above the cap in the grant's terms",
        consent__not_attested="the subject key is not attested by two organisations",
        consent__one_key="a subject key is enrolled with a second key or a recovery code",
        consent__not_yours="the signer may not stop this grant, or change this key log",
        consent__confirm="above the cap or not for this stay: the patient confirms hospital and amount",
        ticket__missing="a direct-pay grant is used with the patient's code only",
        ticket__grant="the code is not for this grant",
        ticket__hospital="the code is for another hospital",
        ticket__window="the code is outside its time",
        ticket__used="the code was used for another settlement",
        ticket__unknown="no such code, or its 60 seconds are over",
        ticket__limit="too many wrong codes from this hospital: wait a minute",
    ),
    *_rows(
        Exit.INTEGRITY,
        False,
        signature__invalid="a signature does not verify",
        key__unknown="the signing key is not in a pinned key statement",
        key__not_pinned="the participant's identity key is not pinned here",
        key__expired="the key statement has expired",
        key__rollback="the key statement's serial went back",
        key__foreign="a key statement in our own name that we did not sign, or with other keys than ours",
        presentation__audience="the presentation is for another log",
        presentation__recipient="the presentation is for another recipient",
        presentation__sender="the presentation was sent by another participant than signed it",
        presentation__expired="the presentation has expired",
        presentation__future="the presentation is dated in the future: check the clock",
        presentation__lifetime="the presentation would live longer than 24 hours",
        presentation__replayed="the presentation was seen before",
        presentation__nonce_reused="the nonce was used for another presentation",
        manifest__hash="the manifest is not the one that was signed",
        manifest__sealer="the manifest was sealed by another participant",
        leaf__digest="a leaf is not the one in the manifest",
        leaf__set="leaves are missing or not asked for",
        leaf__commitment="a leaf's key commitment does not match",
        leaf__open="a leaf cannot be opened with this key",
        leaf__padding="a leaf's padding is not canonical",
        leaf__ladder="a coarser level does not follow from the finest: the sealer lied",
        leaf__grammar="an opened value does not fit the grammar of its level",
        gate__root="the gate share is not the one that was signed",
        gate__unwrap="the epoch secret cannot be unwrapped",
        gate__epoch="the epoch is unknown or over",
        capsule__hash="the capsule is not the one that was signed",
        capsule__open="the capsule cannot be opened",
        capsule__units="the capsule's units are not the presented ceilings",
        capsule__terms="the terms in the capsule are not those of the grant",
        pseudonym__changed="the pseudonym of this subject changed",
        pseudonym__key="another pseudonym key was announced for the same recipient and epoch",
        pseudonym__proof="the proof does not hold under the pinned pseudonym key",
        receipt__missing="no receipt came with the delivery",
        receipt__invalid="the receipt does not prove this exchange",
        log__inconsistent="the log is not an extension of the one seen before",
        log__fork="the two parties were shown different logs",
        log__corrupt="the log kept on disk does not verify",
        log__signature="the checkpoint is not signed by the pinned log key",
        log__omitted="an entry that is known to exist was left out",
        log__erased="details are missing without an entry that they were erased",
        answer__mismatch="the answer does not belong to what was asked",
        ledger__mismatch="the amounts of the parties do not agree",
    ),
    *_rows(
        Exit.FAILURE,
        False,
        exchange__unknown="no such exchange",
        exchange__state="the exchange is past that state",
        exchange__expired="the exchange expired before it was delivered",
        enrolment__invite="the invite is unknown, used or expired",
        enrolment__csr="the certificate request is not acceptable",
        enrolment__exists="the participant is enrolled already",
        participant__unknown="the participant is not enrolled",
        participant__suspended="the participant is suspended",
        participant__certificate="the TLS certificate has expired: renew it",
        participant__standing="a later word of an operator on this participant stands",
        settlement__refused="a payer refused the claim",
        settlement__repeated="the payer answered another claim for these days of the visit, and that stands",
        settlement__undecided="a payer could not decide by its rules",
        erasure__orders="two officers order an erasure, in the same words",
        erasure__entry="the details of this entry cannot be erased",
        erasure__held="a legal hold forbids it",
        erasure__erased="the details were erased",
        internal="an internal error; the operator's log has it",
    ),
    *_rows(
        Exit.UNAVAILABLE,
        True,
        unavailable__broker="the broker cannot be reached",
        unavailable__store="the store cannot be written; nothing was accepted",
        unavailable__draining="the broker is shutting down; connect again",
        unavailable__overload="the queue is full; try again later",
        unavailable__quota="this participant's quota is used up; try again later",
        unavailable__space="the broker's disk is full; nothing new is accepted until there is room",
        unavailable__deadline="no answer within the deadline",
        unavailable__port="the port is in use",
        unavailable__clock="this clock is too far from the broker's",
        unavailable__recipient="the recipient's keys are not known yet",
        unavailable__log="the log kept here is behind what was signed before; nothing is accepted",
        unavailable__witnesses="the log has gone unwitnessed for too long; nothing is accepted",
        pseudonym__epoch="no pseudonym key of this recipient and epoch is announced here",
    ),
]

CATALOGUE: Final = MappingProxyType({row.name: row for row in _ROWS})
"""Every reason this protocol can answer with; stable across versions."""
