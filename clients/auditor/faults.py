"""What is wrong with a log, and at which entry."""

from __future__ import annotations

from zhifu.errors import Error, NotAuthentic


class Fault(Exception):
    """The log does not verify: ``index`` is the first entry it concerns, None where that cannot be said."""

    def __init__(self, index: int | None, error: Error) -> None:
        super().__init__(str(error))
        self.index = index
        self.error = error


def corrupt(index: int | None, detail: str) -> Fault:
    """The stored log contradicts itself (log.corrupt)."""
    return Fault(index, NotAuthentic("log.corrupt", detail))


def first(faults: list[Fault]) -> Fault | None:
    """The one at the lowest index. Of those at one entry a changed store comes first: it explains the others."""
    return min(faults, key=_place, default=None)


def _place(fault: Fault) -> tuple[float, bool]:
    return float("inf") if fault.index is None else fault.index, fault.error.reason != "log.corrupt"
