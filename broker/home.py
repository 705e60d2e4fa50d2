"""The broker's folder: keys outside the database, each file for its owner only.

broker.toml   origin, operators' public keys, store        log.key       the log's Ed25519 seed
ca.key, ca.crt                transport CA: signs the TLS certificates of participants and of the broker
tls.key, tls.crt              the broker's own        gate/*.key    gate keys, outside the database and its backups
code.pepper                   what online codes are hashed with, outside the database too
pseudonym/*.key               the pseudonym service's, one for each recipient and epoch
broker.db     state, queue, log               ports.json    where it listens, while it runs
broker.lock   held by the process that serves
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import secrets
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

from nacl.signing import SigningKey

from broker import authority
from broker import quota as quotas
from broker.quota import Quota
from broker.store import opening
from broker.store.interface import Store
from broker.store.rows import Rows
from zhifu import epoch, presentation
from zhifu.checkpoint import SignatureType, VerifierKey
from zhifu.envelope import Envelope
from zhifu.errors import Malformed, Refused
from zhifu.keys import Alg, KemPrivate, KemPublic, participant_id
from zhifu.statement import MAX_LIFETIME_S, KeyStatement, PseudonymKey

_LOOPBACK: Final = "127.0.0.1"
_GATE_LIFE_S: Final = epoch.MAX_LIFETIME_S + presentation.MAX_LIFETIME_S + 3600
_STATEMENT_LIFETIME_S: Final = MAX_LIFETIME_S - 86_400


@dataclass(frozen=True, slots=True)
class Home:
    """A broker's folder, opened."""

    path: Path
    origin: str
    log_key: SigningKey
    gate_keys: dict[bytes, KemPrivate]
    operators: tuple[bytes, ...] = ()
    store: str = ""
    """Address of the PostgreSQL database; empty: SQLite in this folder."""
    hotline: tuple[bytes, ...] = ()
    quota: Quota = quotas.DEFAULT
    own_quotas: Mapping[bytes, Quota] = field(default_factory=dict)
    gate_from: dict[bytes, int] = field(default_factory=dict)
    """Since when each gate key is stated (Unix s), oldest first."""

    @property
    def database(self) -> Path:
        return self.path / "broker.db"

    def open_store(self) -> Store:
        """The broker's database. Raises `Refused` (unavailable.store), `Malformed` (usage.argument)."""
        return opening.open_store(self.database, self.store)

    def waiting(self) -> list[tuple[bytes, int, int]]:
        """`Reader.waiting` on a connection of its own, for a thread of its own. Raises as `open_read_only`."""
        rows = self.open_read_only()
        try:
            return rows.waiting()
        finally:
            rows.close()

    def open_read_only(self) -> Rows:
        """Its committed rows, all as of one moment. Raises `Refused` (usage.file), `Malformed` (usage.argument)."""
        return opening.open_read_only(self.database, self.store)

    @property
    def vkey(self) -> VerifierKey:
        return VerifierKey(self.origin, SignatureType.ED25519, bytes(self.log_key.verify_key))

    def read(self, name: str) -> bytes:
        """A file of the folder. Raises `Refused` (usage.file)."""
        return _read(self.path / name)

    @property
    def pepper(self) -> bytes:
        """What online codes are hashed with. Raises `Refused` (usage.file)."""
        return _hex(self.path / "code.pepper")

    def read_gate_keys(self) -> None:
        """Take the gate keys that lie in the folder now; those that are gone are forgotten. Raises `Refused`
        (usage.file).
        """
        files = sorted((self.path / "gate").glob("*.key"))
        found = [KemPrivate(Alg.MLKEM768_X25519, _hex(file)) for file in files]
        self.gate_from.clear()
        self.gate_from.update((one.public.id, int(file.stem)) for one, file in zip(found, files, strict=True))
        # In place: the running gate holds the same mapping.
        for gone in self.gate_keys.keys() - self.gate_from.keys():
            del self.gate_keys[gone]
        self.gate_keys.update((one.public.id, one) for one in found)

    def gate_key(self, now: int) -> KemPublic:
        """The one that is stated at ``now`` (Unix s): the newest whose time has come."""
        begun = [key for key, begin in self.gate_from.items() if begin <= now] or list(self.gate_from)[:1]
        return self.gate_keys[begun[-1]].public

    def gate_statement(self, now: int) -> Envelope:
        """The gate key, stated and signed by the log key that every node pins. ``now`` is Unix s."""
        return self.key_statement(now, now, ())

    def key_statement(self, now: int, serial: int, pseudonym_keys: tuple[PseudonymKey, ...]) -> Envelope:
        """The same with the pseudonym service's public keys (DESIGN 4.5); ``serial`` only rises."""
        public = bytes(self.log_key.verify_key)
        newest = self.gate_key(now)
        return KeyStatement(
            participant=participant_id(public),
            serial=serial,
            issued_at=now,
            not_after=now + _STATEMENT_LIFETIME_S,
            identity_key=public,
            signing_key=public,
            cosigning_key=public,
            kem_keys=(newest,),
            tls_spki=(),
            pseudonym_keys=pseudonym_keys,
        ).sign(self.log_key)

    def write_ports(self, node: int, public: int, host: str = _LOOPBACK) -> None:
        """``host`` is what others reach this broker by."""
        said = {"node_port": node, "public_port": public, "host": host}
        write_private(self.path / "ports.json", json.dumps(said).encode())

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Only one process serves a folder: each would believe itself the only one to write its database. Raises
        `Refused` (usage.argument).
        """
        descriptor = os.open(self.path / "broker.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise Refused("usage.argument", f"another process serves {self.path.name}") from error
        try:
            yield
        finally:
            os.close(descriptor)

    def host(self) -> str:
        """What others reach the running broker by. Raises `Refused` (unavailable.broker)."""
        self.ports()
        return str(json.loads((self.path / "ports.json").read_text()).get("host", _LOOPBACK))

    def ports(self) -> tuple[int, int]:
        """(node port, public port) of the running broker. Raises `Refused` (unavailable.broker)."""
        try:
            found = json.loads((self.path / "ports.json").read_text())
            return int(found["node_port"]), int(found["public_port"])
        except (OSError, ValueError, KeyError) as error:
            raise Refused("unavailable.broker", f"the broker is not running: zhifu broker serve {self.path}") from error


def create(
    path: Path,
    origin: str,
    now: int,
    operators: Sequence[bytes] = (),
    store: str = "",
    hotline: Sequence[bytes] = (),
) -> Home:
    """Draw the broker's keys in an empty folder; ``operators`` are the public keys of those who set quotas, ``store``
    is the address of a PostgreSQL database, empty for SQLite, ``hotline`` the public keys of those who may stop a grant
    for a patient who calls.

    Raises `Refused` (usage.file, usage.argument).
    """
    if not origin or len(origin) > 200 or any(c.isspace() or c == "+" for c in origin):
        raise Refused("usage.argument", "an origin is a name like log.example/zhifu, without spaces or +")
    if store:
        opening.check(store)
    if (path / "broker.toml").exists():
        raise Refused("usage.file", f"{path.name} is a broker's folder already")
    draw_gate_key(path, now)
    write_private(path / "log.key", SigningKey.generate().encode().hex().encode())
    add_missing(path)
    authority.create(path, write_private)
    keys = [f"operators = [{_listed(operators)}]", f"hotline = [{_listed(hotline)}]"]
    lines = [f'origin = "{origin}"', *keys, *([f'store = "{store}"'] if store else [])]
    write_private(path / "broker.toml", "\n".join([*lines, ""]).encode())
    return open_home(path)


def add_missing(path: Path) -> tuple[str, ...]:
    """Draw what folders of earlier versions did not have; the names of the files."""
    pepper = path / "code.pepper"
    if pepper.exists():
        return ()
    write_private(pepper, secrets.token_hex(32).encode())
    return (pepper.name,)


def draw_gate_key(path: Path, now: int) -> KemPrivate:
    """A new gate key, from now on the one that is stated; ``now`` is Unix s. Raises `Refused` (usage.file)."""
    (path / "gate").mkdir(parents=True, exist_ok=True, mode=0o700)
    drawn, file = KemPrivate.generate(Alg.MLKEM768_X25519), path / "gate" / f"{now:012d}.key"
    if file.exists():
        raise Refused("usage.file", "a gate key was drawn in this very second")
    write_private(file, drawn.raw.hex().encode())
    return drawn


def destroy_gate_keys(path: Path, now: int) -> int:
    """Destroy those that nothing rests on any more: a newer one is stated for longer than epochs and queues live.

    How many. ``now`` is Unix s.
    """
    files = sorted((path / "gate").glob("*.key"))
    over = [file for file, after in pairwise(files) if int(after.stem) + _GATE_LIFE_S < now]
    for file in over:
        size = file.stat().st_size
        with file.open("r+b") as opened:
            opened.write(secrets.token_bytes(size))
            opened.flush()
            os.fsync(opened.fileno())
        file.unlink()
    return len(over)


def complete(path: Path, now: int) -> Home:
    """A folder that a backup made: it has no gate key, since none is ever in a backup. Raises as `open_home`."""
    draw_gate_key(path, now)
    return open_home(path)


def _listed(keys: Sequence[bytes]) -> str:
    return ", ".join(f'"{key.hex()}"' for key in keys)


def open_home(path: Path, store: str = "") -> Home:
    """Read a broker's folder; ``store`` goes before the address that stands there.

    Raises `Refused` (usage.file), `Malformed` (usage.file).
    """
    if not path.is_dir():
        raise Refused("usage.file", f"no folder {path}")
    try:
        settings = tomllib.loads(_read(path / "broker.toml").decode())
        operators, hotline = (
            tuple(bytes.fromhex(key) for key in settings.get(name, ())) for name in ("operators", "hotline")
        )
        log_key = SigningKey(_hex(path / "log.key"))
        where = store or settings.get("store", "")
        every, own = quotas.parse(settings.get("quota", {}))
        found = Home(path, settings["origin"], log_key, {}, operators, where, hotline, every, own)
        found.read_gate_keys()
        return found
    except (ValueError, KeyError) as error:
        raise Malformed("usage.file", f"{path.name} is not a broker's folder") from error


def named(arguments: argparse.Namespace) -> Home:
    """The folder that a command names, with the store that it, or ``ZHIFU_STORE``, names. Raises as `open_home`."""
    return open_home(arguments.dir, store_named(arguments))


def store_named(arguments: argparse.Namespace) -> str:
    """The address of the database that a command, or ``ZHIFU_STORE``, names; empty: what the folder says."""
    return arguments.store or os.environ.get("ZHIFU_STORE", "")


def _hex(path: Path) -> bytes:
    content = _read(path)
    if path.stat().st_mode & 0o077:
        raise Refused("usage.file", f"{path.name} can be read by others: chmod 600")
    return bytes.fromhex(content.decode())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused("usage.file", f"{path.name}: {error.strerror}") from error


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
