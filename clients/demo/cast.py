"""Who takes part in the demo, and how they come to know each other: enrolment, pins, attestations, consent.

What people do by other means than the broker (compare fingerprints, show an ID at the desk, scan a code) happens
here, by files.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from nacl.signing import SigningKey

from clients import config, desk, durable, enrol, registrar
from clients.auditor import pins as auditor
from clients.command import to_json
from clients.config import NodeConfig, Pin
from clients.demo.stage import Stage, call
from clients.directory import Directory
from clients.hospital import encounter, redeem, request
from clients.hospital.sample import sample_bill
from clients.insurer import book as books
from clients.insurer import cli as insurer
from clients.insurer.book import Built
from clients.keystore import FileKeystore, participant_of
from clients.store import Store
from policies import load
from zhifu import bill as bills
from zhifu.bill import Bill, Setlinfo
from zhifu.checkpoint import VerifierKey
from zhifu.statement import Attestation

ORIGIN: Final = "demo.zhifu.example/log"
STRANGERS: Final = 7
QUOTA: Final = 1000
NAMES: Final = {
    "hospital": "示例市第一人民医院",
    "public-payer": "示例市医疗保障局",
    "insurer": "示例健康保险有限公司",
}


@dataclass(frozen=True, slots=True)
class Cast:
    """The enrolled participants: settings, ids (hex) and cards by role word."""

    settings: dict[str, NodeConfig]
    ids: dict[str, bytes]
    cards: dict[str, Path]


def invite(stage: Stage) -> dict[str, Path]:
    """One-time invitations by the broker's operator."""
    found = {role: _desk(stage) / f"{role}.invitation" for role in NAMES}
    broker = str(stage.path / "broker")
    with ThreadPoolExecutor() as pool:
        commands = [("invite", broker, "--role", role, "--name", NAMES[role], "-o", str(found[role])) for role in NAMES]
        list(pool.map(lambda command: call("broker", *command), commands))
    return found


def _desk(stage: Stage) -> Path:
    """What passes from hand to hand."""
    path = stage.path / "desk"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def hand_over(stage: Stage, name: str, content: bytes) -> None:
    """Lay a file on the desk, for its owner only."""
    durable.write(_desk(stage) / name, content)


def join(stage: Stage, invitations: dict[str, Path]) -> Cast:
    """Every node draws its keys and enrols; then each pins the others' identities, and the registrar's.

    The names of ``invitations`` are the nodes' folders; without several of one role they are the role words.
    """

    async def all_at_once() -> list[NodeConfig]:
        joining = (enrol.enrol(enrol.read_invitation(path), stage.path / role) for role, path in invitations.items())
        return list(await asyncio.gather(*joining))

    enrolled = dict(zip(invitations, asyncio.run(all_at_once()), strict=True))
    ids = {role: participant_of(FileKeystore.load(one.keys)) for role, one in enrolled.items()}
    key = registrar.draw(stage.path / "registrar")
    policy, digest = registrar.statement(stage.path / "registrar", None, 90)
    pinned = {ids[name]: Pin(one.role, one.name) for name, one in enrolled.items()}
    settings, cards = {}, {}
    for name, one in enrolled.items():
        others = {who: pin for who, pin in pinned.items() if who != ids[name]}
        settings[name] = replace(one, pins=others, registrar=key)
        config.write(settings[name])
        durable.write(one.policy_statement, policy.to_bytes())
        cards[name] = _desk(stage) / f"{name}.card"
        durable.write(cards[name], to_json({"id": ids[name].hex(), "role": one.role, "name": one.name}).encode())
    _pin_auditor(stage, enrolled["hospital"].log_key, pinned, key, digest)
    return Cast(settings, ids, cards)


def _pin_auditor(stage: Stage, log_key: VerifierKey, pinned: dict[bytes, Pin], key: bytes, policy: bytes) -> None:
    folder = stage.path / "auditor"
    operators = frozenset(_operator_key(path) for path in operator_files(stage) if path.exists())
    auditor.write(folder, auditor.Pins(ORIGIN, log_key, pinned, key, frozenset([policy]), operators))


def operator_files(stage: Stage) -> tuple[Path, Path]:
    """The key files of the two operators who set quotas together; each would keep one."""
    return stage.path / "operator-a.key", stage.path / "operator-b.key"


def _operator_key(path: Path) -> bytes:
    return bytes(SigningKey(bytes.fromhex(durable.read_private(path, 256).decode("ascii"))).verify_key)


def quota_command(stage: Stage, cast: Cast, output: Path, insurer: str = "insurer") -> tuple[str, ...]:
    """What the two operators type, one after the other looking on."""
    keys = [word for path in operator_files(stage) for word in ("--operator", str(path))]
    whom = ("--recipient", cast.ids[insurer].hex(), "--allowed", str(QUOTA))
    return ("pseudonym-quota", str(stage.path / "broker"), *whom, *keys, "-o", str(output))


