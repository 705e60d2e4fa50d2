"""A backup: one file with the database as of one moment, the folder's settings, and its keys only where asked.

A tar archive: ``manifest.json`` names every other member with its size and SHA-256, the log's origin, size and root;
``manifest.sig`` is the log key's signature over it. Gate keys are never in it: beside the epochs that are sealed to
them they would open the gate for whoever holds the backup (DESIGN 4.3). A folder without one draws one.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Final

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from broker import feeding, home, tiles
from broker.audit import Log, stored_leaf
from broker.home import Home
from broker.store import copying, tables
from broker.store.interface import Reader
from broker.store.sqlite import version_of
from zhifu import merkle
from zhifu.checkpoint import VerifierKey
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.receipt import Head

Tell = Callable[[str], None]
DATABASE: Final = "broker.db"
_SETTINGS: Final = ("broker.toml", "ca.crt", "tls.crt", "clients.crt", feeding.FILE, "callers/*.json")
_KEYS: Final = ("log.key", "ca.key", "tls.key", "code.pepper", "pseudonym/*.key")
_LABEL: Final = b"zhifu/v1 backup\0"
_MAX_SMALL: Final = 1 << 20
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the archive: its size in bytes and its SHA-256, hex."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is in a backup: ``size`` and ``root`` (hex) of the log and its signed checkpoint ``note``; Unix ms."""

    origin: str
    log_key: str
    version: str
    time_ms: int
    size: int
    root: str
    note: str
    has_keys: bool
    files: dict[str, Member]


def write(opened: Home, output: Path, now_ms: int, tell: Tell, *, with_keys: bool = False) -> Manifest:
    """Write a backup, whole or not at all, for its owner only; a broker may serve meanwhile.

    Raises `Refused` (usage.file, unavailable.store), `NotAuthentic` (log.corrupt).
    """
    if output.exists():
        raise Refused("usage.file", f"{output.name} exists already")
    if not output.parent.is_dir():
        raise Refused("usage.file", f"no folder {output.parent.name}")
    with TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
        copy, partial = Path(folder) / DATABASE, Path(folder) / "backup"
        copying.copy_out(opened.database, opened.store, copy, tell)
        files = {DATABASE: copy, **dict(_found(opened.path, (*_SETTINGS, *(_KEYS if with_keys else ()))))}
        manifest = _manifest(opened, copy, files, now_ms, with_keys)
        _archive(partial, manifest, opened, files)
        partial.replace(output)
    return manifest


