"""The audit index against a plain list: every search, every page, every count."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.indexing import Indexer
from broker.store.audit_index import HOUR_MS, LOOK_BACK, AuditIndex, Line, LookBack
from tests.broker_rig import present, rig
from zhifu import schema
from zhifu.errors import Malformed
from zhifu.trail import Query, Words

PARTIES = [bytes([number]) * 32 for number in range(1, 5)]
HASHES = [bytes([number]) * 32 for number in range(100, 104)]
START_MS = 1_700_000_000_000
CLAIM = schema.load("inpatient-claim")

words = st.builds(
    Words,
    event=st.sampled_from(["exchange.accepted", "exchange.denied", "grant.registered", "audit.searched"]),
    actor=st.sampled_from(PARTIES),
    counterparty=st.sampled_from([b"", *PARTIES]),
    purpose=st.sampled_from(["", "public-settlement", "commercial-settlement"]),
    outcome=st.sampled_from(["accepted", "denied", "recorded"]),
    reason=st.sampled_from(["", "policy.denied"]),
    schema_hash=st.just(CLAIM.hash),
    released=st.sampled_from([CLAIM.levels({}), CLAIM.levels({"name": 0}), CLAIM.levels({"name": 1, "diagnosis": 0})]),
    policy_hash=st.just(b"p" * 32),
)
entries = st.lists(
    st.tuples(
        st.lists(words, min_size=1, max_size=2, unique=True),
        st.lists(st.sampled_from(HASHES), max_size=2),
        st.integers(-5_000, 3 * HOUR_MS),
    ),
    max_size=40,
)
queries = st.builds(
    Query,
    since_ms=st.sampled_from([0, START_MS, START_MS + HOUR_MS]),
    until_ms=st.sampled_from([0, START_MS + HOUR_MS + 1, START_MS + 50 * HOUR_MS]),
    events=st.lists(st.sampled_from(["exchange.accepted", "exchange.denied", "audit.searched"]), max_size=2).map(tuple),
    party=st.sampled_from([b"", *PARTIES]),
    actor=st.sampled_from([b"", PARTIES[0]]),
    purposes=st.sampled_from([(), ("public-settlement",)]),
    outcomes=st.sampled_from([(), ("denied", "recorded")]),
    unit=st.sampled_from(["", "name", "diagnosis"]),
    about=st.lists(st.sampled_from(HASHES), max_size=2, unique=True).map(tuple),
)


def lines(drawn: Sequence[tuple[list[Words], list[bytes], int]]) -> list[Line]:
    """Times rise by a minute an entry, but for some jitter, as clocks have it."""
    return [
        Line(i, START_MS + 60_000 * i + jitter % 120_000, said, names) for i, (said, names, jitter) in enumerate(drawn)
    ]


def expected(all_lines: Sequence[Line], query: Query, scope: bytes) -> list[int]:
    found = [
        line.entry
        for line in all_lines
        if query.in_time(line.time_ms)
        and set(query.about) <= set(line.names)
        and any(query.met_by(one) and (not scope or one.is_about(scope)) for one in line.words)
    ]
    return found[::-1]


@settings(max_examples=40, deadline=None)
@given(
    entries,
    queries,
    st.sampled_from([b"", PARTIES[1]]),
    st.integers(1, 7),
    st.sampled_from([LOOK_BACK, LookBack(0, 2, 8), LookBack(0, 16, 3)]),
)
def test_every_page_of_every_search_is_what_a_list_gives(
    tmp_path_factory: pytest.TempPathFactory,
    drawn: list[tuple[list[Words], list[bytes], int]],
    query: Query,
    scope: bytes,
    limit: int,
    back: LookBack,
) -> None:
    all_lines = lines(drawn)
    index = AuditIndex(tmp_path_factory.mktemp("index") / "index.db", back)
    try:
        if all_lines:
            index.add(all_lines)
        wanted, found, before = expected(all_lines, query, scope), [], 1 << 62
        while True:
            page = index.find(query, scope, before, limit)
            found += page.entries
            assert page.total in (None, len(wanted))
            if not page.more:
                break
            before = page.entries[-1]
        assert found == wanted
        counted, complete = index.hours(replace_about(query), scope)
        assert complete
        assert sum(row[-1] for row in counted) >= len(wanted)
    finally:
        index.close()


def replace_about(query: Query) -> Query:
    return Query(query.since_ms, query.until_ms, query.events, query.party, query.actor, b"", query.purposes,
                 query.outcomes, (), b"", query.unit)  # fmt: skip


def test_what_waits_is_what_nothing_ended_and_its_latency_is_counted(tmp_path: Path) -> None:
    index = AuditIndex(tmp_path / "index.db")
    accepted = Words("exchange.accepted", PARTIES[0], PARTIES[1], outcome="accepted")
    delivered = Words("exchange.acknowledged", PARTIES[1], PARTIES[0], outcome="delivered")
    index.add([Line(0, START_MS, [accepted], [], True), Line(1, START_MS + 5, [accepted], [], True)])
    index.add([Line(2, START_MS + 40, [delivered], [], ends=[0])])
    assert index.waiting(b"") == [1]
    assert index.waiting(PARTIES[2]) == []
    latencies = {row[5]: row[6] for row in index.hours(Query(outcomes=("delivered",)), b"")[0]}
    assert latencies == {6: 1}  # 40 ms: below 2^6
    index.close()


def test_it_goes_on_where_it_was_and_is_made_anew_by_another_version(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    index = AuditIndex(path)
    index.add([Line(0, START_MS, [Words("grant.registered", PARTIES[0])], HASHES)])
    index.close()
    again = AuditIndex(path)
    assert (again.size, again.find(Query(about=(HASHES[0],)), b"", 9, 9).entries) == (1, [0])
    again.forget([0])
    assert again.find(Query(about=(HASHES[0],)), b"", 9, 9).entries == []
    again._db.execute("PRAGMA user_version=99")
    again.close()
    fresh = AuditIndex(path)
    assert fresh.size == 0
    assert fresh.find(Query(), b"", 9, 9).entries == []
    fresh.close()
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"events": ("x",) * 65},
        {"party": b"short"},
        {"about": (b"x" * 20,)},
        {"until_ms": 1 << 60},
        {"unit": "a\nb"},
        {"entries": tuple(range(1001))},
    ],
)
def test_a_search_without_measure_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        Query(**wrong)  # type: ignore[arg-type]


async def test_an_index_of_a_longer_log_is_made_anew(tmp_path: Path) -> None:
    """The database was restored from a backup, and the index beside it was not: other entries come at its places."""
    async with rig(tmp_path) as broker:
        index = AuditIndex(tmp_path / "index.db")
        size = broker.core.log.size
        said = [Words("exchange.accepted", PARTIES[0])]
        index.add([Line(entry, START_MS, said, [HASHES[0]]) for entry in range(size + 3)])
        indexer = Indexer(index, broker.core.log, broker.core.store.reader)
        for _ in range(4):
            await broker.submit(present(broker.statute()))
        while indexer.step():
            pass
        assert index.size == broker.core.log.size == size + 4
        assert index.find(Query(about=(HASHES[0],)), b"", 1 << 40, 100).entries == []
        assert index.find(Query(events=("exchange.accepted",)), b"", 1 << 40, 100).entries == [
            *range(size + 3, size - 1, -1)
        ]
        index.close()
