"""Auditors and the running broker: what they find, what they may see, what is proven, and that it is noted."""

from __future__ import annotations

import asyncio
import base64
import csv
import io
import json
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from fhir.resources.R4B.auditevent import AuditEvent
from nacl.signing import SigningKey

from clients import config, wire
from clients.auditor import completeness, histories, moments, remote
from clients.auditor.console import alerts
from clients.auditor.console.memory import Memory
from clients.auditor.console.omissions import Omissions
from clients.auditor.exports import document
from clients.auditor.remote import Auditor, Page
from clients.auditor.report import Report
from clients.auditor.rows import BROKEN, MISSING, Row, leaf_hash
from clients.auditor.verify import Verification
from clients.config import Pin
from clients.demo import cast as casting
from clients.keystore import FileKeystore, participant_of
from clients.store import Store
from policies import load
from tests.audited import Audited, left_out, open_audited
from tests.house import House, operate, run, until
from zhifu import bill as bills
from zhifu import cbor, merkle, receipt, tlogproof, trail
from zhifu.errors import NotAuthentic, Refused
from zhifu.merkle import Frontier
from zhifu.receipt import Entry, Head, parse_detail
from zhifu.trail import Query

T = TypeVar("T")


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audited]:
    with open_audited(tmp_path_factory.mktemp("audited")) as found:
        yield found


def ask(folder: Path, what: Callable[[Auditor], Awaitable[T]]) -> T:
    async def connected() -> T:
        async with remote.connect(folder) as auditor:
            return await what(auditor)

    return asyncio.run(connected())


def search(folder: Path, query: Query = Query(), limit: int = 200, before: int = 0) -> Page:  # noqa: B008
    return ask(folder, lambda auditor: auditor.search(query, before, limit))


def test_everything_is_found_in_order_and_proven(audited: Audited) -> None:
    page = search(audited.auditor)
    assert page.complete
    assert page.total == len(page.rows)
    assert {row.state for row in page.rows} <= {"awaiting", "verified"}
    assert {"exchange.accepted", "exchange.acknowledged", "grant.registered", "key.stated"} <= {
        row.words.event for row in page.rows
    }
    rows: list[Row] = []
    before = 0
    while True:
        part = search(audited.auditor, limit=7, before=before)
        rows += part.rows
        before = part.next_before
        if not before:
            break
    assert [row.index for row in rows] == [row.index for row in page.rows]


def test_filters_combine(audited: Audited) -> None:
    ids, everything = audited.house.cast.ids, search(audited.auditor).rows
    insurer = ids["insurer"]
    for query in (
        Query(events=(trail.ACCEPTED,), counterparty=insurer),
        Query(party=insurer, purposes=("commercial-settlement",), unit="diagnosis"),
        Query(actor=ids["hospital"], outcomes=("accepted",), purposes=("public-settlement",)),
        Query(about=(bytes.fromhex(audited.grant),), outcomes=("accepted",)),
        Query(policy=load.load().hash, since_ms=everything[-1].time_ms, until_ms=everything[0].time_ms),
    ):
        wanted = [
            row.index
            for row in everything
            if query.in_time(row.time_ms)
            and set(query.about) <= set(row.names)
            and any(query.met_by(one) for one in row.said)
        ]
        assert wanted
        # Whose exchange was acknowledged stands in another entry, so here the list cannot tell.
        found = [row.index for row in search(audited.auditor, query).rows if row.words.event != "exchange.acknowledged"]
        assert found == wanted


async def evidence(auditor: Auditor) -> list[str]:
    return [one.reason for one in auditor.evidence()]


