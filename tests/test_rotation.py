"""Rotation under load: every key and certificate of two nodes and their broker is replaced, and no call fails."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from nacl.signing import SigningKey

from broker import authority, home
from broker.core import Timing
from broker.renewing import Renewal
from broker.store import tables
from broker.store.sqlite import open_read_only
from clients import renewal, rotation
from clients.demo.stage import Stage
from clients.keystore import FileKeystore
from clients.locking import alone
from clients.store import Job, Store, rewrapping
from tests.broker_rig import serving
from tests.formats import HOSPITAL, INSURER, NOW, PAYER, Party, claim, known, recipient, seed
from tests.house import PATIENCE_S, run, spawn
from tests.soak import crash
from zhifu import envelope
from zhifu.epoch import Epoch
from zhifu.errors import Error, Refused
from zhifu.receive import receive
from zhifu.statement import KeyStatement, verify_key_statement
from zhifu.v1 import signed_pb2

NODES = ("hospital", "public-payer")
WORKERS = 4
DAY_S = 86_400


async def until(look: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not look():
            await asyncio.sleep(0.05)
    assert look(), what


def stated(path: Path, participant: bytes) -> KeyStatement:
    rows = open_read_only(path / "broker" / "broker.db")
    row = rows.get(tables.Statement, participant)
    rows.close()
    assert row is not None
    signed = envelope.from_bytes(envelope.KEY_STATEMENT, row.envelope)
    return verify_key_statement(signed, participant, signed_pb2.KeyStatement.FromString(signed.payload).issued_at)


def serial_of(path: Path) -> int:
    return x509.load_pem_x509_certificate(path.read_bytes()).serial_number


async def progress(load: crash.Load, exchanges: int = 2 * WORKERS) -> None:
    """Some exchanges begin and end after this."""
    goal = len(load.told) + 2 * exchanges
    await until(lambda: len(load.told) >= goal or bool(load.faults), "exchanges go on")


async def rotate(house: crash.House, role: str) -> None:
    """All keys of a node, by the command, and until the broker's directory has them."""
    path, node = house.stage.path, house.nodes[role]
    before, certificate = stated(path, node.participant), serial_of(path / role / "tls.crt")
    (await asyncio.to_thread(spawn, "node", "rotate", path / role, "all")).ok()

    def done() -> bool:
        now, keys = stated(path, node.participant), FileKeystore.load(path / role / "keys")
        return serial_of(path / role / "tls.crt") != certificate and now.tls_spki == keys.tls_keys

    await until(done, f"{role} states its new keys")
    after = stated(path, node.participant)
    assert after.serial > before.serial
    assert after.identity_key == before.identity_key
    for name in ("signing_key", "cosigning_key", "kem_keys"):
        assert getattr(after, name) != getattr(before, name), name
    # The key before stays good for the connections that are open.
    assert len(after.tls_spki) == 2
    assert before.tls_spki[0] == after.tls_spki[1]


