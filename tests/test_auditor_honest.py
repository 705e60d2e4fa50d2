"""An honest broker's log, made by the broker's own parts with real keys, and what the auditor says of it.

`World` is the builder for the other tests of the auditor as well: a broker's folder and an auditor's, driven step
by step under a clock of its own.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from nacl.signing import SigningKey
from typer.testing import CliRunner

from broker import delivery, directory, enrolment, export, grants, home, pipeline
from broker.audit import Commit, Log
from broker.audit import Sequence as Sequencing
from broker.consent import Consent
from broker.directory import Directory
from broker.gate import Gate
from broker.home import Home
from broker.revocation import Revoker
from broker.stages import Outcome, Recorded, Refusal
from broker.store import tables
from broker.store.interface import Transaction
from broker.store.sqlite import SqliteStore, open_read_only
from clients.auditor import cli, pins
from clients.auditor.pins import Pins
from clients.auditor.report import Report
from clients.auditor.verify import Verification
from clients.config import Pin
from policies.load import load as load_policy
from tests import formats
from tests.formats import HOSPITAL, INSURER, NOW, ORIGIN, PAYER, Exchange, Party, Sent, further_key, seed
from tests.fresh import fresh_database
from zhifu import consent, envelope, epoch, schema, sealed
from zhifu.acknowledgement import Acknowledgement
from zhifu.consent import Grant, Revocation
from zhifu.envelope import Envelope
from zhifu.epoch import Epoch
from zhifu.errors import Malformed
from zhifu.keys import participant_id
from zhifu.merkle import Frontier
from zhifu.receipt import Detail, Meta
from zhifu.schema import Schema
from zhifu.v1 import exchange_pb2
from zhifu.v1.signed_pb2 import BASIS_KIND_STATUTE, OUTCOME_OPENED, OUTCOME_REFUSED

T = TypeVar("T")
Apply = Callable[[Transaction, Sequencing, int], T]
ROLES: Final = {HOSPITAL: "hospital", PAYER: "public-payer", INSURER: "insurer"}
COORDINATION: Final = schema.load("coordination")
STATEMENT: Final = schema.load("statement")
CLAIM: Final = formats.CLAIM
BUNDLE: Final = load_policy()


def epoch_id(party: Party) -> bytes:
    return seed(f"epoch of {party.name}")[:16]


def sent(one: Exchange, **changed: Any) -> Sent:
    """As the sender signs it, under its own epoch; ``changed`` are fields of the presentation."""
    made = one.send()
    return replace(made, shown=replace(made.shown, **{"epoch_id": epoch_id(one.sender), **changed}))


def sealed_exchange(one: Exchange, kind: Schema, values: dict[str, Any]) -> Exchange:
    """The same exchange with another record, everything of it released."""
    record = sealed.seal(kind, values, one.sender.id, NOW * 1000)
    return replace(one, record=record, ceilings=kind.finest, released=kind.finest)


@dataclass
class World:
    """A broker's folder at ``path/broker``, an auditor's at ``path/auditor``; ``now_ms`` is the only clock."""

    path: Path
    now_ms: int = NOW * 1000
    count: int = 0
    opened: Home = field(init=False)

    def __post_init__(self) -> None:
        folder = self.path / "broker"
        is_new = not folder.exists()
        self.opened = home.create(folder, ORIGIN, NOW) if is_new else home.open_home(folder)
        if is_new:
            fresh_database(self.opened.database)
        self.store = SqliteStore(self.opened.database)
        self.store._writer.execute("PRAGMA synchronous=OFF")
        self.log = Log(ORIGIN, self.opened.log_key, self.store.reader)
        self.directory = Directory(self.store.reader)
        gate = Gate(self.opened.gate_keys)
        self.pipeline = pipeline.Pipeline(Consent(BUNDLE.hash), gate, BUNDLE, self.directory)

    @property
    def now(self) -> int:
        return self.now_ms // 1000

    @property
    def pins(self) -> Pins:
        people = {party.id: Pin(role, party.name) for party, role in ROLES.items()}
        registrar = bytes(SigningKey(seed("registrar")).verify_key)
        return Pins(ORIGIN, self.opened.vkey, people, registrar, frozenset([BUNDLE.hash]))

    def close(self) -> None:
        self.store.close()

    def branch(self, path: Path) -> World:
        """A second broker with the same keys and the same past."""
        with closing(sqlite3.connect(self.opened.database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copytree(self.path, path)
        return World(path, self.now_ms, self.count)

    # Writing

    def commit(self, *steps: Apply[Any]) -> Commit:
        """One transaction, a second after the last one."""
        self.now_ms += 1000
        state = self.store.begin()
        sequence = self.log.begin(state)
        for step in steps:
            step(state, sequence, self.now_ms)
        made = sequence.seal(state, self.now_ms)
        self.store.commit()
        self.log.committed(sequence)
        self.directory.reload()
        return made

    def record(self, *entries: tuple[Meta, Detail]) -> int:
        """What an operator with the log key can always do: write an entry. The index of the last one."""
        self.commit(*(lambda _, sequence, now_ms, one=one: sequence.record(*one, now_ms) for one in entries))
        return self.log.size - 1

    def enrol(self, party: Party) -> None:
        def step(state: Transaction, sequence: Sequencing, now_ms: int) -> None:
            code = enrolment.invite(ROLES[party], party.name, state, now_ms)
            signed = party.statement().sign(party.identity)
            enrolment.redeem(code, party.statement().tls_spki[0], signed, state, sequence, now_ms)

        self.commit(step)

    def state_keys(self, party: Party, serial: int) -> int:
        """The party's statement anew; its entry."""
        signed = party.statement(serial, self.now).sign(party.identity)
        self.commit(lambda state, sequence, now_ms: directory.state_keys(party.id, signed, state, sequence, now_ms))
        return self.log.size - 1

    def offer_epoch(self, party: Party) -> None:
        """As `broker.services.exchange` takes an offer."""
        gate_key = next(iter(self.opened.gate_keys.values())).public
        drawn = Epoch(epoch_id(party), seed("epoch"), NOW - 60, NOW + 36 * 3600)
        offer = epoch.verify_offer(
            drawn.offer(party.id, gate_key, party.signing), party.id, bytes(party.signing.verify_key)
        )
        row = (offer.epoch_id, party.id, offer.gate_key_id, offer.not_before, offer.not_after, offer.sealed_secret)

        def step(state: Transaction, sequence: Sequencing, now_ms: int) -> None:
            state.insert(tables.Epoch, [row])
            sequence.record(Meta("epoch.offered", sender=party.id), Detail(documents=(offer.epoch_id,)), now_ms)

        self.commit(step)

    def enrol_subject(self, subject: SigningKey) -> None:
        key = bytes(subject.verify_key)
        attested = [envelope.from_bytes(envelope.ATTESTATION, one.attests(key)) for one in (HOSPITAL, PAYER)]
        self.commit(
            lambda state, sequence, now_ms: enrolment.enrol_subject(
                key, attested, [further_key(subject)], self.directory, ORIGIN, state, sequence, now_ms
            )
        )

    def register(self, signed: Envelope) -> int:
        """A grant; its entry."""
        self.commit(
            lambda state, sequence, now_ms: grants.register(signed, ORIGIN, self.directory, state, sequence, now_ms)
        )
        return self.log.size - 1

    def refuse(self, signed: Envelope) -> None:
        """What was handed in as a grant, and is none."""
        self.commit(lambda state, sequence, now_ms: grants.refuse(signed, "consent.signature", state, sequence, now_ms))

    def revoke(self, grant: Grant, subject: SigningKey) -> int:
        """The entry of the revocation; what was queued is withdrawn behind it."""
        before = self.log.size
        signed = Revocation(ORIGIN, consent.hash_of(grant.sign(subject).payload), self.now).sign(subject)
        revoker = Revoker(ORIGIN, self.directory, ())
        self.commit(lambda state, sequence, now_ms: revoker.revoke(signed, state, sequence, now_ms))
        return before

    def submit(self, *shown: Sent) -> list[Outcome]:
        """A frame of one sender's exchanges through the broker's pipeline."""
        sender = shown[0].exchange.sender
        payloads = [one.shown.to_bytes() for one in shown]
        signature, _ = envelope.seal_frame(envelope.PRESENTATION, payloads, shown[0].exchange.signer or sender.signing)
        parcels = [
            exchange_pb2.Submission(
                presentation=payload,
                manifest=one.exchange.record.encoded_manifest,
                leaves=one.exchange.record.leaves,
                capsule=one.capsule,
            )
            for one, payload in zip(shown, payloads, strict=True)
        ]
        frame = exchange_pb2.SubmissionFrame(signature=signature, submissions=parcels)
        verified = pipeline.verify(frame, sender.id, self.directory.signing_key(sender.id, self.now), ORIGIN)
        found: list[Outcome] = []
        self.commit(
            lambda state, sequence, now_ms: found.extend(
                *self.pipeline.accept([pipeline.Frame(sender.id, verified)], state, sequence, now_ms)
            )
        )
        return found

    def accept(self, *shown: Sent) -> list[int]:
        """`submit`, all accepted; their entries."""
        outcomes = self.submit(*shown)
        assert [str(one.error) for one in outcomes if isinstance(one, Refusal)] == []
        return [one.entry.index for one in outcomes if isinstance(one, Recorded)]

    def said(self, one: Sent, entry: int, reason: str = "", **changed: Any) -> Acknowledgement:
        """What the recipient of ``entry`` says: it was shown this log."""
        accepted = self.store.reader.find(tables.Checkpoint, after=entry, limit=1)[0]
        (leaf,) = self.store.reader.nodes([(0, entry)])
        outcome = OUTCOME_REFUSED if reason else OUTCOME_OPENED
        recipient = one.shown.recipient
        word = Acknowledgement(
            ORIGIN, recipient, one.hash, leaf, entry, accepted.size, accepted.root, outcome, reason, self.now
        )
        return replace(word, **changed)

    def acknowledge(self, key: SigningKey, *said: Acknowledgement) -> int:
        """The entry of these acknowledgements, signed as one frame."""
        _, signed = envelope.seal_frame(envelope.ACKNOWLEDGEMENT, [one.to_bytes() for one in said], key)
        words = delivery.said(signed, said[0].recipient, ORIGIN)
        self.commit(lambda state, sequence, now_ms: delivery.acknowledge([words], state, sequence, now_ms))
        return self.log.size - 1

    # Sending

    def fresh(self, one: Exchange, **changed: Any) -> Sent:
        """Signed now, under a nonce that was not used."""
        self.count += 1
        nonce = self.now_ms.to_bytes(6, "big") + self.count.to_bytes(10, "big")
        return sent(replace(one, nonce=nonce, issued_at=self.now, not_after=self.now + 3600, **changed))

    def write_pins(self) -> None:
        pins.write(self.path / "auditor", self.pins)

    # Reading

    def lines(self) -> Generator[bytes, None, None]:
        return exported(self.opened.database)

    def verify(self, seen: Frontier | None = None, pinned: Pins | None = None) -> Report:
        with closing(self.lines()) as read:
            return Verification(pinned or self.pins, seen or Frontier(), [BUNDLE]).run(read)


