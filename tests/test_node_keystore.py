"""Keys of a node: drawn once, readable by nobody else, and what they wrap opens only where it was kept."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.keystore import FileKeystore, participant_of, state_keys, tls_spki
from zhifu.errors import NotAuthentic, Refused
from zhifu.keys import Alg
from zhifu.statement import verify_key_statement

NOW = 1_800_000_000


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> FileKeystore:
    return FileKeystore.draw(tmp_path_factory.mktemp("node") / "keys")


def test_drawn_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        FileKeystore.draw(tmp_path / "keys")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    files = sorted((tmp_path / "keys").iterdir())
    assert [file.stem for file in files] == [
        "cosigning", "identity", "kem-x25519", "kem-xwing", "signing", "storage", "tls",
    ]  # fmt: skip
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert not (tmp_path / "keys.partial").exists()


def test_loaded_keys_are_the_ones_that_were_drawn(tmp_path: Path) -> None:
    drawn, loaded = FileKeystore.draw(tmp_path / "keys"), FileKeystore.load(tmp_path / "keys")
    assert participant_of(loaded) == participant_of(drawn)
    assert set(loaded.kem_keys) == set(drawn.kem_keys)
    assert loaded.unwrap(b"row", drawn.wrap(b"row", b"secret")) == b"secret"
    assert tls_spki(loaded) == tls_spki(drawn)


def test_keys_are_never_drawn_over(tmp_path: Path) -> None:
    drawn = FileKeystore.draw(tmp_path / "keys")
    with pytest.raises(Refused, match=r"usage\.file: keys exists already"):
        FileKeystore.draw(tmp_path / "keys")
    assert participant_of(FileKeystore.load(tmp_path / "keys")) == participant_of(drawn)


def test_an_interrupted_draw_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "keys.partial").mkdir()
    (tmp_path / "keys.partial" / "identity.key").write_text("half")
    FileKeystore.draw(tmp_path / "keys")
    assert not (tmp_path / "keys.partial").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o601])
@pytest.mark.parametrize("name", ["identity.key", "storage.key", "tls.key"])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    FileKeystore.draw(tmp_path / "keys")
    (tmp_path / "keys" / name).chmod(mode)
    with pytest.raises(Refused) as refused:
        FileKeystore.load(tmp_path / "keys")
    assert str(refused.value) == f"usage.file: {name} can be read by others: chmod 600 {name}"


def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    FileKeystore.draw(tmp_path / "keys")
    (tmp_path / "keys").chmod(0o750)
    with pytest.raises(Refused, match="keys can be read by others: chmod 700 keys"):
        FileKeystore.load(tmp_path / "keys")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "cannot be read"), ("zz", "is not a key in hex"), ("ab" * 31, "holds 31 bytes, not 32")],
)
def test_a_damaged_key_file_is_named_and_never_quoted(tmp_path: Path, content: str | None, complaint: str) -> None:
    FileKeystore.draw(tmp_path / "keys")
    path = tmp_path / "keys" / "signing.key"
    path.unlink()
    if content is not None:
        path.write_text(content)
        path.chmod(0o600)
    with pytest.raises(Refused) as refused:
        FileKeystore.load(tmp_path / "keys")
    assert complaint in str(refused.value)
    assert "signing.key" in str(refused.value)
    assert content is None or content not in str(refused.value)


def test_no_secret_is_in_the_representation(tmp_path: Path) -> None:
    keys = FileKeystore.draw(tmp_path / "keys")
    assert repr(keys) == "FileKeystore()"


@given(row=st.binary(max_size=64), secret=st.binary(max_size=256))
def test_what_is_wrapped_opens_in_its_place_only(keys: FileKeystore, row: bytes, secret: bytes) -> None:
    wrapped = keys.wrap(row, secret)
    assert keys.unwrap(row, wrapped) == secret
    assert len(secret) < 4 or secret not in wrapped
    assert keys.wrap(row, secret) != wrapped
    for place, content in ((row + b"\0", wrapped), (row, wrapped[:-1] + bytes([wrapped[-1] ^ 1])), (row, b"")):
        with pytest.raises(NotAuthentic, match=r"leaf\.open"):
            keys.unwrap(place, content)


def test_a_statement_lists_every_key_and_lives_seven_days(keys: FileKeystore) -> None:
    signed = state_keys(keys, 7, NOW)
    found = verify_key_statement(signed, participant_of(keys), NOW)
    assert (found.serial, found.not_after) == (7, NOW + 7 * 86_400)
    assert [key.alg for key in found.kem_keys] == [Alg.X25519, Alg.MLKEM768_X25519]
    assert {key.id for key in found.kem_keys} == set(keys.kem_keys)
    assert found.signing_key == bytes(keys.signing.verify_key) != bytes(keys.identity.verify_key)
    assert found.tls_spki == (tls_spki(keys),)
