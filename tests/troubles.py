"""What goes wrong in a house whose processes all say as much as they can: refused, failing and hostile input.

All of it is about one patient whose values can be searched for afterwards, wherever a process writes.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

import grpc

from clients import channel
from clients.hospital.sample import sample_bill
from tests.house import House, Patient, Ran, ask, run
from tests.needles import Needles, as_bytes, as_text, needles

VERBOSE: Final = """
import logging
to = logging.basicConfig
logging.basicConfig = lambda **how: to(**how | {"level": logging.DEBUG})
"""
_SEED: Final = 78
_METHODS: Final = ("EnrolSubject", "RegisterGrant", "RevokeGrant", "ChangeKey", "OfferCode", "FetchMailbox")


class Verbose(House):
    """A house whose processes log what libraries say, tell figures and spans, and have a /tmp of their own."""

    def start(self, role: str, *more: str, code: str = "") -> None:
        (self.path / "tmp").mkdir(exist_ok=True)
        traced = ("--trace",) if role == "broker" else ()
        House.start(self, role, "--metrics-port", "0", *traced, *more, code=code or VERBOSE)

    def told(self, role: str) -> bytes:
        """What its monitoring pages say."""
        url = f"http://127.0.0.1:{self.said(role)['metrics_port']}"
        return b"".join(ask("GET", f"{url}{path}", timeout=20).content for path in ("/metrics", "/readyz", "/livez"))


@dataclass(frozen=True, slots=True)
class Troubled:
    """``said`` is every answer to what cannot be had, ``needles`` the patient's values and secrets."""

    said: bytes
    needles: Needles


def trouble(house: House) -> Troubled:
    """Do all of it; the house serves on after it."""
    bill = sample_bill(_SEED, canaries=True)
    patient = house.enrol(bill, "troubled")
    said = [*_unreadable(house, bill), *_strange(house, bill), *asyncio.run(_public(house, bill))]
    code, refused = _codes(house, patient, bill)
    said += [refused, _revoked(house, patient, bill), _cut_off(house, bill)]
    settled = house.begin(bill, None)
    assert house.finish(settled)["state"] in ("confirmed", "failed")
    return Troubled(b"\n".join(said), {**needles(bill), **_secrets(house, patient), "code": as_text(code)})


def _answer(ran: Ran) -> bytes:
    assert ran.code not in (0, 1) or ran.err, ran
    assert "Traceback" not in ran.err
    return ran.err.encode()


def _broken(bill: bytes) -> Iterator[bytes]:
    """The bill, wrong in one place each time."""
    document = json.loads(bill)
    for name, value in document["setlinfo"].items():
        for wrong in ([value], {str(value): value}, f"{value}\u0000", f"{value}{value}" * 40):
            changed = deepcopy(document)
            changed["setlinfo"][name] = wrong
            yield json.dumps(changed, ensure_ascii=False).encode()
    for name, value in document["feedetail"][0].items():
        changed = deepcopy(document)
        changed["feedetail"][0][name] = {"of": value}
        yield json.dumps(changed, ensure_ascii=False).encode()
    yield bill[:-2]
    yield bill.decode().encode("gb18030")
    yield bill.replace(b'"setlinfo"', b'"setlinfo":{},"setlinfo"', 1)
    yield b"[" * 100_000 + bill


def _unreadable(house: House, bill: bytes) -> Iterator[bytes]:
    """Bills that cannot be settled, by the local API and by the command."""
    for number, broken in enumerate(_broken(bill)):
        if number % 20 == 0:
            yield _answer(house.settle(broken, None))
        text = broken.decode("utf-8", "replace")
        yield _post(house, "/settlements", json.dumps({"bill": text, "route": text[:40]}).encode())
    for content in (bill, bill[:-2], b"\xff" + bill):
        for path in ("/settlements", "/quotes", "/paid", "/eligibility", "/fhir/Claim/$submit"):
            yield _post(house, path, content)


def _post(house: House, path: str, content: bytes) -> bytes:
    folder = house.path / "hospital"
    headers = {"Authorization": f"Bearer {(folder / 'api.token').read_text()}"}
    url = f"http://127.0.0.1:{(folder / 'api.port').read_text()}{path}"
    answer = ask("POST", url, content=content, headers=headers, timeout=60)
    assert answer.status_code in (400, 403, 404, 405, 409, 422), answer.text
    return answer.content


