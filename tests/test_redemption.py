"""Codes at the broker: bound to the first workflow and to the hospital, guessed in vain, and nothing at rest."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from broker import redemption
from broker.store import tables
from tests.broker_rig import Rig, fresh, present, reason, rig
from tests.formats import HOSPITAL, INSURER, NOW, PAYER, Exchange, claim, refused
from tests.test_ticket import direct_pay, shown
from zhifu import consent, ticket
from zhifu.envelope import Envelope
from zhifu.errors import Error, Refused

WORKFLOW = b"w" * 16


def direct() -> tuple[Exchange, Envelope]:
    """An exchange under a direct-pay grant, and the ticket for it."""
    grant, key, digest = direct_pay()
    return replace(claim(), grant=grant, subject=key, workflow=WORKFLOW), shown(grant, key, digest)


async def redeem(broker: Rig, signed: Envelope, workflow: bytes = WORKFLOW, hospital: bytes = HOSPITAL.id) -> int:
    done = await broker.run(
        lambda state, sequence, now_ms: redemption.redeem(signed, workflow, hospital, state, sequence, now_ms)
    )
    return done.until_ms


async def refusal(broker: Rig, *args: object) -> Error:
    with pytest.raises(Error) as caught:
        await redeem(broker, *args)  # type: ignore[arg-type]
    return caught.value


def hash_of(signed: Envelope) -> bytes:
    return consent.hash_of(signed.payload)


async def test_a_redeemed_ticket_pays_in_its_workflow_for_15_minutes(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        exchange, signed = direct()
        await broker.grant(exchange)
        until = await redeem(broker, signed)
        assert until == broker.clock.ms + 900_000
        (first,) = await broker.submit(present(exchange, ticket_hash=hash_of(signed)))
        assert reason(first) == ""
        assert await redeem(broker, signed) == until, "a lost answer is asked for again"
        (again,) = await broker.submit(
            present(replace(fresh(exchange), workflow=WORKFLOW), ticket_hash=hash_of(signed))
        )
        assert reason(again) == ""
        (other,) = await broker.submit(present(fresh(exchange), ticket_hash=hash_of(signed)))
        assert reason(other) == "ticket.used"
        broker.clock.advance(300)
        assert await redeem(broker, signed) == until, "also when the code itself would be too old"
        assert (await refusal(broker, signed, WORKFLOW, PAYER.id)).reason == "consent.not_usable"
        broker.clock.advance(601)
        assert (await refusal(broker, signed)).reason == "ticket.used"
        late = present(replace(fresh(exchange), workflow=WORKFLOW), ticket_hash=hash_of(signed))
        assert reason((await broker.submit(late))[0]) == "ticket.used"
        assert [meta.event for _, meta, _ in broker.entries()].count("ticket.redeemed") == 1


async def test_no_ticket_no_use(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        exchange, signed = direct()
        await broker.grant(exchange)
        assert reason((await broker.submit(present(exchange)))[0]) == "ticket.missing"
        unredeemed = present(fresh(exchange), ticket_hash=hash_of(signed))
        assert reason((await broker.submit(unredeemed))[0]) == "ticket.missing"
        assert broker.rows(tables.GrantUse) == []


async def test_a_code_photographed_or_replayed_binds_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        exchange, signed = direct()
        await broker.grant(exchange)
        workflows = [bytes([i]) * 16 for i in range(64)]
        done = await asyncio.gather(*(redeem(broker, signed, one) for one in workflows), return_exceptions=True)
        ended = Counter(one.reason if isinstance(one, Refused) else "" for one in done)
        assert ended == {"": 1, "ticket.used": 63}
        assert len(broker.rows(tables.Ticket)) == 1


async def test_another_hospital_a_stranger_and_a_revoked_grant(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        exchange, signed = direct()
        await broker.grant(exchange)
        assert (await refusal(broker, signed, WORKFLOW, PAYER.id)).reason == "consent.not_usable"
        grant, _, digest = direct_pay()
        forged = shown(grant, direct_pay("rival")[1], digest)
        assert (await refusal(broker, forged)).reason == "consent.signature"
        await broker.revoke(exchange)
        assert (await refusal(broker, signed)).reason == "consent.revoked"


@pytest.mark.parametrize(("age", "words"), [(-121, "121 s ahead"), (91, "91 s old")])
async def test_outside_the_window_the_offset_is_said(tmp_path: Path, age: int, words: str) -> None:
    async with rig(tmp_path) as broker:
        exchange, _ = direct()
        await broker.grant(exchange)
        grant, key, digest = direct_pay()
        error = await refusal(broker, shown(grant, key, digest, NOW - age))
        assert error.reason == "ticket.window"
        assert words in error.detail


async def test_two_tickets_of_one_nonce(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        exchange, signed = direct()
        await broker.grant(exchange)
        grant, key, digest = direct_pay()
        await redeem(broker, signed)
        assert (await refusal(broker, shown(grant, key, digest, NOW + 1), b"x" * 16)).reason == "ticket.used"


# Online codes


async def offer(broker: Rig, sealed: bytes = b"sealed", hospital: bytes = HOSPITAL.id) -> str:
    pepper = broker.core.pepper
    code, _ = await broker.run(lambda state, _, now_ms: redemption.offer(hospital, sealed, pepper, state, now_ms))
    return code


async def fetch(broker: Rig, code: str, hospital: bytes = HOSPITAL.id) -> bytes | None:
    pepper = broker.core.pepper
    return await broker.run(lambda state, _, now_ms: redemption.fetch(code, hospital, pepper, state, now_ms))


def guess(number: int) -> str:
    body = f"{number:017d}"
    return body + ticket.luhn(body)


async def test_an_online_code_is_its_hospitals_for_a_minute(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        code = await offer(broker)
        assert ticket.check_digits(code) == code
        assert await fetch(broker, code, PAYER.id) is None
        assert await fetch(broker, code) == b"sealed"
        broker.clock.advance(61)
        assert await fetch(broker, code) is None
        await offer(broker)
        assert len(broker.rows(tables.OnlineCode)) == 1, "what is over is cleared away"


async def test_what_lies_at_rest_is_no_code(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        code = await offer(broker)
        for file in (tmp_path / "broker").glob("broker.db*"):
            content = file.read_bytes()
            assert code.encode() not in content
            assert broker.core.pepper not in content


async def test_guesses_are_limited_per_hospital(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        code = await offer(broker)
        for number in range(redemption.MAX_WRONG):
            assert await fetch(broker, guess(number)) is None
        with pytest.raises(Refused) as caught:
            await fetch(broker, code)
        assert caught.value.reason == "ticket.limit"
        elsewhere = await offer(broker, hospital=INSURER.id)
        assert await fetch(broker, elsewhere, INSURER.id) == b"sealed", "others are not held up by it"
        broker.clock.advance(61)
        assert await fetch(broker, await offer(broker)) == b"sealed"


async def test_guesses_of_a_clock_that_ran_ahead_count_no_longer_than_others(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        broker.clock.advance(7200)
        for number in range(redemption.MAX_WRONG):
            assert await fetch(broker, guess(number)) is None
        broker.clock.advance(-7200)
        assert await fetch(broker, await offer(broker)) == b"sealed"


async def test_a_slip_is_no_guess(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        code = await offer(broker)
        wrong = code[:-1] + str((int(code[-1]) + 1) % 10)
        refused("malformed.field", ticket.check_digits, wrong)
        with pytest.raises(Error):
            await fetch(broker, wrong)
        assert broker.rows(tables.WrongCodes) == []
