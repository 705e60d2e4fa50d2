"""The store's interface in SQL that every database here understands; what differs is a `Driver`.

SQLModel declares the tables; rows travel through the driver, because an ORM row costs seven times as much (DESIGN
section 8).
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from sqlmodel import SQLModel

from zhifu.errors import NotAuthentic

T = TypeVar("T", bound=SQLModel)
_PAGE: Final = 4096


class Answer(NamedTuple):
    """What a statement gave: rows of column values, and how many rows it touched."""

    rows: list[Any]
    touched: int


class Driver(Protocol):
    """Statements with ``?`` for each value, on one connection; raising as `Reader` and `Transaction` say."""

    def ask(self, sql: str, values: Sequence[Any] = ()) -> Answer: ...

    def write_all(self, sql: str, rows: Sequence[Sequence[Any]]) -> None: ...

    def close(self) -> None: ...

    def savepoint(self, *, again: bool) -> None:
        """Set the savepoint; ``again``: the one before is forgotten, since an open one costs whatever is written."""


@cache
def _columns(table: type[SQLModel]) -> tuple[str, ...]:
    return tuple(column.name for column in table.__table__.columns)  # type: ignore[attr-defined]


@cache
def _keys(table: type[SQLModel]) -> tuple[str, ...]:
    return tuple(column.name for column in table.__table__.primary_key)  # type: ignore[attr-defined]


@cache
def _numbers_itself(table: type[SQLModel]) -> bool:
    return bool(table.__table__.dialect_options["sqlite"]["autoincrement"])  # type: ignore[attr-defined]


@cache
def _insert(table: type[SQLModel]) -> str:
    columns = _columns(table)[_numbers_itself(table) :]
    names = ", ".join(f'"{name}"' for name in columns)
    marks = ", ".join("?" * len(columns))
    return f'INSERT INTO "{table.__tablename__}" ({names}) VALUES ({marks})'


@cache
def _where(names: tuple[str, ...]) -> str:
    return " AND ".join(f'"{name}" = ?' for name in names) or "true"


@cache
def _among(names: tuple[str, ...], counts: tuple[int, ...]) -> str:
    """A condition on columns, each equal to one value (count 0) or to any of ``count``."""
    return " AND ".join(
        f'"{name}" IN ({", ".join("?" * count)})' if count else f'"{name}" = ?'
        for name, count in zip(names, counts, strict=True)
    )


def _condition(equal: dict[str, Any]) -> tuple[str, list[Any]]:
    """The condition that columns equal given values, of which a tuple means any of its values; and the values."""
    if tuple not in map(type, equal.values()):
        return _where(tuple(equal)), list(equal.values())
    values: list[Any] = []
    counts = []
    for value in equal.values():
        if type(value) is tuple:
            # Filled up with a repetition, so that few statements serve for every number of values.
            counts.append(1 << (len(value) - 1).bit_length())
            values += value
            values += value[-1:] * (counts[-1] - len(value))
        else:
            counts.append(0)
            values.append(value)
    return _among(tuple(equal), tuple(counts)), values


def _is_empty(equal: dict[str, Any]) -> bool:
    return () in equal.values()


@cache
def _ordered(table: type[SQLModel], where: str) -> str:
    order = ", ".join(f'"{name}"' for name in _keys(table))
    columns = ", ".join(f'"{name}"' for name in _columns(table))
    return f'SELECT {columns} FROM "{table.__tablename__}" WHERE {where} ORDER BY {order}'


@cache
def _only_keys(table: type[SQLModel], where: str) -> str:
    (key,) = _keys(table)
    return f'SELECT "{key}" FROM "{table.__tablename__}" WHERE {where} ORDER BY "{key}"'


@cache
def _shape(table: type[SQLModel]) -> Callable[[Sequence[Any]], Any]:
    """A tuple with the table's columns as attributes, for reading only."""
    made: Any = namedtuple(table.__name__, _columns(table))  # type: ignore[misc]  # the columns are its fields
    # `_make` is Python, and looks at the length of what we counted ourselves: half of what a row costs.
    return partial(tuple.__new__, made)


def made(table: type[T], row: Sequence[Any]) -> T:
    """A row, given as column values in the table's order; for reading only."""
    # Rows come from our own typed columns. A model would take 24 µs to make and 0.3 to ask; this 0.4 and 0.05.
    found: T = _shape(table)(row)
    return found