def _strange(house: House, bill: bytes) -> Iterator[bytes]:
    """Values where HTTP has room for them, and what is no HTTP, at every port that speaks it."""
    head = json.loads(bill)["setlinfo"]
    values = [str(head[name]) for name in ("certno", "psn_no", "tel", "bankacct")]
    lines = [
        f"GET /settlements/{one}?visit={one} HTTP/1.1\r\nHost: {one}\r\nAuthorization: Bearer {one}" for one in values
    ]
    lines += [f"{one} /{one} {one}\r\n{one}" for one in values] + [f"{head['psn_name']} {head['addr']}"]
    ports = [int((house.path / "hospital" / "api.port").read_text())]
    ports += [house.said(role)["metrics_port"] for role in ("broker", *house.nodes)]
    ports += [house.said("broker")[f"{name}_port"] for name in ("log", "node", "public")]
    for port in ports:
        for line in lines:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as opened:
                opened.sendall(line.encode() + b"\r\n\r\n")
                opened.shutdown(socket.SHUT_WR)
                yield _read(opened)


def _read(opened: socket.socket) -> bytes:
    try:
        return b"".join(iter(lambda: opened.recv(65_536), b""))
    except OSError:
        return b""


async def _public(house: House, bill: bytes) -> list[bytes]:
    """Calls to the wallets' port, whose requests, methods and metadata are the bill."""
    contact, head = json.loads(house.contact.read_text("utf-8")), json.loads(bill)["setlinfo"]
    said = []
    async with channel.public_channel(contact["public_address"], contact["ca"].encode()) as opened:
        for method in (*_METHODS, head["certno"]):
            for request in (
                bill,
                b"\x0a\x84\x01" + bill[:132],
                b"\x12" + bytes([len(head["certno"])]) + head["certno"].encode(),
            ):
                call: Any = opened.unary_unary(f"/zhifu.v1.WalletService/{method}")
                try:
                    await call(request, metadata=(("zhifu", head["certno"]),), timeout=20)
                except grpc.aio.AioRpcError as error:
                    said.append(f"{error.details()} {error.trailing_metadata()}".encode())
    assert len(said) == 3 * (1 + len(_METHODS))
    return said


def _codes(house: House, patient: Patient, bill: bytes) -> tuple[str, bytes]:
    """A direct-pay code that is shown for another's bill, and a code that nobody was given."""
    kept, _ = house.agree(patient, house.ask(patient, bill, "--direct-pay", "--cap", 2_000_000))
    run("hospital", "keep-consent", house.path / "hospital", kept).ok()
    card = house.cast.cards["hospital"]
    shown = run("wallet", "code", patient.wallet, "--hospital", card, "--online", "--json").ok().json
    other = house.file("bill", sample_bill(_SEED + 1, canaries=True))
    words = [
        run("hospital", "redeem", house.path / "hospital", code, "--bill", other)
        for code in (shown["digits"], "1" * 18)
    ]
    assert all(one.code for one in words)
    return shown["digits"], b"".join(map(_answer, words))


def _revoked(house: House, patient: Patient, bill: bytes) -> bytes:
    """A consent that its patient took back."""
    consent, grant = house.agree(patient, house.ask(patient, bill))
    run("wallet", "revoke", patient.wallet, grant).ok()
    ran = house.settle(bill, consent)
    return (ran.out + ran.err).encode() if ran.code else b""


def _cut_off(house: House, bill: bytes) -> bytes:
    """A broker that dies under its nodes and comes back."""
    house.kill("broker")
    house.restart("broker")
    return b""


def _secrets(house: House, patient: Patient) -> dict[str, frozenset[bytes]]:
    """What opens or signs in somebody's name: the wallet's, and every key and token of a process."""
    wallet = json.loads((patient.wallet / "wallet.json").read_text("utf-8"))
    found = {f"wallet's {name}": as_bytes(bytes.fromhex(wallet["pairs"][0][name])) for name in ("seed", "kem")}
    found["recovery code"] = as_text((patient.wallet / "recovery.code").read_text("utf-8").strip())
    for path in house.path.rglob("*"):
        if path.suffix in (".key", ".pepper", ".token") and path.is_file():
            found[str(path.relative_to(house.path))] = as_text(path.read_text("utf-8").strip()[-80:])
    for path in (house.path / "desk").glob("*.invitation"):
        found[path.name] = as_text(json.loads(path.read_text("utf-8"))["code"])
    return found
