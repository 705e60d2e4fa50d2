"""Coordination of benefits: the order in which policies pay, and what each is told of the others (SETTLEMENT 3).

The order is a versioned rule in a file, never a habit of the code; totals go from one payer to the next by category,
never by name; all payments together are at most the expense.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Final

from clients.decision import Decision
from zhifu.errors import Malformed, NotAuthentic
from zhifu.explain import CLAUSE, Explanation
from zhifu.fields import Fields, text
from zhifu.pricing import Split

DEFAULT: Final = "basic-first-2026-01"
USUAL: Final = "medical"
"""The kind of a policy whose kind nobody stated."""
_REASON: Final = "policy.invalid"


@dataclass(frozen=True, slots=True)
class Order:
    """A rule of coordination: the kinds of policy from the first payer to the last, and how people read it."""

    name: str
    kinds: tuple[str, ...]
    zh: str
    en: str

    def place(self, kind: str) -> int:
        """Raises `Malformed` (usage.argument) for a kind of policy that the rule does not order."""
        if kind not in self.kinds:
            raise Malformed("usage.argument", f"the rule {self.name} orders {', '.join(self.kinds)} only")
        return self.kinds.index(kind)

    def explain(self, total: int) -> Explanation:
        """The row that prints the rule on the statement; ``total`` (fen) is what was shared out by it."""
        return Explanation("coordination", total, f"结算顺序规则 {self.name}：{self.zh}", f"order.{self.name}")


@dataclass(frozen=True, slots=True)
class Compensation:
    """What others pay so far, in fen, by category."""

    public: int = 0
    in_catalog: int = 0
    out_of_catalog: int = 0

    @property
    def total(self) -> int:
        return self.public + self.in_catalog + self.out_of_catalog

    def with_payer(self, found: Decision) -> Compensation:
        """After one more payer's decision, whose amounts `clients.hospital.check.commercial` believed."""
        inside, outside = found.amounts["pay_in_catalog"], found.amounts["pay_out_of_catalog"]
        return replace(self, in_catalog=self.in_catalog + inside, out_of_catalog=self.out_of_catalog + outside)

    def amounts(self) -> dict[str, int]:
        """By the tokens of the record ``coordination``; what is zero is left out, but for the public payer's."""
        found = {"public": self.public}
        if self.in_catalog:
            found["other-in-catalog"] = self.in_catalog
        if self.out_of_catalog:
            found["other-out-of-catalog"] = self.out_of_catalog
        return found

    def check(self, split: Split) -> None:
        """Σ payments <= actual expense, in the catalogue and out of it. Raises `NotAuthentic` (ledger.mismatch)."""
        within = self.public + self.in_catalog <= split.inscp + split.pre
        if not within or self.out_of_catalog > split.own + split.over:
            raise NotAuthentic("ledger.mismatch", "the payers together pay more than the expense")


def sequence(order: Order, kinds: Sequence[str]) -> list[int]:
    """The places of ``kinds`` in the order in which they pay; of one kind, as they were handed in."""
    return sorted(range(len(kinds)), key=lambda place: (order.place(kinds[place]), place))


def load(name: str) -> Order:
    """The rule called ``name``. Raises `Malformed` (usage.argument) with the names there are."""
    try:
        return _all()[name]
    except KeyError:
        raise Malformed("usage.argument", f"no such order; there is: {', '.join(sorted(_all()))}") from None


@cache
def _all() -> Mapping[str, Order]:
    folder = resources.files("clients.hospital") / "orders"
    found = [_parse(file.read_text("utf-8")) for file in folder.iterdir() if file.name.endswith(".toml")]
    return {order.name: order for order in found}


def _parse(source: str) -> Order:
    top = Fields(tomllib.loads(source), "", _REASON)
    found = Order(top.need(text(64), "name"), top.texts("order"), top.need(CLAUSE, "zh"), top.need(CLAUSE, "en"))
    top.finish()
    return found