def exported(database: Path) -> Generator[bytes, None, None]:
    """What ``python -m broker export`` prints, made in this process."""
    reader = open_read_only(database)
    try:
        for line in export.lines(reader):
            yield line.encode()
    finally:
        reader.close()


def patient(name: str = INSURER.name) -> SigningKey:
    return formats.subject_key(name)


def claim() -> Exchange:
    """The claim to the insurer, with levels that the policy in force allows, on a grant for claim and coordination."""
    made = formats.claim(policy={})
    assert made.grant is not None
    scopes = sorted([(CLAIM.hash, made.ceilings), (COORDINATION.hash, COORDINATION.finest)])
    return replace(made, grant=replace(made.grant, scopes=tuple(scopes)))


def coordination(about: Exchange) -> Exchange:
    """What others pay, on the same grant and workflow."""
    values = {"encounter": formats.PATIENT["encounter"], "rule": "order/1", "compensation": [["total", 100]]}
    return sealed_exchange(about, COORDINATION, values)


def public_claim() -> Exchange:
    """The claim to the public payer, by statute."""
    handle = sealed.encounter_handle(formats.PATIENT["encounter"], PAYER.id)
    return replace(
        claim(), recipient=PAYER, purpose="public-settlement", encounter=handle, grant=None, subject=None,
        basis_kind=BASIS_KIND_STATUTE, basis=BUNDLE.hash, workflow=seed("public")[:16],
    )  # fmt: skip


