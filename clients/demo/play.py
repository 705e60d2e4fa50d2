"""The play: every step in order, by the processes that would do it in life. What it returns is what they said."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from clients.demo import cast as casting
from clients.demo.cast import Cast
from clients.demo.stage import Stage, call
from clients.hospital import bill_file, local_api
from clients.hospital.sample import sample_bill
from clients.insurer import product as products
from zhifu import bill as bills
from zhifu.bill import Bill
from zhifu.errors import Malformed, Refused

SETTLE_S: Final = 30.0
SETTLED_S: Final = 20.0
_SHOWN: Final = ("id", "purpose", "sender", "recipient", "state", "sealed", "ceiling", "released")
Tell = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """What the demo is asked for. ``bill`` is a file; None for the sample. ``keep`` is a folder, or None.

    With ``code`` the patient agreed to a direct payment before, and shows a code at the desk.
    """

    bill: Path | None
    product: str
    keep: Path | None
    code: bool = False


@dataclass(slots=True)
class Played:
    """What happened, for the story and for programs."""

    bill: Bill
    product: str
    settlement: dict[str, Any] = field(default_factory=dict)
    consent: dict[str, Any] = field(default_factory=dict)
    statements: list[dict[str, Any]] = field(default_factory=list)
    audit: dict[str, Any] = field(default_factory=dict)
    trail: list[dict[str, Any]] = field(default_factory=list)
    processes: list[dict[str, Any]] = field(default_factory=list)
    members: list[dict[str, Any]] = field(default_factory=list)
    data_dir: str | None = None

    def document(self) -> dict[str, Any]:
        """The contract of ``zhifu demo --json``."""
        found = self.settlement
        exchanges = [{name: one[name] for name in _SHOWN} for one in found["exchanges"]]
        return {
            "total_fen": found["total_fen"],
            "public_fen": found["public_fen"],
            "commercial_fen": found["commercial_fen"],
            "patient_fen": found["patient_fen"],
            "exchanges": exchanges,
            "audit": {name: self.audit[name] for name in ("origin", "size", "root", "verified")},
            "processes": self.processes,
            "settlement_ms": found["settlement_ms"],
            "data_dir": self.data_dir,
        }


def read(options: Options) -> tuple[bytes, Bill]:
    """The bill, checked before anything is started. Raises `Malformed` (bill.*, usage.argument)."""
    products.load(options.product)
    if options.bill is not None:
        return bill_file.read_bill(options.bill)
    content = sample_bill(1)
    return content, bills.parse(content)


def play(options: Options, stage: Stage, tell: Tell) -> Played:
    """Run the whole discharge on ``stage``; its processes are the caller's to stop.

    Raises the first error of any process; `Refused` (settlement.*) if no settlement was reached.
    """
    content, bill = read(options)
    played = Played(bill, options.product, data_dir=str(options.keep) if options.keep else None)
    chosen = products.load(options.product)
    tell(
        "启动经办平台，各机构凭一次性邀请入网，互相核对身份指纹",
        "the broker starts; organisations enrol and pin each other",
    )
    cast, actors = _open_house(stage, options, chosen.public_first)
    played.processes = [{"role": actor.role, "pid": actor.process.pid} for actor in stage.actors]
    tell(
        "患者在自己的设备上生成密钥，医院与保险公司核验身份后出具证明",
        "the patient's wallet draws a key; two organisations attest it",
    )
    now = int(time.time())
    casting.hand_over(stage, "bill.json", content)
    with ThreadPoolExecutor(1) as pool:
        quota = pool.submit(casting.allow, stage, cast)
        key = casting.enrol_patient(stage, cast, bill, now)
    tell(
        "保险公司把在保名册换算成只有自己能对应的假名", "the insurer links its insured persons to pseudonyms of its own"
    )
    casting.insure(stage, cast, bill, quota.result())
    request = casting.ask(stage, cast, key, bill, now, direct_pay=options.code)
    tell("医院出示授权请求，患者查看后签署", "the hospital asks; the patient reads and signs")
    pid, consent, played.consent = casting.agree(stage, request)
    played.processes.append({"role": "patient", "pid": pid})
    for actor in actors:
        played.members.append(dict(stage.ready(actor)))
    tell("出院结算：账单密封一次，医保、商保依次结算", "discharge: the bill is sealed once, and each payer answers")
    code = casting.show_code(stage, cast, consent) if options.code else None
    played.settlement = _settle(stage, content, consent, code, direct=not chosen.public_first)
    tell("患者收取结算单；审计方核验全部日志", "the patient reads her statement; the auditor verifies the log")
    played.statements = json.loads(call("clients", "wallet", "statement", str(stage.path / "patient"), "--json")[1])
    played.settlement = _final(stage, played.settlement)
    pid, out = call("clients", "audit", "verify", str(stage.path), "--json")
    played.audit = json.loads(out)
    played.processes.append({"role": "auditor", "pid": pid})
    played.trail = list(_trail(stage))
    return played


def _open_house(stage: Stage, options: Options, public_first: bool) -> tuple[Cast, list[Any]]:
    """Broker first; participants enrol through it; then their nodes start."""
    operators = [word for path in casting.operator_files(stage) for word in ("--operator", str(path))]
    call("broker", "init", str(stage.path / "broker"), "--origin", casting.ORIGIN, *operators)
    broker = stage.start("broker", "broker", "serve", str(stage.path / "broker"))
    stage.ready(broker)
    cast = casting.join(stage, casting.invite(stage))
    actors = []
    for role in ("hospital", "public-payer", "insurer"):
        more = ("--product", options.product) if role == "insurer" else ()
        actors.append(stage.start(role, "clients", "node", "serve", str(stage.path / role), *more))
    return cast, actors


def _settle(stage: Stage, content: bytes, consent: Path, code: str | None, *, direct: bool) -> dict[str, Any]:
    given = consent if code is None else None
    found = local_api.submit(stage.path / "hospital", content, given, direct=direct, timeout=SETTLE_S, code=code)
    if found["state"] != "confirmed":
        raise Refused(found["reason"], found["detail"])
    return found


def _final(stage: Stage, settlement: dict[str, Any]) -> dict[str, Any]:
    """The settlement once its last notices came: the statement is delivered when the patient opened it."""
    until = time.monotonic() + SETTLED_S
    while True:
        found = local_api.look(stage.path / "hospital", settlement["settlement"])
        states = {one["state"] for one in found["exchanges"]}
        if states <= {"answered", "delivered"} or time.monotonic() > until:
            return found
        time.sleep(0.05)


def _trail(stage: Stage) -> Iterator[dict[str, Any]]:
    for line in call("broker", "export", str(stage.path / "broker"))[1].splitlines():
        row = json.loads(line)
        if row["line"] == "entry":
            yield row


@contextmanager
def folder(keep: Path | None, temporary: Path) -> Iterator[Path]:
    """Where the processes keep their data. Raises `Malformed` (usage.file) if the folder to keep is not empty."""
    if keep is None:
        yield temporary
        return
    try:
        keep.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise Malformed("usage.file", f"{keep} is not empty")
    except OSError as error:
        raise Malformed("usage.file", f"{keep}: {error.strerror}") from error
    yield keep
