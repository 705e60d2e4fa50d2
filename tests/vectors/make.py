"""Makes `formats.json`, the known answers of every format, by a second implementation (`second.py`).

Nothing here imports the project: the formats are written out from proto/README.md, so that an error of the one
implementation is not repeated by the other. `python -m tests.vectors.make` writes the file; a test compares.
"""

from __future__ import annotations

import base64
import hmac
import json
import tomllib
from pathlib import Path
from typing import Any

from tests.vectors import second
from tests.vectors.second import cbor, hkdf_expand, leaf_hash, protobuf, sha256

HERE = Path(__file__).parent
SCHEMA = HERE.parent.parent / "proto" / "zhifu" / "schemas" / "inpatient-claim.toml"
SUITE = b"\x01"
ABSENT = 0xFF
ORIGIN = "log.example/zhifu"
ISSUED = 1_790_000_000
"""2026-09-21, Unix seconds."""


def drawn(name: str, size: int = 32) -> bytes:
    """What would be random, made from a name so that the file can be made again."""
    return hkdf_expand(sha256(b"zhifu test vectors"), name.encode(), size)


def key_id(algorithm: int, public: bytes) -> bytes:
    return sha256(b"zhifu/v1 key\0", algorithm.to_bytes(2, "big"), public)


class Signer:
    """An Ed25519 key: `public`, its key id, and its holder's id if it is an identity or subject key."""

    def __init__(self, name: str) -> None:
        self.seed = drawn(name)
        self.public = second.ed25519_public(self.seed)
        self.key_id = key_id(1, self.public)
        self.holder = sha256(self.public)


HOSPITAL, HOSPITAL_SIGNING = Signer("hospital identity"), Signer("hospital signing")
INSURER, INSURER_SIGNING = Signer("insurer identity"), Signer("insurer signing")
COSIGNING, SUBJECT = Signer("hospital cosigning"), Signer("subject")
OPERATOR = Signer("operator")
INSURER_KEM = drawn("insurer kem")
WALLET_KEM = drawn("wallet kem")

# Values of a made-up person, one for each level that is not absent; what is not named is absent. Written by hand rather
# than coarsened, so that the ladder is checked too.
VALUES: dict[tuple[str, str], Any] = {
    ("encounter", "full"): drawn("encounter secret"),
    ("name", "full"): "测试患者甲",
    ("name", "surname"): "测",
    ("citizen-id", "full"): "000000198405170000",
    ("birth-date", "full"): "1984-05-17",
    ("birth-date", "year"): 1984,
    ("birth-date", "ten-years"): 1980,
    ("sex", "full"): 2,
    ("phone", "full"): "+00-000-0000",
    ("address", "full"): "测试省样例市示范路1号",
    ("address", "city"): ["测试省", "样例市"],
    ("address", "province"): "测试省",
    ("visit-number", "full"): "V-0001",
    ("hospital", "full"): ["H000", "样例医院", None],
    ("insurance", "full"): ["310", "21", None],
    ("admission", "full"): "2026-09-14",
    ("admission", "month"): "2026-09",
    ("discharge", "full"): "2026-09-21",
    ("discharge", "month"): "2026-09",
    ("stay", "full"): 7,
    ("diagnosis", "full"): [["I21.001", "急性前壁心肌梗死", 1], ["I10.x00", "高血压", 0], ["E11.900", "2型糖尿病", 0]],
    ("diagnosis", "category"): ["I21", "I10", "E11"],
    ("diagnosis", "chapter"): [4, 9],
    ("item-codes", "full"): ["X-1", None, "X-3"],
    ("item-charges", "full"): [["09", "11", "09"], [12_345, -100, 55]],
    ("item-charges", "by-type"): [["09", 12_400], ["11", -100]],
    ("item-dates", "full"): ["2026-09-14", None, "2026-09-20"],
    ("item-dates", "month"): ["2026-09", None, "2026-09"],
    ("item-departments", "full"): ["心内科", "心内科", None],
    ("totals", "full"): [["total", 12_300]],
}


