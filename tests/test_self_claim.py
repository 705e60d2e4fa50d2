"""A claim that the patient reports herself, by real processes: documents sealed and resumed; disputed, then paid."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from clients.hospital.sample import sample_bill
from clients.patient import claims, parcels, wallet
from tests.house import House, Patient, forked, open_house, run, until
from zhifu import bill as bills
from zhifu import parcel
from zhifu.errors import Error

BILL = sample_bill(1)
SECRET = b"a line that nobody but the insurer may read"


@dataclass(slots=True)
class Scene:
    house: House
    patient: Patient
    id_file: Path


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with open_house(tmp_path_factory.mktemp("self")) as house:
        patient = house.enrol(BILL)
        person = bills.parse(BILL).setlinfo.certno
        yield Scene(house, patient, house.file("id", person.encode()))


def report(scene: Scene, *more: str) -> str:
    words = ("--day", "2026-09-07", "--total", "620.00", "--public", "220.00", "--outpatient", "--json")
    said = run("wallet", "report", scene.patient.wallet, *words, "--id-file", scene.id_file, *more).ok().json
    return str(said["claim"])


def tracked(scene: Scene, claim: str, state: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        rows = run("wallet", "track", scene.patient.wallet, "--json", "--lang", "en").ok().json
        found = [one for one in rows if one["claim"] == claim]
        return found[0] if found and found[0]["state"] == state else None

    return until(look, f"the claim is {state}")


def attach(scene: Scene, claim: str, *files: Path) -> Any:
    return run("wallet", "attach", scene.patient.wallet, claim[:16], *files, "--json").ok().json


def test_from_the_report_to_the_payment(scene: Scene) -> None:
    house = scene.house
    claim = report(scene)
    reviewed = tracked(scene, claim, "review")
    assert reviewed["due"] - reviewed["news"][0]["at"] == 86_400, "a visit is promised in one day"
    (item,) = run("insurer", "queue", house.path / "insurer", "--json").ok().json
    assert item["reasons"][-1] == "review.self_service"
    assert item["proposed_fen"] == 40_000

    sent = attach(scene, claim, house.file("re\x1b[2Jceipt.pdf", SECRET * 10_000))
    assert sent["kind"] == "documents"
    until(lambda: len(documents(scene, claim)) == 2, "the documents reach the insurer")
    out = house.path / "out"
    shown = run("insurer", "documents", house.path / "insurer", claim[:12], "-o", out).ok().out
    (written,) = out.iterdir()
    assert f"re\\x1b[2Jceipt.pdf  application/pdf  {len(SECRET) * 10_000} bytes  {written}" in shown
    assert "total: 620.00 yuan" in shown, "an amount, and of what"
    assert "{" not in shown, "words for a person"
    assert "\x1b" not in shown, "and nothing of hers that steers a terminal"
    assert [path.read_bytes() for path in out.iterdir()] == [SECRET * 10_000]

    run("insurer", "ask", house.path / "insurer", claim[:12], "--document", "病历").ok()
    assert tracked(scene, claim, "waiting")["documents"] == ["病历"]
    once = run("insurer", "ask", house.path / "insurer", claim[:12], "--document", "病历")
    assert (once.code, "asked for once" in once.err) == (1, True)
    sent = attach(scene, claim, house.file("record.png", SECRET))
    assert (sent["kind"], sent["state"]) == ("supplement", "supplied"), "not that hers are still waited for"
    tracked(scene, claim, "review")
    house.decide("insurer", claim, "--pay", "100.00")
    decided = tracked(scene, claim, "decided")
    assert decided["state_words"] == "decided: accept or dispute it"
    assert any("理赔须知 第九条" in sentence for sentence in decided["words"]), "what the reviewer wrote"
    assert not any("it pays" in sentence for sentence in decided["words"]), "what the rules would pay is not paid"
    disputed = run("wallet", "dispute", scene.patient.wallet, claim[:16], "--note", "发票另有一张", "--json").ok().json
    assert disputed["state"] == "disputed"
    again = tracked(scene, claim, "review")
    assert any("disputed" in sentence for sentence in again["words"])
    house.decide("insurer", claim, "--proposed")
    tracked(scene, claim, "decided")
    twice = run("wallet", "dispute", scene.patient.wallet, claim[:16])
    assert (twice.code, "exchange.state" in twice.err) == (1, True)
    run("wallet", "accept", scene.patient.wallet, claim[:16]).ok()
    paid = tracked(scene, claim, "paid")
    assert paid["pay_fen"] == 40_000
    (held,) = [one for one in house.holdings("insurer") if one.id.hex() == claim]
    assert (held.state, held.amounts["pay"]) == ("committed", 40_000)
    assert run("insurer", "documents", house.path / "insurer", claim).ok().out, (
        "one that was decided, by its whole name"
    )
    kept = run("wallet", "withdraw", scene.patient.wallet, claim[:16], "--json").ok().json
    assert kept["state"] == "paid", "the insurer keeps it with its payment"


def test_the_same_visit_is_not_paid_by_her_word_and_by_a_bill(scene: Scene) -> None:
    """She reports it, and the hospital claims it; in either order somebody looks."""
    house, content = scene.house, sample_bill(2, outpatient=True)
    patient, head = house.enrol(content, "patient-2"), bills.parse(content).setlinfo
    other = Scene(house, patient, house.file("id", head.certno.encode()))
    assert head.begndate is not None
    day = head.begndate.isoformat()
    first = report(other, "--day", day)
    assert "review.visit_again" not in reasons(house, first)
    house.decide("insurer", first, "--proposed")
    consent = house.consent(patient, content)
    begun = house.submit(content, [("medical", consent)], patient=True)
    (queued,) = until(lambda: run("insurer", "queue", house.path / "insurer", "--json").ok().json, "it waits")
    assert queued["reasons"] == ["review.visit_again"]
    house.decide("insurer", queued["claim"], "--proposed")
    assert house.finish(begun)["state"] == "confirmed"
    assert reasons(house, report(other, "--day", day))[-2:] == ["review.visit_again", "review.self_service"]
    assert "review.visit_again" not in reasons(house, report(other, "--day", "2025-01-01"))


def reasons(house: House, claim: str) -> list[str]:
    """Why a reviewer has it."""

    def look() -> list[str] | None:
        rows = run("insurer", "queue", house.path / "insurer", "--json").ok().json
        return next((one["reasons"] for one in rows if one["claim"] == claim), None)

    return until(look, "the claim is in the reviewer's queue")


@pytest.mark.parametrize(
    ("amounts", "state"), [({"pay": 0}, "refused"), ({"pay": 0, "late": 2_000}, "paid"), ({"pay": 1}, "paid")]
)
def test_a_claim_of_which_nothing_is_paid_is_told_as_refused(amounts: dict[str, int], state: str) -> None:
    decided = {"state": "decided", "amounts": amounts}
    assert claims.told([decided]) == "decided", "she may still dispute it"
    assert claims.told([decided, {"state": "paid", "amounts": {}}]) == state


def documents(scene: Scene, claim: str) -> list[Any]:
    said = run("insurer", "documents", scene.house.path / "insurer", claim[:12], "--json")
    return list(said.json) if said.code == 0 else []


def test_the_broker_reads_nothing_of_it(scene: Scene) -> None:
    person = scene.id_file.read_bytes()
    for path in (scene.house.path / "broker").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert SECRET not in content
            assert person not in content
    for path in (scene.house.path / "insurer" / "parcels").rglob("*"):
        assert not path.is_file() or SECRET not in path.read_bytes(), "sealed at rest, too"
    assert scene.house.broker_rows("SELECT count(*) FROM chunk") == [(0,)], "what was taken is not kept"


def test_after_a_kill_only_what_is_missing_is_sent(scene: Scene) -> None:
    """The wallet is killed on its way through twelve chunks, and the broker; nothing that arrived is sent anew."""
    house = scene.house
    claim = report(scene)
    big = house.file("scan.pdf", os.urandom(12 * parcel.CHUNK - 100))
    slow = (
        "import asyncio\nfrom clients.patient import calls\nreal = calls.put_chunks\n"
        "async def put_chunks(wallet, digest, chunks):\n"
        "    async for left in real(wallet, digest, chunks):\n"
        "        yield left\n"
        "        await asyncio.sleep(0.2)\n"
        "calls.put_chunks = put_chunks\n"
    )
    process = forked("wallet", "attach", str(scene.patient.wallet), claim[:16], str(big), code=slow)
    arrived = "SELECT count(*) FROM chunk JOIN parcel ON parcel.hash = chunk.parcel WHERE parcel.chunks = 12"
    with process.stdout, process.stderr:
        until(lambda: house.broker_rows(arrived)[0][0] >= 3, "some chunks arrived")
        process.kill()
        process.wait()
    house.kill("broker")
    house.restart("broker")
    (kept,) = house.broker_rows(arrived)
    assert 3 <= kept[0] < 12

    opened = wallet.load(scene.patient.wallet)
    (one,) = parcels.waiting(opened)
    done: list[tuple[int, int]] = []
    import asyncio

    sent = asyncio.run(parcels.send(opened, one, lambda have, whole: done.append((have, whole))))
    assert sent == 12 - kept[0], "only what was missing"
    assert done[0] == (kept[0], 12)
    assert done[-1] == (12, 12)
    until(lambda: any(row["kind"] == "documents" for row in documents(scene, claim)), "the insurer has them")
    assert run("wallet", "send", scene.patient.wallet, "--json").ok().json == []


def test_taken_back_and_erased(scene: Scene) -> None:
    house = scene.house
    claim = report(scene)
    attach(scene, claim, house.file("receipt.pdf", SECRET))
    until(lambda: len(documents(scene, claim)) == 2, "the documents reach the insurer")
    said = run("wallet", "withdraw", scene.patient.wallet, claim[:16], "--json").ok().json
    assert (said["state"], said["told_to_erase"]) == ("withdrawn", 2)
    until(
        lambda: house.broker_rows("SELECT count(*) FROM deletion WHERE length(envelope) > 0")[0][0] >= 2,
        "the insurer signs what it did",
    )
    left = [path for path in (house.path / "insurer" / "parcels" / claim).glob("*") if path.is_file()]
    assert left == []
    assert all(one["claim"] != claim for one in run("insurer", "queue", house.path / "insurer", "--json").ok().json)


DIES_WHEN_TAKING = """
import os
from zhifu.v1 import parcel_pb2_grpc
made = parcel_pb2_grpc.ParcelServiceStub.__init__
async def dies(request, timeout):
    os._exit(9)