def statement(asked: Sent) -> Exchange:
    """The hospital's statement to the patient, in answer to its claim."""
    made = formats.answer(asked, {"remainder": 100}, "statement")
    return replace(made, sender=HOSPITAL, recipient=formats.wallet(), purpose="statement", record=sealed.seal(
        STATEMENT, {"encounter": formats.PATIENT["encounter"], "remainder": 100}, HOSPITAL.id, NOW * 1000
    ))  # fmt: skip


@dataclass(frozen=True)
class Story:
    """A world in which everything happened once, and where it stands in its log."""

    world: World
    claim: Sent
    claimed: int
    granted: int
    acknowledged: int
    denied: int
    revoked: int


def begin(path: Path) -> World:
    """Three participants with keys and epochs, a patient with an enrolled key and a registered grant."""
    world = World(path)
    for party in ROLES:
        world.enrol(party)
        world.offer_epoch(party)
    world.enrol_subject(patient())
    signed = claim().grant_envelope
    assert signed is not None
    world.register(signed)
    return world


def tell(path: Path) -> Story:
    """Every event of the log, written by the broker itself."""
    world = begin(path)
    granted = world.log.size - 1
    own = claim().grant_envelope
    assert own is not None
    world.refuse(replace(own, signature=bytes(64)))
    first, coordinated = world.fresh(claim()), world.fresh(coordination(claim()))
    claimed, at = world.accept(first, coordinated)
    acknowledged = world.acknowledge(INSURER.signing, world.said(first, claimed), world.said(coordinated, at))
    decision = world.fresh(formats.answer(first, {"outcome": "reserved"}))
    (decided,) = world.accept(decision)
    world.acknowledge(HOSPITAL.signing, world.said(decision, decided))
    world.state_keys(HOSPITAL, 2)
    public = world.fresh(public_claim())
    (at,) = world.accept(public)
    world.acknowledge(PAYER.signing, world.said(public, at, "receipt.missing"))
    to_patient = world.fresh(statement(first))
    (at,) = world.accept(to_patient)
    world.acknowledge(patient(), world.said(to_patient, at))
    (refused,) = world.submit(world.fresh(claim(), ceilings=CLAIM.finest))
    assert isinstance(refused, Refusal)
    denied = world.log.size - 1
    _expire(world)
    world.accept(world.fresh(claim()), world.fresh(coordination(claim())))
    grant = claim().grant
    assert grant is not None
    revoked = world.revoke(grant, patient())
    world.submit(world.fresh(claim()))
    return Story(world, first, claimed, granted, acknowledged, denied, revoked)


