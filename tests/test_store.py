"""The store's duties, written against `broker.store.interface` and run over every store there is (DESIGN section 8).

Long, since it is one contract, run over both stores.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.store import postgres, sqlite, tables
from broker.store.interface import Conflict, Reader, Store, Transaction
from tests.formats import refused
from tests.fresh import fresh_database
from tests.postgres import Server
from zhifu.errors import Refused

STORES: Final[dict[str, Callable[[Path], Store]]] = {
    "sqlite": lambda path: sqlite.SqliteStore(_file(path)),
    "postgresql": lambda path: postgres.PostgresStore(_address(path)),
}
"""Name -> opens the database that belongs to a folder, made if it is not there."""
_SERVERS: Final[list[Server]] = []


def _file(path: Path) -> Path:
    database = path / "broker.db"
    return database if database.exists() else fresh_database(database)


def _address(path: Path) -> str:
    """The database of a folder, also for a process that was told of the folder only."""
    kept = path / "address"
    if not kept.exists():
        kept.write_text(_SERVERS[0].migrated())
    return kept.read_text()


Open = Callable[[], Store]
PAGE: Final = 16384


@pytest.fixture(scope="module", autouse=True)
def _server(server: Server) -> None:
    _SERVERS[:] = [server]


@pytest.fixture(params=STORES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def opened(kind: str, tmp_path: Path) -> Iterator[Open]:
    """Opens the one database of this test, as often as it is called."""
    found: list[Store] = []
    if kind == "postgresql":
        _address(tmp_path)

    def open_it() -> Store:
        found.append(STORES[kind](tmp_path))
        return found[-1]

    yield open_it
    for one in found:
        one.close()


@pytest.fixture
def store(opened: Open) -> Store:
    return opened()


def invite(name: str, role: str = "hospital", expires_ms: int = 0) -> tuple[bytes, str, str, int, bytes, bytes]:
    return name.encode(), role, name, expires_ms, b"", b""


def checkpoint(size: int, time_ms: int = 0) -> tuple[int, bytes, bytes, int]:
    return size, b"root %d" % size, b"note", time_ms


def exchange(entry: int, nonce: bytes, sender: bytes = b"sender") -> tuple[object, ...]:
    return entry, b"hash %d" % entry, sender, b"recipient", nonce, "p", "accepted", b"", b"", b"", b"", b""


def delivery(entry: int, not_after: int, recipient: bytes = b"recipient") -> tuple[object, ...]:
    return entry, recipient, b"sender", not_after, b"envelope", b"manifest", b"\x00", b"leaves", b"capsule", b"", b""


def names(state: Reader, **equal: Any) -> list[str]:
    return [row.name for row in state.find(tables.Invite, **equal)]


def sizes(state: Reader, **asked: Any) -> list[int]:
    return [row.size for row in state.find(tables.Checkpoint, **asked)]


def filled(store: Store, table: Any, *rows: tuple[object, ...]) -> None:
    store.begin().insert(table, rows)
    store.commit()


# Visibility


def test_nothing_is_visible_to_others_before_commit(store: Store, opened: Open) -> None:
    other = opened()
    state = store.begin()
    state.insert(tables.Invite, [invite("a")])
    assert names(state) == ["a"]
    assert names(store.reader) == names(other.reader) == []
    assert store.reader.get(tables.Invite, b"a") is None
    store.commit()
    assert names(store.reader) == names(other.reader) == ["a"]


def test_changes_and_deletions_become_visible_together(store: Store) -> None:
    filled(store, tables.Invite, invite("a"), invite("b"))
    state = store.begin()
    assert state.update(tables.Invite, {"used_by": b"x"}, code_hash=b"a") == 1
    assert state.delete(tables.Invite, code_hash=b"b") == 1
    assert [(row.name, row.used_by) for row in store.reader.find(tables.Invite)] == [("a", b""), ("b", b"")]
    store.commit()
    assert [(row.name, row.used_by) for row in store.reader.find(tables.Invite)] == [("a", b"x")]


def test_a_rolled_back_transaction_leaves_nothing(store: Store) -> None:
    filled(store, tables.Invite, invite("a"))
    state = store.begin()
    state.delete(tables.Invite, code_hash=b"a")
    state.insert(tables.Invite, [invite("b")])
    store.rollback()
    assert names(store.reader) == ["a"]
    filled(store, tables.Invite, invite("c"))
    assert names(store.reader) == ["a", "c"]


def test_rollback_never_raises(store: Store) -> None:
    store.rollback()
    store.begin()
    store.rollback()
    store.rollback()


def test_one_transaction_is_open_at_a_time(store: Store) -> None:
    store.begin().insert(tables.Invite, [invite("a")])
    refused("unavailable.store", store.begin)
    store.commit()
    assert names(store.reader) == ["a"]


def test_commit_may_run_in_another_thread(store: Store) -> None:
    state = store.begin()
    state.insert(tables.Invite, [invite("a")])
    committing = threading.Thread(target=store.commit)
    committing.start()
    committing.join()
    assert names(store.reader) == ["a"]


def test_what_was_committed_is_there_after_opening_again(store: Store, opened: Open) -> None:
    filled(store, tables.Invite, invite("a"))
    store.close()
    assert names(opened().reader) == ["a"]


def test_an_open_transaction_is_gone_after_closing(store: Store, opened: Open) -> None:
    filled(store, tables.Invite, invite("a"))
    store.begin().insert(tables.Invite, [invite("b")])
    store.close()
    assert names(opened().reader) == ["a"]


# Marks


def test_rewind_takes_back_what_came_after_the_mark_and_nothing_else(store: Store) -> None:
    state = store.begin()
    state.insert(tables.Invite, [invite("before")])
    state.mark()
    state.insert(tables.Invite, [invite("taken back")])
    state.update(tables.Invite, {"used_by": b"x"}, code_hash=b"before")
    state.rewind()
    state.insert(tables.Invite, [invite("after")])
    store.commit()
    assert [(row.name, row.used_by) for row in store.reader.find(tables.Invite)] == [("after", b""), ("before", b"")]


def test_rewind_goes_to_the_last_mark_and_may_be_repeated(store: Store) -> None:
    state = store.begin()
    for name in ("a", "b"):
        state.mark()
        state.insert(tables.Invite, [invite(name)])
    for name in ("c", "d"):
        state.rewind()
        state.insert(tables.Invite, [invite(name)])
    store.commit()
    assert names(store.reader) == ["a", "d"]


def test_marks_end_with_their_transaction(store: Store) -> None:
    state = store.begin()
    state.mark()
    state.insert(tables.Invite, [invite("a")])
    store.commit()
    state = store.begin()
    state.mark()
    state.insert(tables.Invite, [invite("b")])
    state.rewind()
    store.commit()
    assert names(store.reader) == ["a"]


def test_a_transaction_bears_many_marks(store: Store) -> None:
    state = store.begin()
    for number in range(3000):
        state.mark()
        state.insert(tables.Checkpoint, [checkpoint(number)])
        if number % 3 == 0:
            state.rewind()
    store.commit()
    assert sizes(store.reader) == [number for number in range(3000) if number % 3]


# Keys


def test_a_key_that_exists_is_a_conflict_and_can_be_taken_back(store: Store) -> None:
    filled(store, tables.Invite, invite("b"))
    state = store.begin()
    state.insert(tables.Invite, [invite("a")])
    state.mark()
    with pytest.raises(Conflict):
        state.insert(tables.Invite, [invite("c"), invite("b"), invite("d")])
    state.rewind()
    state.insert(tables.Invite, [invite("e")])
    store.commit()
    assert names(store.reader) == ["a", "b", "e"]


def test_a_nonce_is_unique_for_its_sender(store: Store) -> None:
    state = store.begin()
    state.insert(tables.Exchange, [exchange(1, b"n"), exchange(2, b"m"), exchange(3, b"n", b"another")])
    state.mark()
    with pytest.raises(Conflict):
        state.insert(tables.Exchange, [exchange(4, b"n")])
    state.rewind()
    store.commit()
    assert [row.entry for row in store.reader.find(tables.Exchange, nonce=b"n")] == [1, 3]


def test_a_conflict_says_nothing_of_the_row(store: Store) -> None:
    filled(store, tables.Exchange, exchange(1, b"n"))
    with pytest.raises(Conflict) as caught:
        store.begin().insert(tables.Exchange, [exchange(2, b"n")])
    assert "nonce" not in str(caught.value)
    store.rollback()


def test_the_id_of_a_forgotten_notice_is_not_given_again(store: Store, opened: Open) -> None:
    filled(store, tables.Notice, *((None, b"node", b"x", "delivered", b"", -1) for _ in range(3)))
    store.begin().delete(tables.Notice, node=b"node")
    store.commit()
    store.close()
    again = opened()
    filled(again, tables.Notice, (None, b"node", b"y", "delivered", b"", -1))
    assert [row.id for row in again.reader.scan(tables.Notice)] == [4]


# Queries


def test_get_finds_by_the_whole_primary_key(store: Store) -> None:
    filled(store, tables.TreeNode, (0, 1, b"a"), (1, 0, b"b"))
    found = store.reader.get(tables.TreeNode, 1, 0)
    assert found is not None
    assert found.hash == b"b"
    assert store.reader.get(tables.TreeNode, 1, 1) is None


def test_find_answers_in_the_order_of_keys(store: Store) -> None:
    filled(store, tables.Checkpoint, *(checkpoint(size, size % 2) for size in (5, 3, 9, 1, 7, 2)))
    assert sizes(store.reader) == [1, 2, 3, 5, 7, 9]
    assert sizes(store.reader, time_ms=1, limit=3) == [1, 3, 5]
    assert sizes(store.reader, time_ms=1, after=3) == [5, 7, 9]
    assert sizes(store.reader, after=3, limit=2) == [5, 7]
    assert sizes(store.reader, after=9) == sizes(store.reader, time_ms=2) == sizes(store.reader, limit=0) == []
    assert sizes(store.reader, time_ms=0, note=b"note") == [2]


def test_a_tuple_stands_for_any_of_its_values(store: Store) -> None:
    filled(store, tables.Checkpoint, *(checkpoint(size, size % 3) for size in range(1, 90)))
    assert sizes(store.reader, size=(7, 3, 1000, 3)) == [3, 7]
    assert sizes(store.reader, size=tuple(range(1, 90)), time_ms=0, limit=3) == [3, 6, 9]
    assert sizes(store.reader, size=tuple(range(40)), time_ms=(1, 2), after=35) == [37, 38]
    assert sizes(store.reader, size=(5,)) == [5]
    assert sizes(store.reader, size=()) == sizes(store.reader, size=(5,), time_ms=()) == []
    state = store.begin()
    assert state.update(tables.Checkpoint, {"time_ms": 9}, size=(1, 2, 3, 500), time_ms=1) == 1
    assert state.delete(tables.Checkpoint, size=tuple(range(4, 1000))) == 86
    assert state.update(tables.Checkpoint, {"time_ms": 7}, size=()) == state.delete(tables.Checkpoint, size=()) == 0
    store.commit()
    assert [(row.size, row.time_ms) for row in store.reader.scan(tables.Checkpoint)] == [(1, 9), (2, 2), (3, 0)]


def test_keys_are_those_of_the_rows_that_find_answers(store: Store) -> None:
    filled(store, tables.Delivery, *(delivery(entry, 1, b"a" if entry % 2 else b"b") for entry in range(1, 10)))
    assert store.reader.keys(tables.Delivery, recipient=b"a") == [1, 3, 5, 7, 9]
    assert store.reader.keys(tables.Delivery, recipient=b"a", after=3, limit=2) == [5, 7]
    assert store.reader.keys(tables.Delivery, recipient=b"a", entry=(1, 2, 3)) == [1, 3]
    assert store.reader.keys(tables.Delivery, entry=()) == store.reader.keys(tables.Delivery, recipient=b"c") == []


def test_a_grant_is_used_as_often_as_it_says(store: Store) -> None:
    filled(store, tables.Grant, (b"hash", b"envelope", b"subject", b"cnf", 2, 0, 10, "active", 0))
    state = store.begin()
    assert [state.use(b"hash") for _ in range(3)] == [True, True, False]
    assert not state.use(b"other")
    store.commit()
    assert [row.uses for row in store.reader.scan(tables.Grant)] == [2]


def test_scan_answers_every_row_in_the_order_of_keys(store: Store) -> None:
    filled(store, tables.TreeNode, (1, 0, b"c"), (0, 1, b"b"), (0, 0, b"a"))
    assert [row.hash for row in store.reader.scan(tables.TreeNode)] == [b"a", b"b", b"c"]


def test_update_and_delete_tell_how_many_rows_there_were(store: Store) -> None:
    filled(store, tables.Invite, invite("a"), invite("b"), invite("c", "insurer"))
    state = store.begin()
    assert state.update(tables.Invite, {"expires_ms": 5, "name": "x"}, role="hospital", expires_ms=0) == 2
    assert state.update(tables.Invite, {"name": "y"}, role="hospital", expires_ms=0) == 0
    assert state.delete(tables.Invite, role="insurer", name="x") == 0
    assert state.delete(tables.Invite, name="x") == 2
    store.commit()
    assert names(store.reader) == ["c"]


def test_delete_through_stays_within_its_rows(store: Store) -> None:
    filled(store, tables.Checkpoint, *(checkpoint(size, size % 2) for size in range(1, 9)))
    state = store.begin()
    assert state.delete_through(tables.Checkpoint, 5, time_ms=1) == 3
    assert state.delete_through(tables.Checkpoint, 5, time_ms=1) == 0
    store.commit()
    assert sizes(store.reader) == [2, 4, 6, 7, 8]


def test_overdue_is_what_ended_before_now_by_when_it_ended(store: Store) -> None:
    filled(store, tables.Delivery, *(delivery(entry, 100 + entry % 3) for entry in range(1, 10)))
    assert store.reader.overdue(100) == []
    assert store.reader.overdue(101) == [3, 6, 9]
    assert store.reader.overdue(102) == [3, 6, 9, 1, 4, 7]


def test_overdue_answers_in_portions(store: Store) -> None:
    filled(store, tables.Delivery, *(delivery(entry, 1) for entry in range(1100)))
    assert store.reader.overdue(2) == list(range(1024))


def test_nodes_come_in_the_order_asked(store: Store) -> None:
    filled(store, tables.TreeNode, *((level, index, b"%d %d" % (level, index)) for level in (0, 1) for index in (0, 1)))
    assert store.reader.nodes([(1, 1), (0, 0), (1, 0), (0, 0)]) == [b"1 1", b"0 0", b"1 0", b"0 0"]
    assert store.reader.nodes([]) == []


def test_a_missing_node_is_not_passed_over(store: Store) -> None:
    filled(store, tables.TreeNode, (0, 0, b"a"))
    refused("log.corrupt", store.reader.nodes, [(0, 0), (0, 1)])


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**64 - 1])
def test_a_number_of_more_than_64_bits_is_refused(store: Store, number: int) -> None:
    reader = store.reader
    refused("malformed.field", reader.get, tables.Checkpoint, number)
    refused("malformed.field", reader.find, tables.Checkpoint, after=number)
    refused("malformed.field", reader.find, tables.Checkpoint, time_ms=number)
    refused("malformed.field", reader.overdue, number)
    refused("malformed.field", reader.nodes, [(0, number)])
    state = store.begin()
    state.insert(tables.Checkpoint, [checkpoint(1)])
    state.mark()
    refused("malformed.field", state.insert, tables.Checkpoint, [checkpoint(number)])
    refused("malformed.field", state.update, tables.Checkpoint, {"time_ms": number}, size=1)
    refused("malformed.field", state.delete, tables.Checkpoint, size=number)
    refused("malformed.field", state.delete_through, tables.Checkpoint, number)
    store.commit()
    assert sizes(reader) == [1]


# Everything together, against a dictionary

_KEY: Final = st.integers(0, 7)
_STEP: Final = st.one_of(
    st.tuples(st.just("insert"), st.lists(_KEY, min_size=1, max_size=3)),
    st.tuples(st.just("update"), _KEY),
    st.tuples(st.just("delete"), _KEY),
    st.tuples(st.just("delete_through"), _KEY),
    st.tuples(st.sampled_from(["mark", "rewind", "commit", "rollback"]), st.none()),
)


class Model:
    """What a store must hold: committed, written, and as it was at the mark."""

    def __init__(self) -> None:
        self.committed: dict[int, int] = {}
        self.begin()

    def begin(self) -> None:
        self.written = dict(self.committed)
        self.marked: dict[int, int] | None = None


def step(state: Transaction, model: Model, what: str, value: Any, time_ms: int) -> None:
    if what == "insert":
        conflicts = len(set(value)) < len(value) or any(key in model.written for key in value)
        before = dict(model.written)
        state.mark()
        try:
            state.insert(tables.Checkpoint, [checkpoint(key, time_ms) for key in value])
            model.written |= dict.fromkeys(value, time_ms)
            assert not conflicts
        except Conflict:
            assert conflicts
            state.rewind()
        model.marked = before
    elif what == "update":
        known = [key for key, time in model.written.items() if time % 2 == value % 2]
        assert sum(state.update(tables.Checkpoint, {"time_ms": time_ms}, size=key) for key in known) == len(known)
        model.written |= dict.fromkeys(known, time_ms)
    elif what == "delete":
        assert state.delete(tables.Checkpoint, size=value) == (value in model.written)
        model.written.pop(value, None)
    elif what == "delete_through":
        gone = [key for key in model.written if key <= value]
        assert state.delete_through(tables.Checkpoint, value) == len(gone)
        model.written = {key: time for key, time in model.written.items() if key not in gone}
    elif what == "mark":
        state.mark()
        model.marked = dict(model.written)
    elif model.marked is not None:
        state.rewind()
        model.written = dict(model.marked)


@settings(max_examples=40)
@given(steps=st.lists(_STEP, max_size=40))
@pytest.mark.parametrize("kind", STORES)
def test_any_sequence_of_steps_does_what_it_says(kind: str, steps: list[tuple[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store, model = STORES[kind](Path(folder)), Model()
        state = store.begin()
        for time_ms, (what, value) in enumerate(steps):
            if what in ("commit", "rollback"):
                getattr(store, what)()
                model.committed = dict(model.written) if what == "commit" else model.committed
                state = store.begin()
                model.begin()
            else:
                step(state, model, what, value, time_ms)
            assert {row.size: row.time_ms for row in state.scan(tables.Checkpoint)} == model.written
            assert {row.size: row.time_ms for row in store.reader.scan(tables.Checkpoint)} == model.committed
        store.rollback()
        store.close()


# Durability

WRITER: Final = """
import sys
from pathlib import Path
from broker.store import tables
from tests import test_store