def build() -> dict[str, Any]:
    """The whole file."""
    source = SCHEMA.read_bytes()
    units = tomllib.loads(source.decode())["unit"]
    schema_hash = sha256(b"zhifu/v1 schema\0", source)
    ladder = [(u, rank) for u, unit in enumerate(units) for rank in range(len(unit["level"]))]
    record = make_record(units, ladder, schema_hash)
    rid, manifest_hash = bytes.fromhex(record["rid"]), bytes.fromhex(record["manifest_hash"])
    ceilings = levels(units, {"encounter": 0, "birth-date": 1, "diagnosis": 1, "address": 0, "totals": 0})
    policy = levels(units, {"encounter": 0, "birth-date": 2, "diagnosis": 1, "sex": 0, "totals": 0})
    gate = make_gate(ladder, rid, ceilings, policy)
    signed = make_signed(schema_hash, ceilings)
    capsule = make_capsule(record, gate, ladder, ceilings, manifest_hash, signed["attestation"]["envelope"])
    signed["presentation"] = make_presentation(signed, manifest_hash, ceilings, capsule, gate)
    return {
        "origin": "made by tests/vectors/make.py, an implementation of proto/README.md in hashlib and hmac only",
        "conventions": "byte strings are hex; hashed integers are big-endian; levels are one byte a unit",
        "suite": 1,
        "schema": {"name": "inpatient-claim", "hash": schema_hash.hex(), "leaves": ladder},
        "record": record,
        "gate": gate,
        "capsule": capsule,
        "encounter": make_encounter(),
        "epoch": make_epoch(),
        "key_ids": make_key_ids(),
        "signed": {name: {k: v for k, v in one.items() if k != "payload_bytes"} for name, one in signed.items()},
        "frame": make_frame(),
        "code": make_code(),
        "recovery": make_recovery(),
        "audit": make_audit(schema_hash, ceilings, bytes.fromhex(gate["released"]), signed["presentation"]),
    }


def levels(units: list[dict[str, Any]], ranks: dict[str, int]) -> bytes:
    return bytes(ranks.get(unit["name"], ABSENT) for unit in units)


# --- the record -----------------------------------------------------------------------------------------------------


def make_record(units: list[dict[str, Any]], ladder: list[tuple[int, int]], schema_hash: bytes) -> dict[str, Any]:
    rid, key, sealed_at = drawn("rid", 16), drawn("record key"), ISSUED * 1000
    plain = [cbor(VALUES.get((units[u]["name"], units[u]["level"][rank]["name"]))) for u, rank in ladder]
    size_class = smallest_class(units, ladder, plain)
    leaves = [
        make_leaf(units[u], u, rank, encoded, size_class, rid, key, schema_hash)
        for (u, rank), encoded in zip(ladder, plain, strict=True)
    ]
    digests = b"".join(bytes.fromhex(leaf["digest"]) for leaf in leaves)
    manifest = b"".join(
        (b"zhifu/v1 manifest\0", b"\x01", SUITE, rid, schema_hash, HOSPITAL.holder, bytes([size_class]),
         sealed_at.to_bytes(8, "big"), bytes([len(leaves)]), digests, bytes(32))
    )  # fmt: skip
    return {
        "rid": rid.hex(),
        "key": key.hex(),
        "sealer": HOSPITAL.holder.hex(),
        "sealed_at_ms": sealed_at,
        "size_class": size_class,
        "leaves": leaves,
        "manifest": manifest.hex(),
        "manifest_hash": sha256(manifest).hex(),
    }


def smallest_class(units: list[dict[str, Any]], ladder: list[tuple[int, int]], plain: list[bytes]) -> int:
    for size_class in range(4):
        sizes = (padded_size(units[u]["level"][rank]["bytes"], size_class) for u, rank in ladder)
        if all(len(encoded) < size for encoded, size in zip(plain, sizes, strict=True)):
            return size_class
    raise ValueError("no size class fits")


def padded_size(given: int | list[int], size_class: int) -> int:
    return given if isinstance(given, int) else given[size_class]