def test_what_an_answer_leaves_out_is_found_by_reading_the_log(audited: Audited) -> None:
    hospital = audited.house.cast.ids["hospital"]
    queries = [
        Query(), Query(events=(trail.ACCEPTED,)), Query(about=(bytes.fromhex(audited.grant),)), Query(unit="diagnosis"),
        Query(events=(trail.ACKNOWLEDGED,), counterparty=hospital, purposes=("public-settlement",)),
    ]  # fmt: skip
    for query in queries:
        read = ask(audited.auditor, partial(completeness.check, query=query))
        assert read.found == len(search(audited.auditor, query).rows)
        assert read.size > read.found > 0
    said = run("audit", "search", audited.auditor, "--event", trail.ACCEPTED, "--complete", "--json").ok().json
    assert said["proven_complete"]["found"] == len(said["entries"])
    hidden = said["entries"][1]["index"]
    with left_out(audited, hidden):
        page = search(audited.auditor, Query(events=(trail.ACCEPTED,)))
        assert page.complete, "the broker still says so"
        assert hidden not in {row.index for row in page.rows}
        for _ in "twice":
            ended = run("audit", "search", audited.auditor, "--event", trail.ACCEPTED, "--complete")
            assert ended.code == 5
            assert f"left out: {hidden}" in ended.err
    assert ask(audited.auditor, evidence).count("log.omitted") == 1
    # An auditor of one participant may not read the rest, and is told so.
    with pytest.raises(Refused, match=r"policy\.denied"):
        ask(audited.inspector, lambda auditor: completeness.check(auditor, Query()))


class Lying:
    """A broker whose answers ``alter`` changes, one kind after the other; what it does not change is the true one."""

    def __init__(
        self, honest: Any, asked: Callable[[Any], object] = lambda request: None, **alter: Callable[[Any], Any]
    ) -> None:
        self._honest = honest
        self._asked = asked
        self._alter = alter

    def __getattr__(self, method: str) -> Any:
        honest, alter = getattr(self._honest, method), self._alter.get(method, lambda answer: answer)
        if method not in ("Export", "Mirror"):

            async def call(request: Any, timeout: float) -> Any:
                self._asked(request)
                return alter(await honest(request, timeout=timeout))

            return call

        async def stream(request: Any, timeout: float) -> Any:
            async for answer in honest(request, timeout=timeout):
                altered = alter(answer)
                if altered is not None:
                    yield altered

        return stream


def lied_to(folder: Path, what: Callable[[Auditor], Awaitable[T]], **alter: Callable[[Any], Any]) -> T:
    async def connected(auditor: Auditor) -> T:
        await auditor.standing()
        auditor._stub = Lying(auditor._stub, **alter)
        return await what(auditor)

    return ask(folder, connected)


def changed(change: Callable[[Any], object]) -> Callable[[Any], Any]:
    def alter(answer: Any) -> Any:
        change(answer)
        return answer

    return alter


def test_a_search_is_not_complete_because_the_broker_says_that_it_did_not_get_so_far(audited: Audited) -> None:
    """Nor because an entry was in the answer in such a way that it says nothing."""
    query = Query(events=(trail.ACCEPTED,))
    hidden = search(audited.auditor, query).rows[1].index
    behind = changed(lambda answer: setattr(answer, "indexed_size", hidden))
    with left_out(audited, hidden), pytest.raises(Refused, match=r"unavailable\.overload"):
        lied_to(audited.auditor, partial(completeness.check, query=query), Search=behind)

    def lost(answer: Any) -> None:
        for one in answer.page.entries:
            if one.entry.index == hidden:
                one.entry.ClearField("meta")

    read = lied_to(audited.auditor, partial(completeness.check, query=query), Export=changed(lost))
    assert [one.index for one in read.left_out] == [hidden]


def test_what_is_shown_as_complete_is_what_was_compared(audited: Audited) -> None:
    words = ("search", audited.auditor, "--event", trail.ACCEPTED, "--json", "--limit", "2")
    for more in ((), ("--before", "25")):
        asked, proven = (run("audit", *words, *more, *how).ok().json for how in ((), ("--complete",)))
        assert proven["entries"] == asked["entries"]
        assert proven["next_before"] == asked["next_before"] > 0
        assert proven["complete"]


def endless(answer: Any) -> None:
    answer.next_before = answer.entries[-1].entry.index + 1


