"""What a test looks for where no value of a patient may be: each in every encoding, and a search that finds it."""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final

from zhifu import bill as bills
from zhifu import money

TEXTS: Final = ("utf-8", "utf-16-le", "gb18030")
# Dates, sex, ICD-10 codes and the interface's own code values cannot be told from chance (clients.hospital.sample).
HEAD: Final = ("psn_name", "certno", "tel", "addr", "psn_no", "bankacct", "mdtrt_id", "medcasno", "setl_id", "invono",
               "fixmedins_code", "fixmedins_name")  # fmt: skip
LINE: Final = ("med_list_codg", "medins_list_name", "bilg_dr_name", "bilg_dept_name")

Needles = Mapping[str, frozenset[bytes]]
"""What is looked for: the encodings of each value by its place in the bill."""


def as_text(value: str) -> frozenset[bytes]:
    """A text in every character set, and its UTF-8 in base64 (at each of the three places in a group) and in hex."""
    plain = value.encode()
    coded = [base64.b64encode(b"\0" * shift + plain) for shift in range(3)]
    # The first and the last group hold bits of the neighbours.
    inner = [text[4 * (shift > 0) : -4] for shift, text in enumerate(coded)]
    encoded = {value.encode(name) for name in TEXTS} | {plain.hex().encode(), plain.hex().upper().encode(), *inner}
    return frozenset(one for one in encoded if len(one) >= 7)


def as_bytes(value: bytes) -> frozenset[bytes]:
    return frozenset({value}) | as_text(value.hex()) | as_text(base64.b64encode(value).decode())


def as_amount(value: int, *written: str) -> frozenset[bytes]:
    """A number as text, in CBOR, and as Python holds it. Eight bytes alone could be there by chance, and so could six
    digits: spans and logs are full of times in nanoseconds.
    """
    python = [struct.pack("<qI", size, value) for size in (1, 8)]  # one digit: CPython 3.11, and from 3.12 on
    texts = [
        name
        for text in (*written, str(value))
        if len(text) >= (6 if "." in text else 8)
        for name in (text.encode(), text.encode(TEXTS[1]))
    ]
    return frozenset({b"\x1a" + struct.pack(">I", value), *python, *texts})


def as_column(values: Sequence[int]) -> frozenset[bytes]:
    """Four neighbours in a column, as CBOR and as arrays of machine integers of either order and width."""
    fours = [values[at : at + 4] for at in range(len(values) - 3)]
    packed = {struct.pack(form, *four) for four in fours for form in ("<4i", ">4i", "<4q", ">4q")}
    return frozenset(packed | {b"".join(b"\x1a" + struct.pack(">I", one) for one in four) for four in fours})


def needles(content: bytes) -> dict[str, frozenset[bytes]]:
    document, bill = json.loads(content), bills.parse(content)
    found = {name: as_text(document["setlinfo"][name]) for name in HEAD}
    for number, (row, line) in enumerate(zip(document["feedetail"], bill.lines, strict=True)):
        found |= {f"{name}[{number}]": as_text(row[name]) for name in LINE}
        found[f"pric[{number}]"] = as_amount(line.pric, row["pric"])
        found[f"amt[{number}]"] = as_amount(line.amt, row["amt"])
    for number, row in enumerate(document["diseinfo"]):
        found[f"diag_name[{number}]"] = as_text(row["diag_name"])
    for name in ("total", "own", "over", "pre", "inscp"):
        amount = getattr(bill.split, name)
        found[name] = as_amount(amount, money.yuan(amount))
    for name in ("pric", "amt", "cnt"):
        found[f"{name} as a column"] = as_column([getattr(line, name) for line in bill.lines])
    return found


# --- the search -------------------------------------------------------------------------------------------------------


def search(wanted: Needles, where: bytes) -> set[str]:
    """The places of the bill of which some encoding occurs in ``where``."""
    every = {one for encodings in wanted.values() for one in encodings}
    short = {one for one in every if len(one) < 15}
    present = _long(every - short, where) | _short(short, where)
    return {place for place, encodings in wanted.items() if encodings & present}


def _long(wanted: set[bytes], where: bytes) -> set[bytes]:
    """Of 15 bytes, eight begin at a multiple of eight, wherever they lie: so memory is read once, by such words."""
    by_word: dict[int, set[bytes]] = {}
    for one in wanted:
        for shift in range(8):
            by_word.setdefault(struct.unpack_from("=Q", one, shift)[0], set()).add(one)
    words = memoryview(where)[: len(where) // 8 * 8].cast("Q")
    candidates = {one for word in by_word.keys() & set(by_word.keys()).intersection(words) for one in by_word[word]}
    return {one for one in candidates if one in where}


def _short(wanted: set[bytes], where: bytes) -> set[bytes]:
    found: set[bytes] = set()
    for _, alike in groupby(sorted(wanted), key=lambda one: one[:1]):
        # The longest first, or a shorter one that it begins with would hide it.
        words = sorted(alike, key=len, reverse=True)
        found |= set(re.findall(b"|".join(map(re.escape, words)), where, re.DOTALL))
    return found | {one for one in wanted if any(one in other for other in found)}
