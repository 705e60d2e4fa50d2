"""The index that audit entries are found by: a file of its own beside the database, made from the log alone.

It can be deleted at any time and is then made anew, so it needs neither migrations nor a place in the entries' own
transaction. Entries that say the same differ in time only: there are few such *profiles*, and filters choose among
those. Of hashes it keeps 64 bits, enough to find what the log then proves.
"""

from __future__ import annotations

import heapq
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

from zhifu.errors import Refused
from zhifu.trail import Query, Words

VERSION: Final = 1
HOUR_MS: Final = 3_600_000
_MAX_HOURS: Final = 20_000
_MAX_SEVERAL: Final = 50_000
_SKEW_MS: Final = 600_000
_END: Final = 1 << 62
_fields: Final = attrgetter(*Words.__slots__)
_TABLES: Final = """
CREATE TABLE state (one INTEGER PRIMARY KEY, size INTEGER NOT NULL);
INSERT INTO state VALUES (1, 0);
CREATE TABLE profile (
  id INTEGER PRIMARY KEY, event TEXT, actor BLOB, counterparty BLOB, purpose TEXT, outcome TEXT, reason TEXT,
  schema_hash BLOB, released BLOB, policy_hash BLOB, first INTEGER, last INTEGER, count INTEGER,
  UNIQUE (event, actor, counterparty, purpose, outcome, reason, schema_hash, released, policy_hash));
CREATE TABLE said (profile INTEGER, entry INTEGER, time_ms INTEGER, PRIMARY KEY (profile, entry)) WITHOUT ROWID;
CREATE TABLE several (entry INTEGER, profile INTEGER, PRIMARY KEY (entry, profile)) WITHOUT ROWID;
CREATE INDEX said_entry ON said (entry);
CREATE TABLE mention (hash INTEGER, entry INTEGER, PRIMARY KEY (hash, entry)) WITHOUT ROWID;
CREATE TABLE hour (
  hour INTEGER, profile INTEGER, latency INTEGER, count INTEGER, PRIMARY KEY (hour, profile, latency)) WITHOUT ROWID;
CREATE TABLE waiting (entry INTEGER PRIMARY KEY, time_ms INTEGER, profile INTEGER);
"""


@dataclass(frozen=True, slots=True)
class LookBack:
    """Above so many ``profiles`` a search first looks at the newest entries themselves: ``steps`` of ``step`` rows."""

    profiles: int
    steps: int
    step: int


LOOK_BACK: Final = LookBack(48, 16, 512)


@dataclass(frozen=True, slots=True)
class Line:
    """One entry for the index. ``ends`` are accepted entries that this one ends; ``begins``: something may end it."""

    entry: int
    time_ms: int
    words: Sequence[Words]
    names: Sequence[bytes]
    begins: bool = False
    ends: Sequence[int] = ()


class Profile(NamedTuple):
    """Entries that say the same: how many, and the indices of the first and the last."""

    id: int
    words: Words
    first: int
    last: int
    entries: int


class Found(NamedTuple):
    """Entries of one page, descending; ``more`` tells whether others follow. ``total`` is None where only a walk
    would tell.
    """

    entries: list[int]
    more: bool
    total: int | None


