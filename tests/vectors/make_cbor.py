"""Makes `signed_cbor.json`: what is signed as CBOR, a payer's statement of a day and a patient's parcel.

By the second implementation as `make.py` is, from proto/README.md. `python -m tests.vectors.make_cbor` writes the file.
"""

from __future__ import annotations

import json
from typing import Any

from tests.vectors import second
from tests.vectors.make import (
    HERE,
    HOSPITAL,
    INSURER,
    INSURER_KEM,
    INSURER_SIGNING,
    ISSUED,
    ORIGIN,
    SUBJECT,
    SUITE,
    drawn,
    envelope,
    key_id,
)
from tests.vectors.second import cbor, hkdf_expand, sha256

CHUNK, STEP, DAY = 262_144, 16_384, 86_400
STATES = ("cancelled", "committed", "expired", "reserved", "reversed")


def build() -> dict[str, Any]:
    """The whole file."""
    return {
        "origin": "made by tests/vectors/make_cbor.py, an implementation of proto/README.md in hashlib and hmac only",
        "conventions": "byte strings are hex; amounts are fen, times Unix seconds",
        "day": make_day(),
        "parcel": make_parcel(),
    }


def make_day() -> dict[str, Any]:
    """A reservation in each state, in the order of their ids."""
    ids = sorted(drawn(f"reservation {state}") for state in STATES)
    rows: list[list[Any]] = [
        [one, state, 1_000_000 * n, ISSUED + n] for n, (one, state) in enumerate(zip(ids, STATES, strict=True))
    ]
    payload = cbor([1, INSURER.holder, HOSPITAL.holder, "2026-09-21", rows])
    return {
        "payer": INSURER.holder.hex(),
        "hospital": HOSPITAL.holder.hex(),
        "day": "2026-09-21",
        "rows": [[one.hex(), *rest] for one, *rest in rows],
        "signed": envelope("ledger statement", payload, INSURER_SIGNING, "cbor"),
        "refused": [{"why": why, "payload": cbor(wrong).hex()} for why, wrong in refused_days(rows)],
    }


def refused_days(rows: list[list[Any]]) -> list[tuple[str, list[Any]]]:
    def day(given: list[list[Any]], version: int = 1, when: str = "2026-09-21") -> list[Any]:
        return [version, INSURER.holder, HOSPITAL.holder, when, given]

    one = rows[0]
    return [
        ("another version", day(rows, 2)),
        ("not a day", day(rows, when="2026-09-31")),
        ("rows out of order", day(rows[::-1])),
        ("a reservation twice", day([one, one])),
        ("an unknown state", day([[one[0], "paid", one[2], one[3]]])),
        ("a negative amount", day([[one[0], one[1], -1, one[3]]])),
        ("a short id", day([[one[0][:31], *one[1:]]])),
    ]


def make_parcel() -> dict[str, Any]:
    """One chunk whole, since this AES is slow; the keys of two chunks, so that place and number are bound."""
    fields: list[list[Any]] = [["what", "住院理赔"], ["amount", 123_456], ["paid", None]]
    files: list[tuple[str, str, bytes]] = [
        ("发票.pdf", "application/pdf", b"%PDF-1.7 test"),
        ("note.txt", "text/plain", b""),
    ]
    head = cbor([1, fields, [[name, kind, len(data)] for name, kind, data in files]])
    content = len(head).to_bytes(4, "big") + head + b"".join(data for _, _, data in files)
    plain = len(content).to_bytes(5, "big") + content
    plain += bytes(-len(plain) % STEP)
    secret, ephemeral = drawn("parcel content key"), drawn("parcel ephemeral")
    chunk = second.gcm_seal(chunk_key(secret, 0, 1), bytes(12), plain, b"")
    public = second.x25519_public(INSURER_KEM)
    info = b"zhifu/v1 parcel key\0" + SUITE + INSURER.holder + SUBJECT.holder
    sealed = second.hpke_seal(public, ephemeral, info, secret)
    payload = cbor([
        1, ORIGIN, INSURER.holder, b"", "report", key_id(2, public), sealed, sha256(chunk), ISSUED + 180 * DAY, ISSUED,
    ])  # fmt: skip
    return {
        "aud": ORIGIN,
        "recipient": INSURER.holder.hex(),
        "recipient_private": INSURER_KEM.hex(),
        "subject": SUBJECT.holder.hex(),
        "fields": fields,
        "documents": [[name, kind, data.hex()] for name, kind, data in files],
        "content": content.hex(),
        "content_key": secret.hex(),
        "keys_of_two": [chunk_key(secret, place, 2).hex() for place in range(2)],
        "info": info.hex(),
        "ephemeral_private": ephemeral.hex(),
        "sealed_key": sealed.hex(),
        "chunk_hash": sha256(chunk).hex(),
        "chunk_bytes": len(chunk),
        "chunk_begins": chunk[:64].hex(),
        "chunk_tag": chunk[-16:].hex(),
        "issued_at": ISSUED,
        "erase_at": ISSUED + 180 * DAY,
        "signed": envelope("parcel", payload, SUBJECT, "cbor"),
    }


def chunk_key(secret: bytes, place: int, count: int) -> bytes:
    label = b"zhifu/v1 parcel chunk\0" + SUITE + place.to_bytes(4, "big") + count.to_bytes(4, "big")
    return hkdf_expand(secret, label, 32)


def text() -> str:
    """The file, exactly."""
    return json.dumps(build(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    (HERE / "signed_cbor.json").write_text(text(), "utf-8")