def overfull(answer: Any) -> None:
    answer.entries.append(answer.entries[-1])


@pytest.mark.parametrize("change", [endless, overfull, lambda answer: answer.entries.reverse()])
def test_pages_have_an_end_and_an_order(audited: Audited, change: Callable[[Any], object]) -> None:
    grant = bytes.fromhex(audited.grant)
    with pytest.raises(NotAuthentic, match=r"receipt\.invalid"):
        lied_to(audited.auditor, partial(histories.timeline, about=grant), Search=changed(change))


async def exported_rows(auditor: Auditor) -> list[Row]:
    return [row async for page in auditor.export(Query(events=(trail.ACCEPTED,))) for row in page.rows]


def test_an_export_that_was_cut_short_is_none(audited: Audited) -> None:
    cut = changed(lambda answer: setattr(answer.page, "next_before", answer.page.entries[-1].entry.index))
    for alter in (cut, lambda answer: None):
        with pytest.raises(NotAuthentic, match=r"before its last page"):
            lied_to(audited.auditor, exported_rows, Export=alter)


def test_an_erasure_explains_no_other_and_needs_no_end(audited: Audited) -> None:
    """Whoever says of every entry that another one erased it is not asked for ever."""

    def gone(answer: Any) -> None:
        for one in answer.entries:
            one.erased_by = 1
            one.entry.ClearField("detail")

    page = lied_to(
        audited.auditor, lambda auditor: auditor.search(Query(events=(trail.ACCEPTED,))), Search=changed(gone)
    )
    assert {row.state for row in page.rows} == {BROKEN}


@pytest.mark.parametrize("change", [{"hour": 1 << 63}, {"latency": 1 << 30}])
async def test_counts_that_nobody_can_have_made_are_no_charts(audited: Audited, change: dict[str, int]) -> None:
    def more(answer: Any) -> None:
        answer.hours.add(event=trail.ACCEPTED, count=1, **change)

    async with remote.connect(audited.auditor) as auditor:
        auditor._stub = Lying(auditor._stub, Count=changed(more))
        with pytest.raises(NotAuthentic, match=r"receipt\.invalid"):
            await auditor.count(Query())


def test_a_time_that_no_calendar_has_is_shown_as_the_number_it_is(audited: Audited) -> None:
    def late(answer: Any) -> None:
        answer.entries[0].entry.time_ms = 1 << 62

    page = lied_to(audited.auditor, lambda auditor: auditor.search(Query()), Search=changed(late))
    assert document(page.rows[0], str)["time"] == f"{1 << 62} ms"
    assert moments.local(1 << 62) == f"{1 << 62} ms"


@pytest.mark.parametrize("event", ["key.stated", "grant.registered"])
def test_an_entry_that_was_not_asked_for_shows(audited: Audited, event: str) -> None:
    """Be it a plain one, or one whose content is withheld: both hold by themselves."""
    wanted = search(audited.auditor, Query(events=(event,))).rows[0].index

    def swap(answer: Any) -> None:
        (one,) = (one for one in answer.entries if one.entry.index == wanted)
        if not one.plain:
            one.detail_commitment, one.withheld = receipt.detail_commitment(wire.entry(one.entry)), True
            one.entry.ClearField("detail")
        del answer.entries[:]
        answer.entries.append(one)

    async def asked(auditor: Auditor) -> Page:
        honest = auditor._stub
        auditor._stub = Lying(honest, Search=changed(swap), asked=lambda request: request.query.Clear())
        return await auditor.search(Query(reasons=("leaf.grammar",)), limit=200)

    (row,) = ask(audited.auditor, asked).rows
    assert (row.state, "does not meet the search" in row.fault) == (BROKEN, True)


