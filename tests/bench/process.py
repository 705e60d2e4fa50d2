"""Processes under measure: how much CPU they used, and on what computer."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Final

# The kernel's clock of a whole process, whoever asks: clock_getcpuclockid(3) makes the same number.
_CPUCLOCK_SCHED: Final = 2


def cpu_s(pid: int) -> float:
    """CPU seconds that all threads of a process used so far, in nanosecond steps."""
    return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)


def resident_kib(pid: int) -> int:
    """Resident memory of a process, KiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def hardware() -> str:
    """The line that every figure stands under."""
    models = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    parts = (
        f"{len(models) or os.cpu_count()} x {models[0] if models else platform.machine()}",
        f"{memory / 1024**2:.0f} GiB",
        f"Linux {platform.release().split('-')[0]}",
        f"Python {platform.python_version()}",
        *(f"{name} {version(name)}" for name in ("grpcio", "protobuf", "cryptography", "PyNaCl")),
    )
    return ", ".join(parts)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
