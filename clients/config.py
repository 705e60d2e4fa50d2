"""How a node is set up: ``node.toml`` in the node's own folder. What it pins is what it believes (DESIGN 4.4)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clients import durable
from clients.grammar import HASH, LOG_KEY, ROLE, hash_of_hex, quoted
from zhifu import tlogpolicy
from zhifu.checkpoint import VerifierKey
from zhifu.errors import Malformed, Refused
from zhifu.fields import Fields, Grammar, text
from zhifu.tlogpolicy import Policy

FILE: Final = "node.toml"
WITNESSES: Final = "witnesses.policy"
_REASON: Final = "usage.file"
_MAX_FILE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Pin:
    """What the operator of this node was told about another participant, by other means than the broker."""

    role: str
    name: str


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """A node's settings. ``pins`` maps participant ids (32 bytes) to who they are; an address is ``host:port``, or
    several with commas between them, where several brokers serve one log.

    ``registrar`` is the identity key (32 bytes) whose word puts the policy bundle in force; ``policies``
    the bundle's folder, None for the packaged one. ``pseudonym_service`` is the contact file of a service of its own,
    None for the broker's. ``code_tables`` is the hospital's folder of ICD tables, None where it has none.
    """

    directory: Path
    role: str
    name: str
    node_address: str
    public_address: str
    origin: str
    log_key: VerifierKey
    pins: Mapping[bytes, Pin]
    registrar: bytes | None = None
    policies: Path | None = None
    pseudonym_service: Path | None = None
    code_tables: Path | None = None

    @property
    def keys(self) -> Path:
        return self.directory / "keys"

    @property
    def database(self) -> Path:
        return self.directory / "node.db"

    @property
    def certificate(self) -> Path:
        return self.directory / "tls.crt"

    @property
    def authority(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def policy_statement(self) -> Path:
        return self.directory / "policy.statement"

    @property
    def witnesses(self) -> Policy:
        """Who else must have cosigned before an entry is final: ``witnesses.policy`` in the folder, a C2SP tlog-policy
        with a regulator's key for example; nobody where there is none. Raises `Malformed` (usage.file).
        """
        path = self.directory / WITNESSES
        try:
            return tlogpolicy.parse(durable.read(path, tlogpolicy.MAX_POLICY)) if path.exists() else Policy()
        except Malformed as error:
            raise Malformed(_REASON, f"{WITNESSES}: {error.detail}") from error


def load(directory: Path, role: str = "") -> NodeConfig:
    """The settings in ``directory``. Raises `Malformed` (usage.file) naming the folder, or the key that is wrong, and
    `Refused` (usage.argument) where a ``role`` is needed and the folder is another's.
    """
    if not (directory / FILE).exists():
        raise Malformed(
            _REASON, f"{directory} is no node's folder: there is no {FILE} in it (zhifu node enrol makes one)"
        )
    found = parse(_document(durable.read(directory / FILE, _MAX_FILE)), directory)
    if role not in ("", found.role):
        raise Refused("usage.argument", f"{directory} is the folder of {found.name} ({found.role}), and no {role}'s")
    return found


def parse(document: Mapping[str, object], directory: Path) -> NodeConfig:
    """The settings in a parsed ``node.toml``. Raises `Malformed` (usage.file)."""
    fields = Fields(document, "", _REASON)
    pins = _pins(fields, document)
    policies = fields.maybe(text(4096), "policies")
    service = fields.maybe(text(4096), "pseudonym_service")
    tables = fields.maybe(text(4096), "code_tables")
    found = NodeConfig(
        directory=directory,
        role=fields.need(ROLE, "role"),
        name=fields.need(text(128), "name"),
        node_address=fields.need(_ADDRESS, "node_address"),
        public_address=fields.need(_ADDRESS, "public_address"),
        origin=fields.need(text(255), "origin"),
        log_key=fields.need(LOG_KEY, "log_key"),
        pins=pins,
        registrar=fields.maybe(HASH, "registrar"),
        policies=directory / policies if policies else None,
        pseudonym_service=directory / service if service else None,
        code_tables=directory / tables if tables else None,
    )
    if found.log_key.name != found.origin:
        raise fields.refusal("log_key", "is not the key of this origin")
    fields.finish()
    return found


def write(config: NodeConfig) -> None:
    """Write ``node.toml``, whole or not at all. Raises `Refused` (usage.file)."""
    values = {
        "role": config.role,
        "name": config.name,
        "node_address": config.node_address,
        "public_address": config.public_address,
        "origin": config.origin,
        "log_key": config.log_key.encode(),
        "registrar": config.registrar.hex() if config.registrar else "",
        "policies": str(config.policies) if config.policies else "",
        "pseudonym_service": str(config.pseudonym_service) if config.pseudonym_service else "",
        "code_tables": str(config.code_tables) if config.code_tables else "",
    }
    lines = [f"{name} = {quoted(value)}" for name, value in values.items() if value]
    lines += ["", "[pins]"]
    lines += [
        f"{pin.hex()} = {{ role = {quoted(who.role)}, name = {quoted(who.name)} }}"
        for pin, who in sorted(config.pins.items())
    ]
    durable.write(config.directory / FILE, "\n".join([*lines, ""]).encode())


def _document(content: bytes) -> Mapping[str, object]:
    try:
        return tomllib.loads(content.decode())
    except ValueError as error:
        raise Malformed(_REASON, f"{FILE} is not TOML: {error}") from error


def _pins(fields: Fields, document: Mapping[str, object]) -> dict[bytes, Pin]:
    names, rows = document.get("pins"), fields.inner("pins")
    found = {hash_of_hex(name): _pin(rows.inner(name)) for name in names} if isinstance(names, dict) else {}
    if None in found:
        raise fields.refusal("pins", "must be a table whose keys are participant ids in hex, 64 digits each")
    return {pin: who for pin, who in found.items() if pin is not None}


def _pin(fields: Fields) -> Pin:
    found = Pin(fields.need(ROLE, "role"), fields.need(text(128), "name"))
    fields.finish()
    return found


def _address(value: str) -> str | None:
    return value if all(_is_address(one) for one in value.split(",")) else None


def _is_address(value: str) -> bool:
    host, _, port = value.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 65536


_ADDRESS: Final = Grammar("host:port, several with commas between them", _address)
