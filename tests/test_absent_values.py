"""Values that are absent in what a wallet got: its pages are drawn all the same, for every other organisation too."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clients.patient import claims
from clients.patient.claims import Claim
from clients.patient.mailbox import Fetched
from clients.patient.wallet import Contact, Wallet
from clients.patient.web import shown
from tests.formats import HOSPITAL, INSURER, NOW, claim, recipient
from zhifu.errors import Malformed
from zhifu.receive import Opened, receive


def opened(**values: Any) -> Opened:
    """What passed the eight checks, with these values."""
    return replace(receive(claim().send().deliver(), recipient(INSURER), NOW), values=values)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"stay": [None, None], "payments": None, "clauses": None, "totals": None, "remainder": None},
        {"stay": ["2026-01-02", None], "payments": [["patient", "x", 1]], "totals": [["own", 1]]},
    ],
)
def test_a_statement_is_shown_with_what_it_has(tmp_path: Path, values: dict[str, Any]) -> None:
    (tmp_path / "statements").mkdir()
    document = {"hospital": "示例", "entry": 1, "at": NOW, "values": values}
    (tmp_path / "statements" / f"{'0' * 64}.json").write_text(json.dumps(document), "utf-8")
    (one,) = shown.statements(Wallet(tmp_path, Contact("", "", "", "", "")), "zh")
    assert (one["stay"], one["total"], one["remainder"]) == ("2026-01-02" if values.get("totals") else "", "", "0.00")


@pytest.mark.parametrize("missing", ["request", "preview"])
@pytest.mark.parametrize("how", ["absent", "left out"])
def test_an_offer_that_asks_nothing_is_refused(tmp_path: Path, missing: str, how: str) -> None:
    values: dict[str, Any] = {"request": b"", "preview": b""}
    values |= {missing: None}
    kept = {name: value for name, value in values.items() if how == "absent" or value is not None}
    one = Fetched(opened(**kept), b"", None)  # type: ignore[arg-type]  # it does not get so far
    with pytest.raises(Malformed):
        claims.keep_offer(Wallet(tmp_path, Contact("", "", "", "", "")), one, NOW)


def test_news_is_told_with_what_it_has() -> None:
    news = claims.with_news([], HOSPITAL.id, opened(state="waiting", documents=[None, "病历"]))
    one = Claim(bytes(32), "", "示例", (), 0, {}, 0, "waiting", tuple(news))
    assert claims.words(one, "zh") == ["请补充：病历。"]
    (bare,) = claims.with_news([], HOSPITAL.id, opened())
    assert (bare["state"], bare["documents"], bare["amounts"]) == ("received", [], {})