def make_leaf(
    unit: dict[str, Any], u: int, rank: int, encoded: bytes, size_class: int, rid: bytes, key: bytes, schema_hash: bytes
) -> dict[str, Any]:
    size = padded_size(unit["level"][rank]["bytes"], size_class)
    place = SUITE + rid + u.to_bytes(2, "big") + bytes([rank])
    header = b"zhifu/v1 leaf\0" + place
    secret = hkdf_expand(key, b"zhifu/v1 secret\0" + place, 32)
    expanded = hkdf_expand(secret, header, 64)
    padded = (encoded + b"\x80").ljust(size, b"\0")
    leaf = expanded[32:] + second.gcm_seal(expanded[:32], bytes(12), padded, header + schema_hash)
    return {
        "unit": unit["name"],
        "level": unit["level"][rank]["name"],
        "u": u,
        "l": rank,
        "value_cbor": encoded.hex(),
        "padded_bytes": size,
        "secret": secret.hex(),
        "aad": (header + schema_hash).hex(),
        "key": expanded[:32].hex(),
        "kc": expanded[32:].hex(),
        "leaf": leaf.hex(),
        "digest": sha256(b"zhifu/v1 digest\0", header, schema_hash, leaf).hex(),
    }


# --- gate and capsule -----------------------------------------------------------------------------------------------


def make_gate(ladder: list[tuple[int, int]], rid: bytes, ceilings: bytes, policy: bytes) -> dict[str, Any]:
    epoch, nonce = drawn("epoch secret"), (ISSUED * 1000).to_bytes(6, "big") + drawn("nonce", 10)
    root = hkdf_expand(epoch, b"zhifu/v1 root\0" + SUITE + rid + INSURER.holder + nonce, 32)
    wide = hkdf_expand(root, b"zhifu/v1 shares\0", 32 * len(ladder))
    released = bytes(max(pair) for pair in zip(ceilings, policy, strict=True))
    kept = [i for i, (u, rank) in enumerate(ladder) if released[u] == rank]
    return {
        "epoch_secret": epoch.hex(),
        "recipient": INSURER.holder.hex(),
        "nonce": nonce.hex(),
        "root": root.hex(),
        "commitment": sha256(b"zhifu/v1 gate\0", rid, root).hex(),
        "shares": [wide[32 * i : 32 * i + 32].hex() for i in range(len(ladder))],
        "ceilings": ceilings.hex(),
        "policy": policy.hex(),
        "released": released.hex(),
        "released_leaves": kept,
        "delivered_shares": b"".join(wide[32 * i : 32 * i + 32] for i in kept).hex(),
    }


def make_capsule(
    record: dict[str, Any], gate: dict[str, Any], ladder: list[tuple[int, int]], ceilings: bytes,
    manifest_hash: bytes, attestation: str,
) -> dict[str, Any]:  # fmt: skip
    places = [i for i, (u, rank) in enumerate(ladder) if ceilings[u] != ABSENT and rank >= ceilings[u]]
    own = b"".join(xor(record["leaves"][i]["secret"], gate["shares"][i]) for i in places)
    pseudonym, tokens = drawn("pseudonym"), [["visit-number", drawn("token")]]
    salt, terms = terms_of()
    plain = cbor([1, ceilings, own, pseudonym, tokens, [salt, terms], [bytes.fromhex(attestation)]])
    recipient_key = second.x25519_public(INSURER_KEM)
    rid = bytes.fromhex(record["rid"])
    info = b"zhifu/v1 capsule\0" + SUITE + rid + manifest_hash + HOSPITAL.holder + key_id(2, recipient_key)
    ephemeral = drawn("capsule ephemeral")
    sealed = second.hpke_seal(recipient_key, ephemeral, info, plain)
    return {
        "own_leaves": places,
        "own_shares": own.hex(),
        "pseudonym": pseudonym.hex(),
        "tokens": [["visit-number", drawn("token").hex()]],
        "terms_salt": salt.hex(),
        "terms": terms.hex(),
        "terms_digest": sha256(b"zhifu/v1 terms\0", salt, terms).hex(),
        "attestations": [attestation],
        "plaintext": plain.hex(),
        "recipient_private": INSURER_KEM.hex(),
        "recipient_public": recipient_key.hex(),
        "recipient_key_id": key_id(2, recipient_key).hex(),
        "ephemeral_private": ephemeral.hex(),
        "info": info.hex(),
        "sealed": sealed.hex(),
        "hash": sha256(sealed).hex(),
    }


