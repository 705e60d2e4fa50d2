"""``zhifu audit verify-…``: one receipt, one checkpoint, two checkpoints, kept evidence. Offline, by pinned keys."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.message import DecodeError

from clients import config, durable, plain, wire
from clients.auditor import pins
from clients.auditor.pins import Pins
from clients.command import Json, clear, print_json
from clients.keystore import FileKeystore
from clients.reconcile import opened_receipt
from clients.store import Evidence, Store
from clients.tiles import Mirror
from zhifu import checkpoint, merkle, tlogpolicy, tlogproof
from zhifu.checkpoint import Checkpoint, VerifierKey
from zhifu.errors import Error, NotAuthentic, Refused
from zhifu.receipt import parse_meta
from zhifu.v1 import exchange_pb2

Auditor = Annotated[Path, typer.Option("--pins", help="The auditor's folder, with auditor.toml.")]
Policy = Annotated[Path | None, typer.Option(help="A C2SP tlog-policy: which witnesses must have cosigned.")]


@dataclass(frozen=True, slots=True)
class Verified:
    """A checkpoint that the pinned key signed. ``cosigned`` names the policy's witnesses that cosigned it."""

    origin: str
    size: int
    root: str
    cosigned: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Receipt:
    """An entry that stands in the log: what it says of parties and purpose, never a value."""

    index: int
    time_ms: int
    event: str
    sender: str
    recipient: str
    purpose: str
    checkpoint: Verified


def check_note(note: bytes, pinned: Pins, policy: bytes | None) -> tuple[Checkpoint, Verified]:
    """The checkpoint, once signature, the head seen before and the policy's quorum hold.

    Raises `Malformed`, `NotAuthentic` (log.signature, log.inconsistent, signature.invalid), `Refused`
    (unavailable.witnesses).
    """
    signed = checkpoint.verify(note, pinned.log_key)
    cosigned = _cosigned(note, policy)
    return signed, Verified(signed.origin, signed.size, signed.root.hex(), cosigned)


def _cosigned(note: bytes, policy: bytes | None) -> tuple[str, ...]:
    if policy is None:
        return ()
    asked = tlogpolicy.parse(policy)
    found = checkpoint.verify_cosignatures(note, [member.key for member in asked.witnesses.values()])
    if not asked.is_satisfied(found):
        raise Refused("unavailable.witnesses", f"{len(found)} of the policy's witnesses cosigned: no quorum")
    return tuple(sorted(key.name for key in found))


def check_seen(signed: Checkpoint, folder: Path) -> None:
    """No other root was seen for this size. Raises `NotAuthentic` (log.inconsistent)."""
    seen = pins.load_head(folder)
    if seen.size == signed.size and seen.root() != signed.root:
        raise NotAuthentic("log.inconsistent", f"another root was seen for size {seen.size}")


def convicts(one: Evidence, log_key: VerifierKey) -> bool:
    """Whether kept evidence holds a checkpoint that the log's own key signed: then the operator cannot deny it."""
    return any(_is_signed(note, log_key) for note in (one.content, _framed(one.content)))


def _framed(content: bytes) -> bytes:
    """The note in a frame of the broker's stream; empty where it is none. An auditor keeps the note alone."""
    try:
        frame = exchange_pb2.ConnectResponse.FromString(content)
        kind = frame.WhichOneof("frame") or ""
        shown = getattr(frame, kind)
        note: bytes = shown.checkpoint if kind == "checkpoint" else shown.proof.checkpoint
    except (AttributeError, DecodeError, TypeError):
        return b""
    return note


def _is_signed(note: bytes, log_key: VerifierKey) -> bool:
    try:
        checkpoint.verify(note, log_key)
    except Error:
        return False
    return True


def _policy(path: Path | None) -> bytes | None:
    return durable.read(path, tlogpolicy.MAX_POLICY) if path is not None else None