def test_an_older_checkpoint_is_no_answer(audited: Audited) -> None:
    """It is signed and a part of the log, and what came since would be missing without a word."""
    old: list[Any] = []

    async def twice(auditor: Auditor) -> Page:
        await auditor.search(Query())
        return await auditor.search(Query())

    def replay(answer: Any) -> None:
        old.append(type(answer).FromString(answer.SerializeToString()))
        if len(old) > 1:
            older = int(old[0].checkpoint.split(b"\n")[1])
            answer.checkpoint = old[0].checkpoint
            del answer.entries[:]
            answer.next_before, answer.indexed_size = 0, older
            answer.consistency = consistency(audited, older, answer.known_size)

    with pytest.raises(NotAuthentic, match=r"older checkpoint"):
        lied_to(audited.auditor, twice, Search=changed(replay))


def consistency(audited: Audited, older: int, newer: int) -> bytes:
    with closing(sqlite3.connect(audited.house.path / "broker" / "broker.db")) as opened:
        nodes = {
            (level, index): hash_
            for level, index, hash_ in opened.execute('SELECT level, "index", hash FROM tree_node').fetchall()
        }
    return b"".join(merkle.consistency_proof(older, newer, lambda wanted: [nodes[one] for one in wanted]))


def test_an_exceptional_power_is_an_alarm(audited: Audited) -> None:
    async def glass(auditor: Auditor) -> list[alerts.Alert]:
        found = await alerts.find(auditor, await auditor.standing())
        return [one for one in found if one.kind == "break-glass"]

    assert ask(audited.auditor, glass) == []
    inspector = participant_of(FileKeystore.load(audited.inspector / "keys")).hex()
    operator, _ = casting.operator_files(audited.house.stage)
    words = (audited.house.path / "broker", inspector, "--reason", "on leave", "--operator", operator)
    operate("suspend", *words)
    operate("resume", *words)
    until(lambda: ask(audited.auditor, glass), "it is indexed")
    (one,) = ask(audited.auditor, glass)
    assert (one.who, one.grave) == ("participant.suspended", True)
    assert one.link == f"/entry/{one.number}"


def test_an_acknowledgement_is_found_by_what_it_acknowledges(audited: Audited) -> None:
    query = Query(
        events=(trail.ACKNOWLEDGED,), counterparty=audited.house.cast.ids["hospital"], purposes=("public-settlement",)
    )
    (row, *_) = search(audited.auditor, query).rows
    assert row.words.actor == audited.house.cast.ids["public-payer"]


def test_an_auditor_of_one_participant_sees_its_exchanges_only(audited: Audited) -> None:
    hospital = audited.house.cast.ids["hospital"]
    page = search(audited.inspector)
    assert page.rows
    for row in page.rows:
        if row.words.event != trail.ACKNOWLEDGED and not row.withheld:
            assert row.words.is_about(hospital)
    insurer = audited.house.path / "insurer"
    assert {row.words.event for row in search(insurer).rows} >= {"exchange.accepted", "exchange.acknowledged"}
    between_others = Query(counterparty=audited.house.cast.ids["public-payer"])
    assert not search(insurer, between_others).rows

    async def mirror(auditor: Auditor) -> list[bytes]:
        return [line async for line in auditor.mirror()]

    with pytest.raises(Refused, match=r"policy\.denied"):
        ask(audited.inspector, mirror)


def test_who_reads_is_noted_with_what_was_asked(audited: Audited) -> None:
    query = Query(reasons=("leaf.grammar",))
    search(audited.inspector, query)
    row = search(audited.auditor, Query(events=("audit.searched",)), limit=2).rows[1]
    assert row.detail is not None
    assert row.words.counterparty == audited.house.cast.ids["hospital"]
    assert row.detail.documents == (query.to_bytes(),)
    assert "leaf.grammar" in str(cbor.decode(row.detail.documents[0], 4096))
    assert run("audit", "export", audited.auditor, "-o", "-").ok().out
    assert search(audited.auditor, Query(events=("audit.exported",))).rows[0].detail


