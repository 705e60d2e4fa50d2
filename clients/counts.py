"""What this node's process has done so far, as plain numbers; `clients.monitoring` tells them.

Numbers of the process, as its memory is. Reasons and states are closed lists: nothing of a person is ever a key.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final


@dataclass(slots=True)
class Counts:
    """``incoming`` is by reason, empty for what was opened; ``results`` by ``accepted`` or the reason of a refusal."""

    incoming: Counter[str] = field(default_factory=Counter)
    postponed: Counter[str] = field(default_factory=Counter)
    results: Counter[str] = field(default_factory=Counter)
    streams: int = 0
    streams_lost: Counter[str] = field(default_factory=Counter)
    cosigned_ms: int = 0
    """When this process cosigned a checkpoint last (Unix ms by the node's clock); 0 if never."""


COUNTS: Final = Counts()
