"""``node.toml``: what is written is read back, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from clients import config
from clients.config import NodeConfig, Pin
from zhifu.checkpoint import SignatureType, VerifierKey
from zhifu.errors import Malformed

ORIGIN = "log.example/zhifu"
LOG_KEY = VerifierKey(ORIGIN, SignatureType.ED25519, bytes(SigningKey(bytes(32)).verify_key))
PIN = "ab" * 32
GOOD = f"""
role = "hospital"
name = "测试医院"
node_address = "127.0.0.1:8443"
public_address = "127.0.0.1:8444"
origin = "{ORIGIN}"
log_key = "{LOG_KEY.encode()}"
registrar = "{"01" * 32}"
policies = "policy"

[pins]
{PIN} = {{ role = "insurer", name = "测试保险" }}
"""

names = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=40).filter(lambda t: t.strip() == t)


def written(folder: Path, text: str) -> Path:
    (folder / config.FILE).write_text(text, "utf-8")
    return folder


def test_a_good_file(tmp_path: Path) -> None:
    found = config.load(written(tmp_path, GOOD))
    assert found.role == "hospital"
    assert found.log_key == LOG_KEY
    assert found.pins == {bytes.fromhex(PIN): Pin("insurer", "测试保险")}
    assert found.registrar == b"\1" * 32
    assert found.policies == tmp_path / "policy"
    assert found.database == tmp_path / "node.db"


@given(name=names, pins=st.dictionaries(st.binary(min_size=32, max_size=32), st.builds(Pin, st.just("insurer"), names)))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, name: str, pins: dict[bytes, Pin]
) -> None:
    folder = tmp_path_factory.mktemp("node")
    before = NodeConfig(folder, "insurer", name, "broker.example:1", "broker.example:2", ORIGIN, LOG_KEY, pins)
    config.write(before)
    assert config.load(folder) == before
    assert (folder / config.FILE).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('role = "hospital"', 'role = "broker"', "role must be one of hospital, public-payer"),
        ('name = "测试医院"', "", "name is missing"),
        ("127.0.0.1:8443", "127.0.0.1", "node_address must be host:port"),
        ("127.0.0.1:8443", "127.0.0.1:0", "node_address must be host:port"),
        (f'log_key = "{ORIGIN}', 'log_key = "other', "log_key must be the log's verifier key"),
        (f'origin = "{ORIGIN}"', 'origin = "other"', "log_key is not the key of this origin"),
        (PIN, "ab" * 31, "pins must be a table whose keys are participant ids in hex, 64 digits each"),
        ('role = "insurer"', 'role = "patient"', f"pins.{PIN}.role must be one of"),
        (', name = "测试保险"', "", f"pins.{PIN}.name is missing"),
        ('policies = "policy"', 'polices = "policy"', "polices is not a key of this file"),
        ('name = "测试医院"', "name = 7", "name must be a text"),
        ("[pins]", "[pins", "node.toml is not TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    assert old in GOOD
    with pytest.raises(Malformed) as refused:
        config.load(written(tmp_path, GOOD.replace(old, new)))
    assert refused.value.reason == "usage.file"
    assert complaint in str(refused.value)


def test_a_folder_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match=r"usage\.file: .* is no node's folder"):
        config.load(tmp_path)
