"""Whose key is it: the broker hands out keys; a node believes only what a pinned identity signed (DESIGN 4.4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.directory import Directory
from clients.keystore import FileKeystore, state_keys
from clients.store import Store
from tests.node_peer import Authority, Log, Member, enrolled, now
from zhifu.envelope import KEY_STATEMENT, Envelope, from_bytes
from zhifu.errors import Error, NotAuthentic, Refused
from zhifu.keys import Alg, KemPrivate
from zhifu.statement import KeyStatement, verify_key_statement
from zhifu.v1 import exchange_pb2 as pb

DAY = 86_400


@pytest.fixture
def members(tmp_path: Path) -> tuple[Member, Member]:
    hospital, insurer = enrolled(tmp_path, Authority.draw(), "127.0.0.1:1", Log().vkey, "hospital", "insurer")
    return hospital, insurer


@pytest.fixture
def store(members: tuple[Member, Member]) -> Iterator[Store]:
    opened = Store(members[0].config.database, members[0].keys)
    yield opened
    opened.close()


def directory_of(member: Member, store: Store) -> Directory:
    return Directory(member.config.pins, member.keys, store)


def shown(directory: Directory, *entries: pb.DirectoryEntry) -> list[str]:
    return [error.reason for error in directory.update(entries, now())]


def read(signed: Envelope, member: Member) -> KeyStatement:
    return verify_key_statement(signed, member.id, now())


def test_a_pinned_statement_is_believed(members: tuple[Member, Member], store: Store) -> None:
    hospital, insurer = members
    directory = directory_of(hospital, store)
    signed = state_keys(insurer.keys, 1, now())
    assert shown(directory, insurer.entry(signed)) == []
    assert directory.statement(insurer.id, now()) == read(signed, insurer)
    assert directory.statement(insurer.id, now()).kem.alg is Alg.MLKEM768_X25519


def test_the_brokers_own_kem_key_for_the_insurer_is_refused(members: tuple[Member, Member], store: Store) -> None:
    """The attack that pins are for: capsules to a key that the broker can open."""
    hospital, insurer = members
    directory = directory_of(hospital, store)
    honest = read(state_keys(insurer.keys, 1, now()), insurer)
    brokers = FileKeystore.draw(hospital.config.directory.parent / "broker-keys")
    kem = KemPrivate.generate(Alg.X25519)
    forged = dataclasses.replace(honest, kem_keys=(kem.public,))
    own_identity = dataclasses.replace(forged, identity_key=bytes(brokers.identity.verify_key))
    for statement, reason in (
        (forged.sign(brokers.identity), "key.unknown"),
        (own_identity.sign(brokers.identity), "key.not_pinned"),
        (dataclasses.replace(forged.sign(brokers.identity), key_id=honest_key_id(insurer)), "signature.invalid"),
    ):
        assert shown(directory, insurer.entry(statement)) == [reason]
        with pytest.raises(Refused, match=r"unavailable\.recipient"):
            directory.statement(insurer.id, now())
    assert shown(directory, insurer.entry(state_keys(insurer.keys, 1, now()))) == []
    assert kem.public.id not in {key.id for key in directory.statement(insurer.id, now()).kem_keys}


def honest_key_id(member: Member) -> bytes:
    return state_keys(member.keys, 1, now()).key_id


def test_a_stranger_is_ignored(members: tuple[Member, Member], store: Store, tmp_path: Path) -> None:
    directory = directory_of(members[0], store)
    (tmp_path / "more").mkdir()
    (stranger,) = enrolled(tmp_path / "more", Authority.draw(), "127.0.0.1:1", Log().vkey, "insurer")
    assert shown(directory, stranger.entry(state_keys(stranger.keys, 1, now()))) == []
    with pytest.raises(NotAuthentic, match=r"key\.not_pinned"):
        directory.statement(stranger.id, now())
    assert stranger.id not in directory.statements(now())


def test_a_serial_that_goes_back_is_refused_also_after_a_restart(members: tuple[Member, Member], store: Store) -> None:
    hospital, insurer = members
    older, newer = (state_keys(insurer.keys, serial, now()) for serial in (4, 5))
    again = state_keys(insurer.keys, 5, now() - 100)
    assert shown(directory_of(hospital, store), insurer.entry(newer)) == []
    restarted = directory_of(hospital, store)
    assert shown(restarted, insurer.entry(older)) == ["key.rollback"]
    assert shown(restarted, insurer.entry(again)) == ["key.rollback"], "another statement with the same serial"
    assert shown(restarted, insurer.entry(newer)) == []
    assert restarted.statement(insurer.id, now()) == read(newer, insurer)


def test_a_statement_that_is_over_is_not_used_and_nobodys_lie(members: tuple[Member, Member], store: Store) -> None:
    hospital, insurer = members
    directory = directory_of(hospital, store)
    assert shown(directory, insurer.entry(state_keys(insurer.keys, 1, now() - 8 * DAY))) == []
    assert shown(directory, insurer.entry(state_keys(insurer.keys, 2, now() - 6 * DAY))) == []
    assert insurer.id in directory.statements(now())
    with pytest.raises(Refused, match=r"unavailable\.recipient"):
        directory.statement(insurer.id, now() + 2 * DAY)
    assert directory.signing_keys(insurer.id) == [bytes(insurer.keys.signing.verify_key)], "what it signed stays signed"


def test_a_statement_in_our_own_name_that_is_not_ours_is_an_alarm(members: tuple[Member, Member], store: Store) -> None:
    hospital, insurer = members
    directory = directory_of(hospital, store)
    ours = directory.own(now())
    assert shown(directory, hospital.entry(ours)) == []
    # Validly signed with a stolen identity key for another's keys, or not even that: both are foreign.
    stolen = dataclasses.replace(hospital.keys, signing=insurer.keys.signing)
    for foreign in (state_keys(stolen, 2, now()), state_keys(insurer.keys, 1, now()), state_keys(hospital.keys, 1, 9)):
        with pytest.raises(NotAuthentic, match=r"key\.foreign"):
            directory.update([hospital.entry(foreign)], now())


def test_a_store_restored_from_a_backup_goes_on_behind_what_was_stated_since(
    members: tuple[Member, Member], store: Store
) -> None:
    """The broker shows what this node signed after the backup: of its own keys, so that nobody else can use it."""
    hospital, _ = members
    restored = directory_of(hospital, store)
    restored.own(now())
    since = state_keys(hospital.keys, 4, now())
    assert shown(restored, hospital.entry(since)) == []
    assert restored.own(now()) == since
    again = directory_of(hospital, store)
    assert serial_of(again.own(now() + 6 * DAY + 1), now() + 6 * DAY + 1, hospital) == 5


def test_what_was_stated_while_the_clock_ran_ahead_is_stated_anew_once_it_is_right(
    members: tuple[Member, Member], store: Store
) -> None:
    hospital, _ = members
    directory = directory_of(hospital, store)
    directory.own(now())
    ahead = directory.own(now() + 400 * DAY)
    for node in (directory, directory_of(hospital, store)):
        righted = node.own(now())
        assert righted != ahead
        assert serial_of(righted, now(), hospital) == 3, "nobody takes a statement of next year"


def test_our_statement_is_issued_anew_before_it_is_over(members: tuple[Member, Member], store: Store) -> None:
    hospital, _ = members
    directory = directory_of(hospital, store)
    first = directory.own(now())
    assert directory.own(now() + 6 * DAY - 1) == first
    second = directory.own(now() + 6 * DAY + 1)
    assert serial_of(second, now() + 6 * DAY + 1, hospital) == serial_of(first, now(), hospital) + 1 == 2
    restarted = directory_of(hospital, store)
    assert restarted.own(now() + 6 * DAY + 2) == second
    assert shown(restarted, hospital.entry(first)) == [], "the broker may still show the one before"


def serial_of(signed: Envelope, at: int, member: Member) -> int:
    return verify_key_statement(signed, member.id, at).serial


def test_our_statement_is_issued_anew_when_our_keys_changed(members: tuple[Member, Member], store: Store) -> None:
    hospital, insurer = members
    first = directory_of(hospital, store).own(now())
    rotated = dataclasses.replace(hospital.keys, signing=insurer.keys.signing)
    second = Directory(hospital.config.pins, rotated, store).own(now())
    assert serial_of(second, now(), hospital) == serial_of(first, now(), hospital) + 1
    assert read(second, hospital).signing_key == bytes(insurer.keys.signing.verify_key)


def test_a_touched_database_is_found_out(members: tuple[Member, Member], store: Store) -> None:
    hospital, insurer = members
    assert shown(directory_of(hospital, store), insurer.entry(state_keys(insurer.keys, 1, now()))) == []
    forged = state_keys(hospital.keys, 9, now())
    with store.transaction():
        store.trust.put_statement(insurer.id, 9, forged.to_bytes())
    with pytest.raises(Error) as found:
        directory_of(hospital, store)
    assert found.value.reason == "key.not_pinned"
    assert from_bytes(KEY_STATEMENT, forged.to_bytes()) == forged
