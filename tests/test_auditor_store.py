"""What someone with the database but without the keys can do to a log: each of it is found, and the entry is named."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

from broker import export
from broker.store.rows import Rows
from broker.store.sqlite import Driver
from clients.auditor import cli, pins, source
from clients.auditor.entries import MAX_LINE, parse
from clients.auditor.report import FirstBad, Report
from clients.auditor.verify import Verification
from tests.test_auditor_honest import BUNDLE, World, begin, claim, exported, tell
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.merkle import EMPTY, Frontier

TABLES: Final = {"entry": ["index"], "tree_node": ["level", "index"], "checkpoint": ["size"], "head": ["id"]}
PAGE: Final = 16_384


@dataclass
class Kept:
    """A broker that stopped, its database open for whoever may write files."""

    world: World
    database: sqlite3.Connection

    @property
    def path(self) -> Path:
        return self.world.opened.database

    def rows(self, table: str) -> list[dict[str, Any]]:
        order = ", ".join(f'"{name}"' for name in TABLES[table])
        found = self.database.execute(f'SELECT * FROM "{table}" ORDER BY {order}')
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found]

    def change(self, table: str, row: dict[str, Any], **values: Any) -> bool:
        """Set columns of one row. False where the table refuses the value, or keeps it as what stood there before."""
        where = " AND ".join(f'"{name}" = ?' for name in TABLES[table])
        sets = ", ".join(f'"{name}" = ?' for name in values)
        key = [row[name] for name in TABLES[table]]
        try:
            self.database.execute(f'UPDATE "{table}" SET {sets} WHERE {where}', [*values.values(), *key])
        except (sqlite3.IntegrityError, sqlite3.OperationalError):
            return False
        return row not in self.rows(table)

    def verify(self, seen: Frontier | None = None) -> Report:
        """The export as this connection sees it, changes included."""
        with closing(failing(line.encode() for line in export.lines(Rows(Driver(self.database))))) as read:
            return Verification(self.world.pins, seen or Frontier(), [BUNDLE]).run(read)

    def bad(self, seen: Frontier | None = None) -> FirstBad:
        """What is found after the changes, which are then taken back."""
        found = self.verify(seen).first_bad
        self.restore()
        assert found is not None
        return found

    def restore(self) -> None:
        self.database.execute("ROLLBACK")
        self.database.execute("BEGIN")


def failing(lines: Iterator[bytes]) -> Generator[bytes, None, None]:
    """An export made in this process: where it breaks, the command sees a program that ended with a code."""
    try:
        yield from lines
    except (Refused, sqlite3.Error, TypeError, ValueError, AttributeError) as error:
        raise NotAuthentic("log.corrupt", f"unreadable: {type(error).__name__}") from error


def read(path: Path) -> Generator[bytes, None, None]:
    return failing(exported(path))


def opened(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("BEGIN")
    return database


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """One log for all tests; each leaves it as it was."""
    world = tell(tmp_path_factory.mktemp("kept")).world
    world.close()
    path = world.opened.database
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode=DELETE")
    database.close()
    made = Kept(world, opened(path))
    assert made.verify().verified
    yield made
    made.database.close()


def entry_of(table: str, row: dict[str, Any]) -> int:
    """The entry that a damaged row concerns first."""
    if table == "entry":
        return int(row["index"])
    if table == "tree_node":
        return int(row["index"]) << int(row["level"])
    return int(row["size"]) - 1


def at(found: FirstBad) -> int:
    return -1 if found.index is None else found.index


def flipped(value: Any, place: int, bit: int) -> Any:
    if isinstance(value, int):
        return value ^ 1 << place
    raw = bytearray(value)
    raw[place] ^= 1 << bit
    return bytes(raw)


def places(kept: Kept, most: int) -> list[tuple[str, dict[str, Any], str, int]]:
    """A sample of the bytes of every column of every table of the log, of integers the bits: ``most`` a column."""
    draw = random.Random(20260921)
    found = []
    for table in TABLES:
        columns: dict[str, list[tuple[str, dict[str, Any], str, int]]] = {}
        for row in kept.rows(table):
            for column, value in row.items():
                length = 48 if isinstance(value, int) else len(value)
                columns.setdefault(column, []).extend((table, row, column, place) for place in range(length))
        for positions in columns.values():
            found += draw.sample(positions, min(most, len(positions)))
    return found


@pytest.mark.parametrize("most", [8, pytest.param(50, marks=pytest.mark.soak)])
def test_every_flipped_bit_is_found_and_its_entry_named(kept: Kept, most: int) -> None:
    draw, count = random.Random(7), 0
    for table, row, column, place in places(kept, most):
        if not kept.change(table, row, **{column: flipped(row[column], place, draw.randrange(8))}):
            continue
        found = kept.bad()
        where = f"{table} {entry_of(table, row)} {column} {place}: {found.line}"
        if column in TABLES[table] or column == "size":  # what is missing, or where the row went, comes first
            assert -1 < at(found) <= kept.world.log.size, where
        else:
            assert found.index == entry_of(table, row), where
        count += 1
    assert count >= 12 * most
    assert kept.verify().verified


@pytest.mark.parametrize(
    "value", [None, -1, 2**63 - 1, 1.5, float("inf"), "", "text", "00", "\0", b"", b"\0" * 100, b"\0" * 1_000_000]
)
def test_values_of_another_kind_are_found(kept: Kept, value: Any) -> None:
    count = 0
    for table in TABLES:
        row = kept.rows(table)[-1]
        for column in row:
            if kept.change(table, row, **{column: value}):
                assert kept.bad()
                count += 1
    assert count >= (0 if value is None else 8)


def test_what_a_plain_entry_does_not_commit_to_is_empty(kept: Kept) -> None:
    """Its leaf holds the document only: anything beside it would be anyone's word."""
    plain = next(row for row in kept.rows("entry") if row["kind"] == 1)
    for column in ("meta_key", "meta", "detail_key"):
        kept.change("entry", plain, **{column: bytes(32)})
        found = kept.bad()
        assert (found.index, found.reason) == (plain["index"], "malformed.field")