def init(self, channel):
    made(self, channel)
    self.TakeParcel = dies
parcel_pb2_grpc.ParcelServiceStub.__init__ = init
"""
KNOWS_NOBODY = """
import asyncio
from clients.directory import Directory
from clients.node import Node
made, attach = Directory.__init__, Node._stay_attached
def init(self, *given):
    made(self, *given)
    self._known |= {one: [] for one in self._known if one != self.participant}
async def later(self):
    await asyncio.sleep(2)
    await attach(self)
Directory.__init__, Node._stay_attached = init, later
"""


def test_a_node_that_dies_when_it_has_a_parcel_says_so_all_the_same(scene: Scene) -> None:
    """Else the broker keeps her documents for thirty days, and tells her that nobody took them."""
    house = scene.house
    house.end("insurer")
    house.start("insurer", code=DIES_WHEN_TAKING)
    claim = report(scene)
    assert house.running["insurer"].process.wait() == 9
    # It was away for long: what it knew of others' keys is over, until the broker shows it the newest.
    house.restart("insurer", code=KNOWS_NOBODY)
    tracked(scene, claim, "review")
    asked = f"SELECT state FROM parcel WHERE hash = x'{claim}'"
    until(lambda: house.broker_rows(asked) == [("taken",)], "the broker hears that it was taken")


def test_the_whole_log_verifies(scene: Scene) -> None:
    found = run("audit", "verify", scene.house.path, "--json").ok().json
    assert found["verified"]
    assert found["events"]["parcel.left"] >= 5 if "events" in found else True


def test_chunks_are_bound_to_their_place_and_parcel() -> None:
    from zhifu.keys import Alg, KemPrivate

    key, subject = KemPrivate.generate(Alg.MLKEM768_X25519), bytes(32)
    content = os.urandom(2 * parcel.CHUNK)
    about = {"aud": "x", "recipient": bytes(32), "claim": b"", "kind": "report", "erase_at": 2, "now": 1}
    packed = parcel.pack(content, key=key.public, subject=subject, **about)  # type: ignore[arg-type]
    shown = parcel.parse(packed.parcel.to_bytes())
    secret = parcel.secret_of(shown, key, subject)
    assert parcel.unpack(shown, secret, packed.chunks) == content
    with pytest.raises(Error, match=r"."):
        parcel.secret_of(shown, key, b"\1" * 32)
    for wrong in (packed.chunks[::-1], packed.chunks[:-1], (*packed.chunks[:-1], packed.chunks[-1] + b"\0")):
        with pytest.raises(Error):
            parcel.unpack(shown, secret, wrong)
    with pytest.raises(Error):
        parcel.pack(bytes(parcel.MAX_CONTENT + 1), key=key.public, subject=subject, **about)  # type: ignore[arg-type]
