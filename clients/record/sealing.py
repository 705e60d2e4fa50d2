"""``zhifu record seal | gate | open``: the hands a record passes through, on files, without servers (DESIGN 4.2)."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from nacl.signing import SigningKey

from clients import command
from clients.command import Json, Output, clear, print_json
from clients.hospital import intake, record
from clients.hospital.bill_file import read_given
from clients.record import files
from clients.record.explain import ROLES, granted, permitted
from clients.record.files import GatedFile, SealedFile
from policies import load
from policies.decide import finest, released
from zhifu import capsule as capsules
from zhifu import envelope, manifest, presentation, schema, sealed
from zhifu.capsule import Capsule
from zhifu.cbor import Value
from zhifu.errors import Malformed, Refused
from zhifu.keys import Alg, KemPrivate, participant_id
from zhifu.presentation import Presentation
from zhifu.schema import coarser
from zhifu.v1.signed_pb2 import BASIS_KIND_STATUTE

DAY_S: Final = 86_400
Recipient = Annotated[str, typer.Option(metavar="ROLE", help=f"One of {', '.join(ROLES)}.")]
Purpose = Annotated[str, typer.Option(metavar="P", help=f"One of {', '.join(presentation.PURPOSES)}.")]
Policies = Annotated[Path | None, typer.Option(help="A policy bundle; default: the packaged one.")]


@clear
def seal(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A bill, JSON in the national names, or FHIR R4.")],
    output: Output,
    recipient: Recipient = "insurer",
    purpose: Purpose = "commercial-settlement",
    grant: Annotated[
        Path | None, typer.Option(help="The patient's consent; without it, as much as policy allows.")
    ] = None,
    policies: Policies = None,
    as_json: Json = False,
) -> None:
    """Seal a bill for one recipient: OUT for the broker, and OUT.gate, OUT.recipient, OUT.hospital with the secrets.

    OUT.gate is the broker's (the epoch secret E), OUT.recipient the recipient's key, OUT.hospital the record key K.
    """
    bill = intake.open_bill(read_given(file))
    bundle, kind = load.load(policies), record.schema_of(bill)
    permitted(bundle, recipient, purpose, kind)
    agreed = granted(grant, purpose)
    levels = agreed.levels(kind.hash) if agreed else kind.finest
    if levels is None:
        raise Refused("consent.exceeded", f"the grant does not cover {kind.name}")
    made = Sealing(kind, record.claim(bill, os.urandom(32)), coarser(finest(bundle, purpose, recipient, kind), levels))
    sealed_file = made.seal(purpose, bundle.hash, int(time.time()))
    sealed_file.write(output)
    for owner, suffix, secret in made.secrets():
        files.write_secret(output.with_name(output.name + suffix), owner, secret)
    found = {
        "manifest_hash": manifest.hash_of(sealed_file.manifest).hex(),
        "schema": kind.name,
        "size_class": schema.SIZE_CLASSES[made.record.manifest.size_class],
        "leaves": len(kind.leaves),
        "bytes": {name: len(getattr(sealed_file, name)) for name in ("manifest", "leaves", "presentation", "capsule")},
        "sealed": kind.by_name(kind.finest),
        "ceiling": kind.by_name(made.ceilings),
    }
    _say(found, as_json, f"{found['manifest_hash']}  {kind.name}, {len(kind.leaves)} leaves")


class Sealing:
    """One record sealed under fresh keys of every party, so that each step can be tried alone."""

    def __init__(self, kind: schema.Schema, values: dict[str, Value], ceilings: bytes) -> None:
        self.ceilings = ceilings
        self._signer = SigningKey.generate()
        self._recipient = KemPrivate.generate(Alg.MLKEM768_X25519)
        self._epoch = os.urandom(32)
        self._encounter = values["encounter"]
        self.record = sealed.seal(kind, values, self._id, time.time_ns() // 1_000_000)

    @property
    def _id(self) -> bytes:
        return participant_id(bytes(self._signer.verify_key))

    def seal(self, purpose: str, policy_hash: bytes, now: int) -> SealedFile:
        """The file for the broker; ``now`` is Unix s."""
        encoded, rid = self.record.encoded_manifest, self.record.manifest.rid
        digest, to = manifest.hash_of(encoded), participant_id(self._recipient.public.raw)
        nonce = presentation.new_nonce(now * 1000)
        root = sealed.gate_root(self._epoch, rid, to, nonce)
        own = capsules.own_shares(self.record, self.ceilings, root)
        capsule = capsules.seal(
            Capsule(self.ceilings, own, None, (), None, ()), self._recipient.public, rid, digest, self._id
        )
        shown = Presentation(
            aud="files",
            sender=self._id,
            recipient=to,
            key_id=self._recipient.public.id,
            basis_kind=BASIS_KIND_STATUTE,
            basis=policy_hash,
            purpose=purpose,
            encounter=sealed.encounter_handle(self._encounter, to),
            manifest_hash=digest,
            ceilings=self.ceilings,
            capsule_hash=hashlib.sha256(capsule).digest(),
            gate_commitment=sealed.gate_commitment(rid, root),
            epoch_id=os.urandom(16),
            workflow=os.urandom(16),
            correlation=os.urandom(16),
            in_reply_to=b"",
            ticket_hash=b"",
            nonce=nonce,
            issued_at=now,
            not_after=now + DAY_S,
        )
        signed = envelope.seal_one(envelope.PRESENTATION, shown.to_bytes(), self._signer)
        return SealedFile(encoded, self.record.leaves, signed.to_bytes(), capsule, bytes(self._signer.verify_key))

    def secrets(self) -> list[tuple[str, str, bytes]]:
        """(owner, suffix, secret) of each party."""
        return [
            ("broker", ".gate", self._epoch),
            ("recipient", ".recipient", self._recipient.raw),
            ("hospital", ".hospital", self.record.key),
        ]


@clear
def gate(
    file: Annotated[Path, typer.Argument(metavar="SEALED", help="What zhifu record seal wrote.")],
    output: Output,
    secret: Annotated[Path | None, typer.Option(help="The broker's secret; default: SEALED.gate.")] = None,
    recipient: Recipient = "insurer",
    policies: Policies = None,
    as_json: Json = False,
) -> None:
    """Gate a sealed file as the broker does, without reading it: drop what policy does not release, add the shares."""
    one = files.read_sealed(file)
    epoch = files.read_secret(secret or file.with_name(file.name + ".gate"), "broker")
    shown, found = _authentic(one.presentation, one.signer, one.manifest)
    if hashlib.sha256(one.capsule).digest() != shown.capsule_hash:
        raise Malformed("capsule.hash")
    root = sealed.gate_root(epoch, found.rid, shown.recipient, shown.nonce)
    sealed.check_gate_root(shown.gate_commitment, found.rid, root)
    levels = released(load.load(policies), shown.purpose, recipient, found.schema, shown.ceilings)
    kept = sealed.gate(found, one.leaves, levels)
    every = sealed.gate_shares(root, found.schema)
    shares = b"".join(every[i] for i in sealed.released_places(found.schema, levels))
    GatedFile(one.manifest, levels, kept, shares, one.presentation, one.capsule, one.signer).write(output)
    by_name = found.schema.by_name(levels)
    count = sum(level is not None for level in by_name.values())
    _say({"released": by_name, "bytes": len(kept)}, as_json, f"{count} of {len(by_name)} units released")


@clear
def open_(
    file: Annotated[Path, typer.Argument(metavar="GATED", help="What zhifu record gate wrote.")],
    secret: Annotated[Path, typer.Option(help="The recipient's secret (SEALED.recipient).")],
    as_json: Json = False,
) -> None:
    """Open a gated file as its recipient does: every leaf checked against the manifest that was signed."""
    one = files.read_gated(file)
    key = KemPrivate(Alg.MLKEM768_X25519, files.read_secret(secret, "recipient"))
    shown, found = _authentic(one.presentation, one.signer, one.manifest)
    if hashlib.sha256(one.capsule).digest() != shown.capsule_hash:
        raise Malformed("capsule.hash")
    capsule = capsules.open_capsule(one.capsule, key, found, shown.manifest_hash, shown.sender)
    values = sealed.open_released(found, one.released, one.leaves, one.shares, capsule.shares)
    document = {name: value for name, value in values.items() if name != "encounter"}
    _say({"released": found.schema.by_name(one.released), "values": document}, as_json, command.to_json(document))


def _authentic(signed: bytes, signer: bytes, encoded: bytes) -> tuple[Presentation, manifest.Manifest]:
    parcel = envelope.from_bytes(envelope.PRESENTATION, signed)
    shown = presentation.parse(envelope.verify(parcel, signer))
    found = manifest.check_hash(encoded, shown.manifest_hash)
    found.schema.check_levels(shown.ceilings)
    return shown, found


def _say(document: dict[str, Any], as_json: bool, line: str) -> None:
    if as_json:
        print_json(document)
    else:
        typer.echo(line)
