"""When an exchange is final, and which witnesses are enough (C2SP tlog-policy)."""

from __future__ import annotations

from itertools import combinations

import pytest
from nacl.signing import SigningKey

from tests.formats import seed
from zhifu import tlogpolicy, witness
from zhifu.checkpoint import SignatureType, VerifierKey
from zhifu.errors import Malformed, NotAuthentic
from zhifu.merkle import MAX_SIZE
from zhifu.receipt import Head


def key(name: str, kind: SignatureType = SignatureType.COSIGNATURE_V1) -> VerifierKey:
    return VerifierKey(name, kind, bytes(SigningKey(seed(name)).verify_key))


A, B, C = key("a.example/w"), key("b.example/w"), key("c.example/w")
LOG = key("log.example/zhifu", SignatureType.ED25519)
POLICY = f"""
# two parties and one other
log {LOG.encode()}
witness a {A.encode()} https://a.example
witness b {B.encode()}
witness c {C.encode()}
group parties all a b
group others 1 c
group final all parties others
quorum final
""".encode()


def test_both_parties_and_one_other_make_it_final() -> None:
    parties = ("s", "r")
    assert witness.is_final(5, parties, {"s": 5, "r": 6, "x": 5})
    for missing in ({"s": 5, "r": 6}, {"s": 5, "x": 9}, {"s": 4, "r": 6, "x": 9}, {"s": 5, "r": 6, "x": 4}, {}):
        assert not witness.is_final(5, parties, missing)


def test_a_majority_is_more_than_half() -> None:
    assert [witness.majority(n) for n in range(6)] == [0, 1, 2, 2, 3, 3]


def test_nobody_cosigns_a_smaller_head_and_everybody_sees_a_fork() -> None:
    older, newer = Head(1, seed("leaf")), Head(0)
    assert witness.check_extends(newer, older, 0, ())
    with pytest.raises(NotAuthentic, match=r"log\.inconsistent"):
        witness.check_extends(older, Head(1, seed("another")), 1, ())
    with pytest.raises(NotAuthentic, match=r"log\.inconsistent"):
        witness.check_extends(older, Head(2, seed("root")), 0, (seed("node"),))


def test_how_far_a_quorum_reaches() -> None:
    policy = tlogpolicy.parse(POLICY)
    assert policy.reached({A.name: 7, B.name: 5, C.name: 9, "another": 1}) == 5
    assert policy.reached({A.name: 7, B.name: 8, C.name: 3}) == 3
    assert policy.reached({A.name: 7, C.name: 9}) == 0
    assert tlogpolicy.parse(b"quorum none").reached({}) == MAX_SIZE
    two = b"".join(b"witness %s %s\n" % (one.name[:1].encode(), one.encode().encode()) for one in (A, B, C))
    assert tlogpolicy.parse(two + b"group g 2 a b c\nquorum g").reached({A.name: 7, B.name: 5, C.name: 6}) == 6


def test_a_policy_is_satisfied_by_exactly_the_quorums_that_it_names() -> None:
    policy = tlogpolicy.parse(POLICY)
    assert (policy.logs, policy.witnesses["a"].url) == ((LOG,), "https://a.example")
    satisfied = [set(some) for n in range(4) for some in combinations((A, B, C), n) if policy.is_satisfied(some)]
    assert satisfied == [{A, B, C}]
    assert tlogpolicy.parse(b"quorum none").is_satisfied(())
    two = tlogpolicy.parse(POLICY.replace(b"group final all", b"group final any"))
    assert two.is_satisfied([A, B])
    assert two.is_satisfied([C])
    assert not two.is_satisfied([A])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"quorum final\n", b""),
        (b"quorum final\n", b"quorum final\nquorum final\n"),
        (b"quorum final", b"quorum nobody"),
        (b"group others 1 c", b"group others 2 c"),
        (b"group others 1 c", b"group others 0 c"),
        (b"group others 1 c", b"group others 01 c"),
        (b"group parties all a b", b"group parties all a a"),
        (b"group parties all a b", b"group parties all a final"),
        (b"group others 1 c", b"group a 1 c"),
        (b"witness c", b"witness none"),
        (b"witness c", b"watcher c"),
        (C.encode().encode(), B.encode().encode()),
        (C.encode().encode(), LOG.encode().encode()),
        (C.encode().encode(), C.encode().encode()[:-2] + b"x="),
        (b"# two", b"\xff"),
    ],
)
def test_a_policy_that_is_not_one_is_refused(old: bytes, new: bytes) -> None:
    assert old in POLICY
    with pytest.raises(Malformed):
        tlogpolicy.parse(POLICY.replace(old, new))
