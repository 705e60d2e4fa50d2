"""``zhifu record risk``: over many claims, how many persons stand alone on what is released, before and after.

A release that looks harmless for one claim can still single a person out among thousands; this is for the officer who
decides about a level before it goes live.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from clients.command import Json, clear, print_json
from clients.hospital import record
from clients.hospital.bill_file import read_bill
from clients.record.explain import permitted, rows
from clients.record.sealing import Policies, Purpose, Recipient
from policies import load
from policies.decide import finest
from zhifu.bill import Bill
from zhifu.cbor import Value, encode
from zhifu.errors import Malformed
from zhifu.schema import SIZE_CLASSES, Schema
from zhifu.sealed import ladders, smallest_class

QUASI_IDENTIFIERS: Final = (
    "birth-date", "sex", "address", "hospital", "insurance", "admission", "discharge", "stay", "visit-date",
    "diagnosis", "sensitive-diagnosis", "procedures", "sensitive-procedure", "item-codes", "item-names",
    "item-charges", "item-intervals", "totals",
)  # fmt: skip
"""What others can know of a person without being told by us; names and numbers identify by themselves."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """Of ``records``: the shares that are unique, and in groups under ``k``, on the named units taken together."""

    units: tuple[str, ...]
    records: int
    unique: float
    under_k: float
    smallest_group: int


@dataclass(frozen=True, slots=True)
class Risk:
    """Before (the file), after (what the recipient sees), each unit alone after, and the lengths the broker sees."""

    k: int
    before: Exposure
    after: Exposure
    by_unit: tuple[Exposure, ...]
    direct_identifiers: tuple[str, ...]
    broker_sees: dict[str, int]


@clear
def risk(
    files: Annotated[list[Path], typer.Argument(metavar="FILES…", help="Bills, JSON; a folder stands for its files.")],
    recipient: Recipient = "insurer",
    purpose: Purpose = "commercial-settlement",
    k: Annotated[int, typer.Option(min=2, help="Groups smaller than this count as exposed.")] = 5,
    policies: Policies = None,
    as_json: Json = False,
) -> None:
    """Report how many persons are unique on the released quasi-identifiers, before and after, over a set of claims."""
    bundle, paths = load.load(policies), list(_expand(files))
    bills = [read_bill(path)[1] for path in track(paths, "reading", console=Console(stderr=True), transient=True)]
    kind = _kind(bills)
    permitted(bundle, recipient, purpose, kind)
    found = measure(bills, kind, finest(bundle, purpose, recipient, kind), k)
    if as_json:
        print_json({"recipient": recipient, "purpose": purpose, "policy_hash": bundle.hash.hex(), **asdict(found)})
    else:
        _print(found)


def _expand(files: Sequence[Path]) -> Iterable[Path]:
    for path in files:
        yield from sorted(path.glob("*.json")) if path.is_dir() else (path,)


def _kind(bills: Sequence[Bill]) -> Schema:
    """The one schema of all. Raises `Malformed` (usage.argument) for no bills, or stays among visits."""
    kinds = {kind.hash: kind for kind in map(record.schema_of, bills)}
    if len(kinds) != 1:
        raise Malformed("usage.argument", "bills of stays and of visits are measured apart" if kinds else "no bills")
    return next(iter(kinds.values()))


def measure(bills: Sequence[Bill], kind: Schema, policy: bytes, k: int) -> Risk:
    """Compare the finest values with the released ones. Raises `Malformed` (usage.argument) for no bills."""
    if not bills:
        raise Malformed("usage.argument", "no bills")
    every = [record.claim(bill, bytes(32)) for bill in bills]
    seen = [{row.unit: row.value for row in rows(kind, values, policy, None)} for values in every]
    quasi = tuple(unit.name for unit in kind.units if unit.name in QUASI_IDENTIFIERS)
    released = tuple(unit for unit in quasi if any(one[unit] is not None for one in seen))
    direct = tuple(sorted({unit for one in seen for unit, value in one.items() if value is not None} - _known(kind)))
    return Risk(
        k,
        _exposure(every, quasi, k),
        _exposure(seen, released, k),
        tuple(_exposure(seen, (unit,), k) for unit in released),
        direct,
        _lengths(kind, every),
    )


def _known(kind: Schema) -> set[str]:
    """Units that are neither a name or number of a person nor the exchange's own."""
    identifying = {
        "name", "citizen-id", "phone", "insured-number", "medical-record-number", "visit-number", "invoice-number",
        "policy-number", "bank-account",
    }  # fmt: skip
    return {unit.name for unit in kind.units} - identifying


def _exposure(records: Sequence[dict[str, Value]], units: tuple[str, ...], k: int) -> Exposure:
    keys = [encode([one.get(unit) for unit in units]) for one in records]
    sizes = Counter(keys)
    alone = sum(sizes[key] == 1 for key in keys)
    few = sum(sizes[key] < k for key in keys)
    return Exposure(units, len(keys), alone / len(keys), few / len(keys), min(sizes.values()))


def _lengths(kind: Schema, every: Sequence[dict[str, Value]]) -> dict[str, int]:
    """How many records fall into each size class: all that lengths tell the broker."""
    return dict(Counter(SIZE_CLASSES[smallest_class(kind, list(ladders(kind, values)))] for values in every))


def _print(found: Risk) -> None:
    table = Table("", "units", "unique", f"in groups < {found.k}", "smallest group")
    for name, one in (("before", found.before), ("after", found.after), *(("alone", one) for one in found.by_unit)):
        units = ", ".join(one.units) if name == "alone" else str(len(one.units))
        table.add_row(name, units, f"{one.unique:.1%}", f"{one.under_k:.1%}", str(one.smallest_group))
    out = Console()
    direct = ", ".join(found.direct_identifiers) or "none"
    out.print(f"{found.before.records} records; identifiers released as they are: {direct}")
    out.print(table)
    out.print(
        "the broker sees size classes: " + ", ".join(f"{name} {count}" for name, count in found.broker_sees.items())
    )
