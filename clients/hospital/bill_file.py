"""A bill as a file, at most as large as a bill may be."""

from __future__ import annotations

from pathlib import Path

from clients import durable
from clients.hospital import intake
from zhifu import bill as bills
from zhifu.bill import Bill
from zhifu.errors import Malformed


def read_bill(path: Path) -> tuple[bytes, Bill]:
    """A bill file, or FHIR that says as much, parsed and checked. Raises `Malformed` (bill.*)."""
    content = intake.national_file(read_given(path))
    return content, bills.parse(content)


def read_given(path: Path) -> bytes:
    """A bill file as it is, at most `zhifu.bill.MAX_BYTES`. Raises `Malformed` (bill.missing)."""
    try:
        return durable.read(path, bills.MAX_BYTES)
    except Malformed as error:
        raise Malformed("bill.missing", error.detail) from error
