"""The VOPRF against RFC 9497's vectors, and what must not pass for an element, a scalar or a proof."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats import refused, seed
from zhifu import libsodium, ristretto, voprf
from zhifu.ristretto import IDENTITY, ORDER
from zhifu.voprf import Evaluated, KeyPair

SODIUM: Final = libsodium.load()
VECTORS: Final[Any] = json.loads((Path(__file__).parent / "vectors" / "voprf.json").read_text("utf-8"))
KEY: Final = KeyPair.derive(seed("a recipient's key"), b"")
OTHER: Final = KeyPair.derive(seed("another key"), b"")
NOT_ELEMENTS: Final = {
    "identity": IDENTITY,
    "not on the curve": b"\xff" * 32,
    "negative field element": bytes([1]) + bytes(31),
    "not canonical": (2**255 - 18).to_bytes(32, "little"),
    "high bit": bytes(31) + b"\x80",
    "another encoding": KEY.public[:-1] + bytes([KEY.public[-1] | 0x80]),
    "short": bytes(31),
    "long": SODIUM.crypto_core_ristretto255_random() + b"\0",
    "empty": b"",
}


def of_hex(values: list[str]) -> list[bytes]:
    return [bytes.fromhex(one) for one in values]


def encoded(scalar: int) -> bytes:
    return scalar.to_bytes(32, "little")


# --- RFC 9497, appendix A.1.2 -----------------------------------------------------------------------------------------


def test_derive_key_pair() -> None:
    found = KeyPair.derive(bytes.fromhex(VECTORS["seed"]), bytes.fromhex(VECTORS["key_info"]))
    assert (found.secret.hex(), found.public.hex()) == (VECTORS["secret"], VECTORS["public"])


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: f"batch of {len(vector['input'])}")
def test_rfc_9497(vector: Any) -> None:
    key = KeyPair(bytes.fromhex(VECTORS["secret"]), bytes.fromhex(VECTORS["public"]))
    blinded = [voprf.blind(*pair) for pair in zip(of_hex(vector["input"]), of_hex(vector["blind"]), strict=True)]
    assert [one.element for one in blinded] == of_hex(vector["blinded"])
    nonce = bytes.fromhex(vector["proof_random_scalar"])
    answer = voprf.blind_evaluate(key, [one.element for one in blinded], nonce)
    assert list(answer.elements) == of_hex(vector["evaluated"])
    assert answer.proof.hex() == vector["proof"]
    assert voprf.finalize(blinded, answer, key.public) == of_hex(vector["output"])
    assert [voprf.evaluate(key, one.given) for one in blinded] == of_hex(vector["output"])


# --- elements and scalars ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", NOT_ELEMENTS.values(), ids=NOT_ELEMENTS)
def test_what_is_no_element_is_refused_wherever_one_is_taken(raw: bytes) -> None:
    refused("malformed.field", ristretto.check_element, raw)
    refused("malformed.field", voprf.blind_evaluate, KEY, [raw])
    one = voprf.blind(b"a person")
    answer = voprf.blind_evaluate(KEY, [one.element])
    refused("malformed.field", voprf.finalize, [one], replace(answer, elements=(raw,)), KEY.public)
    refused("malformed.field", voprf.finalize, [one], answer, raw)
    refused("malformed.field", voprf.verify_proof, KEY.public, [raw], answer)


def test_rbcl_needs_these_checks() -> None:
    """Should it ever check by itself, ours could go."""
    assert SODIUM.crypto_core_ristretto255_is_valid_point(IDENTITY)
    element, scalar = SODIUM.crypto_core_ristretto255_random(), SODIUM.crypto_core_ristretto255_scalar_random()
    twin = element[:-1] + bytes([element[-1] | 0x80])
    assert SODIUM.crypto_core_ristretto255_is_valid_point(twin)
    assert ristretto.multiply(scalar, twin) == ristretto.multiply(scalar, element)
    above = encoded(int.from_bytes(scalar, "little") + ORDER)
    assert ristretto.multiply(above, element) == ristretto.multiply(scalar, element)


@pytest.mark.parametrize("scalar", [ORDER, ORDER + 1, 2**252 + 2**251, 2**255 - 1, 2**256 - 1])
def test_scalars_from_l_on_are_refused(scalar: int) -> None:
    """The same proof must not have a second encoding."""
    refused("malformed.field", ristretto.check_scalar, encoded(scalar))
    one = voprf.blind(b"a person")
    answer = voprf.blind_evaluate(KEY, [one.element])
    for proof in (encoded(scalar) + answer.proof[32:], answer.proof[:32] + encoded(scalar)):
        refused("malformed.field", voprf.finalize, [one], replace(answer, proof=proof), KEY.public)


def test_a_proof_with_a_scalar_lifted_by_l_is_refused() -> None:
    one = voprf.blind(b"a person")
    answer = voprf.blind_evaluate(KEY, [one.element])
    lifted = encoded(int.from_bytes(answer.proof[32:], "little") + ORDER)
    refused("malformed.field", voprf.finalize, [one], replace(answer, proof=answer.proof[:32] + lifted), KEY.public)


def test_scalars_below_l_are_taken() -> None:
    assert [ristretto.check_scalar(encoded(one)) for one in (0, 1, ORDER - 1)]


# --- proofs -----------------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=5), st.data())
def test_only_the_pinned_key_passes(inputs: list[bytes], data: st.DataObject) -> None:
    """Whatever is changed, one place or the key of one element: no output, so no key can mark whom it serves."""
    blinded = [voprf.blind(one) for one in inputs]
    sent = [one.element for one in blinded]
    answer = voprf.blind_evaluate(KEY, sent)
    assert voprf.finalize(blinded, answer, KEY.public) == [voprf.evaluate(KEY, one) for one in inputs]
    place = data.draw(st.integers(0, len(inputs) - 1))
    marked = voprf.blind_evaluate(OTHER, sent)
    mixed = (*answer.elements[:place], marked.elements[place], *answer.elements[place + 1 :])
    refused("pseudonym.proof", voprf.finalize, blinded, marked, KEY.public)
    refused("pseudonym.proof", voprf.finalize, blinded, replace(answer, elements=mixed), KEY.public)
    refused("pseudonym.proof", voprf.finalize, blinded, answer, OTHER.public)
    swapped = answer.proof[32:] + answer.proof[:32]
    refused("pseudonym.proof", voprf.finalize, blinded, replace(answer, proof=swapped), KEY.public)


def test_a_proof_is_about_its_own_batch_in_its_order() -> None:
    blinded = [voprf.blind(b"%d" % i) for i in range(3)]
    answer = voprf.blind_evaluate(KEY, [one.element for one in blinded])
    first, *rest = answer.elements
    refused("pseudonym.proof", voprf.finalize, blinded, replace(answer, elements=(*rest, first)), KEY.public)
    again = voprf.blind_evaluate(KEY, [one.element for one in blinded[:2]])
    refused("pseudonym.proof", voprf.finalize, blinded, replace(answer, proof=again.proof), KEY.public)
    refused("malformed.size", voprf.finalize, blinded, replace(answer, elements=answer.elements[:2]), KEY.public)


def test_a_forger_without_the_key_needs_more_than_algebra() -> None:
    """Zeros, and the identities that zeros make, prove nothing; they must not crash either."""
    one = voprf.blind(b"a person")
    for challenge in (0, 1):
        forged = Evaluated((one.element,), encoded(challenge) + encoded(0))
        refused("pseudonym.proof", voprf.finalize, [one], forged, KEY.public)


@pytest.mark.parametrize("length", [0, 63, 65, 128])
def test_a_proof_is_two_scalars(length: int) -> None:
    one = voprf.blind(b"a person")
    answer = voprf.blind_evaluate(KEY, [one.element])
    refused("malformed.size", voprf.finalize, [one], replace(answer, proof=bytes(length)), KEY.public)


@pytest.mark.parametrize("count", [0, voprf.MAX_BATCH + 1])
def test_a_batch_is_bounded(count: int) -> None:
    refused("malformed.size", voprf.blind_evaluate, KEY, [KEY.public] * count)
    refused("malformed.size", voprf.finalize, [voprf.blind(b"")] * count, Evaluated((), bytes(64)), KEY.public)


# --- what leaves ------------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.binary(max_size=60))
def test_blinds_are_fresh(given_: bytes) -> None:
    found = [voprf.blind(given_) for _ in range(4)]
    assert len({one.element for one in found}) == len({one.blind for one in found}) == 4
    assert all(ristretto.check_element(one.element) for one in found)
    assert not any(one.blind == bytes(32) for one in found)


def test_secrets_are_not_shown() -> None:
    one = voprf.blind(b"440000199001010000")
    assert "4400001990" not in repr(one)
    assert one.blind.hex() not in repr(one)
    assert KEY.secret.hex() not in repr(KEY)
    assert str(KEY.secret) not in repr(KEY)


# --- how the library is loaded ----------------------------------------------------------------------------------------

LOADS: Final = (
    "from zhifu import libsodium, ristretto; ristretto.check_element(ristretto.multiply_base(bytes([5] * 32)))"
)


ELSEWHERE: Final = {
    "as here": "pass",
    "as where it must be a file": "libsodium._library = lambda: b''",
    "as where memory may not be run": "libsodium.os.memfd_create = lambda name: os.open('/dev/null', os.O_RDWR)",
}


@pytest.mark.parametrize("other", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_process_leaves_no_library_behind(tmp_path: Path, other: str) -> None:
    """The package writes it to a temporary file at every import, and leaves it."""
    code = f"import os; {LOADS}".replace("; ristretto", f"; {other}; ristretto", 1)
    ran = subprocess.run([sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(tmp_path)}, check=False)
    assert (ran.returncode, list(tmp_path.iterdir())) == (0, [])


def test_it_is_loaded_where_no_file_may_be_run() -> None:
    """As in a container whose /tmp is mounted noexec, or full: no file is asked for."""
    code = f"import tempfile; tempfile.NamedTemporaryFile = None; {LOADS}"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_it_is_loaded_by_who_needs_it() -> None:
    """A command that has nothing to do with pseudonyms does not pay for it."""
    code = "import sys, broker.serving, clients.node, clients.hospital.cli; sys.exit('rbcl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
