"""``zhifu record explain``: for a bill on disk, what a recipient would see of each unit, and which rule decides it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from clients import desk, plain
from clients.command import Json, Language, clear, print_json
from clients.hospital import intake, record
from clients.hospital.bill_file import read_given
from policies import load
from policies.bundle import Bundle, Deny, Request
from policies.decide import decide, finest
from zhifu import consent, ladder
from zhifu.cbor import Value
from zhifu.consent import Grant
from zhifu.errors import Malformed, Refused
from zhifu.presentation import PURPOSES
from zhifu.schema import ABSENT, Schema, coarser

ROLES: Final = ("hospital", "public-payer", "insurer", "patient", "auditor")
_BASES: Final = {"public-settlement": "statute", "commercial-settlement": "grant", "statement": "answer"}


@dataclass(frozen=True, slots=True)
class Row:
    """One unit: levels are ranks, None for absent; ``grant`` is None too where no grant was given."""

    unit: str
    title: str
    in_file: Value
    ceiling: int | None
    policy: int | None
    grant: int | None
    released: int | None
    value: Value


@clear
def explain(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A bill, JSON in the national names, or FHIR R4.")],
    recipient: Annotated[str, typer.Option(metavar="ROLE", help=f"One of {', '.join(ROLES)}.")],
    purpose: Annotated[str, typer.Option(metavar="P", help=f"One of {', '.join(PURPOSES)}.")],
    grant: Annotated[Path | None, typer.Option(help="The patient's consent (from zhifu wallet grant).")] = None,
    policies: Annotated[Path | None, typer.Option(help="A policy bundle; default: the packaged one.")] = None,
    lang: Language = "zh",
    as_json: Json = False,
) -> None:
    """Show each unit of a bill: in the file, ceiling, policy, grant, released, and the value the recipient would see.

    Without --grant the patient is taken to agree to all that policy allows. Exit 3 if policy permits no such exchange.
    """
    bill = intake.open_bill(read_given(file))
    bundle, kind = load.load(policies), record.schema_of(bill)
    by = permitted(bundle, recipient, purpose, kind)
    values = record.claim(bill, bytes(32)) | {"encounter": None}
    given = granted(grant, purpose)
    found = rows(kind, values, finest(bundle, purpose, recipient, kind), given)
    if as_json:
        units = [{name: getattr(row, name) for name in Row.__slots__} for row in found]
        basis = _BASES[purpose]
        print_json(
            {
                "recipient": recipient,
                "purpose": purpose,
                "basis": basis,
                "granted": given is not None if basis == "grant" else None,
                "schema": kind.name,
                "policy_hash": bundle.hash.hex(),
                "policies": list(by),
                "units": units,
            }
        )
    else:
        Console().print(_table(kind, found, lang, granted=given is not None))


def rows(kind: Schema, values: dict[str, Value], policy: bytes, grant: Grant | None) -> list[Row]:
    """Every unit of a record; the hospital's ceiling is what policy and grant both allow, as in a settlement."""
    granted = grant.levels(kind.hash) if grant else None
    if grant is not None and granted is None:
        granted = bytes([ABSENT]) * len(kind.units)
    ceiling = coarser(policy, granted) if granted is not None else policy
    released = coarser(ceiling, policy)
    found = []
    for unit in kind.units:
        at, value = unit.index, values.get(unit.name)
        found.append(
            Row(
                unit.name,
                unit.title("en"),
                value,
                _rank(ceiling[at]),
                _rank(policy[at]),
                _rank(granted[at]) if granted is not None else None,
                _rank(released[at]),
                _seen(kind, at, released[at], value),
            )
        )
    return found


def _rank(level: int) -> int | None:
    return None if level == ABSENT else level


def _seen(kind: Schema, unit: int, rank: int, value: Value) -> Value:
    if rank == ABSENT:
        return None
    levels = kind.units[unit].levels
    return value if rank == 0 else ladder.coarsen(levels[0].form, levels[rank].form, value)


def permitted(bundle: Bundle, recipient: str, purpose: str, kind: Schema) -> tuple[str, ...]:
    """The policies that permit it. Raises `Malformed` (usage.argument), `Refused` (policy.*)."""
    if recipient not in ROLES or purpose not in PURPOSES:
        raise Malformed(
            "usage.argument", f"a recipient is one of {', '.join(ROLES)}; a purpose one of {', '.join(PURPOSES)}"
        )
    answer = decide(
        bundle,
        Request(
            sender_role="hospital",
            sender_status="active",
            recipient_role=recipient,
            recipient_status="active",
            same_participant=False,
            purpose=purpose,
            basis=_BASES[purpose],
            schema=kind.name,
        ),
    )
    if isinstance(answer, Deny):
        raise Refused(answer.reason, ", ".join(answer.policy_ids))
    return answer.policy_ids


def granted(path: Path | None, purpose: str) -> Grant | None:
    """The grant in a consent file, its signature checked. Raises `Malformed`, `NotAuthentic`, `Refused`."""
    if path is None:
        return None
    found = consent.verify_grant(desk.read_consent(path).grant)
    if found.purpose != purpose:
        raise Refused("consent.wrong_purpose")
    return found


def _table(kind: Schema, found: list[Row], lang: str, *, granted: bool) -> Table:
    table = Table(
        "单元 unit", "文件中 in the file", "上限 ceiling", "政策 policy", "授权 grant", "释放 released", "所见 seen"
    )
    for unit, row in zip(kind.units, found, strict=True):
        levels = [plain.level_name(unit, rank, lang) for rank in (row.ceiling, row.policy)]
        agreed = plain.level_name(unit, row.grant, lang) if granted else "—"
        seen = "" if row.released is None else plain.shown(unit.levels[row.released].form, row.value, lang)
        in_file = plain.shown(unit.levels[0].form, row.in_file, lang)
        table.add_row(unit.title(lang), in_file, *levels, agreed, plain.level_name(unit, row.released, lang), seen)
    return table
