"""What a verification found, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clients.auditor.faults import Fault

EVENTS: Mapping[str, str] = {
    "participant.enrolled": "机构入网",
    "participant.suspended": "机构停用",
    "participant.resumed": "机构恢复",
    "key.stated": "密钥声明",
    "epoch.offered": "提供时段密钥",
    "subject.enrolled": "患者密钥登记",
    "subject.key_added": "患者增加密钥",
    "subject.key_revoked": "患者密钥作废",
    "ticket.redeemed": "直付码核销",
    "grant.registered": "授权登记",
    "grant.revoked": "授权撤回",
    "grant.refused": "授权拒绝",
    "exchange.accepted": "交换受理",
    "exchange.denied": "交换拒绝",
    "exchange.acknowledged": "接收确认",
    "exchange.expired": "交换过期",
    "exchange.withdrawn": "交换撤下",
    "exchange.deleted": "接收方已删除",
    "pseudonym.evaluated": "假名计算",
    "pseudonym.denied": "假名拒绝",
    "pseudonym.quota": "假名额度",
    "entry.erased": "明细删除",
    "hold.placed": "法律保全",
    "hold.lifted": "解除保全",
    "(erased)": "明细已删除",
    "parcel.left": "患者材料留存",
    "parcel.taken": "患者材料取走",
    "parcel.withdrawn": "患者材料撤回",
    "audit.searched": "审计查询",
    "audit.exported": "审计导出",
    "clock.set": "日志时钟拨回",
}


@dataclass(frozen=True, slots=True)
class FirstBad:
    """The first entry that is wrong (None: it cannot be said which), a reason of the catalogue, and what it is."""

    index: int | None
    reason: str
    detail: str

    @staticmethod
    def of(fault: Fault) -> FirstBad:
        return FirstBad(fault.index, fault.error.reason, fault.error.detail or fault.error.entry.meaning)

    @property
    def line(self) -> str:
        """``reason: entry N: what``, one line."""
        where = "the log" if self.index is None else f"entry {self.index}"
        return f"{self.reason}: {where}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Violation:
    """A delivery that its recipient refused to open, by its own signed word: the entries of exchange and refusal.

    ``sender`` and ``recipient`` are ids in hex; ``reason`` is of the catalogue (``leaf.grammar``: the sealer lied).
    """

    entry: int
    refused_at: int
    sender: str
    recipient: str
    schema: str
    reason: str

    @property
    def line(self) -> str:
        parties = f"{self.sender[:16]} → {self.recipient[:16]}"
        return f"entry {self.entry}: {self.schema}, {parties}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Report:
    """``size`` and ``root`` (hex) are the stored head's; ``entries`` counts by event what held before a fault.

    ``violations`` are for the officer: the log is sound, and somebody sent what its recipient would not open.
    """

    origin: str
    size: int
    root: str
    verified: bool
    entries: Mapping[str, int]
    participants: int
    checkpoints: int
    violations: tuple[Violation, ...]
    first_bad: FirstBad | None

    def to_json(self) -> str:
        """One object on one line."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def table(self) -> Table:
        """The report as a table, in Chinese and English."""
        table = Table("项目 / Item", title="审计日志核验 / Audit log verification")
        table.add_column("结果 / Result", overflow="fold")
        table.add_row("日志 / Log", self.origin)
        table.add_row("记录数 / Entries", str(self.size))
        table.add_row("根哈希 / Root", self.root)
        table.add_row("签名检查点 / Signed checkpoints", str(self.checkpoints))
        table.add_row("机构 / Participants", str(self.participants))
        for event, count in sorted(self.entries.items()):
            table.add_row(f"  {EVENTS.get(event, '')} / {event}", str(count))
        for one in self.violations:
            table.add_row("接收方拒绝 / Refused by its recipient", escape(one.line), style="yellow")
        verdict = "[green]通过 / verified" if self.verified else "[red]未通过 / NOT verified"
        table.add_row("结论 / Verdict", verdict, style="bold")
        if self.first_bad is not None:
            table.add_row("首个问题 / First bad", escape(self.first_bad.line), style="red")
        return table

    def show(self, console: Console) -> None:
        console.print(self.table())