class Rows:
    """Reads on one connection; what they mean stands in `broker.store.interface`."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def close(self) -> None:
        """Close the connection. Never raises."""
        self._driver.close()

    def get(self, table: type[T], *key: object) -> T | None:
        found = self._driver.ask(_ordered(table, _where(_keys(table))), key).rows
        return made(table, found[0]) if found else None

    def find(self, table: type[T], *, limit: int = 1_000_000, after: object = None, **equal: object) -> list[T]:
        return list(map(_shape(table), self._select(_ordered, table, limit, after, equal)))

    def keys(
        self, table: type[SQLModel], *, limit: int = 1_000_000, after: object = None, **equal: object
    ) -> list[Any]:
        return [row[0] for row in self._select(_only_keys, table, limit, after, equal)]

    def _select(
        self, query: Callable[[type[SQLModel], str], str], table: type[SQLModel], limit: int, after: object,
        equal: dict[str, Any],
    ) -> list[Any]:  # fmt: skip
        if _is_empty(equal):
            return []
        where, values = _condition(equal)
        if after is not None:
            where += f' AND "{_keys(table)[-1]}" > ?'
            values.append(after)
        return self._driver.ask(f"{query(table, where)} LIMIT ?", [*values, limit]).rows

    def scan(self, table: type[T]) -> Iterator[T]:
        keys = _keys(table)
        names, marks = ", ".join(f'"{name}"' for name in keys), ", ".join("?" * len(keys))
        where, last = "true", ()
        while True:
            rows = self._driver.ask(f"{_ordered(table, where)} LIMIT ?", [*last, _PAGE]).rows
            for row in rows:
                yield made(table, row)
            if len(rows) < _PAGE:
                return
            where = f"({names}) > ({marks})"
            last = tuple(rows[-1][_columns(table).index(name)] for name in keys)

    def overdue(self, now: int) -> list[int]:
        # In the order of an index: by entry, every delivery that waits would be looked through, each second.
        sql = "SELECT entry FROM delivery WHERE not_after < ? ORDER BY not_after, entry LIMIT 1024"
        return [row[0] for row in self._driver.ask(sql, (now,)).rows]

    def waiting(self) -> list[tuple[bytes, int, int]]:
        sql = "SELECT recipient, count(*), min(entry) FROM delivery GROUP BY recipient"
        return [(row[0], row[1], row[2]) for row in self._driver.ask(sql).rows]

    def row(self, level: int, first: int, most: int) -> list[bytes]:
        sql = 'SELECT "index", hash FROM tree_node WHERE level = ? AND "index" >= ? ORDER BY "index" LIMIT ?'
        found = self._driver.ask(sql, (level, first, most)).rows
        if found and found[-1][0] - first == len(found) - 1:  # ascending and distinct, so none is missing between
            return [hash_ for _, hash_ in found]
        return [hash_ for place, (index, hash_) in enumerate(found, first) if index == place]

    def nodes(self, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        sql = 'SELECT hash FROM tree_node WHERE level = ? AND "index" = ?'
        found = [self._driver.ask(sql, node).rows for node in wanted]
        if [] in found:
            raise NotAuthentic("log.corrupt", "a node of the tree is missing")
        return [rows[0][0] for rows in found]


class Writing(Rows):
    """One writing transaction that the store has begun."""

    def __init__(self, driver: Driver) -> None:
        super().__init__(driver)
        self._marked = False

    def mark(self) -> None:
        self._driver.savepoint(again=self._marked)
        self._marked = True

    def rewind(self) -> None:
        self._driver.ask("ROLLBACK TO operation")

    def insert(self, table: type[SQLModel], rows: Sequence[Any]) -> None:
        given = [row[1:] for row in rows] if _numbers_itself(table) else rows
        self._driver.write_all(_insert(table), given)

    def update(self, table: type[SQLModel], changes: dict[str, object], **equal: object) -> int:
        if _is_empty(equal):
            return 0
        where, values = _condition(equal)
        sets = ", ".join(f'"{name}" = ?' for name in changes)
        sql = f'UPDATE "{table.__tablename__}" SET {sets} WHERE {where}'
        return self._driver.ask(sql, [*changes.values(), *values]).touched

    def use(self, grant_hash: bytes) -> bool:
        sql = 'UPDATE "grant" SET uses = uses + 1 WHERE hash = ? AND uses < max_uses'
        return self._driver.ask(sql, (grant_hash,)).touched == 1

    def delete(self, table: type[SQLModel], **equal: object) -> int:
        if _is_empty(equal):
            return 0
        where, values = _condition(equal)
        return self._driver.ask(f'DELETE FROM "{table.__tablename__}" WHERE {where}', values).touched

    def delete_through(self, table: type[SQLModel], key: int, **equal: object) -> int:
        first = f'"{_keys(table)[0]}" <= ?'
        sql = f'DELETE FROM "{table.__tablename__}" WHERE {first} AND {_where(tuple(equal))}'
        return self._driver.ask(sql, [key, *equal.values()]).touched