def _expire(world: World) -> None:
    world.accept(world.fresh(public_claim(), workflow=seed("late")[:16]))
    world.now_ms += 2 * 3600 * 1000
    world.commit(delivery.expire)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """For tests that change nothing."""
    made = tell(tmp_path_factory.mktemp("honest"))
    yield made
    made.world.close()


def test_honest_log_verifies(story: Story) -> None:
    report = story.world.verify()
    assert report.first_bad is None
    assert report.verified
    assert report.size == story.world.log.size
    assert report.root == story.world.log.frontier.root().hex()
    assert report.participants == len(ROLES)
    assert report.entries == {
        "participant.enrolled": 3,
        "key.stated": 4,
        "epoch.offered": 3,
        "subject.enrolled": 1,
        "subject.key_added": 1,
        "grant.registered": 1,
        "grant.refused": 1,
        "grant.revoked": 1,
        "exchange.accepted": 8,
        "exchange.acknowledged": 4,
        "exchange.denied": 2,
        "exchange.expired": 1,
        "exchange.withdrawn": 2,
    }
    assert sum(report.entries.values()) == report.size


def test_young_log_verifies(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert world.verify().verified
    assert world.verify().size == 0
    world.close()


def test_every_prefix_of_the_tree_verifies(tmp_path: Path) -> None:
    """Sizes 1 to 9, with each head a continuation of the one before."""
    world, seen = World(tmp_path), Frontier()
    for party in ROLES:
        for step in (world.enrol, world.offer_epoch):
            step(party)
            verification = Verification(world.pins, seen, [BUNDLE])
            assert verification.run(world.lines()).verified
            assert verification.head == world.log.frontier
            seen = verification.head
    world.close()


def test_command_verifies_and_remembers(story: Story, tmp_path: Path) -> None:
    world = story.world.branch(tmp_path / "demo")
    world.write_pins()
    found = CliRunner().invoke(cli.app, ["verify", str(world.path), "--json"])
    assert found.exit_code == 0, found.output
    assert found.stderr == ""
    report = json.loads(found.stdout)
    assert report["verified"] is True
    assert report["first_bad"] is None
    assert report["size"] == world.log.size
    head = world.path / "auditor" / "head.json"
    assert head.stat().st_mode & 0o777 == 0o600
    assert json.loads(head.read_text())["root"] == report["root"]
    assert pins.load_head(world.path / "auditor") == world.log.frontier
    world.close()


def test_command_shows_a_table(story: Story, tmp_path: Path) -> None:
    world = story.world.branch(tmp_path / "demo")
    world.write_pins()
    found = CliRunner().invoke(cli.app, ["verify", str(world.path)], env={"COLUMNS": "120"})
    assert found.exit_code == 0
    assert "通过 / verified" in found.stdout
    assert "交换受理 / exchange.accepted" in found.stdout
    world.close()


def test_command_needs_folders_and_pins(story: Story, tmp_path: Path) -> None:
    found = CliRunner().invoke(cli.app, ["verify", str(tmp_path)])
    assert (found.exit_code, found.stdout) == (2, "")
    assert found.stderr.startswith("zhifu: usage.file: ")
    world = story.world.branch(tmp_path / "demo")
    found = CliRunner().invoke(cli.app, ["verify", str(world.path)])
    assert (found.exit_code, found.stdout) == (2, "")
    assert "auditor.toml" in found.stderr
    world.close()


def test_pins_are_read_as_written(story: Story, tmp_path: Path) -> None:
    written = story.world.pins
    pins.write(tmp_path / "auditor", written)
    assert pins.load(tmp_path / "auditor") == written
    assert (tmp_path / "auditor" / "auditor.toml").stat().st_mode & 0o777 == 0o600
    assert written.registrar_id == participant_id(written.registrar or b"")
    bare = Pins(written.origin, written.log_key, {})
    pins.write(tmp_path / "auditor", bare)
    assert pins.load(tmp_path / "auditor") == bare


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("origin =", "origine ="),
        ("log.example/zhifu", "log.example/other"),
        ('role = "hospital"', 'role = "registry"'),
        ("[pins]", "[others]"),
        ("registrar = ", "registrar = 1 # "),
        ("policies = [", 'policies = ["00", '),
        ("[pins]", "[pins]\nab = { role = 'insurer', name = 'x' }"),
        ("[pins]", "[pins"),
    ],
)
def test_pins_are_read_strictly(story: Story, tmp_path: Path, old: str, new: str) -> None:
    folder = tmp_path / "auditor"
    pins.write(folder, story.world.pins)
    file = folder / "auditor.toml"
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(Malformed, match=r"usage\.file"):
        pins.load(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"size": 1, "root": "00", "nodes": []}'])
def test_head_is_read_strictly(tmp_path: Path, content: str) -> None:
    (tmp_path / "head.json").write_text(content)
    with pytest.raises(Malformed, match=r"usage\.file"):
        pins.load_head(tmp_path)


def test_head_never_goes_back(tmp_path: Path) -> None:
    small, large = Frontier().append(seed("a")), Frontier().extend([seed("a"), seed("b"), seed("c")])
    for head in (small, large, small):
        pins.move_head(tmp_path, head)
    assert pins.load_head(tmp_path) == large
    document = json.loads((tmp_path / "head.json").read_text())
    document["root"] = "00" * 32
    (tmp_path / "head.json").write_text(json.dumps(document))
    with pytest.raises(Malformed, match="root"):
        pins.load_head(tmp_path)
