"""What values of the clients' TOML files look like: roles, hashes, the log's key."""

from __future__ import annotations

import json
from typing import Final

from zhifu.checkpoint import SignatureType, VerifierKey
from zhifu.errors import Malformed
from zhifu.fields import Grammar, text

ROLES: Final = ("hospital", "public-payer", "insurer", "auditor", "registrar")


def hash_of_hex(value: str) -> bytes | None:
    """32 bytes of 64 hex digits in lower case; None for anything else."""
    try:
        raw = bytes.fromhex(value)
    except ValueError:
        return None
    return raw if len(raw) == 32 and raw.hex() == value else None


def _log_key(value: str) -> VerifierKey | None:
    try:
        key = VerifierKey.parse(value)
    except Malformed:
        return None
    return key if key.kind is SignatureType.ED25519 else None


def _name(value: str) -> str | None:
    try:
        # JSON can escape half a character, which no file can hold.
        value.encode()
    except UnicodeEncodeError:
        return None
    return text(128).read(value)


def quoted(value: str) -> str:
    """A TOML basic string: JSON's escapes are all TOML's, except that TOML wants DEL escaped too."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


ROLE: Final = Grammar(f"one of {', '.join(ROLES)}", lambda value: value if value in ROLES else None)
NAME: Final = Grammar("a name of 1 to 128 characters", _name)
HASH: Final = Grammar("64 hex digits, lower case", hash_of_hex)
LOG_KEY: Final = Grammar("the log's verifier key, <name>+<id>+<base64>", _log_key)
