"""Log lines: JSON, one event each, and never the text of an exception that is not ours."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from clients import JsonLines
from zhifu.errors import Refused


def line(event: str, about: dict[str, object] | None = None, error: BaseException | None = None) -> dict[str, Any]:
    given = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("zhifu.node", logging.WARNING, __file__, 1, event, None, given)
    if about is not None:
        record.about = about
    found: dict[str, Any] = json.loads(JsonLines().format(record))
    return found


def test_a_line_says_when_where_and_what_about() -> None:
    found = line("delivery.opened", {"exchange": b"\xab" * 4, "count": 3, "odd": object()})
    assert (found["event"], found["level"], found["from"]) == ("delivery.opened", "warning", "zhifu.node")
    assert (found["exchange"], found["count"], found["odd"]) == ("abababab", 3, "object")
    assert found["at"].endswith("Z")
    assert len(found["at"]) == 24


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error):
        return sys.exc_info()[1]  # type: ignore[return-value]


def test_an_exceptions_text_is_not_written() -> None:
    found = line("role.failed", error=raised(ValueError("测试患者甲")))
    assert found["error"] == "ValueError"
    assert found["places"][0].startswith("test_node_log.py:")
    assert "测试患者甲" not in json.dumps(found, ensure_ascii=False)
    assert "reason" not in found


def test_our_own_reasons_are_written() -> None:
    found = line("role.failed", error=raised(Refused("policy.denied", "detail")))
    assert found["reason"] == "policy.denied"
    assert "detail" not in json.dumps(found)
