"""``python -m tests.bench --json | python -m tests.bench.plot``: the rows that have a budget, as a chart for Markdown.

A chart in Mermaid's words is text: a viewer of Markdown draws it, and a review shows what changed in it.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

_UNLABELLED: Final = str.maketrans("", "", '"[]')


def chart(rows: Sequence[Mapping[str, Any]]) -> str:
    """A fenced block: broker CPU ÷ bare relay of each row with a ``floor`` as bars, its budgets as a line.

    ``rows`` are the ``exchanges`` of the benchmark's JSON. Raises `ValueError` if none has a budget.
    """
    shown = [row for row in rows if row["floor"] is not None]
    if not shown:
        raise ValueError("no row has a budget")
    names = ", ".join(f'"{_label(row)}"' for row in shown)
    most = math.ceil(max(max(row["ratio"], row["floor"]) for row in shown))
    return "\n".join(
        (
            "```mermaid",
            "xychart-beta",
            '    title "Broker CPU, exchange ÷ bare relay; line: budget"',
            f"    x-axis [{names}]",
            f'    y-axis "times" 0 --> {most}',
            f"    bar [{_series(shown, 'ratio')}]",
            f"    line [{_series(shown, 'floor')}]",
            "```",
        )
    )


def _series(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    return ", ".join(format(row[name], ".2f") for row in rows)


def _label(row: Mapping[str, Any]) -> str:
    """What is behind the comma, and how many are in flight."""
    kind = str(row["what"]).rpartition(", ")[2].partition(" (")[0].translate(_UNLABELLED)
    return f"{row['in_flight']}: {kind}"


def main() -> int:
    """Read one JSON object from stdin, print the chart."""
    print(chart(json.load(sys.stdin)["exchanges"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
