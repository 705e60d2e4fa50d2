"""Charts as SVG of our own: bars an hour or a day, in classes that the style sheet colours; no script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from markupsafe import Markup

from clients.auditor.remote import Counts

WIDTH: Final = 720
HEIGHT: Final = 160
_FLOOR: Final = 132
_DENIED: Final = ("denied", "refused")
_MAX_BARS: Final = 48


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its label, and its parts from the bottom up as (class, number)."""

    label: str
    parts: Sequence[tuple[str, int]]

    @property
    def total(self) -> int:
        return sum(number for _, number in self.parts)


def volume(counts: Counts) -> list[Bar]:
    """Exchanges accepted and denied, an hour each for two days, else a day each."""
    rows = [(one.hour, one.outcome in _DENIED, one.count) for one in counts.hours if _is_exchange(one.event)]
    by_day = bool(rows) and max(row[0] for row in rows) - min(row[0] for row in rows) >= _MAX_BARS
    good: Counter[int] = Counter()
    bad: Counter[int] = Counter()
    for hour, denied, count in rows:
        (bad if denied else good)[_bucket(hour, by_day)] += count
    return [
        Bar(_label(at, by_day), (("good", good[at]), ("bad", bad[at])))
        for at in _range({*good, *bad}, 24 if by_day else 1)
    ]


def latency(counts: Counts) -> tuple[list[Bar], Mapping[str, int]]:
    """Deliveries by the time from acceptance to acknowledgement, in powers of two; median and 95th percentile."""
    found: Counter[int] = Counter()
    for one in counts.hours:
        if one.latency:
            found[one.latency] += one.count
    bars = [Bar(_ms(1 << at), (("good", found[at]),)) for at in _range(set(found), 1)]
    return bars, {name: _percentile(found, share) for name, share in (("p50", 0.5), ("p95", 0.95)) if found}


def svg(bars: Sequence[Bar], title: str) -> Markup:
    """The bars as an image with a title for those who cannot see it; a table beside it has the numbers."""
    highest = max((bar.total for bar in bars), default=0) or 1
    step = WIDTH / max(1, len(bars))
    parts = [_bar(bar, number, step, highest) for number, bar in enumerate(bars)]
    template = Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">'
        '<line x1="0" y1="{}" x2="{}" y2="{}"/>{}</svg>'
    )
    return template.format(WIDTH, HEIGHT, title, _FLOOR, WIDTH, _FLOOR, Markup("").join(parts))


def _bar(bar: Bar, number: int, step: float, highest: int) -> Markup:
    left, width, top = number * step + step * 0.1, min(step * 0.8, 56), float(_FLOOR)
    drawn = Markup("")
    for name, count in bar.parts:
        tall = (_FLOOR - 14) * count / highest
        top -= tall
        box = Markup(
            '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}: {}</title></rect>'
        )
        drawn += box.format(name, left, top, width, tall, bar.label, count)
    # Labels stand under some bars only: there is no room for all.
    every = max(1, round(80 / step))
    if number % every == 0:
        drawn += Markup('<text x="{:.1f}" y="{}">{}</text>').format(left, HEIGHT - 10, bar.label)
    return drawn + Markup('<text class="count" x="{:.1f}" y="{:.1f}">{}</text>').format(left, top - 3, bar.total or "")


def _is_exchange(event: str) -> bool:
    return event in ("exchange.accepted", "exchange.denied")


def _bucket(hour: int, by_day: bool) -> int:
    if not by_day:
        return hour
    local = datetime.fromtimestamp(hour * 3600)
    return hour - local.hour


def _label(hour: int, by_day: bool) -> str:
    return f"{datetime.fromtimestamp(hour * 3600):{'%m-%d' if by_day else '%m-%d %H:00'}}"


def _range(found: set[int], step: int) -> list[int]:
    """Every place from the first to the last, empty ones too, and no more than fit."""
    if not found:
        return []
    return list(range(min(found), max(found) + 1, step)[-_MAX_BARS:])


def _ms(ms: int) -> str:
    return f"<{ms} ms" if ms < 1000 else f"<{ms / 1000:.0f} s"


def _percentile(found: Mapping[int, int], share: float) -> int:
    """Upper bound, ms, below which this share of the deliveries was."""
    wanted = share * sum(found.values())
    for at in sorted(found):
        wanted -= found[at]
        if wanted <= 0:
            return 1 << at
    return 1 << max(found)
