"""A command that dies once the broker has done its part: the same command again ends it, and no key is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clients.hospital.sample import sample_bill
from clients.patient import wallet as wallets
from tests.house import House, Patient, open_house, operate, run, spawn
from zhifu import bill as bills

DIES = """
import os, signal
import {module} as module
real = module.{name}
async def dying(*words, **named):
    await real(*words, **named)
    os.kill(os.getpid(), signal.SIGKILL)
module.{name} = dying
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("crash")) as opened:
        yield opened


def dies(module: str, name: str, *command: object) -> None:
    """The command is killed where this function of it has ended."""
    assert spawn(*command, code=DIES.format(module=module, name=name)).code < 0


def cards(house: House) -> tuple[object, ...]:
    return "--hospital", house.cast.cards["hospital"], "--recipient", house.cast.cards["insurer"]


def attested(house: House, name: str) -> tuple[object, ...]:
    """The words of an enrolment by a wallet that drew its key."""
    wallet, bill = house.path / name, sample_bill(1)
    drawn = run("wallet", "enrol", wallet, *cards(house), "--contact", house.contact, "--json").ok().json
    words = [house.file("attestation"), house.file("attestation")]
    seen = ("--bill", house.file("bill.json", bill))
    run("hospital", "attest", house.path / "hospital", drawn["subject_key"], *seen, "-o", words[0]).ok()
    run("node", "attest", house.path / "insurer", drawn["subject_key"], "-o", words[1]).ok()
    return "wallet", "enrol", wallet, *cards(house), "--attestation", words[0], "--attestation", words[1]


def listed(folder: Path) -> list[str]:
    rows: list[dict[str, Any]] = run("wallet", "key", "list", folder, "--json").ok().json
    return sorted(f"{one['role']} {one['status']}" for one in rows)


@pytest.mark.parametrize(("code_is_lost", "keys"), [(False, 1), (True, 2)])
def test_an_enrolment_is_ended_by_the_same_command(house: House, code_is_lost: bool, keys: int) -> None:
    """Also with another recovery code, which is a way back then as well: a page draws one whenever it is opened."""
    folder = house.path / f"enrolling-{code_is_lost}"
    enrols = attested(house, folder.name)
    dies("clients.patient.calls", "enrol", *enrols)
    assert not wallets.load(folder).pairs[0].enrolled
    if code_is_lost:
        (folder / "recovery.code").unlink()
    run(*enrols).ok()
    assert listed(folder) == ["recovery active"] * keys
    # The code is known: of no key at all it would be consent.key_status.
    stopped = run("wallet", "recover", folder, *cards(house), "--recovery", folder / "recovery.code", "--stop")
    assert "consent.unknown" in stopped.err


def test_a_recovery_is_ended_by_the_same_command_with_the_same_key(house: House) -> None:
    lost, found = house.path / "lost", house.path / "found"
    run(*attested(house, lost.name)).ok()
    recovers = ("wallet", "recover", found, *cards(house), "--recovery", lost / "recovery.code")
    dies("clients.patient.calls", "change_key", *recovers, "--contact", house.contact)
    (begun,) = wallets.load(found).pairs
    # Until it counts it keeps no other command from its work.
    run("wallet", "history", found).ok()
    assert run(*recovers, "--json").ok().json["key"] == begun.public.hex()
    assert [pair.enrolled for pair in wallets.load(found).pairs] == [True]
    assert listed(lost) == ["device pending", "recovery active"]


LOOKING = ("history", "statement", "claims", "track", "key list")


def looks(folder: Path) -> dict[str, int]:
    return {words: run("wallet", *words.split(), folder).code for words in LOOKING}


def test_a_key_that_is_not_in_force_keeps_no_other_from_being_looked_after(house: House) -> None:
    """Of a wallet with a key that its subject did not add yet, or that was revoked, nothing was fetched any more."""
    own, other, offer = house.path / "own", house.path / "other", house.file("offer")
    run(*attested(house, own.name)).ok()
    key = wallets.load(own).pairs[0].public.hex()
    offers = ("wallet", "key", "offer", other, key, *cards(house), "-o", offer, "--contact", house.contact)
    run(*offers).ok()
    assert looks(other) == dict.fromkeys(LOOKING, 0)
    assert "a key is not in force" in run("wallet", "history", other).err
    run("wallet", "key", "add", own, *cards(house), offer).ok()
    assert looks(other) == dict.fromkeys(LOOKING, 0), "a further key, to which nothing is sealed"
    run("wallet", "key", "strike", own, *cards(house), key).ok()
    assert looks(own) == dict.fromkeys(LOOKING, 0)


def test_a_report_that_was_never_named_is_not_sent(house: House) -> None:
    """Its answers could not be found, nor could it be taken back: the secret that they go by was not kept."""
    patient = Patient(house.path / "reporting", "", "insurer")
    run(*attested(house, patient.wallet.name)).ok()
    person = house.file("id", bills.parse(sample_bill(1)).setlinfo.certno.encode())
    words = ("--day", "2026-09-07", "--total", "620.00", "--public", "220.00", "--outpatient")
    dies("clients.patient.parcels", "make", "wallet", "report", patient.wallet, *words, "--id-file", person)
    assert len(list((patient.wallet / "outgoing").iterdir())) == 1
    assert run("wallet", "send", patient.wallet, "--json").ok().json == []
    assert list((patient.wallet / "outgoing").iterdir()) == []


def test_a_grant_whose_consent_cannot_be_written_is_not_given(house: House) -> None:
    patient, bill = house.enrol(sample_bill(2), "granting"), sample_bill(2)
    request = house.ask(patient, bill)
    refused = run("wallet", "grant", patient.wallet, request, "-o", house.path / "nowhere" / "consent")
    assert (refused.code, "consent cannot be written" in refused.err) == (2, True), refused.err
    assert run("wallet", "grants", patient.wallet, "--json").ok().json == []


def test_an_enrolment_of_a_node_is_ended_by_the_same_command(house: House) -> None:
    invitation, folder = house.file("invitation"), house.path / "another"
    operate("invite", house.path / "broker", "--role", "hospital", "--name", "另一家医院", "-o", invitation)
    enrols = ("node", "enrol", folder, "--invitation", invitation)
    dies("clients.enrol", "_certify", *enrols)
    assert not (folder / "node.toml").exists()
    run(*enrols).ok()
    assert (folder / "tls.crt").exists()
    other = run("node", "enrol", house.path / "a-third", "--invitation", invitation)
    assert (other.code, "enrolment.invite" in other.err) == (1, True), other.err