def xor(left: str, right: str) -> bytes:
    return bytes(a ^ b for a, b in zip(bytes.fromhex(left), bytes.fromhex(right), strict=True))


def terms_of() -> tuple[bytes, bytes]:
    return drawn("terms salt"), cbor([1, 5_000_000, "zh", "仅用于本次住院理赔"])


def handle(recipient: bytes) -> bytes:
    return hmac.digest(drawn("encounter secret"), b"zhifu/v1 encounter\0" + recipient, "sha256")[:16]


def make_encounter() -> dict[str, str]:
    return {
        "secret": drawn("encounter secret").hex(),
        "recipient": INSURER.holder.hex(),
        "handle": handle(INSURER.holder).hex(),
    }


def make_epoch() -> dict[str, str]:
    private, ephemeral = drawn("gate key"), drawn("epoch ephemeral")
    public = second.x25519_public(private)
    info = b"zhifu/v1 epoch\0" + HOSPITAL.holder + key_id(2, public)
    return {
        "node": HOSPITAL.holder.hex(),
        "secret": drawn("epoch secret").hex(),
        "gate_private": private.hex(),
        "gate_public": public.hex(),
        "gate_key_id": key_id(2, public).hex(),
        "info": info.hex(),
        "ephemeral_private": ephemeral.hex(),
        "sealed_secret": second.hpke_seal(public, ephemeral, info, drawn("epoch secret")).hex(),
    }


def make_key_ids() -> list[dict[str, Any]]:
    keys = [(1, HOSPITAL.public), (2, second.x25519_public(INSURER_KEM)), (3, drawn("any x-wing key", 1216))]
    return [{"alg": alg, "public": public.hex(), "key_id": key_id(alg, public).hex()} for alg, public in keys]


# --- what is signed -------------------------------------------------------------------------------------------------


def media_type(kind: str, form: str) -> str:
    return f"application/vnd.zhifu.{kind.replace(' ', '-')}.v1+{form}"


def signed_bytes(kind: str, payload: bytes, form: str = "protobuf") -> bytes:
    media = media_type(kind, form).encode()
    pae = b"DSSEv1 %d %b %d %b" % (len(media), media, len(payload), payload)
    return b"zhifu/v1 " + kind.encode() + b"\0" + SUITE + pae


def envelope(kind: str, payload: bytes, signer: Signer, form: str = "protobuf") -> dict[str, Any]:
    """A tree of one: its root is the leaf's hash."""
    to_sign = signed_bytes(kind, payload, form)
    frame = b"zhifu/v1 frame\0" + SUITE + (1).to_bytes(4, "big") + leaf_hash(to_sign)
    signature = second.ed25519_sign(signer.seed, frame)
    whole = protobuf((1, media_type(kind, form)), (2, payload), (3, signer.key_id), (4, signature), (6, 1))
    return {
        "kind": kind,
        "payload": payload.hex(),
        "payload_hash": sha256(payload).hex(),
        "signed_bytes": to_sign.hex(),
        "frame_bytes": frame.hex(),
        "seed": signer.seed.hex(),
        "public": signer.public.hex(),
        "key_id": signer.key_id.hex(),
        "signature": signature.hex(),
        "envelope": whole.hex(),
    }


