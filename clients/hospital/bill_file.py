"""A bill as a file, at most as large as a bill may be."""

from __future__ import annotations

from pathlib import Path

from clients.hospital import intake
from zhifu import bill as bills
from zhifu.bill import Bill
from zhifu.errors import Malformed


def read_bill(path: Path) -> tuple[bytes, Bill]:
    """A bill file, or FHIR that says as much, parsed and checked. Raises `Malformed` (bill.*)."""
    content = intake.national_file(read_given(path))
    return content, bills.parse(content)


def read_given(path: Path) -> bytes:
    """A bill file as it is, at most `zhifu.bill.MAX_BYTES`. Raises `Malformed` (bill.missing, bill.syntax)."""
    try:
        if path.stat().st_size > bills.MAX_BYTES:
            raise Malformed("bill.syntax", f"larger than {bills.MAX_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise Malformed("bill.missing", f"{path}: {error.strerror}") from error
