"""Spot audit: does the record that a hospital opened say at every level what its finest level says (DESIGN 4.6)?

The record is the one that stands in the log: the signed presentation of its exchange names the manifest's hash.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from clients.auditor.entries import parse
from clients.record.files import read_spot
from zhifu import envelope, manifest, presentation, spot
from zhifu.errors import NotAuthentic, Refused
from zhifu.presentation import Presentation
from zhifu.receipt import Entry, parse_detail, parse_meta
from zhifu.spot import Violation


@dataclass(frozen=True, slots=True)
class SpotReport:
    """One record: where it stands in the log, who sealed it, and where its levels do not fit each other."""

    entry: int
    exchange: str
    sealer: str
    schema: str
    levels: int
    violations: tuple[Violation, ...]


def check(path: Path, lines: Iterable[bytes]) -> SpotReport:
    """Check an opened record against the exported log, which must have been verified before.

    Raises `Refused` (exchange.unknown), `NotAuthentic` (manifest.hash), `Malformed`.
    """
    opened = read_spot(path)
    entry, shown = _find(opened.exchange, lines)
    found = manifest.check_hash(opened.manifest, shown.manifest_hash)
    if found.sealer != shown.sender:
        raise NotAuthentic("manifest.sealer")
    violations = tuple(spot.audit(found, opened.leaves, opened.key))
    return SpotReport(
        entry, opened.exchange.hex(), found.sealer.hex(), found.schema.name, len(found.digests), violations
    )


def _find(exchange: bytes, lines: Iterable[bytes]) -> tuple[int, Presentation]:
    for line in lines:
        one = parse(line)
        if isinstance(one, Entry) and parse_meta(one.meta).event == "exchange.accepted":
            detail = parse_detail(one.detail)
            if detail.exchange == exchange:
                signed = envelope.from_bytes(envelope.PRESENTATION, detail.documents[0])
                return one.index, presentation.parse(signed.payload)
    raise Refused("exchange.unknown", "the log has no such exchange")