store = test_store.STORES[sys.argv[1]](Path(sys.argv[2]))
for number in range(1_000_000):
    state = store.begin()
    state.insert(tables.Checkpoint, [test_store.checkpoint(number)])
    state.insert(tables.Delivery, [test_store.delivery(number, 0)])
    store.commit()
    print(number, flush=True)
"""


def child(repo_root: Path, source: str, *arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": f"{repo_root}:{repo_root / 'proto'}"}
    command = [sys.executable, "-c", source, *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("after", [*(pytest.param(one, marks=pytest.mark.soak) for one in (0, 7)), 40])
def test_what_was_acknowledged_survives_kill(
    kind: str, opened: Open, tmp_path: Path, repo_root: Path, after: int
) -> None:
    with child(repo_root, WRITER, kind, str(tmp_path)) as writer:
        assert writer.stdout is not None
        seen = next(int(line) for line in writer.stdout if int(line) >= after)
        writer.send_signal(signal.SIGKILL)
        seen = max([seen, *(int(line) for line in writer.stdout if line.endswith("\n"))])
    reader = opened().reader
    found = sizes(reader)
    assert found == list(range(len(found)))
    assert found[-1] >= seen
    assert [row.entry for row in reader.scan(tables.Delivery)] == found


# SQLite alone


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "broker.db"


def test_only_the_owner_may_read_the_files(database: Path) -> None:
    before = os.umask(0)
    try:
        store = sqlite.SqliteStore(database)
        filled(store, tables.Invite, invite("a"))
    finally:
        os.umask(before)
    files = sorted(database.parent.iterdir())
    assert [file.name for file in files] == ["broker.db", "broker.db-shm", "broker.db-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    store.close()


def test_a_commit_waits_for_the_disk(database: Path) -> None:
    store = sqlite.SqliteStore(database)
    asked = {name: store._writer.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")}
    assert asked == {"journal_mode": "wal", "synchronous": 2}
    store.close()


def test_another_file_or_version_is_refused(database: Path) -> None:
    database.write_bytes(b"not a database, but longer than the header of one" * 100)
    error = refused("unavailable.store", sqlite.SqliteStore, database)
    assert str(database.parent) not in str(error)
    refused("usage.file", sqlite.open_read_only, database)
    database.unlink()
    store = sqlite.SqliteStore(database)
    store._writer.execute("UPDATE alembic_version SET version_num = '9999'")
    store.close()
    refused("unavailable.store", sqlite.SqliteStore, database)
    refused("unavailable.store", sqlite.SqliteStore, database.parent / "no such folder" / "broker.db")
    refused("usage.file", sqlite.open_read_only, database.parent / "none.db")


def test_a_page_that_cannot_be_read_is_the_stores_trouble(database: Path) -> None:
    store = sqlite.SqliteStore(database)
    filled(store, tables.Delivery, *(delivery(entry, 0) for entry in range(2000)))
    store.close()
    content = bytearray(database.read_bytes())
    page = content.rindex(b"envelope") // PAGE * PAGE
    content[page : page + PAGE] = bytes(PAGE)
    database.write_bytes(content)
    reader = sqlite.open_read_only(database)
    refused("unavailable.store", lambda: list(reader.scan(tables.Delivery)))
    refused("unavailable.store", reader.find, tables.Delivery)


FULL_DISK: Final = """
import os, resource, sys
from pathlib import Path
from broker.store import tables
from tests import test_store
from tests.test_store import filled
from zhifu.errors import Refused