@clear
def verify_receipt(
    receipt: Annotated[Path, typer.Argument(help="A tlog-proof, as zhifu node receipt writes it.")],
    folder: Auditor,
    policy: Policy = None,
    as_json: Json = False,
) -> None:
    """Check one receipt: entry, inclusion, the log's signature, witnesses. 核验一份回执"""
    pinned = pins.load(folder)
    proof = tlogproof.Proof.parse(durable.read(receipt, tlogproof.MAX_PROOF))
    opened = wire.entry(opened_receipt(proof))
    if opened.index != proof.index:
        raise NotAuthentic("receipt.invalid", "the entry has another index than the proof")
    signed = tlogproof.verify(proof, opened.leaf_hash, pinned.log_key)
    check_seen(signed, folder)
    _, verified = check_note(proof.checkpoint, pinned, _policy(policy))
    meta = parse_meta(opened.meta)
    found = Receipt(
        opened.index, opened.time_ms, meta.event, meta.sender.hex(), meta.recipient.hex(), meta.purpose, verified
    )
    if as_json:
        print_json(asdict(found))
    else:
        said = f"entry {found.index} of {verified.size}: {found.event}, {found.purpose}; the receipt holds"
        typer.echo(plain.line(said))


@clear
def verify_checkpoint(
    note: Annotated[Path, typer.Argument(help="A signed note.")],
    folder: Auditor,
    policy: Policy = None,
    as_json: Json = False,
) -> None:
    """Check a checkpoint: the log's signature, witnesses, and the head that was seen before. 核验检查点"""
    signed, verified = check_note(durable.read(note, checkpoint.MAX_NOTE), pins.load(folder), _policy(policy))
    check_seen(signed, folder)
    if as_json:
        print_json(asdict(verified))
    else:
        typer.echo(
            f"{verified.origin}: {verified.size} entries, root {verified.root}; {len(verified.cosigned)} witnesses"
        )


@clear
def verify_consistency(
    older: Annotated[Path, typer.Argument(help="A signed note.")],
    newer: Annotated[Path, typer.Argument(help="A signed note of a tree that is no smaller.")],
    folder: Auditor,
    proof: Annotated[Path | None, typer.Option(help="Base64 hashes, one a line (RFC 9162 order).")] = None,
    log: Annotated[str, typer.Option("--log", help="Or the log over HTTP, to take the hashes from.")] = "",
    as_json: Json = False,
) -> None:
    """Check that one checkpoint extends another: nothing was rewritten between them. 核验一致性"""
    pinned = pins.load(folder)
    old, new = (check_note(durable.read(path, checkpoint.MAX_NOTE), pinned, None)[0] for path in (older, newer))
    merkle.verify_consistency(old.size, new.size, old.root, new.root, _hashes(old, new, proof, log, pinned))
    if as_json:
        print_json({"old": old.size, "new": new.size, "consistent": True})
    else:
        typer.echo(f"the log of {new.size} entries extends that of {old.size}")


def _hashes(old: Checkpoint, new: Checkpoint, proof: Path | None, log: str, pinned: Pins) -> list[bytes]:
    if log:
        with closing(Mirror(log, pinned.log_key)) as mirror:
            return merkle.consistency_proof(old.size, new.size, mirror.nodes)
    if proof is None:
        return []
    lines = durable.read(proof, checkpoint.MAX_NOTE).splitlines()
    return [checkpoint.parse_base64(line) for line in lines if line]


@clear
def evidence(
    node: Annotated[Path, typer.Argument(help="A node's folder: what it kept when the log did not add up.")],
    as_json: Json = False,
) -> None:
    """Show kept evidence, and whether the log's own key signed it. Exit 5 if there is any. 查看证据"""
    settings = config.load(node)
    with closing(Store(settings.database, FileKeystore.load(settings.keys))) as store:
        kept, head_note = store.receipts.evidence(), store.trust.head_note()
    rows = [
        {"at": one.at, "reason": one.reason, "seen_size": one.head.size, "seen_root": one.head.root.hex(),
         "signed_by_log": convicts(one, settings.log_key), "content": one.content.hex()}
        for one in kept
    ]  # fmt: skip
    if as_json:
        print_json({"head": head_note.decode(errors="replace"), "evidence": rows})
    else:
        for row in rows:
            signed = "signed by the log's key" if row["signed_by_log"] else "not signed by the log's key"
            typer.echo(f"{row['at']}  {row['reason']}  after {row['seen_size']} entries; {signed}")
    if not rows:
        typer.echo("nothing is kept: all that this node was shown added up", err=True)
        return
    raise NotAuthentic("log.inconsistent", f"{len(rows)} pieces of evidence are kept")
