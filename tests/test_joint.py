"""Operations of a kind are applied as one, in their turn, and fail alone; what may wait shares a commit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from broker import commit
from broker.joint import each
from broker.store.interface import Transaction
from tests.broker_rig import rig
from tests.test_commit import note, noted
from zhifu.errors import Error, Refused
from zhifu.receipt import Detail, Meta


async def test_operations_of_a_kind_are_taken_together_and_fail_alone(tmp_path: Path) -> None:
    """One call for all that waits; where one cannot be taken, each again by itself, and only that one is refused."""
    calls: list[list[str]] = []

    def notes(given: Sequence[str], state: Transaction, sequence: Any, now_ms: int) -> list[int]:
        calls.append(list(given))
        indices = [note(text)(state, sequence, now_ms) for text in given]
        if "bad" in given:
            raise Refused("consent.unknown")
        return indices

    async with rig(tmp_path) as broker:
        committer = broker.core.committer
        done = await asyncio.gather(committer.join(notes, "a"), committer.run(note("b")), committer.join(notes, "c"))
        assert calls == [["a", "c"]]
        assert len({one.commit for one in done}) == 1
        # What has no kind goes first, whoever came first.
        assert noted(broker) == ["b", "a", "c"]
        calls.clear()
        answers = await asyncio.gather(
            *(committer.join(notes, text) for text in ("d", "bad", "e")), return_exceptions=True
        )
        assert calls == [["d", "bad", "e"], ["d", "bad", "e"], ["d"], ["bad"], ["e"]]
        assert [isinstance(one, Error) for one in answers] == [False, True, False]
        assert noted(broker) == ["b", "a", "c", "d", "e"]
        # Whoever fails in another way leaves them together, and what it left behind in the transaction is gone.
        calls.clear()
        answers = await asyncio.gather(
            committer.run(note("a")), *(committer.join(notes, text) for text in ("f", "g")), return_exceptions=True
        )
        assert calls == [["f", "g"]]
        assert [isinstance(one, Error) for one in answers] == [True, False, False]
        assert noted(broker) == ["b", "a", "c", "d", "e", "f", "g"]


@pytest.mark.parametrize("one_fails", [False, True])
async def test_what_has_happened_is_applied_before_what_changes_it(tmp_path: Path, one_fails: bool) -> None:
    def notes(given: Sequence[str], state: Transaction, sequence: Any, now_ms: int) -> list[int]:
        return [note(text)(state, sequence, now_ms) for text in given]

    def reports(given: Sequence[str], state: Transaction, sequence: Any, now_ms: int) -> list[int]:
        return notes(given, state, sequence, now_ms)

    async with rig(tmp_path) as broker:
        committer = broker.core.committer
        bad = [committer.run(note("kind"))] if one_fails else []
        await asyncio.gather(
            committer.join(notes, "kind"), committer.run(note("none")), committer.join(reports, "report", reports=True),
            *bad, return_exceptions=True,
        )  # fmt: skip
        assert noted(broker)[0] == "report"
        assert noted(broker).index("none") < noted(broker).index("kind") or one_fails


async def test_what_may_wait_shares_the_commit_of_what_may_not(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        committer = broker.core.committer
        # One by itself, so that the load of enrolling everybody is over.
        await committer.run(note("first"))
        waits = asyncio.create_task(committer.join(each, note("a"), within_s=60))
        done, _ = await asyncio.wait((waits,), timeout=0.2)
        assert not done
        other = await committer.run(note("b"))
        assert (await waits).commit == other.commit
        # And with nobody else it has one of its own.
        alone = await asyncio.wait_for(committer.join(each, note("c"), within_s=0.01), 30)
        assert alone.commit != other.commit
        assert noted(broker) == ["first", "a", "b", "c"]


async def test_what_waits_is_committed_before_the_broker_stops(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        committer = broker.core.committer
        waits = asyncio.create_task(committer.join(each, note("a"), within_s=600))
        await asyncio.sleep(0)
        await committer.close()
        assert (await waits).result == broker.core.log.size - 1


async def test_what_an_attempt_remembered_of_grants_is_forgotten_with_it(tmp_path: Path) -> None:
    def fails(state: Transaction, sequence: Any, now_ms: int) -> None:
        # Of an event that by itself ends nothing that is remembered.
        sequence.record(Meta("exchange.denied"), Detail(), now_ms)
        raise Refused("consent.unknown")

    async with rig(tmp_path) as broker:
        before = broker.core.log.generation
        with pytest.raises(Refused, match=r"consent\.unknown"):
            await broker.core.committer.run(fails)
        assert broker.core.log.generation > before


async def test_under_load_a_commit_waits_for_what_is_on_its_way(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        committer = broker.core.committer

        async def later(turns: int) -> commit.Done[int]:
            for _ in range(turns):
                await asyncio.sleep(0)
            return await committer.run(note(f"{turns}"))

        await asyncio.gather(*(committer.run(note(f"load {one}")) for one in range(commit.LOAD)))
        done = await asyncio.gather(*(later(turns) for turns in range(4)))
        assert len({one.commit for one in done}) == 1