def _found(folder: Path, patterns: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            yield str(path.relative_to(folder)), path


def _manifest(opened: Home, copy: Path, files: dict[str, Path], now_ms: int, with_keys: bool) -> Manifest:
    with copying.reading(copy) as rows:
        head, note = _checked_head(opened, rows)
    members = {name: Member(path.stat().st_size, _digest(path)) for name, path in files.items()}
    version = version_of(copy)
    vkey = opened.vkey.encode()
    return Manifest(opened.origin, vkey, version, now_ms, head.size, head.root.hex(), note, with_keys, members)


def _checked_head(opened: Home, rows: Reader) -> tuple[Head, str]:
    """The head that our key signed, as the stored tree has it. Raises `NotAuthentic` (log.corrupt)."""
    log = Log(opened.origin, opened.log_key, rows)
    stored = rows.get(tables.Checkpoint, log.size)
    return Head(log.size, log.frontier.root()), stored.note.decode() if stored else ""


def _archive(partial: Path, manifest: Manifest, opened: Home, files: dict[str, Path]) -> None:
    said = json.dumps(asdict(manifest), ensure_ascii=False, indent=1).encode()
    small = {"manifest.json": said, "manifest.sig": opened.log_key.sign(_LABEL + said).signature}
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name, content in small.items():
                archive.addfile(_member(name, len(content)), io.BytesIO(content))
            for name, path in files.items():
                with path.open("rb") as source:
                    archive.addfile(_member(name, manifest.files[name].bytes), source)
        file.flush()
        os.fsync(file.fileno())


def _member(name: str, size: int) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.size, found.mode = size, 0o600
    return found


def restore(backup: Path, folder: Path, store: str, now_ms: int, tell: Tell) -> Manifest:
    """Make a backup a broker's folder and database again, both of which must be new; or the database alone, where the
    folder's keys, kept apart, lie in ``folder`` already. Nothing is left behind where it fails.

    Raises `Refused` (usage.file, unavailable.store), `Malformed` (usage.file), `NotAuthentic` (log.corrupt,
    signature.invalid).
    """
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(tarfile.open(backup, "r:"))
            said, signature = (_small(archive, name) for name in ("manifest.json", "manifest.sig"))
            manifest = _read(said)
        except (OSError, tarfile.TarError) as error:
            raise Malformed("usage.file", f"{backup.name} is not a backup") from error
        keys = None if manifest.has_keys else home.open_home(folder)
        if keys is None and folder.exists() and any(folder.iterdir()):
            raise Refused("usage.file", f"{folder.name} is not empty: a backup with keys makes a folder of its own")
        if keys and not (store or keys.store):
            _check_free(keys.database)
        beside = folder if keys else folder.absolute().parent
        made = stack.enter_context(TemporaryDirectory(prefix=".restoring.", dir=beside))
        fresh = Path(made) / "folder"
        _unpack(archive, manifest, fresh, tell)
        opened = keys or home.complete(fresh, now_ms // 1000)
        _verify(opened, said, signature, manifest, fresh / DATABASE, tell)
        _put(opened, fresh, folder, store, now_ms, tell)
    return manifest


def _check_free(database: Path) -> None:
    """Raises `Refused` (usage.file) where a database is, or what one had still to write: SQLite would write that into
    the restored one, unasked and after all of it was verified.
    """
    for suffix in ("", "-wal", "-journal"):
        beside = database.with_name(database.name + suffix)
        if beside.exists() and (not suffix or beside.stat().st_size):
            said = f"{database.parent.name} has a database, or what is left of one: move {beside.name} away first"
            raise Refused("usage.file", said)


def _small(archive: tarfile.TarFile, name: str) -> bytes:
    return _open(archive, name, _MAX_SMALL).read()


def _open(archive: tarfile.TarFile, name: str, most: int) -> IO[bytes]:
    try:
        member = archive.getmember(name)
        found = archive.extractfile(member) if member.isreg() and member.size <= most else None
    except KeyError:
        found = None
    if found is None:
        raise Malformed("usage.file", f"the backup has no usable {name}")
    return found


def _read(said: bytes) -> Manifest:
    try:
        found: dict[str, Any] = json.loads(said)
        files = {str(name): Member(int(one["bytes"]), str(one["sha256"])) for name, one in found.pop("files").items()}
        manifest = Manifest(files=files, **found)
        VerifierKey.parse(manifest.log_key)
        allowed = set().union(*(_matching(files, pattern) for pattern in (DATABASE, *_SETTINGS, *_KEYS)))
        if DATABASE not in files or allowed != files.keys():
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Malformed("usage.file", "the backup's manifest cannot be read") from error
    return manifest


def _matching(files: dict[str, Member], pattern: str) -> set[str]:
    """Names that a backup may have: nothing that leads out of the folder."""
    return {name for name in files if Path(name).match(pattern) and len(Path(name).parts) == len(Path(pattern).parts)}


def _unpack(archive: tarfile.TarFile, manifest: Manifest, fresh: Path, tell: Tell) -> None:
    for name, member in manifest.files.items():
        path = fresh / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        source = _open(archive, name, member.bytes)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            while chunk := source.read(_CHUNK):
                file.write(chunk)
                tell(f"{name}: {file.tell()} of {member.bytes} bytes")
            file.flush()
            os.fsync(file.fileno())
        if (path.stat().st_size, _digest(path)) != (member.bytes, member.sha256):
            raise NotAuthentic("log.corrupt", f"{name} is not what the manifest says: the backup is damaged")


def _verify(opened: Home, said: bytes, signature: bytes, manifest: Manifest, copy: Path, tell: Tell) -> None:
    """The log key signed the manifest, and the whole log hashes to the root that it signed."""
    if manifest.log_key != opened.vkey.encode():
        raise NotAuthentic("signature.invalid", "the backup is of another log than the folder's keys")
    try:
        VerifyKey(opened.vkey.public_key).verify(_LABEL + said, signature)
    except (BadSignatureError, ValueError) as error:
        raise NotAuthentic("signature.invalid", "the manifest is not signed by the log key") from error
    with copying.reading(copy) as rows:
        head, _ = _checked_head(opened, rows)
        if (head.size, head.root.hex()) != (manifest.size, manifest.root) or _root(head.size, rows, tell) != head.root:
            raise NotAuthentic("log.corrupt", "the log in the backup is not the one that was signed")


def _root(size: int, rows: Reader, tell: Tell) -> bytes:
    frontier = merkle.Frontier()
    for begin in range(0, size, tiles.WIDTH):
        end = min(begin + tiles.WIDTH, size)
        leaves = [merkle.leaf_hash(stored_leaf(index, rows)) for index in range(begin, end)]
        frontier, _ = merkle.grow(frontier, leaves)
        tell(f"{end} of {size} entries verified")
    return frontier.root()


def _put(opened: Home, fresh: Path, folder: Path, store: str, now_ms: int, tell: Tell) -> None:
    """The database last: until it is there, nothing can serve from the folder."""
    address = store or opened.store
    if opened.path == fresh:
        copy = fresh.with_name(DATABASE)
        (fresh / DATABASE).replace(copy)
        copying.copy_in(copy, fresh / DATABASE, address, now_ms, tell)
        folder.mkdir(mode=0o700, exist_ok=True)
        # Over an empty folder, at once.
        fresh.replace(folder)
    else:
        copying.copy_in(fresh / DATABASE, opened.database, address, now_ms, tell)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
