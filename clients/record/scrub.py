"""``zhifu record scrub``: free text without the people in it, and a report of what was replaced that holds no value."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from clients import durable
from clients.command import Json, Language, chatter, clear, print_json, to_json
from clients.hospital.bill_file import read_bill
from clients.hospital.scrub.found import How
from clients.hospital.scrub.known import NOTHING, from_bill
from clients.hospital.scrub.model import names
from clients.hospital.scrub.text import MAX_CHARACTERS, Scrubbed
from clients.hospital.scrub.text import scrub as scrub_text
from clients.hospital.scrub.tokens import LANGUAGES, title
from zhifu.errors import Malformed

_STDIN: Final = "-"
_MAX_BYTES: Final = 4 * MAX_CHARACTERS
_SAID: Final = {
    How.KNOWN: ("已知值", "known values"),
    How.CHECKED: ("校验规则", "checked patterns"),
    How.UNCHECKED: ("未校验规则", "unchecked patterns"),
    How.MODEL: ("模型", "a model"),
}


@clear
def scrub(
    file: Annotated[Path, typer.Argument(metavar="FILE|-", help="A text in UTF-8; - reads standard input.")] = Path(
        _STDIN
    ),
    known: Annotated[
        Path | None, typer.Option(metavar="BILL", help="The patient's bill: its values are found first.")
    ] = None,
    model: Annotated[
        bool, typer.Option("--model", help="Ask a name model too (extra: names): more names, more that are none.")
    ] = False,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write what was replaced, as JSON.")] = None,
    as_json: Json = False,
    lang: Language = "zh",
) -> None:
    """Replace names, numbers, dates and addresses in free text by tokens such as [姓名]; print the text.

    The report gives kind, place, how it was found (known value, checked or unchecked pattern) and how sure the rule is,
    from 1 to 99. It holds no value. No rule finds everything: a person reads what leaves the house.
    """
    if lang not in LANGUAGES:
        raise Malformed("usage.argument", f"a language is one of {', '.join(LANGUAGES)}")
    extra = (names(),) if model else ()
    found = scrub_text(_read(file), NOTHING if known is None else from_bill(read_bill(known)[1]), lang, extra)
    if report is not None:
        durable.write(report, (to_json(_report(found)) + "\n").encode())
    if as_json:
        print_json({"text": found.text, **_report(found)})
    else:
        sys.stdout.write(found.text)
    chatter.print(_summary(found, lang), highlight=False)


def _read(file: Path) -> str:
    """The text. Raises `Malformed` (usage.file, malformed.size)."""
    if str(file) == _STDIN:
        content = sys.stdin.buffer.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise Malformed("malformed.size", f"more than {_MAX_BYTES} bytes")
    else:
        content = durable.read(file, _MAX_BYTES)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Malformed("usage.file", "the text is not UTF-8") from None


def _report(found: Scrubbed) -> dict[str, Any]:
    """Places are characters of the text given, from 0; ``end`` is the character after the last one."""
    rows = [
        {"kind": one.kind, "start": one.start, "end": one.end, "how": str(one.how), "confidence": one.confidence}
        for one in found.replaced
    ]
    return {"replaced": rows, "counts": dict(sorted(Counter(one.kind for one in found.replaced).items()))}


def _summary(found: Scrubbed, lang: str) -> str:
    at = LANGUAGES.index(lang)
    kinds = Counter(title(one.kind, lang) for one in found.replaced)
    ways = Counter(_SAID[one.how][at] for one in found.replaced)
    counts = ", ".join(f"{name} {count}" for name, count in [*kinds.most_common(), *ways.most_common()])
    head = (f"替换 {len(found.replaced)} 处", f"replaced {len(found.replaced)}")[at]
    return f"{head}: {counts}" if counts else head
