"""The patient's statement has room for every payer, whatever they answer: a confirmed settlement never fails by it."""

from __future__ import annotations

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from clients.decision import STATEMENT
from clients.hospital import statement
from zhifu import ladder, leaf, schema
from zhifu.cbor import Value

CLAUSES: Final = schema.load(STATEMENT).unit("clauses").levels[0]
MOST: Final = max(CLAUSES.sizes)


def row(payer: int, number: int, words: int) -> Value:
    return ["pay", number, f"{payer} {number} " + "款" * words, "pay.due"]


@given(
    st.lists(st.tuples(st.integers(0, 180), st.sampled_from([1, 50, 150])), max_size=9), st.integers(200, MOST - 1)
)  # fmt: skip
def test_rows_of_all_payers_fit_and_who_said_little_is_heard_whole(payers: list[tuple[int, int]], room: int) -> None:
    said = [[row(payer, at, words) for at in range(many)] for payer, (many, words) in enumerate(payers)]
    kept = statement._within(said, room * max(1, len(said)))
    assert len(kept) == len(said)
    assert sum(map(statement._bytes, kept)) <= room * max(1, len(said))
    for before, after in zip(said, kept, strict=True):
        if statement._bytes(before) <= room:
            assert after == before
        if after != before:
            *first, more = after
            assert first == before[: len(first)]
            assert more[2].startswith(f"另有 {len(before) - len(first)} 条")


def test_a_statement_with_as_much_as_payers_may_say_is_sealed() -> None:
    """Each of nine says all that a decision holds."""
    said = [[row(payer, at, 100) for at in range(95)] for payer in range(9)]
    assert all(MOST * 0.9 < statement._bytes(rows) < MOST for rows in said)
    flat = [one for rows in statement._within(said, statement._room("clauses")) for one in rows]
    assert ladder.conforms(CLAUSES.form, flat)
    assert len(leaf.pad(flat, MOST)) == MOST


def test_long_names_are_shortened_where_they_do_not_fit() -> None:
    level = schema.load(STATEMENT).unit("payments").levels[0]
    few = [("insurer", "示例保险" * 32, 10**12)] * 3
    assert statement._short(few) == [list(one) for one in few]
    many = statement._short([*few * 3, ("public-payer", "示例医保", 1), ("patient", statement.PATIENT, 2)])
    assert ladder.conforms(level.form, many)
    assert len(leaf.pad(many, max(level.sizes))) == max(level.sizes)
    assert [name for _, name, _ in many[-2:]] == ["示例医保", statement.PATIENT]