def verified(audited: Audited) -> Report:
    """The whole log, as the auditor checks it that pinned everybody and the officers."""

    async def check(auditor: Auditor) -> Report:
        pins = auditor.pins
        assert pins.operators
        inspector = json.loads(run("node", "card", audited.inspector).ok().out)
        known = {**pins.participants, bytes.fromhex(inspector["id"]): Pin("auditor", inspector["name"])}
        lines = [line async for line in auditor.mirror()]
        return Verification(replace(pins, participants=known), Frontier(), [load.load()]).run(lines)

    operators = [word for key in operator_keys(audited) for word in ("--operator", key)]
    run("audit", "pin", audited.auditor, *operators).ok()
    return ask(audited.auditor, check)


def test_the_whole_log_verifies_readings_and_scopes_included(audited: Audited) -> None:
    report = verified(audited)
    assert report.verified, report.first_bad
    assert report.entries["audit.searched"] >= 1


def exported(audited: Audited, form: str) -> str:
    return run("audit", "export", audited.auditor, "-o", "-", "--format", form).ok().out


def test_exports_carry_proofs_that_verify_by_themselves(audited: Audited) -> None:
    key = ask(audited.auditor, log_key)
    lines = [json.loads(line) for line in exported(audited, "ndjson").splitlines()]
    assert len(lines) == search(audited.auditor).total
    for one in (line["receipt"] for line in lines):
        raw = {name: bytes.fromhex(one.get(name, "")) for name in ("meta_key", "meta", "detail_key", "detail")}
        entry = Entry(one["index"], one["time_ms"], **raw)
        tlogproof.verify(tlogproof.Proof.parse(one["proof"].encode()), leaf_hash(entry, one["plain"], b"", b""), key)
    for row in csv.DictReader(io.StringIO(exported(audited, "csv"))):
        proof = tlogproof.Proof.parse(base64.b64decode(row["tlog_proof"]))
        tlogproof.verify(proof, bytes.fromhex(row["leaf_hash"]), key)


def operator_keys(audited: Audited) -> list[str]:
    files = casting.operator_files(audited.house.stage)
    return [bytes(SigningKey(bytes.fromhex(one.read_text())).verify_key).hex() for one in files]


async def log_key(auditor: Auditor) -> Any:
    return auditor.settings.log_key


def test_fhir_is_valid_and_discloses_by_balp(audited: Audited) -> None:
    events: list[Any] = [AuditEvent.model_validate_json(line) for line in exported(audited, "fhir").splitlines()]
    assert len(events) > 20
    disclosed = [one for one in events if one.meta is not None]
    assert disclosed
    for one in disclosed:
        kinds = [agent.type.coding[0].code for agent in one.agent]
        assert kinds == ["110153", "110152"]
        assert one.agent[0].who == one.source.observer
        assert all(agent.network is not None for agent in one.agent)
        assert [entity.type.code for entity in one.entity].count("1") == 1
        assert (one.type.code, one.action, one.subtype[0].code) == ("110106", "R", "disclose")


def test_ocsf_has_what_its_class_requires(audited: Audited) -> None:
    for line in exported(audited, "ocsf").splitlines():
        found = json.loads(line)
        assert found["type_uid"] == 100 * found["class_uid"] + found["activity_id"]
        assert found["class_uid"] // 1000 == found["category_uid"]
        assert {"actor", "api", "metadata", "severity_id", "src_endpoint", "time"} <= set(found)
        assert found["metadata"]["version"]


def canaries(bill: bytes) -> list[str]:
    """Values of the record that no auditor may ever meet."""
    found = bills.parse(bill).setlinfo
    names = ("psn_name", "certno", "gend", "brdy", "tel", "addr", "mdtrt_id", "psn_no")
    values = [str(getattr(found, name)) for name in names if getattr(found, name, "")]
    return [value for value in values if len(value) > 3 or not value.isascii()]


@pytest.mark.parametrize("form", ["ndjson", "csv", "ocsf", "fhir"])
def test_no_value_of_the_record_is_in_an_export(audited: Audited, form: str) -> None:
    content, values = exported(audited, form), canaries(audited.bill)
    assert len(values) >= 2
    for value in values:
        assert value not in content
        assert value.encode().hex() not in content


