"""Work for every key of a wallet. One that is not in force keeps none of the others from it: it was revoked, its
subject did not add it yet, or the day after a recovery is not over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from clients.patient.wallet import Pair, Wallet
from zhifu.errors import Error

T = TypeVar("T")


def in_silence(_pair: Pair) -> None:
    """Nobody is told."""


async def each(
    wallet: Wallet, work: Callable[[Pair], Awaitable[T]], passed: Callable[[Pair], None] = in_silence
) -> list[T]:
    """What ``work`` gives for each enrolled key; ``passed`` is told of those that are not in force. Raises as ``work``,
    but for consent.key_status.
    """
    found = []
    for pair in wallet.pairs:
        if pair.enrolled:
            try:
                found.append(await work(pair))
            except Error as error:
                if error.reason != "consent.key_status":
                    raise
                passed(pair)
    return found
