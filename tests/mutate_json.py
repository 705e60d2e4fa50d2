"""Documents with something wrong in them: values of another kind, missing and doubled members, monstrous numbers."""

from __future__ import annotations

import copy
import json
from typing import Any, Final

from hypothesis import strategies as st

_VALUES: Final = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        ["", "CANARY", "x" * 5000, "\0", "é", "-1", "1e9", "0.00", "2026-13-01", "urn:uuid:x", "#x", [], {}, [[]],
         [{}], {"reference": "CANARY"}, {"coding": [{"code": "CANARY"}]}, {"value": 10**30}, 10**30, 1e308, [None]]
    ),
)  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        for key in one if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ():
            found.append((one, key))
            waiting.append(one[key])
    return found


@st.composite
def mutated(draw: st.DrawFn, document: Any) -> bytes:
    """``document`` with one to four mutations, as JSON; sometimes cut off or with bytes changed."""
    made = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 4))):
        every = places(made)
        if not every:
            break
        container, key = every[draw(st.integers(0, len(every) - 1))]
        how = draw(st.sampled_from(("replace", "replace", "drop", "swap", "add")))
        if how == "replace":
            container[key] = draw(_VALUES)
        elif how == "drop":
            container.pop(key)
        elif how == "swap":
            container[key] = copy.deepcopy(draw(st.sampled_from(every))[0])
        elif isinstance(container, dict):
            container[draw(st.sampled_from(("extension", "id", "CANARY", "reference", "text")))] = draw(_VALUES)
        else:
            container.append(copy.deepcopy(container[key]))
    content = json.dumps(made).encode()
    if draw(st.integers(0, 9)) == 0:
        content = content[: draw(st.integers(0, len(content)))]
    return content
