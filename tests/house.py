"""A house: a broker and its participants' nodes as processes of their own, below one folder of a test.

What people do between them (invite, compare cards, agree, hand over a file) is done here, by the same commands but in
this process, since starting Python costs more than what they do. `open_house` stops every process by its id.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sqlite3
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import date
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

import httpx

from broker import __main__ as operator
from clients import cli
from clients.demo import cast as casting
from clients.demo.cast import Cast
from clients.demo.process import Process
from clients.demo.stage import LOG, Actor, Stage
from clients.insurer import book as books
from clients.insurer import cli as insurers
from clients.keystore import FileKeystore
from clients.ledger import Holding, Ledger
from clients.store import Store
from tests.fresh import fresh_database
from zhifu import bill as bills

T = TypeVar("T")
NODES: Final = ("hospital", "public-payer", "insurer")
_NOBODY: Final[Mapping[str, str]] = {}
PATIENCE_S: Final = 100.0
"""How long a fact is waited for: far longer than it takes, since a loaded computer is slow, not wrong."""
NO_AUTHORITY: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For an HTTP client that speaks no TLS: to read every authority's certificate costs more than the test's request."""
_LOOK_S: Final = 0.02
_SELDOM_S: Final = 0.1
_PARTS: Final = count(1)
_LAST: Final = 40
"""Lines of a process's log that are shown where something did not happen."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command said and ended with."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def ok(self) -> Ran:
        assert self.code == 0, self.err
        return self


def run(*command: object) -> Ran:
    """``zhifu`` with these arguments, in this process."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main([str(word) for word in command])
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
    return Ran(code, out.getvalue(), err.getvalue())


def spawn(*command: object, code: str = "", timeout_s: float = PATIENCE_S) -> Ran:
    """``zhifu`` with these arguments as a process of its own; ``code`` is Python that runs in it first."""
    process = forked(*(str(word) for word in command), code=code)
    with process.stdout, process.stderr, ThreadPoolExecutor(1) as pool:
        said = pool.submit(process.stderr.read)
        overdue = threading.Timer(timeout_s, process.kill)
        overdue.start()
        out, err = process.stdout.read(), said.result()
    overdue.cancel()
    return Ran(process.wait(), out, err)


def forked(*words: str, code: str = "", log: Path | None = None) -> Process:
    """``zhifu`` with these words, running, after ``code``. Forked: it finds the product's modules imported."""
    module, *rest = command(*words, code=code)
    return Process(module, rest, log)


@contextmanager
def serving(*command: object, code: str = "") -> Iterator[Any]:
    """``zhifu`` with these arguments runs within the block, which begins with what it says when it is ready."""
    with TemporaryDirectory() as folder:
        log = Path(folder) / LOG
        process = forked(*(str(word) for word in command), code=code, log=log)
        try:
            with process.stdout, process.stderr:
                yield json.loads(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_S)
            print(log.read_text("utf-8"))


def command(*words: str, code: str = "") -> list[str]:
    """The module that does what ``zhifu`` does with these words, after ``code``, and its words."""
    # What the command would become by starting Python anew.
    own = {"broker": ["broker"], "pseudonym": ["broker", "pseudonym"]}.get(words[0], ["clients", words[0]])
    found = [*own, *words[1:]]
    return ["tests.altered", code, *found] if code else found


def python(*words: str) -> list[str]:
    """The command line that runs ``zhifu`` as other programs do, in a Python of its own."""
    return [sys.executable, "-m", "clients", *words]


def ask(method: str, url: str, **more: Any) -> httpx.Response:
    """An HTTP request, without TLS, to a process on this computer."""
    with httpx.Client(trust_env=False, verify=NO_AUTHORITY) as client:
        return client.request(method, url, **more)


def operate(*command: object) -> None:
    """``python -m broker`` with these arguments, in this process."""
    before = os.umask(0o077)
    try:
        with redirect_stdout(io.StringIO()):
            assert operator.main([str(word) for word in command]) == 0
    finally:
        os.umask(before)


def role_of(name: str) -> str:
    """The role of a node by its folder's name."""
    return next((role for role in NODES if name.startswith(role)), name)


def until(look: Callable[[], T | None], what: str, patience_s: float = PATIENCE_S, *, pause_s: float = _LOOK_S) -> T:
    """What ``look`` finds, as soon as it finds something that is true. Fails with ``what`` did not happen.

    ``pause_s``: between two looks, more where to look is itself dear.
    """
    begun = time.monotonic()
    while True:
        found = look()
        if found:
            return found
        waited = time.monotonic() - begun
        assert waited < patience_s, f"this did not happen within {patience_s:.0f} s: {what}"
        # To look costs, whoever is looked at too: what took a second already is not looked at fifty times in the next.
        time.sleep(max(pause_s, min(_SELDOM_S, waited / 10)))


