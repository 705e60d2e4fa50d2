"""Log lines: JSON, one event each, and never the text of an exception that is not ours."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import pytest

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


SPEAKS = """
import asyncio, logging, sys, threading, warnings
from {package} import {speak}
{speak}()

class Loud:
    def __del__(self) -> None:
        raise ValueError("测试患者甲")

def fail() -> None:
    raise ValueError("测试患者甲")

async def leave() -> None:
    asyncio.create_task(asyncio.to_thread(fail))
    await asyncio.sleep(0.2)

asyncio.run(leave())
thread = threading.Thread(target=fail)
thread.start()
thread.join()
Loud()
warnings.warn("测试患者甲")
logging.getLogger("zhifu.test").error("%d", "测试患者甲")
fail()
"""


@pytest.mark.parametrize(("package", "speak"), [("clients", "log_to_stderr"), ("broker.log", "to_stderr")])
def test_what_nobody_caught_and_what_libraries_say_has_no_text(package: str, speak: str) -> None:
    """A task's, a thread's, a finalizer's and the program's own exception, a warning, a line that does not fit."""
    words = [sys.executable, "-W", "default", "-c", SPEAKS.format(package=package, speak=speak)]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=60)
    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    assert ran.returncode == 1
    assert "测试患者甲" not in ran.stderr
    assert [one.get("error") for one in lines] == ["ValueError"] * 3 + [None, "ValueError"]
    assert [one["event"] for one in lines if "error" not in one] == ["library"]