path = Path(sys.argv[2])
store = test_store.STORES[sys.argv[1]](path)
written = 0


def write():
    global written
    state = store.begin()
    state.insert(tables.Checkpoint, [test_store.checkpoint(written)])
    state.insert(tables.Delivery, [(written, b"r", b"s", 0, b"e", b"m", b"", os.urandom(200_000), b"c", b"", b"")])
    store.commit()
    written += 1


def held():
    rows = [row.size for row in store.reader.scan(tables.Checkpoint)]
    assert rows == [row.entry for row in store.reader.scan(tables.Delivery)] == list(range(written)), rows
    return len(rows)


write()
full = max(file.stat().st_size for file in path.iterdir()) + 1_000_000
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (full, most))
refusals = 0
for _ in range(12):
    try:
        write()
    except Refused as error:
        assert error.reason == "unavailable.store", error
        refusals += 1
        store.rollback()
    held()
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
before = held()
write()
print(refusals, before, held(), flush=True)
os._exit(0)
"""


def test_a_full_disk_refuses_and_writes_nothing_half(tmp_path: Path, repo_root: Path) -> None:
    with child(repo_root, FULL_DISK, "sqlite", str(tmp_path)) as writer:
        answer, _ = writer.communicate(timeout=60)
    assert writer.returncode == 0
    refusals, before, after = map(int, answer.split())
    assert refusals >= 3
    assert after == before + 1
    store = sqlite.SqliteStore(tmp_path / "broker.db")
    assert sizes(store.reader) == [row.entry for row in store.reader.scan(tables.Delivery)] == list(range(after))
    store.close()


def test_a_database_that_keeps_no_utf8_is_refused(server: Server) -> None:
    url = server.database("template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
    with pytest.raises(Refused, match="SQL_ASCII: create it with ENCODING 'UTF8'") as refused:
        postgres.PostgresStore(url)
    assert refused.value.reason == "unavailable.store"


def test_a_closed_store_refuses(store: Store) -> None:
    store.close()
    for call in (store.begin, store.commit, lambda: store.reader.find(tables.Invite)):
        with pytest.raises(Refused, match=r"unavailable\.store"):
            call()
    store.rollback()
    store.close()