@pytest.mark.parametrize("table", TABLES)
def test_every_deleted_row_is_found(kept: Kept, table: str) -> None:
    for row in kept.rows(table):
        where = " AND ".join(f'"{name}" = {row[name]}' for name in TABLES[table])
        kept.database.execute(f'DELETE FROM "{table}" WHERE {where}')
        found = kept.bad()
        if table == "checkpoint":  # its entries have no signature of their own, or one that is not theirs
            assert at(found) >= entry_of(table, row), found.line
        elif table != "head":
            assert found.index == entry_of(table, row), found.line


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("entry", ["kind", "time_ms", "meta_key", "meta", "detail_key", "detail"]),
        ("entry", ["detail_key", "detail"]),
        ("tree_node", ["hash"]),
        ("checkpoint", ["root", "note", "time_ms"]),
        ("checkpoint", ["note"]),
    ],
)
def test_swapped_rows_are_found(kept: Kept, table: str, columns: Sequence[str]) -> None:
    rows = kept.rows(table)
    for one, other in pairwise(rows):
        kept.change(table, one, **{name: other[name] for name in columns})
        kept.change(table, other, **{name: one[name] for name in columns})
        found = kept.bad()
        assert -1 < at(found) <= entry_of(table, one), found.line


def test_inserted_rows_are_found(kept: Kept) -> None:
    size = kept.world.log.size
    last = {table: kept.rows(table)[-1] for table in TABLES}
    between = min(set(range(1, size)) - {row["size"] for row in kept.rows("checkpoint")})
    added: list[tuple[str, dict[str, Any], int | None]] = [
        ("entry", last["entry"] | {"index": size}, size),
        ("entry", last["entry"] | {"index": -1}, 0),
        ("tree_node", last["tree_node"] | {"level": 0, "index": size}, None),
        ("tree_node", last["tree_node"] | {"level": 9, "index": 0}, 0),
        ("tree_node", last["tree_node"] | {"level": -1, "index": 0}, None),
        ("checkpoint", last["checkpoint"] | {"size": size + 1}, size - 1),
        ("checkpoint", last["checkpoint"] | {"size": between}, between - 1),
        ("checkpoint", last["checkpoint"] | {"size": 0}, None),
    ]
    for table, row, index in added:
        names = ", ".join(f'"{name}"' for name in row)
        kept.database.execute(f'INSERT INTO "{table}" ({names}) VALUES ({", ".join("?" * len(row))})', [*row.values()])
        found = kept.bad()
        assert index is None or found.index == index, found.line


def cut(kept: Kept, size: int) -> None:
    """The log as it was at the checkpoint of ``size``."""
    kept.database.execute('DELETE FROM entry WHERE "index" >= ?', [size])
    kept.database.execute('DELETE FROM tree_node WHERE ("index" + 1) << level > ?', [size])
    kept.database.execute("DELETE FROM checkpoint WHERE size > ?", [size])
    (root,) = kept.database.execute("SELECT root FROM checkpoint WHERE size = ?", [size]).fetchone()
    kept.database.execute("UPDATE head SET size = ?, root = ?", [size, root])


def test_truncated_entries_are_found(kept: Kept) -> None:
    kept.database.execute('DELETE FROM entry WHERE "index" >= 20')
    found = kept.bad()
    assert (found.index, found.reason) == (20, "log.corrupt")


