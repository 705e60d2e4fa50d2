"""Amounts of FHIR, exactly: Money to whole minor units, decimals to ten-thousandths; nothing is rounded, no float."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from clients.hospital.fhir.place import Place
from clients.hospital.openbill import CNY
from zhifu.money import MAX_FEN
from zhifu.money import decimal as shortest

_CURRENCY: Final = re.compile(r"[A-Z]{3}")
# ISO 4217 currencies whose minor unit is not a hundredth.
_PLACES: Final = {
    **dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
    **dict.fromkeys("CLF UYW".split(), 4),
}


def minor_units(amount: Place) -> tuple[str, int]:
    """A Money's currency and its value in minor units: fen for CNY, cents for USD.

    Raises `Malformed`: no currency (an amount of nothing is none), more places than the currency has, too large.
    """
    currency = amount.need("currency")
    if not _CURRENCY.fullmatch(currency.text()):
        raise currency.refusal("must be a currency of three capital letters")
    value = amount.need("value")
    scaled = value.number().scaleb(places(currency.text()))
    if scaled != scaled.to_integral_value():
        raise value.refusal("has more places than its currency")
    if abs(scaled) > MAX_FEN:
        raise value.refusal("is too large")
    return currency.text(), int(scaled)


def places(currency: str) -> int:
    """How many decimal places the minor unit of a currency has (ISO 4217)."""
    return _PLACES.get(currency, 2)


def decimal(minor: int, currency: str = CNY) -> Decimal:
    """Minor units as the value of a Money: the inverse of `minor_units`."""
    return Decimal(minor).scaleb(-places(currency))


def money(minor: int | None, currency: str) -> dict[str, object] | None:
    """A Money; None where there is no amount."""
    return None if minor is None else {"value": decimal(minor, currency), "currency": currency}


def ten_thousandths(value: Place) -> int | None:
    """A number in ten-thousandths; None where that is not exact, or beyond what a bill can say."""
    scaled = value.number().scaleb(4)
    if scaled != scaled.to_integral_value() or abs(scaled) > MAX_FEN:
        return None
    return int(scaled)


def from_ten_thousandths(value: int) -> Decimal:
    """The inverse of `ten_thousandths`."""
    return Decimal(shortest(value))
