"""A code that was redeemed just before its hospital's node died: the desk goes on with it, for the same bill."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from clients.hospital.sample import sample_bill
from tests.house import House, Ran, further, open_house, run

DIES_REDEEMED: Final = """
import os, signal
from pathlib import Path
from clients.code_service import CodeService
armed, real = Path({armed!r}), CodeService.redeem
async def redeem(self, *given):
    found = await real(self, *given)
    if armed.exists():
        armed.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return found
CodeService.redeem = redeem
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("codes")) as opened:
        yield opened
        assert run("audit", "verify", opened.path, "--json").ok().json["verified"]


def redeem(house: House, code: str, bill: bytes) -> Ran:
    return run("hospital", "redeem", house.path / "hospital", code, "--bill", house.file("bill", bill), "--json")


def shown(house: House, wallet: object, *more: str) -> Any:
    return run("wallet", "code", wallet, "--hospital", house.cast.cards["hospital"], "--json", *more).ok().json


@pytest.mark.parametrize("more", [(), ("--online",)], ids=["offline", "online"])
def test_a_node_killed_between_redemption_and_first_exchange_goes_on(house: House, more: tuple[str, ...]) -> None:
    bill = sample_bill(1 + len(more))
    patient = house.enrol(bill, f"patient-{len(more)}")
    kept, _ = house.agree(patient, house.ask(patient, bill, "--direct-pay", "--cap", 2_000_000))
    run("hospital", "keep-consent", house.path / "hospital", kept).ok()
    found = shown(house, patient.wallet, *more)
    code, armed = found["digits"] if more else found["code"], house.file("armed", b"")
    house.end("hospital")
    house.restart("hospital", code=DIES_REDEEMED.format(armed=str(armed)))
    with pytest.raises(httpx.TransportError):
        house.api("POST", "/settlements", {"bill": bill.decode(), "code": code})
    assert house.running["hospital"].process.wait() == -signal.SIGKILL
    house.restart("hospital")
    assert house.broker_rows("SELECT count(*) FROM ticket")[0][0] == 1 + len(more)
    other = redeem(house, code, further(bill))
    assert (other.code, "ticket.used" in other.err) == (4, True), "another bill is another workflow"
    settled = redeem(house, code, bill).ok().json
    assert (settled["state"], settled["commercial_fen"]) == ("confirmed", 800_000)
    again = redeem(house, code, bill).ok().json
    assert again["settlement"] == settled["settlement"], "the desk that asks once more is shown what there is"
