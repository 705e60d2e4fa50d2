"""The log as lines of JSON, for an auditor who trusts none of it (DESIGN section 2).

It writes what is stored, whole or broken, and judges nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from broker.audit import COMMITTED
from broker.store import tables
from broker.store.interface import Reader
from zhifu.errors import Refused


def lines(reader: Reader) -> Iterator[str]:
    """``head``, then ``entry``, ``node`` and ``checkpoint`` lines, each ascending; byte strings in hex."""
    head = reader.get(tables.Head, 1)
    yield _line("head", size=head.size if head else 0, root=head.root if head else b"")
    for kind, table in (("entry", tables.Entry), ("node", tables.TreeNode), ("checkpoint", tables.Checkpoint)):
        try:
            for row in reader.scan(table):
                values = {name: getattr(row, name) for name in table.model_fields}
                yield _line(kind, **(values | (_erased(row, reader) if table is tables.Entry else {})))
        except Refused as error:
            yield _line("unreadable", table=kind, detail=error.detail)


def _erased(row: Any, reader: Reader) -> dict[str, object]:
    """An entry of kind 2: its detail is gone, and the commitment that is left stands in its place."""
    if row.kind != COMMITTED or row.detail_key:
        return {}
    kept = reader.get(tables.Erasure, row.index)
    return {"kind": 2, "detail": kept.commitment} if kept is not None else {}


def _line(line: str, /, **values: object) -> str:
    shown = {
        name: value.hex() if isinstance(value, bytes) else value
        for name, value in values.items()
        if not name.startswith("_")
    }
    return json.dumps({"line": line, **shown}, default=str)