def make_signed(schema_hash: bytes, ceilings: bytes) -> dict[str, dict[str, Any]]:
    encounter = handle(INSURER.holder)
    scope = protobuf((1, schema_hash), (2, ceilings))
    salt, terms = terms_of()
    request = protobuf(
        (1, 1), (2, 1), (3, drawn("request id", 16)), (4, ORIGIN), (5, "commercial-settlement"), (6, HOSPITAL.holder),
        (7, INSURER.holder), (8, encounter), (9, [scope]), (10, 2), (11, ISSUED - 600), (12, ISSUED + 86_400),
        (13, ISSUED + 86_400 * 180), (14, salt), (15, terms), (16, SUBJECT.public),
    )  # fmt: skip
    grant = protobuf(
        (1, 1), (2, 1), (3, drawn("grant id", 16)), (4, SUBJECT.public), (5, ORIGIN), (6, "commercial-settlement"),
        (7, HOSPITAL.holder), (8, INSURER.holder), (9, encounter), (10, [scope]), (11, 2), (12, ISSUED - 60),
        (13, ISSUED + 86_400), (14, ISSUED - 60), (15, 1), (16, HOSPITAL.holder), (17, ISSUED + 86_400 * 180),
        (18, sha256(b"zhifu/v1 terms\0", salt, terms)), (19, sha256(request)), (20, second.x25519_public(WALLET_KEM)),
    )  # fmt: skip
    x25519 = protobuf((1, 2), (2, second.x25519_public(drawn("hospital kem"))))
    statement = protobuf(
        (1, 1), (2, 1), (3, HOSPITAL.holder), (4, 7), (5, ISSUED - 3600), (6, ISSUED + 6 * 86_400),
        (7, HOSPITAL.public), (8, HOSPITAL_SIGNING.public), (9, COSIGNING.public), (10, [x25519]),
        (11, [drawn("spki")]),
    )  # fmt: skip
    epoch = make_epoch()
    offer = protobuf(
        (1, 1), (2, 1), (3, HOSPITAL.holder), (4, drawn("epoch id", 16)), (5, bytes.fromhex(epoch["gate_key_id"])),
        (6, ISSUED - 3600), (7, ISSUED + 36 * 3600), (8, bytes.fromhex(epoch["sealed_secret"])),
    )  # fmt: skip
    attestation = protobuf(
        (1, 1), (2, 1), (3, SUBJECT.public), (4, HOSPITAL.holder), (5, "hospital"), (6, ISSUED + 86_400)
    )
    acknowledgement = protobuf(
        (1, 1), (2, 1), (3, ORIGIN), (4, INSURER.holder), (5, drawn("presentation hash")), (6, drawn("leaf hash")),
        (7, 41), (8, 50), (9, drawn("root")), (10, 2), (11, "leaf.grammar"), (12, ISSUED + 2),
    )  # fmt: skip
    ticket = protobuf(
        (1, 1), (2, 1), (3, sha256(grant)), (4, drawn("ticket nonce", 16)), (5, HOSPITAL.holder), (6, ISSUED)
    )
    revocation = protobuf((1, 1), (2, 1), (3, ORIGIN), (4, sha256(grant)), (5, ISSUED + 60))
    policy = protobuf((1, 1), (2, 1), (3, HOSPITAL.holder), (4, drawn("policy")), (5, ISSUED), (6, ISSUED + 86_400))
    wallet = protobuf((1, 1), (2, 1), (3, ORIGIN), (4, drawn("challenge")), (5, "FetchMailbox"))
    quota = protobuf((1, 1), (2, 1), (3, ORIGIN), (4, INSURER.holder), (5, 1), (6, 200_000), (7, ISSUED))
    entries = b"".join(second.varint(number) for number in (3, 300, 70_000))
    erasure = protobuf((1, 1), (2, 1), (3, ORIGIN), (4, entries), (5, "pipl-47"), (6, ISSUED))
    hold = protobuf((1, 1), (2, 1), (3, ORIGIN), (4, SUBJECT.holder), (5, 1), (6, "case-1"), (7, ISSUED))
    added = protobuf(
        (1, 1), (2, 1), (3, ORIGIN), (4, SUBJECT.holder), (5, 1), (6, OPERATOR.public), (7, 1), (8, ISSUED)
    )  # fmt: skip
    deletion = protobuf(
        (1, 1), (2, 1), (3, ORIGIN), (4, INSURER.holder), (5, drawn("presentation hash")), (6, 2),
        (7, "payment.committed"), (8, ISSUED + 86_400 * 180), (9, ISSUED + 90),
    )  # fmt: skip
    standing = protobuf(
        (1, 1), (2, 1), (3, ORIGIN), (4, INSURER.holder), (5, 1), (6, "audit-2026-11"), (7, ISSUED * 1000)
    )  # fmt: skip
    return {
        "consent_request": envelope("consent request", request, HOSPITAL_SIGNING),
        "grant": envelope("grant", grant, SUBJECT),
        "key_statement": envelope("key statement", statement, HOSPITAL),
        "epoch_offer": envelope("epoch offer", offer, HOSPITAL_SIGNING),
        "attestation": envelope("attestation", attestation, HOSPITAL_SIGNING),
        "acknowledgement": envelope("acknowledgement", acknowledgement, INSURER_SIGNING),
        "ticket": envelope("ticket", ticket, SUBJECT),
        "revocation": envelope("revocation", revocation, SUBJECT),
        "policy": envelope("policy statement", policy, HOSPITAL),
        "wallet": envelope("wallet", wallet, SUBJECT),
        "pseudonym_quota": envelope("pseudonym quota", quota, OPERATOR),
        "erasure_order": envelope("erasure order", erasure, OPERATOR),
        "legal_hold": envelope("legal hold", hold, OPERATOR),
        "standing": envelope("standing", standing, OPERATOR),
        "subject_key": envelope("subject key", added, SUBJECT),
        "deletion": envelope("deletion", deletion, INSURER_SIGNING),
    }


