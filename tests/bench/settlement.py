"""The whole settlement between running nodes, one after another on an otherwise idle computer.

Broker, hospital, public payer and insurer are the demo's processes; every patient has keys, attestations and a grant of
her own. What is counted is what the hospital's node says: from the bill handed in to both payers' commitments.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from clients import desk
from clients.demo import cast as casting
from clients.demo.cast import Cast
from clients.demo.stage import Stage, call
from clients.directory import Directory
from clients.hospital import encounter, local_api, request
from clients.hospital.sample import sample_bill
from clients.keystore import FileKeystore, participant_of
from clients.patient import consent, wallet
from clients.patient import keys as enrolment
from clients.patient.wallet import Contact
from clients.store import Store
from policies import load
from zhifu import bill, subject_key
from zhifu.statement import Attestation

ROLES: Final = ("hospital", "public-payer", "insurer")
SETTLE_S: Final = 30.0


def open_house(stage: Stage, patients: int) -> Cast:
    """Broker and nodes, enrolled and ready; the first so many sample patients stand in the insurer's book."""
    operators = [word for path in casting.operator_files(stage) for word in ("--operator", str(path))]
    call("broker", "init", str(stage.path / "broker"), "--origin", casting.ORIGIN, *operators)
    stage.ready(stage.start("broker", "broker", "serve", str(stage.path / "broker")))
    cast = casting.join(stage, casting.invite(stage))
    quota: Path | None = casting.allow(stage, cast)
    for number in range(patients):
        casting.insure(stage, cast, bill.parse(sample_bill(number)), quota)
        quota = None
    for role in ROLES:
        stage.ready(stage.start(role, "clients", "node", "serve", str(stage.path / role)))
    return cast


def measure(stage: Stage, cast: Cast, count: int) -> list[int]:
    """``settlement_ms`` of ``count`` settlements, each for a patient of her own."""
    agreed = asyncio.run(_agree(stage, cast, count))
    found = []
    for content, path in agreed:
        settled = local_api.submit(stage.path / "hospital", content, path, direct=False, timeout=SETTLE_S)
        assert settled["state"] == "confirmed", settled["reason"]
        found.append(int(settled["settlement_ms"]))
    return found


async def _agree(stage: Stage, cast: Cast, count: int) -> Sequence[tuple[bytes, Path]]:
    """Bills, and the consents of their patients as the desk reads them."""
    where = stage.path / "desk" / "contact.json"
    call("broker", "contact", str(stage.path / "broker"), "-o", str(where))
    contact = wallet.contact(where)
    settings = cast.settings["hospital"]
    keys = FileKeystore.load(settings.keys)
    store = Store(settings.database, keys)
    try:
        return [await _one(stage, cast, contact, store, keys, number) for number in range(count)]
    finally:
        store.close()


async def _one(
    stage: Stage, cast: Cast, contact: Contact, store: Store, keys: FileKeystore, number: int
) -> tuple[bytes, Path]:
    content, now = sample_bill(number), int(time.time())
    settings, insurer = cast.settings["hospital"], cast.settings["insurer"]
    opened = wallet.create(stage.path / f"patient-{number}", contact)
    pair = opened.draw_pair(wallet.party(cast.cards["hospital"]), wallet.party(cast.cards["insurer"]))
    person, until = bill.parse(content).setlinfo.certno, now + encounter.ATTESTED_S
    attested = [
        encounter.attest(store, participant_of(keys), "hospital", keys.signing, pair.public, person, now),
        Attestation(pair.public, cast.ids["insurer"], "insurer", until).sign(FileKeystore.load(insurer.keys).signing),
    ]
    parties = wallet.party(cast.cards["hospital"]), wallet.party(cast.cards["insurer"])
    way_back = enrolment.recovery_pair(*parties, pair.subject, subject_key.draw_code())
    await enrolment.enrol(opened, pair, attested, way_back, now)
    asked = request.ask(
        store, load.load(settings.policies), keys.signing, origin=settings.origin, sender=participant_of(keys),
        recipient=cast.ids["insurer"], subject_key=pair.public, bill=bill.parse(content), cap=None, language="zh",
        now=now,
    )  # fmt: skip
    statement = Directory(settings.pins, keys, store).own(now)
    seen = consent.review(opened, desk.Request(asked.signed, statement, asked.preview), now)
    given = await consent.give(opened, seen, consent.Choice.as_asked(seen), now)
    path = stage.path / "desk" / f"consent-{number}.json"
    desk.write_consent(path, given.consent)
    return content, path