def further(bill: bytes) -> bytes:
    """The next bill of a stay that goes on: of the same visit, and of other months, since a day is paid once."""
    document = json.loads(bill)
    later(document["setlinfo"], next(_PARTS))
    return json.dumps(document, ensure_ascii=False).encode()


def another_stay(bill: bytes) -> bytes:
    """The bill of a further stay of the same person, with a number of its own."""
    document = json.loads(further(bill))
    document["setlinfo"]["mdtrt_id"] += str(next(_PARTS))
    return json.dumps(document, ensure_ascii=False).encode()


def later(head: dict[str, Any], months: int) -> None:
    """Move a stay on by so many months."""
    for name in ("begndate", "enddate"):
        day = date.fromisoformat(head[name])
        year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
        head[name] = day.replace(year=year, month=month + 1).isoformat()


@dataclass(frozen=True, slots=True)
class Patient:
    """A patient's wallet with its enrolled key (hex) for this hospital and this insurer."""

    wallet: Path
    key: str
    insurer: str = "insurer"


@dataclass(slots=True)
class House:
    """A running house. ``product`` is the insurer's; ``ports`` are the broker's, the same over its restarts.

    ``others`` are further nodes: the folder of each, which starts with its role, and an insurer's product.
    """

    stage: Stage
    product: str = "full"
    others: Mapping[str, str] = field(default_factory=dict)
    cast: Cast = field(init=False)
    ports: tuple[int, int] = (0, 0)
    running: dict[str, Actor] = field(default_factory=dict)
    _files: int = 0

    @property
    def path(self) -> Path:
        return self.stage.path

    @property
    def nodes(self) -> tuple[str, ...]:
        """Every node's folder."""
        return (*NODES, *self.others)

    def file(self, name: str, content: bytes | None = None) -> Path:
        """A path of its own for what passes from hand to hand; with ``content`` it is there."""
        self._files += 1
        path = self.path / "desk" / f"{self._files}.{name}"
        if content is not None:
            path.write_bytes(content)
        return path

    # Processes

    def build(self) -> None:
        """Broker, enrolment, pins; then the nodes, all at once."""
        operators = [word for path in casting.operator_files(self.stage) for word in ("--operator", path)]
        operate("init", self.path / "broker", "--origin", casting.ORIGIN, *operators)
        fresh_database(self.path / "broker" / "broker.db")
        self.restart("broker")
        self.ports = (self.said("broker")["node_port"], self.said("broker")["public_port"])
        (self.path / "desk").mkdir(mode=0o700)
        invitations = {name: self.path / "desk" / f"{name}.invitation" for name in self.nodes}
        for name, path in invitations.items():
            role = role_of(name)
            called = casting.NAMES[role] if name in NODES else f"示例{name}有限公司"
            operate("invite", self.path / "broker", "--role", role, "--name", called, "-o", path)
        operate("contact", self.path / "broker", "-o", self.contact)
        self.cast = casting.join(self.stage, invitations)
        self.prepare()
        for role in self.nodes:
            self.start(role)
        for role in self.nodes:
            self.ready(role)

    def prepare(self) -> None:
        """What a house of another kind does when everybody has joined and no node runs yet."""

    @property
    def contact(self) -> Path:
        return self.path / "desk" / "contact.json"

    def start(self, role: str, *more: str, code: str = "") -> None:
        """Start the broker, on the ports it had, or a node; `ready` awaits that it serves, or is attached."""
        words = ["node", "serve", str(self.path / role)]
        if role == "broker":
            words = ["broker", "serve", str(self.path / role)]
            for option, port in zip(("--node-port", "--public-port"), self.ports, strict=True):
                words += [option, str(port)]
        elif role_of(role) == "insurer":
            words += ["--product", self.others.get(role, self.product)]
        self.running[role] = self.stage.start(role, *command(*words, *more, code=code))

    def restart(self, role: str, *more: str, code: str = "") -> None:
        """Start it, and await that it is ready."""
        self.start(role, *more, code=code)
        self.ready(role)

    def ready(self, role: str) -> None:
        self.stage.ready(self.running[role])

    def said(self, role: str) -> Any:
        return self.running[role].said

    def pid(self, role: str) -> int:
        return self.running[role].process.pid

    def kill(self, role: str) -> None:
        """SIGKILL: nothing of the process's own runs after this."""
        self.running[role].process.kill()
        self.running[role].process.wait()

    def end(self, role: str) -> int:
        """SIGTERM; the exit code."""
        self.running[role].process.send_signal(signal.SIGTERM)
        return self.running[role].process.wait(PATIENCE_S)

    @contextmanager
    def frozen(self, *roles: str) -> Iterator[None]:
        """Within the block these processes do not run at all (SIGSTOP); killed ones stay dead."""
        for role in roles:
            os.kill(self.pid(role), signal.SIGSTOP)
        try:
            yield
        finally:
            self.thaw()

    def thaw(self) -> None:
        for actor in self.running.values():
            if actor.process.poll() is None:
                actor.process.send_signal(signal.SIGCONT)

    # What lies on the disks

    def log(self, role: str) -> str:
        return (self.path / role / LOG).read_text("utf-8")

    def broker_rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Committed rows of the broker's database."""
        with closing(sqlite3.connect(f"file:{self.path / 'broker' / 'broker.db'}?mode=ro", uri=True)) as opened:
            return opened.execute(query, values).fetchall()

    @contextmanager
    def store(self, role: str) -> Iterator[Store]:
        """A node's memory, beside the node itself."""
        settings = self.cast.settings[role]
        opened = Store(settings.database, FileKeystore.load(settings.keys))
        try:
            yield opened
        finally:
            opened.close()

    def holdings(self, role: str) -> list[Holding]:
        """Every holding in a payer's ledger."""
        with self.store(role) as store:
            return Ledger(store).holdings()

    # The patient

    def enrol(
        self,
        bill: bytes,
        name: str = "patient",
        insurer: str = "insurer",
        *,
        insured: bool = False,
        admission: Path | None = None,
    ) -> Patient:
        """The patient of ``bill``: her wallet draws a key, hospital and insurer attest it, she enrols it.

        ``insured``: she stands in the insurer's book already. With ``admission`` the hospital's desk has that only.
        """
        wallet = self.path / name
        seen = ("--admission", admission) if admission else ("--bill", self.file("bill.json", bill))
        cards = ("--hospital", self.cast.cards["hospital"], "--recipient", self.cast.cards[insurer])
        drawn = run("wallet", "enrol", wallet, *cards, "--contact", self.contact, "--json").ok()
        key = str(drawn.json["subject_key"])
        words = [self.file("attestation"), self.file("attestation")]
        reach = ("--wallet-key", drawn.json["wallet_key"], "--insurer", self.cast.ids[insurer].hex())
        run("hospital", "attest", self.path / "hospital", key, *seen, "-o", words[0], *reach).ok()
        run("node", "attest", self.path / insurer, key, "-o", words[1]).ok()
        run("wallet", "enrol", wallet, *cards, "--attestation", words[0], "--attestation", words[1]).ok()
        if not insured:
            self.insure(bill)
        return Patient(wallet, key, insurer)

    def insure(self, bill: bytes) -> None:
        """The patient of ``bill`` is in the insurer's book."""
        quota = self.file("quota.json")
        operate(*casting.quota_command(self.stage, self.cast, quota))
        casting.insure(self.stage, self.cast, bills.parse(bill), quota)

    def cover(self, insurer: str, rows: Sequence[str]) -> None:
        """These rows of a list, with all its columns, are in an insurer's book."""
        quota = self.file("quota.json")
        operate(*casting.quota_command(self.stage, self.cast, quota, insurer))
        content = "\n".join([",".join(books.COLUMNS), *rows, ""]).encode()
        asyncio.run(insurers.run_build(self.path / insurer, content, insurers.read_quota(quota), add=True))

    def credit(self, bill: bytes, yuan: str) -> None:
        """The patient of ``bill`` has this much in her personal account."""
        person = bills.parse(bill).setlinfo.certno
        run("payer", "account", self.path / "public-payer", person, "--paid-in", yuan).ok()

    def decide(self, insurer: str, claim: str, *how: str) -> None:
        """A reviewer decides a claim of the queue."""
        said = ("--clause", "理赔须知 第九条：人工核定", "--officer", "复核员甲")
        run("insurer", "decide", self.path / insurer, claim, *said, *how).ok()

    def day(self, part: str, payer: str, day: str) -> Path:
        """A payer's signed statement of a day to the hospital, as a file."""
        path = self.file("statement")
        run(part, "statement", self.path / payer, day, "--hospital", self.cast.ids["hospital"].hex(), "-o", path).ok()
        return path

    def ask(self, patient: Patient, bill: bytes, *more: object) -> Path:
        """The hospital's consent request for a bill, as a file."""
        request, file = self.file("request.json"), self.file("bill.json", bill)
        to = ("--recipient", self.cast.ids[patient.insurer].hex(), "-o", request)
        run("hospital", "request-consent", self.path / "hospital", patient.key, "--bill", file, *to, *more).ok()
        return request

    def agree(self, patient: Patient, request: Path, narrow: Sequence[str] = ()) -> tuple[Path, str]:
        """The patient's consent as a file, and the grant's hash (hex)."""
        consent = self.file("consent.json")
        wishes = [word for wish in narrow for word in ("--narrow", wish)]
        given = run("wallet", "grant", patient.wallet, request, "-o", consent, "--json", *wishes).ok()
        return consent, str(given.json["grant"])

    def consent(self, patient: Patient, bill: bytes, narrow: Sequence[str] = ()) -> Path:
        """Asked and agreed."""
        return self.agree(patient, self.ask(patient, bill), narrow)[0]

    # The settlement

    def settle(self, bill: bytes, consent: Path | None, *more: object) -> Ran:
        """``zhifu hospital settle``, to its end."""
        given = () if consent is None else ("--consent", consent)
        file = self.file("bill.json", bill)
        return run("hospital", "settle", self.path / "hospital", "--bill", file, *given, "--json", *more)

    def submit(self, bill: bytes, consents: Sequence[tuple[str, Path]], **desk: object) -> str:
        """Hand a bill to a node (``hospital``) with any number of consents, each with its policy's kind."""
        hospital = str(desk.pop("hospital", "hospital"))
        given = [json.loads(path.read_text("utf-8")) | {"kind": kind} for kind, path in consents]
        body = {"bill": bill.decode(), "consents": given, **desk}
        return str(self.api("POST", "/settlements", body, hospital)["settlement"])

    def begin(self, bill: bytes, consent: Path | None, route: str = "public") -> str:
        """Hand a bill to the hospital's node and do not wait; the settlement's id."""
        given = json.loads(consent.read_text("utf-8")) if consent is not None else None
        body = {"bill": bill.decode(), "consent": given, "route": route}
        return str(self.api("POST", "/settlements", body)["settlement"])

    def look(self, settlement: str, hospital: str = "hospital") -> dict[str, Any]:
        """A settlement as its hospital's node shows it now."""
        found: dict[str, Any] = self.api("GET", f"/settlements/{settlement}", None, hospital)
        return found

    def finish(self, settlement: str, patience_s: float = PATIENCE_S, hospital: str = "hospital") -> dict[str, Any]:
        """The settlement once it ended."""

        def ended() -> dict[str, Any] | None:
            found = self.look(settlement, hospital)
            return found if found["state"] in ("confirmed", "failed", "cancelled", "reversed") else None

        try:
            return until(ended, f"settlement {settlement} ends", patience_s)
        except AssertionError:
            self.show(settlement, hospital)
            raise

    def show(self, settlement: str, hospital: str) -> None:
        """Print what everybody last said, for whoever has to find out why a settlement stood still."""
        print(json.dumps(self.look(settlement, hospital), ensure_ascii=False))
        for role, actor in self.running.items():
            lines = self.log(role).splitlines()[-_LAST:]
            print(f"--- {role}, ended with {actor.process.poll()}", *lines, sep="\n")

    def api(self, method: str, path: str, body: object, hospital: str = "hospital") -> Any:
        folder = self.path / hospital
        headers = {"Authorization": f"Bearer {(folder / 'api.token').read_text()}"}
        url = f"http://127.0.0.1:{(folder / 'api.port').read_text()}{path}"
        answer = ask(method, url, json=body, headers=headers, timeout=PATIENCE_S)
        assert answer.is_success, answer.text
        return answer.json()


H = TypeVar("H", bound=House)


@contextmanager
def built(house: H) -> Iterator[H]:
    """A house that runs; all its processes are over when the block ends."""
    try:
        house.build()
        yield house
    finally:
        house.thaw()
        house.stage.stop()


@contextmanager
def open_house(
    path: Path, product: str = "full", others: Mapping[str, str] = _NOBODY, kind: type[House] = House
) -> Iterator[House]:
    """A running house in an empty folder."""
    with built(kind(Stage(path), product, others)) as house:
        yield house