class AuditIndex:
    """One file, one connection; used on the event loop's thread only."""

    def __init__(self, path: Path, back: LookBack = LOOK_BACK) -> None:
        """Open or make the index. Raises `Refused` (unavailable.store)."""
        self._back = back
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            for pragma in (
                "page_size=8192",
                "journal_mode=WAL",
                "synchronous=NORMAL",
                "cache_size=-32768",
                "secure_delete=FAST",
            ):
                self._db.execute(f"PRAGMA {pragma}")
            self._make()
        except (sqlite3.Error, OSError) as error:
            raise Refused("unavailable.store", f"{path.name} cannot be opened") from error
        self._profiles: dict[Words, int] = {}
        self._words: dict[int, Words] = {}
        self._load()

    def _make(self) -> None:
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        if found != VERSION:
            self._remake()

    def _remake(self) -> None:
        for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            self._db.execute(f'DROP TABLE "{name}"')
        self._db.executescript(_TABLES)
        self._db.execute(f"PRAGMA user_version={VERSION}")

    def _load(self) -> None:
        rows = self._db.execute("SELECT * FROM profile").fetchall()
        self._words = {row[0]: Words(*row[1:10]) for row in rows}
        self._profiles = {words: number for number, words in self._words.items()}

    def close(self) -> None:
        self._db.close()

    @property
    def size(self) -> int:
        """Every entry below this index is in it."""
        (found,) = self._db.execute("SELECT size FROM state").fetchone()
        return int(found)

    # Writing

    def begin_anew(self) -> None:
        """Forget everything: it is of another log than this. Raises `Refused` (unavailable.store)."""
        try:
            self._remake()
            self._load()
        except sqlite3.Error as error:
            raise Refused("unavailable.store", "the audit index cannot be written") from error

    def forget(self, entries: Sequence[int]) -> None:
        """Erased entries are found by no hash any more. Raises `Refused` (unavailable.store)."""
        try:
            self._db.execute(
                "DELETE FROM mention WHERE entry IN (SELECT value FROM json_each(?))", [json.dumps(list(entries))]
            )
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            raise Refused("unavailable.store") from error

    def add(self, lines: Sequence[Line]) -> None:
        """The next entries, all or none. Raises `Refused` (unavailable.store)."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._add(lines)
            self._db.execute("UPDATE state SET size = ?", (lines[-1].entry + 1,))
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._load()
            raise Refused("unavailable.store", "the audit index cannot be written") from error

    def _add(self, lines: Sequence[Line]) -> None:
        """One statement a table: a row at a time costs three times as much."""
        said: list[tuple[int, int, int]] = []
        several: list[tuple[int, int]] = []
        hours: Counter[tuple[int, int, int]] = Counter()
        for line in lines:
            profiles = [self._profile(words, line.entry) for words in line.words]
            latency = self._latency(line, lines)
            said += [(profile, line.entry, line.time_ms) for profile in profiles]
            several += [(line.entry, profile) for profile in profiles[1:] and profiles]
            hours.update((line.time_ms // HOUR_MS, profile, latency) for profile in profiles)
        write = self._db.executemany
        write("INSERT INTO said VALUES (?, ?, ?)", said)
        write("INSERT INTO several VALUES (?, ?)", several)
        write(
            "INSERT INTO hour VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
            [(*key, count) for key, count in hours.items()],
        )
        names = [(_short(name), line.entry) for line in lines for name in line.names]
        write("INSERT OR IGNORE INTO mention VALUES (?, ?)", names)
        counted = Counter(profile for profile, _, _ in said)
        last = {profile: entry for profile, entry, _ in said}
        write(
            "UPDATE profile SET last = ?, count = count + ? WHERE id = ?",
            [(last[profile], count, profile) for profile, count in counted.items()],
        )
        begun = [(line.entry, line.time_ms, self._profiles[line.words[0]]) for line in lines if line.begins]
        write("INSERT INTO waiting VALUES (?, ?, ?)", begun)
        write("DELETE FROM waiting WHERE entry = ?", [(one,) for line in lines for one in line.ends])

    def _latency(self, line: Line, lines: Sequence[Line]) -> int:
        """Latency of the slowest exchange that this entry ends, as a power of two in ms; 0 if it ends none."""
        latency, first = 0, lines[0].entry
        for accepted in line.ends:
            if first <= accepted < line.entry:
                begun: list[tuple[int]] = [(lines[accepted - first].time_ms,)]
            else:
                begun = self._db.execute("SELECT time_ms FROM waiting WHERE entry = ?", (accepted,)).fetchall()
            for (time_ms,) in begun:
                latency = max(latency, max(1, line.time_ms - time_ms).bit_length())
        return latency

    def _profile(self, words: Words, entry: int) -> int:
        known = self._profiles.get(words)
        if known is not None:
            return known
        values = (*_fields(words), entry, entry, 0)
        made = self._db.execute(f"INSERT INTO profile VALUES (NULL, {', '.join('?' * len(values))})", values)
        self._profiles[words] = int(made.lastrowid or 0)
        self._words[self._profiles[words]] = words
        return self._profiles[words]

    # Reading

    def profiles(self) -> list[Profile]:
        """Every profile, the one with the newest entry first."""
        # What a profile says never changes, so only the numbers are read again.
        rows = self._db.execute("SELECT id, first, last, count FROM profile ORDER BY last DESC").fetchall()
        return [Profile(number, self._words[number], *numbers) for number, *numbers in rows]

    def words_of(self, entry: int) -> list[Words]:
        """What an entry says."""
        sql = "SELECT p.* FROM said s JOIN profile p ON p.id = s.profile WHERE s.entry = ?"
        return [Words(*row[1:10]) for row in self._db.execute(sql, (entry,)).fetchall()]

    def find(self, query: Query, party: bytes, before: int, limit: int) -> Found:
        """The newest entries below ``before`` that meet the query, at most ``limit``.

        ``party``, if not empty, is the participant whose exchanges alone may be seen.
        """
        chosen = [
            one for one in self.profiles() if query.met_by(one.words) and (not party or one.words.is_about(party))
        ]
        if query.about or query.entries:
            every = self._named(query, {one.id for one in chosen})
            page = [entry for entry in every if entry < before]
            return Found(page[:limit], len(page) > limit, len(every))
        low, high = self._bounds(query)
        page = self._page(chosen, query, low, min(before, high), limit + 1)
        total = None if query.since_ms or query.until_ms else self._distinct(chosen)
        return Found(page[:limit], len(page) > limit, total)

    def _named(self, query: Query, profiles: set[int]) -> list[int]:
        """Entries that name every hash of the query, descending; there are few."""
        sets = [
            {row[0] for row in self._db.execute("SELECT entry FROM mention WHERE hash = ?", (_short(name),))}
            for name in query.about
        ]
        if query.entries:
            sets.append(set(query.entries))
        return sorted((one for one in set.intersection(*sets) if self._says(one, profiles, query)), reverse=True)

    def _says(self, entry: int, profiles: set[int], query: Query) -> bool:
        rows = self._db.execute("SELECT profile, time_ms FROM said WHERE entry = ?", (entry,)).fetchall()
        return any(profile in profiles and query.in_time(time_ms) for profile, time_ms in rows)

    def _bounds(self, query: Query) -> tuple[int, int]:
        """Indices [low, high) outside of which no entry has a time of the query; clocks step back, but not far."""
        low = self._cut(query.since_ms - _SKEW_MS) if query.since_ms else 0
        return low, self._cut(query.until_ms + _SKEW_MS) if query.until_ms else _END

    def _cut(self, time_ms: int) -> int:
        """By bisection over indices, whose times rise but for the skew: about the first entry not before the time."""
        low, high = 0, self.size
        while low < high:
            middle = (low + high) // 2
            row = self._db.execute("SELECT time_ms FROM said WHERE entry = ? LIMIT 1", (middle,)).fetchone()
            if row is not None and row[0] < time_ms:
                low = middle + 1
            else:
                high = middle
        return low

    def _page(self, chosen: Sequence[Profile], query: Query, low: int, high: int, limit: int) -> list[int]:
        """Of many profiles some are met by nearly every entry, so that looking back entry by entry is soon done."""
        if len(chosen) > self._back.profiles:
            found = self._look_back({one.id for one in chosen}, query, low, high, limit)
            if found is not None:
                return found
        return self._merge(chosen, query, low, high, limit)

    def _look_back(self, profiles: set[int], query: Query, low: int, high: int, limit: int) -> list[int] | None:
        """The newest entries of these profiles, descending; None if too few of the last ones are."""
        found: list[int] = []
        for _ in range(self._back.steps):
            sql = "SELECT entry, profile FROM said WHERE entry >= ? AND entry < ? ORDER BY entry DESC LIMIT ?"
            rows = self._db.execute(sql, (low, high, self._back.step)).fetchall()
            for entry, profile in rows:
                if profile in profiles and entry not in found[-1:] and self._is_in_time(profile, entry, query):
                    found.append(entry)
                    if len(found) == limit:
                        return found
            if len(rows) < self._back.step:
                return found
            # Once more from the last entry: it may say more than what was read of it.
            high = rows[-1][0] + 1
        return None

    def _is_in_time(self, profile: int, entry: int, query: Query) -> bool:
        if not query.since_ms and not query.until_ms:
            return True
        sql = "SELECT time_ms FROM said WHERE profile = ? AND entry = ?"
        return any(query.in_time(row[0]) for row in self._db.execute(sql, (profile, entry)))

    def _merge(self, chosen: Sequence[Profile], query: Query, low: int, high: int, limit: int) -> list[int]:
        """The newest of all chosen profiles together: each is read in order, and only as far as it is needed.

        Profiles come with the newest last entry first, so those that cannot reach the page any more end the walk.
        """
        newest: list[int] = []
        have: set[int] = set()
        for one in chosen:
            if len(newest) == limit and one.last <= newest[0]:
                break
            if one.first >= high or one.last < low:
                continue
            for entry in self._newest(one.id, query, low, high, limit):
                if entry in have:
                    continue
                if len(newest) < limit:
                    heapq.heappush(newest, entry)
                elif entry > newest[0]:
                    have.discard(heapq.heapreplace(newest, entry))
                else:
                    break
                have.add(entry)
        return sorted(newest, reverse=True)

    def _newest(self, profile: int, query: Query, low: int, high: int, limit: int) -> Iterable[int]:
        sql = "SELECT entry FROM said WHERE profile = ? AND entry >= ? AND entry < ?"
        values: list[Any] = [profile, low, high]
        if query.since_ms or query.until_ms:
            sql += " AND time_ms >= ? AND time_ms < ?"
            values += [query.since_ms, query.until_ms or _END]
        rows = self._db.execute(f"{sql} ORDER BY entry DESC LIMIT ?", (*values, limit))
        return (row[0] for row in rows)

    def _distinct(self, chosen: Sequence[Profile]) -> int | None:
        """How many entries; one that says several things (acknowledgements share an entry) counts once."""
        rows = self._db.execute("SELECT entry, profile FROM several LIMIT ?", (_MAX_SEVERAL + 1,)).fetchall()
        if len(rows) > _MAX_SEVERAL:
            return None
        ids = {one.id for one in chosen}
        twice = [entry for entry, profile in rows if profile in ids]
        return sum(one.entries for one in chosen) - len(twice) + len(set(twice))

    def hours(self, query: Query, party: bytes) -> tuple[list[tuple[Any, ...]], bool]:
        """(hour, actor, event, outcome, purpose, latency, count), and whether that is all of it."""
        chosen = {
            one.id: one.words
            for one in self.profiles()
            if query.met_by(one.words) and (not party or one.words.is_about(party))
        }
        since, until = query.since_ms // HOUR_MS, (query.until_ms or _END) // HOUR_MS
        rows = self._db.execute(
            "SELECT hour, profile, latency, count FROM hour WHERE hour >= ? AND hour <= ? ORDER BY hour DESC",
            (since, until),
        )
        return _summed(rows, chosen)

    def waiting(self, party: bytes, limit: int = 100) -> list[int]:
        """Accepted entries that nothing ended yet, oldest first."""
        sql = "SELECT w.entry, p.actor, p.counterparty FROM waiting w JOIN profile p ON p.id = w.profile ORDER BY entry"
        rows: Iterator[Any] = iter(self._db.execute(sql))
        found = (row[0] for row in rows if not party or party in row[1:])
        return [entry for entry, _ in zip(found, range(limit), strict=False)]


def _summed(rows: Iterable[Any], chosen: dict[int, Words]) -> tuple[list[tuple[Any, ...]], bool]:
    """Hours by what is shown of their profiles, newest first, as many as an answer holds."""
    found: dict[tuple[Any, ...], int] = {}
    for hour, profile, latency, count in rows:
        words = chosen.get(profile)
        if words is None:
            continue
        key = (hour, words.actor, words.event, words.outcome, words.purpose, latency)
        if key not in found and len(found) == _MAX_HOURS:
            return [(*one, many) for one, many in found.items()], False
        found[key] = found.get(key, 0) + count
    return [(*one, many) for one, many in found.items()], True


def _short(name: bytes) -> int:
    """The first 64 bits, signed as SQLite has them."""
    return int.from_bytes(name[:8], "big", signed=True)