def test_log_cut_short_is_found_by_who_saw_more(kept: Kept) -> None:
    """An older state is a good log by itself; only the head seen before tells."""
    seen = kept.world.log.frontier
    for row in kept.rows("checkpoint")[:-1]:
        cut(kept, row["size"])
        found = kept.bad(seen)
        assert (found.index, found.reason) == (row["size"], "log.inconsistent")
    cut(kept, kept.rows("checkpoint")[-3]["size"])
    assert kept.verify().verified
    kept.restore()


def test_empty_database_is_found_by_who_saw_more(kept: Kept) -> None:
    for table in TABLES:
        kept.database.execute(f'DELETE FROM "{table}"')
    found = kept.bad(kept.world.log.frontier)
    assert (found.index, found.reason) == (0, "log.inconsistent")


def test_earlier_damage_is_named_first(kept: Kept) -> None:
    """The pass meets a missing entry before it meets the node of an earlier one."""
    fifth = kept.rows("entry")[5]
    kept.change("entry", fifth, meta_key=bytes(32))
    kept.database.execute('DELETE FROM entry WHERE "index" = 9')
    assert kept.bad().index == 5
    kept.change("entry", fifth, meta_key=bytes(32))
    kept.change("entry", kept.rows("entry")[9], kind=7)
    assert kept.bad().index == 5


def test_damage_is_named_before_what_follows_from_it(kept: Kept) -> None:
    """An acknowledgement later on names the entry's true leaf; the entry is what was changed."""
    accepted = next(row for row in kept.rows("entry") if b"exchange.accepted" in row["meta"])
    kept.change("entry", accepted, detail_key=bytes(32))
    found = kept.bad()
    assert (found.index, found.reason) == (accepted["index"], "log.corrupt")


