"""What the auditor believes: ``auditor.toml`` with its pins, and ``head.json`` with the last head it verified.

Both lie in the auditor's own folder and came there by other means than the broker (DESIGN 4.4). Whoever removes
``head.json`` makes the auditor forget what it saw: a log cut short since then looks like a young one.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from clients import durable
from clients.config import Pin
from clients.grammar import HASH, LOG_KEY, ROLE, hash_of_hex, quoted
from zhifu import strict_json
from zhifu.checkpoint import VerifierKey
from zhifu.errors import Malformed, Refused
from zhifu.fields import Fields, Grammar, text
from zhifu.keys import participant_id
from zhifu.merkle import MAX_SIZE, Frontier

FILE: Final = "auditor.toml"
HEAD_FILE: Final = "head.json"
_REASON: Final = "usage.file"
_MAX_FILE: Final = 1 << 20
_MAX_HEAD: Final = 1 << 14


@dataclass(frozen=True, slots=True)
class Pins:
    """The log, by its origin and key; every participant there may be, by id (32 bytes).

    ``registrar`` is the identity key (32 bytes) of who puts policies in force; ``policies`` are the hashes (32
    bytes) of those that were, and empty means that any is accepted. ``operators`` set quotas and order erasures,
    ``hotline`` stop a patient's grants on her call: keys of two offices, and neither may do what the other may.
    """

    origin: str
    log_key: VerifierKey
    participants: Mapping[bytes, Pin]
    registrar: bytes | None = None
    policies: frozenset[bytes] = field(default_factory=frozenset)
    operators: frozenset[bytes] = field(default_factory=frozenset)
    hotline: frozenset[bytes] = field(default_factory=frozenset)

    @property
    def registrar_id(self) -> bytes | None:
        return participant_id(self.registrar) if self.registrar else None


def load(directory: Path) -> Pins:
    """The pins in ``directory``. Raises `Malformed` (usage.file) naming the file or the key that is wrong."""
    content = durable.read(directory / FILE, _MAX_FILE)
    try:
        document = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise Malformed(_REASON, f"{FILE} is not TOML") from error
    return _parse(document)


def write(directory: Path, pins: Pins) -> None:
    """Write ``auditor.toml``, 0600, into a folder for its owner only. Raises `Refused` (usage.file)."""
    _make(directory)
    lines = [f"origin = {quoted(pins.origin)}", f"log_key = {quoted(pins.log_key.encode())}"]
    if pins.registrar:
        lines.append(f"registrar = {quoted(pins.registrar.hex())}")
    for name, values in (("policies", pins.policies), ("operators", pins.operators), ("hotline", pins.hotline)):
        if values:
            lines.append(f"{name} = [{', '.join(quoted(one.hex()) for one in sorted(values))}]")
    lines += ["", "[pins]"]
    for pin, who in sorted(pins.participants.items()):
        lines.append(f"{pin.hex()} = {{ role = {quoted(who.role)}, name = {quoted(who.name)} }}")
    durable.write(directory / FILE, "\n".join([*lines, ""]).encode())


def load_head(directory: Path) -> Frontier:
    """The last head that was verified, as the complete subtrees below it; the empty tree at first.

    Raises `Malformed` (usage.file) for a file that does not fit itself.
    """
    if not (directory / HEAD_FILE).exists():
        return Frontier()
    document = strict_json.loads(durable.read(directory / HEAD_FILE, _MAX_HEAD), _MAX_HEAD, _REASON)
    if not isinstance(document, dict):
        raise Malformed(_REASON, f"{HEAD_FILE} is not an object")
    fields = Fields(document, "", _REASON)
    size, root, nodes = fields.need(_SIZE, "size"), fields.need(HASH, "root"), fields.texts("nodes")
    fields.finish()
    try:
        found = Frontier(size, tuple(map(bytes.fromhex, nodes)))
    except (ValueError, Malformed) as error:
        raise Malformed(_REASON, f"{HEAD_FILE}: nodes are not those of a tree of this size") from error
    if found.root() != root:
        raise Malformed(_REASON, f"{HEAD_FILE}: the root is not that of its nodes")
    return found


def move_head(directory: Path, head: Frontier) -> None:
    """Remember a larger head that was verified; a smaller one changes nothing. Whole or not at all, 0600.

    Raises `Refused` (usage.file), `Malformed` (usage.file).
    """
    if head.size <= load_head(directory).size:
        return
    document = {"size": head.size, "root": head.root().hex(), "nodes": [node.hex() for node in head.nodes]}
    durable.write(directory / HEAD_FILE, json.dumps(document, indent=1).encode() + b"\n")


def _parse(document: Mapping[str, object]) -> Pins:
    fields = Fields(document, "", _REASON)
    found = Pins(
        origin=fields.need(text(255), "origin"),
        log_key=fields.need(LOG_KEY, "log_key"),
        participants=_participants(fields, document.get("pins")),
        registrar=fields.maybe(HASH, "registrar"),
        policies=_hexes(fields, "policies") if "policies" in document else frozenset(),
        operators=_hexes(fields, "operators") if "operators" in document else frozenset(),
        hotline=_hexes(fields, "hotline") if "hotline" in document else frozenset(),
    )
    if found.log_key.name != found.origin:
        raise fields.refusal("log_key", "is not the key of this origin")
    fields.finish()
    return found


def _participants(fields: Fields, table: object) -> dict[bytes, Pin]:
    inner = fields.inner("pins")
    ids = {name: hash_of_hex(name) for name in table} if isinstance(table, dict) else {}
    if None in ids.values():
        raise fields.refusal("pins", "must be a table whose keys are participant ids in hex, 64 digits each")
    return {pin: _pin(inner.inner(name)) for name, pin in ids.items() if pin is not None}


def _pin(fields: Fields) -> Pin:
    found = Pin(fields.need(ROLE, "role"), fields.need(text(128), "name"))
    fields.finish()
    return found


def _hexes(fields: Fields, name: str) -> frozenset[bytes]:
    found = [hash_of_hex(one) for one in fields.texts(name)]
    if None in found:
        raise fields.refusal(name, "must be a list of hashes or keys in hex, 64 digits each")
    return frozenset(one for one in found if one is not None)


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(_REASON, f"{directory.name} cannot be made: {error.strerror}") from error


_SIZE: Final[Grammar[int]] = Grammar("a tree size", lambda value: value if 0 < value <= MAX_SIZE else None, int)
