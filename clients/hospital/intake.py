"""What a hospital's own systems hand in as a bill: the national interface's file, or a FHIR Claim that says as much."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from clients.hospital import national, openbill
from clients.hospital.fhir import claim
from clients.hospital.fhir.resources import Resources
from clients.hospital.openbill import OpenBill
from zhifu import bill as bills
from zhifu.bill import Bill
from zhifu.errors import Malformed

_MARK: Final = b'"resourceType"'


def open_bill(content: bytes) -> Bill | OpenBill:
    """A bill as far as the file says it: FHIR may leave open what a payer needs, a national file may not.

    Raises `Malformed` (bill.*) with the JSON path.
    """
    return _claim(content) if _MARK in content else bills.parse(content)


def visit(document: Mapping[str, object]) -> Bill | OpenBill:
    """What a request is about: the file under ``bill``, or before there is one the file under ``admission``.

    Raises `Malformed` (usage.argument, bill.*).
    """
    given = {name: document[name] for name in ("bill", "admission") if isinstance(document.get(name), str)}
    if len(given) != 1:
        raise Malformed("usage.argument", "one of bill and admission, as the text of the file")
    ((name, content),) = given.items()
    if name == "bill":
        return open_bill(str(content).encode())
    return openbill.of_admission(bills.parse_admission(str(content).encode()))


def claimable(content: bytes) -> bytes:
    """A bill that a patient paid, as it is kept: of the national interface where it says all that one must, else as it
    came. Raises `Malformed` (bill.*) with the JSON path.
    """
    open_bill(content)
    try:
        return national_file(content)
    except Malformed:
        return content


def national_file(content: bytes) -> bytes:
    """``content`` as a file of the national interface; FHIR is converted, anything else is handed on for `zhifu.bill`.

    Raises `Malformed` (bill.*) with the JSON path: more than one Claim, or one that leaves open what a bill needs.
    """
    # A national file has no such key; that it is one for sure the parser of bills finds out.
    if _MARK not in content:
        return content
    return national.encode(_claim(content))


def _claim(content: bytes) -> OpenBill:
    resources = Resources.of_json(content)
    held, *others = resources.claims()
    if others:
        raise Malformed("bill.syntax", f"{others[0].place.path}: is a second Claim; a settlement is of one")
    return claim.read(held, resources)[0]
