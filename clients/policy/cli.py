"""``zhifu policy``: what officers ask of a policy before a registrar signs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from clients import command, durable, plain
from clients.command import Json, Language, clear, print_json
from policies import analyse, load
from policies.analyse import Change, Findings
from policies.bundle import ROLES, Bundle, Request
from policies.decide import days, decide, finest
from zhifu import schema
from zhifu.errors import Exit, Malformed, Refused
from zhifu.presentation import PURPOSES

app = command.app("Policies: check them, explain them, compare two versions, run cases.")
Directory = Annotated[
    Path | None, typer.Argument(metavar="[DIR]", help="A policy's folder; default: the packaged one.")
]
Policies = Annotated[Path | None, typer.Option("--policies", help="A policy's folder; default: the packaged one.")]
_MAX_CASES = 1 << 20


@app.command()
@clear
def check(directory: Directory = None, as_json: Json = False) -> None:
    """Validate Cedar and tables, and find dead rules, forgotten units, and exchanges that would release nothing.

    Exit 3 if something is found that nobody can have meant.
    """
    bundle = load.load(directory)
    found = analyse.check(bundle, directory)
    if as_json:
        print_json(_findings(bundle, found))
    else:
        _print_findings(bundle, found)
    if found.dead or found.unnamed or found.silent or found.unreachable or found.unbounded:
        what = "a rule is dead, a table forgets a unit, is never reached or is missing, or an exchange releases nothing"
        raise Refused("policy.invalid", what)


def _findings(bundle: Bundle, found: Findings) -> dict[str, Any]:
    return {
        "policy_hash": bundle.hash.hex(),
        "permitted": [_words(one) for one in found.permitted],
        "dead_rules": list(found.dead),
        "unnamed_units": [{"place": list(place), "unit": unit} for place, unit in found.unnamed],
        "nothing_released": [list(place) for place in found.silent],
        "unreachable_tables": [list(place) for place in found.unreachable],
        "without_retention": [list(place) for place in found.unbounded],
    }


def _words(one: Request) -> dict[str, str]:
    return {name: value for name, value in asdict(one).items() if isinstance(value, str) and value != "active"}


def _print_findings(bundle: Bundle, found: Findings) -> None:
    out = Console()
    out.print(f"{bundle.hash.hex()}  {len(bundle.access.rules)} rules, {len(bundle.tables)} tables")
    table = Table("from", "to", "purpose", "basis", "schema", "in answer to", title="permitted, and nothing else")
    for one in found.permitted:
        asked = f"{one.asked_schema}" if one.asked_schema else ""
        table.add_row(one.sender_role, one.recipient_role, one.purpose, one.basis, one.schema, asked)
    out.print(table)
    for title, rows in (
        ("dead rules", found.dead),
        ("permitted, but nothing would be released", [" ".join(place) for place in found.silent]),
        ("tables that no rule leads to", [" ".join(place) for place in found.unreachable]),
        ("recipients that nothing says for how long they keep", [" ".join(place) for place in found.unbounded]),
        ("units that a table does not name (absent by default)", [f"{' '.join(p)}: {u}" for p, u in found.unnamed]),
    ):
        out.print(f"{title}: {', '.join(rows) if rows else 'none'}")


@app.command()
@clear
def explain(
    recipient: Annotated[str, typer.Option(metavar="ROLE", help=f"One of {', '.join(ROLES)}.")],
    purpose: Annotated[str, typer.Option(metavar="P", help=f"One of {', '.join(PURPOSES)}.")],
    sender: Annotated[str, typer.Option(metavar="ROLE")] = "hospital",
    policies: Policies = None,
    against: Annotated[Path | None, typer.Option(help="An older policy: show who would now see more.")] = None,
    lang: Language = "zh",
    as_json: Json = False,
) -> None:
    """Show what a recipient may see for a purpose, by which rule, for how long, and what changed since an older one."""
    if {sender, recipient} - set(ROLES) or purpose not in PURPOSES:
        raise Malformed("usage.argument", f"roles: {', '.join(ROLES)}; purposes: {', '.join(PURPOSES)}")
    bundle = load.load(policies)
    older = load.load(against) if against is not None else None
    permitted = analyse.permitted(bundle)
    rows = [_schema_rows(bundle, permitted, sender, recipient, purpose, name) for name in schema.names()]
    shown = [row for row in rows if row["rules"]]
    changes = analyse.difference(older, bundle) if older else []
    newly = analyse.opened(older, permitted) if older else []
    if as_json:
        document = {"policy_hash": bundle.hash.hex(), "sender": sender, "recipient": recipient, "purpose": purpose}
        more = {"changes": [asdict(one) for one in changes], "newly_permitted": [_words(one) for one in newly]}
        print_json({**document, "records": shown, **(more if older else {})})
    else:
        _print_explained(shown, lang)
        if older:
            _print_changes(changes, newly)
    if not shown:
        raise Refused("policy.denied", f"nothing goes from {sender} to {recipient} for {purpose}")


def _schema_rows(
    bundle: Bundle, permitted: Sequence[Request], sender: str, recipient: str, purpose: str, name: str
) -> dict[str, Any]:
    """The rules that permit a record of this schema on any basis, and its units' finest levels."""
    rules = {
        rule
        for one in permitted
        if (one.sender_role, one.recipient_role, one.purpose, one.schema) == (sender, recipient, purpose, name)
        for rule in decide(bundle, one).policy_ids
    }
    kind = schema.load(name)
    levels = finest(bundle, purpose, recipient, kind)
    units = {unit.name: analyse.level_name(kind, unit.index, levels[unit.index]) for unit in kind.units}
    kept = {unit: days(bundle, purpose, recipient, unit) for unit, level in units.items() if level != "absent"}
    return {"schema": name, "rules": sorted(rules), "units": units, "days": kept}


def _print_explained(shown: Sequence[dict[str, Any]], lang: str) -> None:
    for row in shown:
        kind = schema.load(row["schema"])
        table = Table(
            "", "", "保存天数" if lang == "zh" else "kept, days", title=f"{kind.name}  ({', '.join(row['rules'])})"
        )
        for unit in kind.units:
            rank = unit.level_named(row["units"][unit.name])
            table.add_row(unit.title(lang), plain.level_name(unit, rank, lang), str(row["days"].get(unit.name) or ""))
        Console().print(table)


def _print_changes(changes: Sequence[Change], newly: Sequence[Request]) -> None:
    table = Table("", "purpose", "recipient", "record", "unit", "before", "now", title="since the older policy")
    for one in changes:
        table.add_row("[red]more[/]" if one.more else "less", *one.place, one.unit, one.before, one.after)
    for request in newly:
        words = (request.purpose, request.recipient_role, request.schema)
        table.add_row("[red]new[/]", *words, f"from {request.sender_role}", "denied", "permitted")
    Console().print(table)


@app.command("test")
@clear
def run_cases(
    cases: Annotated[Path, typer.Argument(metavar="CASES.toml", help="Cases as data.")],
    policies: Policies = None,
    as_json: Json = False,
) -> None:
    """Run cases against a policy. Exit 1 if one fails."""
    found = analyse.run_cases(load.load(policies), durable.read(cases, _MAX_CASES))
    failed = [one for one in found if not one.passed]
    if as_json:
        print_json({"passed": len(found) - len(failed), "failed": [asdict(one) for one in failed]})
    else:
        for one in failed:
            typer.echo(f"FAILED {one.name}: expected {one.expected}, found {one.found}")
        typer.echo(f"{len(found) - len(failed)} passed, {len(failed)} failed")
    if failed:
        raise typer.Exit(int(Exit.FAILURE))