def test_a_timeline_and_disclosures_tell_the_story(audited: Audited) -> None:
    told = run("audit", "timeline", audited.auditor, audited.grant, "--json").ok().json
    events = [one["event"] for one in told]
    assert events[0] == "grant.registered"
    assert events.count("exchange.acknowledged") >= 4
    assert [one["index"] for one in told] == sorted({one["index"] for one in told})
    subject = next(one["subject"] for one in told if one["subject"])
    used = run("audit", "disclosures", audited.auditor, subject, "--json").ok().json
    assert all(one["units"] for one in used)
    assert run("audit", "disclosures", audited.auditor, "00" * 32).code == 1


def test_usage_is_told_in_one_line(audited: Audited) -> None:
    for words in (
        ("search", audited.auditor, "--event", "nonsense"),
        ("search", audited.auditor, "--party", "nobody"),
        ("search", audited.auditor, "--since", "yesterday"),
        ("search", audited.auditor, "--since", "0001-01-01"),
        ("pin", audited.auditor, "--operator", "00" * 16),
        ("search", audited.auditor, "--policy", "00" * 16),
        ("timeline", audited.auditor, "zz"),
        ("export", audited.auditor, "-o", "-", "--format", "xml"),
        ("search", audited.house.path),
    ):
        ran = run("audit", *words)
        assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1), ran


def test_a_changed_entry_is_found_named_and_kept_as_evidence(audited: Audited) -> None:
    rows = search(audited.auditor, Query(events=(trail.ACCEPTED,))).rows
    victim = rows[0].index
    with closing(sqlite3.connect(audited.house.path / "broker" / "broker.db")) as opened, opened:
        (before,) = opened.execute('SELECT meta FROM entry WHERE "index" = ?', (victim,)).fetchone()
        changed = before.replace(b"exchange.accepted", b"exchange.withdraw")
        opened.execute('UPDATE entry SET meta = ? WHERE "index" = ?', (changed, victim))
    try:
        page = search(audited.auditor, Query(events=(trail.ACCEPTED,)))
        assert [row.index for row in page.rows if row.state == BROKEN] == [victim]
        ran = run("audit", "show", audited.auditor, victim, "--json")
        assert ran.code == 5
        assert f"entry {victim}" in ran.err

        assert "receipt.invalid" in ask(audited.auditor, evidence)
    finally:
        with closing(sqlite3.connect(audited.house.path / "broker" / "broker.db")) as opened, opened:
            opened.execute('UPDATE entry SET meta = ? WHERE "index" = ?', (before, victim))


def test_a_deleted_entry_is_missed(audited: Audited) -> None:
    victim = search(audited.auditor, Query(events=(trail.ACCEPTED,))).rows[-1].index
    database = audited.house.path / "broker" / "broker.db"
    with closing(sqlite3.connect(database)) as opened, opened:
        row = opened.execute('SELECT * FROM entry WHERE "index" = ?', (victim,)).fetchone()
        opened.execute('DELETE FROM entry WHERE "index" = ?', (victim,))
    try:
        page = search(audited.auditor, Query(events=(trail.ACCEPTED,)))
        assert [one.index for one in page.rows if one.state == MISSING] == [victim]
        assert run("audit", "show", audited.auditor, victim).code == 5
    finally:
        with closing(sqlite3.connect(database)) as opened, opened:
            opened.execute(f"INSERT INTO entry VALUES ({', '.join('?' * len(row))})", row)


def test_a_row_says_no_more_than_was_opened(audited: Audited) -> None:
    for row in search(audited.inspector).rows:
        if row.withheld:
            assert not row.entry.detail
            assert row.commitments[1]
        elif row.meta is not None:
            assert parse_detail(row.entry.detail) == row.detail


