"""The story on the terminal, in Chinese and English: who sees what, who pays what, what the log proves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from clients import plain
from clients.demo.play import Played
from clients.hospital import record
from clients.insurer import product as products
from zhifu import receipt, schema
from zhifu.cbor import Value
from zhifu.schema import ABSENT

_ROLES: Final = {
    "broker": "经办平台 broker", "hospital": "医院 hospital", "public-payer": "医保 public payer",
    "insurer": "保险公司 insurer", "patient": "患者 patient", "auditor": "审计方 auditor",
}  # fmt: skip
_EVENTS: Final = {
    "exchange.accepted": "受理 accepted",
    "exchange.denied": "拒绝 denied",
    "exchange.acknowledged": "回执 acknowledged",
    "grant.registered": "授权 grant",
    "subject.enrolled": "患者密钥 subject key",
    "subject.key_added": "增加密钥 key added",
    "key.stated": "密钥声明 key statement",
    "ticket.redeemed": "直付码 code",
    "participant.enrolled": "入网 enrolled",
    "epoch.offered": "门限密钥 epoch",
    "pseudonym.quota": "假名额度 quota",
    "pseudonym.evaluated": "假名 pseudonym",
}
_PURPOSES: Final = {
    "public-settlement": "医保结算 public",
    "commercial-settlement": "商保结算 commercial",
    "statement": "结算单 statement",
}


def teller(out: Console | None) -> Callable[[str, str], None]:
    """What `play` calls at each step: a line for people, nothing for programs."""
    begun = time.monotonic()

    def tell(zh: str, en: str) -> None:
        if out is not None:
            out.print(f"[dim]{time.monotonic() - begun:4.1f} s[/]  {zh}  [dim]{en}[/]")

    return tell


def tell(played: Played, out: Console) -> None:
    """The whole story, after it happened."""
    finest = record.claim(played.bill, bytes(32))
    out.print()
    out.print(_who(played))
    out.print(_sees(played, finest))
    out.print(_pays(played))
    out.print(_log(played))
    out.print(_verdict(played))


def _table(title: str, *columns: str) -> Table:
    return Table(*columns, title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)


def _who(played: Played) -> Table:
    table = _table("一、谁在运行  Who is running", "角色 role", "进程 pid", "可知 may learn")
    may = {
        "broker": "谁、何时、用途、单元与级别；不含任何值  who, when, purpose, levels: no value",
        "hospital": "自己的患者  its own patients",
        "public-payer": "法定范围  what statute allows",
        "insurer": "经授权、已降精度的单元  released units at the released precision",
        "patient": "自己的全部  everything about herself",
        "auditor": "谁与谁交换了什么，不含值  who exchanged which units, no values",
    }
    for one in played.processes:
        table.add_row(_ROLES.get(one["role"], one["role"]), str(one["pid"]), may.get(one["role"], ""))
    return table


def _sees(played: Played, finest: Mapping[str, Value]) -> Table:
    """The bill's units: what was sealed, and beside it what each recipient could open."""
    kind = record.schema_of(played.bill)
    claims = {one["recipient"]: one["released"] for one in played.settlement["exchanges"] if one["schema"] == kind.name}
    table = _table(
        "二、密封一次，各见其所应见  Sealed once; each sees its part",
        "单元 unit", "医院密封 sealed", "平台 broker", *(_ROLES[role] for role in claims),
    )  # fmt: skip
    for unit in kind.units:
        cells = [plain.shown(unit.levels[0].form, finest.get(unit.name), "zh")]
        for released in claims.values():
            cells.append(_seen(kind, unit.index, released[unit.name], finest))
        table.add_row(f"{unit.title('zh')} [dim]{unit.title('en')}[/]", cells[0], "[dim]▒▒▒▒[/]", *cells[1:])
    return table


def _seen(kind: schema.Schema, unit: int, rank: int | None, finest: Mapping[str, Value]) -> str:
    if rank is None:
        return "[dim]—[/]"
    levels = bytearray([ABSENT]) * len(kind.units)
    levels[unit] = rank
    _, level, text = plain.released(kind, bytes(levels), dict(finest), "zh")[unit]
    return text if rank == 0 else f"[yellow]{text}[/] [dim]({level})[/]"


def _pays(played: Played) -> Table:
    found = played.settlement
    table = _table("三、谁付多少  Who pays what", "", "元 yuan", "依据 clause")
    clauses = played.statements[0]["clauses"] if played.statements else []
    rows = (
        ("总费用 total", "total_fen", ()),
        ("医保基金 public payer", "public_fen", ("hifp_pay", "hifob_pay")),
        (f"商业保险 insurer（{products.load(played.product).display['zh']}）", "commercial_fen", ("pay",)),
        ("患者 patient", "patient_fen", ()),
    )
    for title, name, fields in rows:
        why = "；".join(dict.fromkeys(clause for field, _, clause, _ in clauses if field in fields))
        table.add_row(title, plain.yuan(found[name]), why, style="bold" if name == "patient_fen" else "")
    return table


def _log(played: Played) -> Table:
    table = _table(
        "四、审计日志  The audit trail", "#", "事件 event", "用途 purpose", "由 from", "至 to", "释放 units released"
    )
    roles = {bytes.fromhex(one["participant"]): one["role"] for one in played.members}
    for row in played.trail:
        if row["kind"]:
            table.add_row(str(row["index"]), "密钥声明 key statement", "", "", "", "")
            continue
        meta = receipt.parse_meta(bytes.fromhex(row["meta"]))
        parties = [_party(one, roles) for one in (meta.sender, meta.recipient)]
        count = sum(level != ABSENT for level in meta.released)
        units = f"{count}/{len(meta.released)}" if meta.released else ""
        event = _EVENTS.get(meta.event, meta.event)
        table.add_row(str(row["index"]), event, _PURPOSES.get(meta.purpose, ""), *parties, units)
    return table


def _party(one: bytes, roles: Mapping[bytes, str]) -> str:
    return _ROLES.get(roles.get(one, "patient"), "") if one else ""


def _verdict(played: Played) -> Panel:
    found, audit = played.settlement, played.audit
    text = Text()
    text.append(f"✓ 结算已确认  confirmed in {found['settlement_ms']} ms\n", "green")
    good = "✓ 日志完整  the log is whole" if audit["verified"] else "✗ 日志未通过核验  the log does not verify"
    text.append(
        f"{good}: {audit['size']} entries, root {audit['root'][:16]}…\n", "green" if audit["verified"] else "red"
    )
    text.append(f"{audit['origin']}", "dim")
    if played.data_dir:
        text.append(f"\n{played.data_dir}   zhifu audit verify {played.data_dir}", "dim")
    return Panel(text, title="直付 Zhifu", box=box.ROUNDED)
