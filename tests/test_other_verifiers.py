"""Verifiers that nobody here wrote agree: Go's x/mod sumdb (tlog, note), @sigstore/verify, and aics-witness.

`.ci/run` installs them; elsewhere what is absent is skipped, with the reason. Mutants must be refused by all.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from base64 import b64encode
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any, Final

import httpx
import pytest
from nacl.signing import SigningKey

from broker.feeding import Feeder
from broker.serving import build
from broker.witnesses import Pace
from tests.broker_rig import present, rig
from tests.conftest import absent
from tests.formats import HOSPITAL, PAYER, seed
from tests.house import ask
from zhifu import checkpoint, merkle, tlogpolicy
from zhifu.checkpoint import Checkpoint, SignatureType, VerifierKey
from zhifu.errors import Error
from zhifu.merkle import Frontier
from zhifu.tlogpolicy import Member, Policy

HERE: Final = Path(__file__).parent
TOOLS: Final = HERE.parent / ".ci" / "tools"
GOPATH: Final = Path("/usr/share/gocode")
ORIGIN: Final = "log.example/zhifu"
KEY: Final = SigningKey(seed("other verifiers"))
VKEY: Final = VerifierKey(ORIGIN, SignatureType.ED25519, bytes(KEY.verify_key))
PROOFS: Final = 1000
LEAVES: Final = [b"entry %d" % number for number in range(700)]
HASHES: Final = [merkle.leaf_hash(leaf) for leaf in LEAVES]
FETCH: Final = merkle.in_memory(HASHES)
ROOTS: Final = [one.root() for one in accumulate(HASHES, lambda tree, leaf: tree.extend([leaf]), initial=Frontier())]

Question = dict[str, Any]


# --- questions, each with whether it holds --------------------------------------------------------------------------


def inclusion(random: Random) -> Question:
    size = random.randrange(1, len(LEAVES) + 1)
    index = random.randrange(size)
    proof = merkle.inclusion_proof(index, size, FETCH)
    merkle.verify_inclusion(HASHES[index], index, size, proof, ROOTS[size])
    return {"Kind": "inclusion", "Size": size, "Root": ROOTS[size], "Old": index, "Hash": HASHES[index],
            "Leaf": LEAVES[index], "Proof": proof}  # fmt: skip


def consistency(random: Random) -> Question:
    new = random.randrange(1, len(LEAVES) + 1)
    old = random.randrange(1, new + 1)
    proof = merkle.consistency_proof(old, new, FETCH)
    merkle.verify_consistency(old, new, ROOTS[old], ROOTS[new], proof)
    return {"Kind": "consistency", "Size": new, "Root": ROOTS[new], "Old": old, "Hash": ROOTS[old], "Proof": proof}


def note(random: Random) -> Question:
    size = random.randrange(len(LEAVES) + 1)
    signed = checkpoint.sign(Checkpoint(ORIGIN, size, ROOTS[size]), ORIGIN, KEY)
    return {"Kind": "note", "Key": VKEY.encode(), "Note": signed}


def mutant(honest: Question, random: Random) -> Question:
    """One thing of it is another."""
    if honest["Kind"] == "note":
        # Of the signed text: a signature line may be repeated or reordered without harm.
        at = random.randrange(honest["Note"].index(b"\n\n"))
        return honest | {"Note": _flipped(honest["Note"], at)}
    fields = ["Root", "Leaf" if "Leaf" in honest else "Hash"]
    if honest["Proof"]:
        fields += ["Proof", "Drop"]
    field = random.choice([*fields, "Add"])
    if field == "Drop":
        return honest | {"Proof": honest["Proof"][1:]}
    if field == "Add":
        return honest | {"Proof": [*honest["Proof"], seed("extra")]}
    if field == "Proof":
        at = random.randrange(len(honest["Proof"]))
        return honest | {"Proof": [_flipped(one, 3) if i == at else one for i, one in enumerate(honest["Proof"])]}
    changed = honest | {field: _flipped(honest[field], random.randrange(len(honest[field])))}
    return changed | {"Hash": merkle.leaf_hash(changed["Leaf"])} if field == "Leaf" else changed


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def ours_holds(one: Question) -> bool:
    try:
        if one["Kind"] == "note":
            checkpoint.verify(one["Note"], VKEY)
        elif one["Kind"] == "inclusion":
            merkle.verify_inclusion(one["Hash"], one["Old"], one["Size"], one["Proof"], one["Root"])
        else:
            merkle.verify_consistency(one["Old"], one["Size"], one["Hash"], one["Root"], one["Proof"])
    except Error:
        return False
    return True


def asked(kinds: tuple[Any, ...]) -> list[tuple[Question, bool]]:
    random = Random("other verifiers")
    honest = [kind(random) for kind in kinds for _ in range(PROOFS)]
    return [(one, True) for one in honest] + [(mutant(one, random), False) for one in honest]


def verdicts(command: list[str], questions: list[tuple[Question, bool]]) -> list[bool]:
    lines = "".join(json.dumps(one, default=lambda raw: b64encode(raw).decode()) + "\n" for one, _ in questions)
    ended = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stderr
    return [word == "ok" for word in ended.stdout.split()]


def agree(command: list[str], kinds: tuple[Any, ...]) -> None:
    questions = asked(kinds)
    expected = [holds for _, holds in questions]
    assert [ours_holds(one) for one, _ in questions] == expected
    found = verdicts(command, questions)
    wrong = [one for (one, holds), said in zip(questions, found, strict=True) if said != holds]
    assert wrong == []


# --- the verifiers --------------------------------------------------------------------------------------------------


def test_gos_sumdb_agrees(tmp_path: Path) -> None:
    if shutil.which("go") is None or not (GOPATH / "src" / "golang.org" / "x" / "mod").is_dir():
        absent("Go with golang.org/x/mod")
    environment = os.environ | {
        "GOPATH": str(GOPATH), "GO111MODULE": "off", "GOFLAGS": "", "GOCACHE": str(tmp_path / "cache"),
    }  # fmt: skip
    program = tmp_path / "verify"
    built = subprocess.run(
        ["go", "build", "-o", program, HERE / "go" / "verify.go"], env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    agree([str(program)], (inclusion, consistency, note))


def test_sigstores_verifier_agrees() -> None:
    modules = TOOLS / "node_modules"
    if shutil.which("node") is None or not (modules / "@sigstore" / "verify").is_dir():
        absent("Node with @sigstore/verify")
    agree(["node", str(HERE / "js" / "verify.js"), str(modules)], (inclusion, note))


# --- a witness that nobody here wrote -------------------------------------------------------------------------------


@pytest.fixture
def witness(tmp_path: Path) -> tuple[Path, str, VerifierKey]:
    """aics-witness: its command, and how to make it serve the log of a broker's key."""
    program = TOOLS / "witness" / "bin" / "aics-witness"
    if (TOOLS / "no-witness").exists():
        pytest.skip("aics-witness needs Python 3.12, which is not on this machine")
    if not program.exists():
        absent("aics-witness")
    settings = str(tmp_path / "witness.json")
    said = subprocess.run(
        [program, "init", "--config", settings, "--name", "regulator.example/w1"], capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    (text,) = [word for word in said.stdout.split() if word.startswith("regulator.example/w1+")]
    return program, settings, VerifierKey.parse(text)


def _free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def test_aics_witness_cosigns_our_checkpoints_and_rejects_a_fork(
    tmp_path: Path, witness: tuple[Path, str, VerifierKey]
) -> None:
    program, settings, key = witness
    async with rig(tmp_path, HOSPITAL, PAYER) as broker:
        vkey = broker.home.vkey
        added = [str(program), "add-log", "--config", settings, "--origin", vkey.name, "--vkey", vkey.encode()]
        subprocess.run(added, check=True, capture_output=True)
        port = _free_port()
        serving = subprocess.Popen(
            [program, "serve", "--config", settings, "--listen", f"127.0.0.1:{port}"], stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}"
            _await_health(url)
            member = Member(key, url)
            policy = Policy(witnesses={"regulator": member}, quorum="regulator")
            async with httpx.AsyncClient(trust_env=False) as client:
                feeder = Feeder(broker.core.witnesses, policy, client)
                for _ in range(3):
                    await broker.submit(present(broker.statute()))
                    broker.core.witnesses.show()
                    assert await feeder.feed(member)
                shown = broker.core.witnesses.shown
                assert list(checkpoint.verify_cosignatures(shown.note, [key])) == [key]
                assert policy.is_satisfied(checkpoint.verify_cosignatures(shown.note, [key]))
                again = build(broker.home, None, broker.clock, Pace())
                assert again.witnesses.seen[key.name].size == broker.core.log.size
                again.store.close()
                # Another history of the same log, signed by its own key: refused, and nothing is cosigned.
                size = broker.core.log.size
                fork = Checkpoint(vkey.name, size + 1, seed("another history"))
                body = b"\n".join(
                    [
                        b"old %d" % size,
                        b64encode(seed("proof")),
                        b"",
                        checkpoint.sign(fork, vkey.name, broker.home.log_key),
                    ]
                )
                refused = await client.post(f"{url}/add-checkpoint", content=body)
                assert (refused.status_code, b"regulator.example" in refused.content) == (422, False)
        finally:
            serving.terminate()
            serving.wait(20)
    kept = subprocess.run([program, "evidence", "--config", settings], capture_output=True, text=True, check=True)
    assert vkey.name in kept.stdout


def _await_health(url: str) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            if ask("GET", f"{url}/healthz").is_success:
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < end, "the witness does not serve"
        time.sleep(0.05)


def test_the_policy_file_of_a_regulator_is_read() -> None:
    key = VerifierKey("regulator.example/w1", SignatureType.COSIGNATURE_V1, bytes(KEY.verify_key))
    text = f"witness regulator {key.encode()} https://regulator.example/witness\nquorum regulator\n"
    assert tlogpolicy.parse(text.encode()).witnesses["regulator"] == Member(key, "https://regulator.example/witness")