def allow(stage: Stage, cast: Cast) -> Path:
    """Two operators sign how many persons the insurer's book may have; the file."""
    path = _desk(stage) / "quota.json"
    call("broker", *quota_command(stage, cast, path))
    return path


def insure(stage: Stage, cast: Cast, bill: Bill, quota: Path | None) -> Built:
    """The insurer's book: the patient of ``bill`` and some strangers, each linked by the pseudonym service.

    ``quota`` is what two operators signed; None where one was handed in before. Persons are only added.
    """
    lines = [",".join(books.COLUMNS[: books.LEAST_COLUMNS])]
    for number, person in enumerate([bill.setlinfo, *_strangers()]):
        policy = hashlib.sha256(person.certno.encode()).hexdigest()[:12]
        lines.append(f"{person.psn_cert_type},{person.certno},P{number}-{policy},,,")
    content = "\n".join([*lines, ""]).encode()
    signed = insurer.read_quota(quota) if quota is not None else ()
    return asyncio.run(insurer.run_build(stage.path / "insurer", content, signed, add=True))


@cache
def _strangers() -> tuple[Setlinfo, ...]:
    """Insured persons who have nothing to do with it, plainly synthetic."""
    return tuple(bills.parse(sample_bill(seed)).setlinfo for seed in range(900, 900 + STRANGERS))


def enrol_patient(stage: Stage, cast: Cast, bill: Bill, now: int) -> str:
    """The wallet draws a key; hospital desk and insurer attest it; the wallet enrols it. The key, hex."""
    contact = _desk(stage) / "contact.json"
    call("broker", "contact", str(stage.path / "broker"), "-o", str(contact))
    command = (
        "clients", "wallet", "enrol", str(stage.path / "patient"), "--hospital", str(cast.cards["hospital"]),
        "--recipient", str(cast.cards["insurer"]), "--json",
    )  # fmt: skip
    key = str(json.loads(call(*command, "--contact", str(contact))[1])["subject_key"])
    by_hospital, by_insurer = _desk(stage) / "hospital.attestation", _desk(stage) / "insurer.attestation"
    _attest_at_desk(cast.settings["hospital"], bytes.fromhex(key), bill, by_hospital, now)
    insurer = FileKeystore.load(cast.settings["insurer"].keys)
    attested = Attestation(bytes.fromhex(key), cast.ids["insurer"], "insurer", now + encounter.ATTESTED_S)
    desk.write_attestation(by_insurer, attested.sign(insurer.signing))
    call(*command, "--attestation", str(by_hospital), "--attestation", str(by_insurer))
    return key


def _attest_at_desk(settings: NodeConfig, key: bytes, bill: Bill, path: Path, now: int) -> None:
    keystore = FileKeystore.load(settings.keys)
    store = Store(settings.database, keystore)
    try:
        me, person = participant_of(keystore), bill.setlinfo.certno
        signed = encounter.attest(store, me, settings.role, keystore.signing, key, person, now)
    finally:
        store.close()
    desk.write_attestation(path, signed)


def ask(stage: Stage, cast: Cast, key: str, bill: Bill, now: int, *, direct_pay: bool = False) -> Path:
    """The hospital's consent request, as the patient's phone scans it; for ``direct_pay`` up to the bill's total."""
    settings = cast.settings["hospital"]
    keystore = FileKeystore.load(settings.keys)
    store = Store(settings.database, keystore)
    try:
        asked = request.ask(
            store,
            load.load(settings.policies),
            keystore.signing,
            origin=settings.origin,
            sender=participant_of(keystore),
            recipient=cast.ids["insurer"],
            subject_key=bytes.fromhex(key),
            bill=bill,
            cap=bill.split.total if direct_pay else None,
            language="zh",
            now=now,
            direct_pay=direct_pay,
        )
        statement = Directory(settings.pins, keystore, store).own(now)
    finally:
        store.close()
    path = _desk(stage) / "request.json"
    desk.write_request(path, desk.Request(asked.signed, statement, asked.preview))
    return path


def show_code(stage: Stage, cast: Cast, consent: Path) -> str:
    """What she agreed to lies at the desk since admission; now her phone shows a code, which the cashier scans."""
    settings = cast.settings["hospital"]
    store = Store(settings.database, FileKeystore.load(settings.keys))
    try:
        redeem.keep(store, desk.read_consent(consent), time.time_ns() // 1_000_000)
    finally:
        store.close()
    card = str(cast.cards["hospital"])
    shown = call("clients", "wallet", "code", str(stage.path / "patient"), "--hospital", card, "--json")[1]
    return str(json.loads(shown)["code"])


def agree(stage: Stage, request_file: Path) -> tuple[int, Path, dict[str, Any]]:
    """The patient agrees on her wallet: (pid, the consent for the desk, what she saw)."""
    consent = _desk(stage) / "consent.json"
    wallet = str(stage.path / "patient")
    pid, out = call("clients", "wallet", "grant", wallet, str(request_file), "-o", str(consent), "--json")
    return pid, consent, json.loads(out)