async def test_every_key_is_rotated_under_load_and_no_call_fails(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    try:
        house = await asyncio.to_thread(crash.House.open, stage)
        house.open_nodes()
        running = [asyncio.create_task(one.run()) for one in house.nodes.values()]
        load = crash.Load(house.nodes["hospital"], house.cast.ids["public-payer"])
        await asyncio.gather(*(one.attached() for one in house.nodes.values()))
        workers = [asyncio.create_task(load.work(number)) for number in range(WORKERS)]
        await progress(load)
        for role in NODES:
            await rotate(house, role)
            await progress(load)
        shown = serial_of(tmp_path / "broker" / "tls.crt")
        (await asyncio.to_thread(spawn, "broker", "rotate", tmp_path / "broker", "tls")).ok()
        assert serial_of(tmp_path / "broker" / "tls.crt") != shown
        (await asyncio.to_thread(spawn, "broker", "rotate", tmp_path / "broker", "gate")).ok()
        # Everybody comes again: with the new TLS keys, to the new certificate, sealing epochs to the new gate key.
        os.kill(house.broker.process.pid, signal.SIGTERM)
        await asyncio.to_thread(house.broker.process.wait, PATIENCE_S)
        house.start()
        await house.await_ready()
        await progress(load)
        load.goes_on = False
        faults = await crash.peace(house, workers, running)
        # A payer's answer that was under way as well; there is one a worker whenever keys change.
        anew = load.anew + 3 * WORKERS
        faults += load.faults + await asyncio.to_thread(crash.check, stage, load.told, anew)
        assert faults == []
        logs = (tmp_path / "broker" / "log").read_text() if (tmp_path / "broker" / "log").exists() else ""
        assert "key.unknown" not in logs
    finally:
        stage.stop()


# The broker


async def test_a_new_gate_key_is_stated_once_its_time_has_come_and_the_last_is_destroyed_later(tmp_path: Path) -> None:
    async with serving(tmp_path, HOSPITAL, PAYER, timing=Timing(watch_s=0.05)) as server:
        (first,) = server.home.gate_keys
        stream = await server.attach(HOSPITAL)
        drawn = home.draw_gate_key(server.home.path, NOW + 100)
        await until(lambda: drawn.public.id in server.home.gate_keys, "the key is found")
        assert server.home.gate_key(NOW).id == first
        server.clock.advance(100)
        # Nodes come again, and are told.
        assert (await stream.next("reconnect")).reason == "unavailable.draining"
        assert server.home.gate_key(server.core.now()).id == drawn.public.id
        assert home.destroy_gate_keys(server.home.path, NOW + 100 + 3 * DAY_S) == 0
        assert home.destroy_gate_keys(server.home.path, NOW + 101 + 3 * DAY_S + 3600) == 1
        await until(lambda: set(server.home.gate_keys) == {drawn.public.id}, "the key is forgotten")


def ends_in(path: Path, days: float) -> int:
    """The time (Unix ms) at which the broker's certificate has so many days left."""
    found = x509.load_pem_x509_certificate((path / "tls.crt").read_bytes())
    return round((found.not_valid_after_utc.timestamp() - days * DAY_S) * 1000)


def test_the_brokers_certificate_is_renewed_and_what_cannot_be_raises_an_alarm_at_30_7_and_1_days(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened = home.create(tmp_path / "broker", "log.example/zhifu", NOW)
    before = serial_of(opened.path / "tls.crt")
    Renewal(opened, lambda: ends_in(opened.path, 31)).look()
    assert serial_of(opened.path / "tls.crt") == before
    Renewal(opened, lambda: ends_in(opened.path, 29)).look()
    assert serial_of(opened.path / "tls.crt") != before
    assert authority.fits(opened.read("tls.key"), opened.read("tls.crt"))
    ca = x509.load_pem_x509_certificate(opened.read("ca.crt")).not_valid_after_utc
    x509.load_pem_x509_certificate(opened.read("tls.crt")).verify_directly_issued_by(
        x509.load_pem_x509_certificate(opened.read("ca.crt"))
    )
    clock = [0]
    kept = Renewal(opened, lambda: clock[0])
    caplog.set_level(logging.CRITICAL)
    for days in (40, 30, 29, 8, 7, 6, 1, 0.5, 0.4):
        clock[0] = round((ca.timestamp() - days * DAY_S) * 1000)
        kept.look()
    alarms = [one for one in caplog.records if one.levelno == logging.CRITICAL]
    assert [one.__dict__["count"] for one in alarms] == [30, 7, 1]


async def test_a_node_renews_before_its_certificate_ends_and_even_after(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    try:
        house = await asyncio.to_thread(crash.House.open, stage)
        settings = house.cast.settings["hospital"]
        keystore = FileKeystore.load(settings.keys)
        before = serial_of(settings.certificate)
        (own, ca) = renewal.expiries(settings)
        assert own.not_after < ca.not_after
        await renewal.Renewal(settings, keystore, lambda: (own.not_after - 31 * DAY_S) * 1000).look()
        assert serial_of(settings.certificate) == before
        await renewal.Renewal(settings, keystore, lambda: (own.not_after - 29 * DAY_S) * 1000).look()
        renewed = serial_of(settings.certificate)
        assert renewed != before
        await renewal.Renewal(settings, keystore, lambda: (own.not_after + 5 * DAY_S) * 1000).look()
        assert serial_of(settings.certificate) not in (before, renewed)
        left = x509.load_pem_x509_certificate(settings.certificate.read_bytes()).not_valid_after_utc - datetime.now(UTC)
        assert left.days >= 89
    finally:
        stage.stop()


# What was signed a moment before


def rotated(party: Party) -> tuple[KeyStatement, KeyStatement]:
    """A statement of new keys, and the one before it."""
    other = SigningKey(seed(f"{party.name} next")).verify_key
    return replace(party.statement(2), signing_key=bytes(other)), party.statement()


@pytest.mark.parametrize("party", [HOSPITAL, PAYER])
def test_what_the_key_before_signed_is_opened_until_its_statement_ends(party: Party) -> None:
    """The sender's presentation, and the attestations in the capsule."""
    received = claim().send().deliver()
    new, before = rotated(party)
    statements = known() | {party.id: new}
    at = recipient(INSURER, statements=statements, earlier=[before])
    assert receive(received, at, NOW).presentation.sender == HOSPITAL.id
    with pytest.raises(Error, match=r"key\.(unknown|not_pinned)"):
        receive(received, recipient(INSURER, statements=statements), NOW)
    over = replace(before, not_after=NOW - 1)
    with pytest.raises(Error, match=r"key\."):
        receive(received, recipient(INSURER, statements=statements, earlier=[over]), NOW)


def test_what_replaced_keys_leave_behind(tmp_path: Path) -> None:
    first = FileKeystore.draw(tmp_path / "keys")
    rotation.draw(tmp_path / "keys", ("kem", "signing", "tls"))
    found = FileKeystore.load(tmp_path / "keys")
    assert set(first.kem_keys) < set(found.kem_keys)
    assert not {one.id for one in found.stated_kems} & set(first.kem_keys)
    assert found.tls_key == first.tls_key
    assert len(found.tls_keys) == 2
    (tmp_path / "tls.crt").write_text("old")
    # A crash in the middle is taken up again.
    (tmp_path / "tls.next.crt").write_text("new")
    rotation.settle(tmp_path / "keys", tmp_path / "tls.crt")
    after = FileKeystore.load(tmp_path / "keys")
    assert (after.tls_keys[0], (tmp_path / "tls.crt").read_text()) == (found.tls_keys[1], "new")
    assert after.tls_keys[1] == found.tls_keys[0]
    assert rotation.forget(tmp_path / "keys") == 3
    last = FileKeystore.load(tmp_path / "keys")
    assert set(last.kem_keys) == {one.id for one in last.stated_kems}
    assert last.tls_keys == after.tls_keys[:1]
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "keys").iterdir()} == {0}


def test_the_storage_key_is_rotated_with_everything_that_it_wraps(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    try:
        house = crash.House.open(stage)
        settings = house.cast.settings["hospital"]
        before = FileKeystore.load(settings.keys)
        peer, subject, called = b"p" * 32, b"s" * 32, {1: b"pseudonym", 1 << 20: b"another"}
        with closing(Store(settings.database, before)) as store, store.transaction():
            store.jobs.put(Job("settlement", b"id", "open", b"payload", 1))
            store.pseudonyms.see(peer, subject, called)
            store.trust.put_epoch(Epoch(b"e" * 16, b"k" * 32, NOW, NOW + DAY_S))
        # An attempt that was interrupted after the key was drawn: everything still opens.
        rotation.draw_storage(settings.keys)
        with closing(Store(settings.database, FileKeystore.load(settings.keys))) as store:
            assert store.jobs.get("settlement", b"id").payload == b"payload"  # type: ignore[union-attr]
        with alone(settings.directory):
            assert run("node", "rotate", settings.directory, "storage").code == 2
        said = run("node", "rotate", settings.directory, "storage").ok().json
        assert said["rewrapped"] >= 4
        after = FileKeystore.load(settings.keys)
        assert after.storage != before.storage
        assert not after.storage_before
        with closing(Store(settings.database, after)) as store:
            assert store.jobs.get("settlement", b"id").payload == b"payload"  # type: ignore[union-attr]
            assert store.pseudonyms.seen(peer, subject) == called
            assert [one.secret for one in store.trust.epochs(NOW + 1)] == [b"k" * 32]
        with pytest.raises(Refused, match=r"unavailable\.store"):
            Store(settings.database, before)
    finally:
        stage.stop()


def test_every_wrapped_column_is_known_to_the_rotation(repo_root: Path) -> None:
    """What a part of the store wraps is wrapped anew: the places that are named in the code."""
    text = "".join(path.read_text() for path in (repo_root / "clients" / "store").glob("*.py"))
    named = set(re.findall(r'\brow\(\s*"(\w+)"', text))
    assert named == {one.table for one in rewrapping.WRAPPED}