def make_presentation(
    signed: dict[str, dict[str, Any]], manifest_hash: bytes, ceilings: bytes, capsule: dict[str, Any],
    gate: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    payload = protobuf(
        (1, 1), (2, 1), (3, ORIGIN), (4, HOSPITAL.holder), (5, INSURER.holder),
        (6, bytes.fromhex(capsule["recipient_key_id"])), (7, 1), (8, bytes.fromhex(signed["grant"]["payload_hash"])),
        (9, "commercial-settlement"), (10, handle(INSURER.holder)), (11, manifest_hash), (12, ceilings),
        (13, bytes.fromhex(capsule["hash"])), (14, bytes.fromhex(gate["commitment"])), (15, drawn("epoch id", 16)),
        (16, drawn("workflow", 16)), (17, drawn("correlation", 16)), (20, bytes.fromhex(gate["nonce"])), (21, ISSUED),
        (22, ISSUED + 3600),
    )  # fmt: skip
    return envelope("presentation", payload, HOSPITAL_SIGNING)


def make_frame() -> dict[str, Any]:
    """Three payloads, one signature: an odd tree, so that one path is shorter."""
    payloads = [b"first", b"second", b"third"]
    leaves = [leaf_hash(signed_bytes("presentation", payload)) for payload in payloads]
    root = second.tree_root(leaves)
    frame = b"zhifu/v1 frame\0" + SUITE + len(payloads).to_bytes(4, "big") + root
    return {
        "kind": "presentation",
        "payloads": [payload.hex() for payload in payloads],
        "leaf_hashes": [leaf.hex() for leaf in leaves],
        "root": root.hex(),
        "frame_bytes": frame.hex(),
        "seed": HOSPITAL_SIGNING.seed.hex(),
        "public": HOSPITAL_SIGNING.public.hex(),
        "signature": second.ed25519_sign(HOSPITAL_SIGNING.seed, frame).hex(),
        "paths": [[one.hex() for one in second.tree_path(i, leaves)] for i in range(len(leaves))],
    }


def make_code() -> dict[str, Any]:
    """A direct-pay code of two tickets, as bytes, as the text of a QR code, and sealed for an 18-digit handle."""
    seed, subjects = drawn("code seed", 16), {drawn("grant hash a"): SUBJECT, drawn("grant hash b"): OPERATOR}
    tickets = {grant_hash: _ticket(seed, grant_hash, subject) for grant_hash, subject in subjects.items()}
    head = b"\1\1" + ISSUED.to_bytes(5, "big") + seed + HOSPITAL.holder
    parts = [grant_hash + bytes.fromhex(one["signature"]) for grant_hash, one in sorted(tickets.items())]
    data = head + b"".join(parts)
    text = "ZHIFU1:" + base64.b32encode(data).decode().rstrip("=")
    private, ephemeral = drawn("hospital kem"), drawn("online ephemeral")
    info = b"zhifu/v1 online code\0" + SUITE + HOSPITAL.holder
    return {
        "hospital": HOSPITAL.holder.hex(),
        "issued_at": ISSUED,
        "seed": seed.hex(),
        "tickets": [{"grant_hash": digest.hex(), **one} for digest, one in sorted(tickets.items())],
        "bytes": data.hex(),
        "text": text,
        "refused": {
            "out of order": "ZHIFU1:" + base64.b32encode(head + parts[1] + parts[0]).decode().rstrip("="),
            "twice the same": "ZHIFU1:" + base64.b32encode(head + 2 * parts[0]).decode().rstrip("="),
            "lower case": text.lower(),
            "padded": text + "=",
            "another version": "ZHIFU1:" + base64.b32encode(b"\2" + data[1:]).decode().rstrip("="),
        },
        "online_info": info.hex(),
        "online_private": private.hex(),
        "online_ephemeral_private": ephemeral.hex(),
        "online_sealed": second.hpke_seal(second.x25519_public(private), ephemeral, info, data).hex(),
    }


def _ticket(seed: bytes, grant_hash: bytes, subject: Signer) -> dict[str, Any]:
    nonce = sha256(b"zhifu/v1 ticket nonce\0", seed, grant_hash)[:16]
    payload = protobuf((1, 1), (2, 1), (3, grant_hash), (4, nonce), (5, HOSPITAL.holder), (6, ISSUED))
    made = envelope("ticket", payload, subject)
    return {"nonce": nonce.hex(), "payload": payload.hex(), "public": made["public"], "signature": made["signature"]}


def make_recovery() -> dict[str, Any]:
    """A recovery code, and the key that it gives for one hospital and recipient."""
    bits = drawn("recovery", 20)
    check = base64.b32encode(sha256(b"zhifu/v1 recovery check\0", bits)).decode()[:4]
    spelled = base64.b32encode(bits).decode() + check
    info = b"zhifu/v1 recovery\0" + HOSPITAL.holder + INSURER.holder
    seed = hkdf_expand(bits + bytes(12), info, 32)
    return {
        "bits": bits.hex(),
        "code": "-".join(spelled[at : at + 4] for at in range(0, 36, 4)),
        "hospital": HOSPITAL.holder.hex(),
        "recipient": INSURER.holder.hex(),
        "seed": seed.hex(),
        "public": second.ed25519_public(seed).hex(),
    }


# --- the log --------------------------------------------------------------------------------------------------------


def make_audit(schema_hash: bytes, ceilings: bytes, released: bytes, shown: dict[str, Any]) -> dict[str, Any]:
    index, time = 41, ISSUED * 1000 + 12
    meta_key, detail_key = drawn("meta key"), drawn("detail key")
    meta = cbor(
        [1, "exchange.accepted", HOSPITAL.holder, INSURER.holder, "commercial-settlement", schema_hash, ceilings,
         released, drawn("policy"), ""]
    )  # fmt: skip
    documents = [bytes.fromhex(shown["envelope"])]
    detail = cbor([1, bytes.fromhex(shown["payload_hash"]), drawn("grant hash"), SUBJECT.holder, documents])
    place = index.to_bytes(8, "big") + time.to_bytes(8, "big")
    meta_commitment = hmac.digest(meta_key, b"zhifu/v1 audit meta\0" + meta, "sha256")
    detail_commitment = hmac.digest(detail_key, b"zhifu/v1 audit detail\0" + detail, "sha256")
    leaf = b"zhifu/v1 entry\0" + place + meta_commitment + detail_commitment
    plain = b"zhifu/v1 statement\0" + place + b"a key statement"
    return {
        "index": index,
        "time_ms": time,
        "meta_key": meta_key.hex(),
        "meta": meta.hex(),
        "meta_commitment": meta_commitment.hex(),
        "detail_key": detail_key.hex(),
        "detail": detail.hex(),
        "detail_commitment": detail_commitment.hex(),
        "leaf": leaf.hex(),
        "leaf_hash": leaf_hash(leaf).hex(),
        "statement_document": b"a key statement".hex(),
        "statement_leaf": plain.hex(),
    }


def text() -> str:
    """The file, exactly."""
    return json.dumps(build(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    (HERE / "formats.json").write_text(text(), "utf-8")
