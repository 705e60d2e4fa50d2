"""What a run found, as tables for people and as one JSON object for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table

from tests.bench import jetstream
from tests.bench.components import Cost
from tests.bench.durable import Durable
from tests.bench.exchange import Row, percentile
from tests.bench.free_text import Quality
from tests.bench.jwe import Compared

SETTLEMENT_FLOOR = (20, 60)
IDLE_FLOOR = 96

TWO_INSURERS_FLOOR: Final = (30, 90)
"""p50 and p99, ms, of a settlement with a public payer and two insurers on an idle computer."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything of one run; ``sizes`` are bytes of a claim's and a decision's submission, ``repeats`` of a median."""

    hardware: str
    repeats: int
    seconds: float
    sizes: tuple[int, int]
    relay_sizes: tuple[int, int]
    exchanges: Sequence[Row]
    idle_kib: float
    jwe: Sequence[Compared]
    components: Sequence[Cost]
    durable: Durable
    settlements: Sequence[int]
    by_two_insurers: Sequence[int]
    free_text: Sequence[Quality]

    def to_json(self) -> str:
        """The contract of ``python -m tests.bench --json``."""
        found = asdict(self)
        found["settlement_ms"] = {
            "count": len(self.settlements),
            "p50": percentile(self.settlements, 50),
            "p99": percentile(self.settlements, 99),
        }
        found["two_insurers_ms"] = {
            "count": len(self.by_two_insurers),
            "p50": percentile(self.by_two_insurers, 50),
            "p99": percentile(self.by_two_insurers, 99),
        }
        del found["settlements"], found["by_two_insurers"]
        return json.dumps(found, ensure_ascii=False)

    def show(self, out: Console) -> None:
        """Tables, and a line each for disk and settlement."""
        out.print(self.hardware)
        out.print(
            f"medians of {self.repeats} interleaved repetitions; claim {self.sizes[0]} B in, decision {self.sizes[1]} B"
            f" back; relay {self.relay_sizes[0]} B in, {self.relay_sizes[1]} B back; {self.seconds:.0f} s in all\n"
        )
        out.print(_exchanges(self.exchanges))
        out.print(_jwe(self.jwe))
        out.print(_components(self.components))
        one = self.durable
        out.print(
            f"durable accept (SQLite, WAL, synchronous=FULL): {one.per_second:,.0f} exchanges/s, "
            f"{one.each_commit:.0f} a commit; one fsync here takes {one.fsync_ms:.2f} ms\n"
            f"NATS JetStream, sync_interval always, {one.message_bytes:,} B: {one.jetstream_per_second:,.0f} "
            f"acknowledgements/s; ÷ {one.ratio:.2f} (budget ≥ {jetstream.FLOOR:.2f})"
        )
        out.print(f"idle attached node: {self.idle_kib:.0f} KiB (budget ≤ {IDLE_FLOOR})")
        p50, p99 = percentile(self.settlements, 50), percentile(self.settlements, 99)
        out.print(
            f"three-party settlement, idle, {len(self.settlements)} times: p50 {p50} ms, p99 {p99} ms "
            f"(budget {SETTLEMENT_FLOOR[0]} and {SETTLEMENT_FLOOR[1]})"
        )
        p50, p99 = percentile(self.by_two_insurers, 50), percentile(self.by_two_insurers, 99)
        out.print(
            f"public payer and two insurers, idle, {len(self.by_two_insurers)} times: p50 {p50} ms, p99 {p99} ms "
            f"(budget {TWO_INSURERS_FLOOR[0]} and {TWO_INSURERS_FLOOR[1]})\n"
        )
        out.print(_free_text(self.free_text))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right", no_wrap=True)
    return table


def _exchanges(rows: Sequence[Row]) -> Table:
    table = _table(
        "full exchange ÷ bare relay", "", "in flight", "per s", "p50 ms", "p99 ms", "CPU µs", "÷ relay", "budget"
    )
    for row in rows:
        table.add_row(
            row.what, str(row.in_flight), f"{row.per_second:,.0f}", f"{row.p50_ms:.2f}", f"{row.p99_ms:.2f}",
            f"{row.cpu_micros:,.0f}", f"{row.ratio:.2f}", "" if row.floor is None else f"≤ {row.floor:.2f}",
        )  # fmt: skip
    return table


def _jwe(rows: Sequence[Compared]) -> Table:
    title = "sealed record ÷ the same record as JWE, which a reading broker decrypts, coarsens and encrypts again"
    table = _table(title, "", "CPU µs", "JWE µs", "÷ JWE", "budget", "bytes", "JWE bytes", "÷ JWE")
    for row in rows:
        table.add_row(
            row.step, f"{row.ours_micros:,.0f}", f"{row.jwe_micros:,.0f}", f"{row.ratio:.2f}",
            "" if row.floor is None else f"≤ {row.floor:.2f}",
            f"{row.ours_bytes:,}", f"{row.jwe_bytes:,}", f"{row.ours_bytes / row.jwe_bytes:.2f}",
        )  # fmt: skip
    return table


def _components(costs: Sequence[Cost]) -> Table:
    table = _table("components", "", "µs", "")
    for cost in costs:
        table.add_row(cost.name, f"{cost.micros:,.1f}", cost.about)
    return table


def _free_text(rows: Sequence[Quality]) -> Table:
    table = _table("free text scrubbed", "half", "known values", "sentences", "marked", "recall", "precision",
                   "recall, characters", "precision, characters")  # fmt: skip
    for row in rows:
        table.add_row(
            row.half, "with" if row.known_values else "without", str(row.sentences), str(row.marked),
            f"{row.recall:.1%}", f"{row.precision:.1%}", f"{row.recall_characters:.1%}",
            f"{row.precision_characters:.1%}",
        )  # fmt: skip
    return table