def test_an_erased_entry_is_proven_says_why_and_is_found_by_no_hash(audited: Audited) -> None:
    grant = bytes.fromhex(audited.grant)
    victim = next(row for row in search(audited.auditor, Query(about=(grant,), events=(trail.ACCEPTED,))).rows[::-1])
    officers = [word for path in casting.operator_files(audited.house.stage) for word in ("--officer", path)]
    order = (*officers, "--order", audited.house.path / "order", "--entries", str(victim.index), "--basis", "pipl-47")
    run("audit", "erase", audited.house.path, *order, "--contact", audited.house.contact).ok()
    (row,) = search(audited.auditor, Query(entries=(victim.index,))).rows
    assert (row.state, row.basis, row.fault, row.detail) == ("erased", "pipl-47", "", None)
    assert row.proven.leaf_hash == victim.proven.leaf_hash
    assert victim.index not in [one.index for one in search(audited.auditor, Query(about=(grant,))).rows]
    shown = run("audit", "show", audited.auditor, victim.index, "--json").ok().json
    assert (shown["state"], shown["erased_on"]) == ("erased", "pipl-47")


def test_what_rests_on_an_erased_entry_is_no_fault(audited: Audited) -> None:
    """An answer, and what a grant allowed and how it ended, stay where the question or the grant was erased."""
    run("wallet", "revoke", audited.house.path / "patient", audited.grant).ok()
    until(lambda: search(audited.auditor, Query(events=("exchange.deleted",))).rows or None, "its insurer erased it")
    rows = search(audited.auditor, Query(events=(trail.ACCEPTED, "grant.registered"))).rows
    answered = next(row for row in rows[::-1] if row.words.purpose == "public-settlement")
    granted = next(row for row in rows if row.words.event == "grant.registered")
    officers = [word for path in casting.operator_files(audited.house.stage) for word in ("--officer", path)]
    entries = f"{answered.index},{granted.index}"
    order = (*officers, "--order", audited.house.path / "another", "--entries", entries, "--basis", "pipl-47")
    run("audit", "erase", audited.house.path, *order, "--contact", audited.house.contact).ok()
    report = verified(audited)
    assert report.verified, report.first_bad


def test_what_a_quorum_cosigned_is_verified(audited: Audited) -> None:
    def witnessed() -> bool:
        standing = ask(audited.auditor, lambda auditor: auditor.standing())
        return len(standing.witnessed) >= standing.quorum and standing.final > 0

    until(lambda: witnessed() or None, "a quorum cosigns")

    async def states(auditor: Auditor) -> set[str]:
        await auditor.standing()
        return {row.state for row in (await auditor.search(Query(events=(trail.ACCEPTED,)), limit=200)).rows}

    assert "verified" in ask(audited.auditor, states)


def test_a_nodes_own_folder_may_be_asked_while_it_serves(audited: Audited) -> None:
    """Its head stays the running node's: one that was moved beside it looked like a fork, and stopped the node."""
    hospital = audited.house.path / "hospital"
    with audited.house.frozen("hospital"):
        before = head_of(audited.house)
        pages = [search(hospital) for _ in range(2)]
        assert pages[1].size > before.size
        assert head_of(audited.house) == before


def head_of(house: House) -> Head:
    with house.store("hospital") as store:
        return store.trust.head()


async def test_a_reading_that_ends_by_a_mistake_says_so(audited: Audited, caplog: pytest.LogCaptureFixture) -> None:
    omissions, settings = Omissions(Memory(audited.auditor)), config.load(audited.auditor)
    keystore = FileKeystore.load(settings.keys)
    store = Store(settings.database, keystore)
    # Its way to the broker is none: what it raises is no error of ours.
    omissions.begin(Auditor(settings, keystore, store, None), Query(), "a=1")
    async with asyncio.timeout(60):
        while omissions.reading is not None:
            await asyncio.sleep(0.01)
    store.close()
    found = omissions.found("a=1")
    assert found is not None
    assert (found["reason"], found["retryable"]) == ("internal", False)
    assert [record.message for record in caplog.records if record.exc_info] == ["omissions.failed"]