@pytest.mark.parametrize("kinds", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_no_page_of_the_file_can_be_damaged_unseen(kept: Kept, kinds: int) -> None:
    """Zeros on one page and noise on the next, or both on each. Where the damage is not found, the export is what it
    was: the page held something else, or nothing.
    """
    honest, whole = list(read(kept.path)), kept.path.read_bytes()
    draw, unseen, copy = random.Random(3), 0, kept.path.with_name("copy.db")
    pages = len(whole) // PAGE
    for page in range(pages):
        for damage in (bytes(PAGE), draw.randbytes(PAGE))[:: -1 if page % 2 else 1][:kinds]:
            copy.write_bytes(whole[: page * PAGE] + damage + whole[(page + 1) * PAGE :])
            with closing(read(copy)) as lines:
                report = Verification(kept.world.pins, Frontier(), [BUNDLE]).run(lines)
            if report.verified:
                assert list(read(copy)) == honest
                unseen += 1
    assert unseen < kinds * (pages - 4)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def demo(kept: Kept, tmp_path: Path) -> Path:
    """A demo folder with a database of its own."""
    shutil.copytree(kept.world.path, tmp_path / "demo")
    pins.write(tmp_path / "demo" / "auditor", kept.world.pins)
    return tmp_path / "demo"


def run(demo: Path, *options: str) -> tuple[int, str, str]:
    found = CliRunner().invoke(cli.app, ["verify", str(demo), *options])
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    return found.exit_code, found.stdout, found.stderr


def test_command_names_the_first_bad_entry(demo: Path) -> None:
    with sqlite3.connect(demo / "broker" / "broker.db") as database:
        database.execute('UPDATE entry SET detail_key = zeroblob(32) WHERE "index" = 11')
    database.close()
    code, said, complaint = run(demo)
    assert code == 5
    assert complaint == "zhifu: log.corrupt: entry 11: the entry is not the leaf in the tree\n"
    assert "未通过 / NOT verified" in said
    assert not (demo / "auditor" / "head.json").exists()


@pytest.mark.parametrize("every", [2, pytest.param(1, marks=pytest.mark.soak)])
def test_command_survives_every_wreck(kept: Kept, demo: Path, every: int) -> None:
    """Every one, or every second. Found by the export's exit code where it cannot read the file at all; never a
    traceback.
    """
    database = demo / "broker" / "broker.db"
    whole, draw = database.read_bytes(), random.Random(11)
    rows = [(kept.rows("entry")[3], "detail_key"), (kept.rows("tree_node")[3], "hash"), (kept.rows("head")[0], "root")]
    pages = [whole.index(row[column]) // PAGE for row, column in rows]
    wrecks = [whole[: page * PAGE] + draw.randbytes(PAGE) + whole[(page + 1) * PAGE :] for page in pages]
    wrecks += [whole[: len(whole) // 2], b"", draw.randbytes(PAGE), whole[:PAGE]]
    for wreck in wrecks[::every]:
        database.write_bytes(wreck)
        code, _, complaint = run(demo)
        assert code == 5, complaint
        assert complaint.startswith("zhifu: log.")
        assert complaint.count("\n") == 1
        assert "Traceback" not in complaint


def test_command_finds_a_restored_backup(demo: Path) -> None:
    """The auditor verified, the broker went on, the auditor verified again; then the operator put the backup back."""
    world = World(demo, now_ms=1_790_100_000_000)
    shutil.copytree(demo / "broker", demo / "backup")
    assert run(demo)[0] == 0
    world.state_keys(claim().sender, 3)
    assert run(demo)[0] == 0
    world.close()
    grown = pins.load_head(demo / "auditor")
    shutil.rmtree(demo / "broker")
    (demo / "backup").rename(demo / "broker")
    code, _, complaint = run(demo)
    assert (code, f"entry {grown.size - 1}: " in complaint) == (5, True)
    assert complaint.startswith("zhifu: log.inconsistent: ")
    assert pins.load_head(demo / "auditor") == grown


def test_export_that_fails_is_a_finding(tmp_path: Path) -> None:
    with pytest.raises(NotAuthentic, match=r"log\.corrupt: unreadable: the export ended with code 2 \(zhifu broker: "):
        list(source.lines(tmp_path))


def test_a_kept_folder_runs_no_code_of_its_own(demo: Path, tmp_path: Path) -> None:
    """Whoever hands over the folder may have put a program into it, of the name of ours, and be checked from within."""
    copy = shutil.copytree(demo, tmp_path / "kept")
    for name in ("__init__.py", "__main__.py"):
        (copy / "broker" / name).write_text("open('ran', 'w')")
    for words in (("-m", "clients", "audit", "verify", "."), ("-m", "clients", "broker", "verify", "broker")):
        done = subprocess.run([sys.executable, "-P", *words], cwd=copy, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    assert not (copy / "ran").exists()


def test_export_is_ended_when_nobody_reads_on(demo: Path) -> None:
    lines = source.lines(demo / "broker")
    assert b'"head"' in next(lines)
    lines.close()


def test_log_that_grows_meanwhile_is_read_as_one_moment(tmp_path: Path) -> None:
    """A broker that serves is audited as it stood when the export began."""
    world = begin(tmp_path)
    with closing(world.lines()) as lines:
        begun = [next(lines) for _ in range(3)]
        world.state_keys(claim().sender, 2)
        report = Verification(world.pins, Frontier(), [BUNDLE]).run(chain(begun, lines))
    world.close()
    assert report.verified
    assert report.size == world.log.size - 1


# --- the lines --------------------------------------------------------------------------------------------------------


HEAD: Final = b'{"line": "head", "size": 0, "root": "%s"}' % EMPTY.hex().encode()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b'"head"',
        b"\xff",
        b"[" * 100_000,
        b"9" * 10_000,
        b'{"line": []}',
        b'{"line": "tail"}',
        b'{"line": "head", "size": 0}',
        b'{"line": "head", "size": 0, "root": "", "more": 1}',
        b'{"line": "head", "size": true, "root": ""}',
        b'{"line": "head", "size": 1.0, "root": ""}',
        b'{"line": "head", "size": NaN, "root": ""}',
        b'{"line": "head", "size": 1, "root": ""}',
        HEAD.upper(),
        HEAD.replace(b'"e3', b'" e3'),
        HEAD.replace(b'"e3', b'"E3'),
        b'{"line": "unreadable", "table": "entry", "detail": "a\\nb"}',
        b'{"line": "unreadable", "table": 1, "detail": "a"}',
        b" " * (MAX_LINE + 1),
    ],
)
def test_lines_are_read_strictly(line: bytes) -> None:
    with pytest.raises(Malformed):
        parse(line)


def test_lines_out_of_order_are_found(kept: Kept) -> None:
    honest = list(read(kept.path))
    size = kept.world.log.size
    head, first, node, last = honest[0], honest[1], honest[1 + size], honest[-1]
    streams: list[list[bytes]] = [
        [],
        [first],
        [head, head],
        [head, node],
        [head, last],
        [head, first, head],
        [*honest[: 1 + size], last],
        [*honest, first],
        [*honest, node],
        [*honest, last],
        [*honest, head],
        honest[:-1],
        honest[: 1 + size],
        honest[:5],
        [*honest[:5], b'{"line": "unreadable", "table": "entry", "detail": "DatabaseError"}'],
        [*honest[:5], b'{"line": "unreadable", "table": "node", "detail": "DatabaseError"}'],
        [*honest[:5], b"\0", *honest[5:]],
    ]
    for stream in streams:
        report = Verification(kept.world.pins, Frontier(), [BUNDLE]).run(iter(stream))
        assert not report.verified
        assert report.first_bad is not None
