"""The key file of an operator, who keeps it apart from the broker's folder."""

from __future__ import annotations

from pathlib import Path

from nacl.signing import SigningKey

from broker.home import write_private
from zhifu.errors import Malformed, Refused


def draw(path: Path) -> SigningKey:
    """`key_of`, and where there is no file yet it is drawn."""
    if not path.exists():
        write_private(path, SigningKey.generate().encode().hex().encode())
    return key_of(path)


def key_of(path: Path) -> SigningKey:
    """The key of an operator's file. Raises `Refused`, `Malformed` (usage.file)."""
    try:
        if path.stat().st_mode & 0o077:
            raise Refused("usage.file", f"{path.name} can be read by others: chmod 600")
        return SigningKey(bytes.fromhex(path.read_text("ascii").strip()))
    except OSError as error:
        raise Refused("usage.file", f"{path.name}: {error.strerror}") from error
    except (ValueError, TypeError):
        # The cause is left out on purpose: it could quote the key.
        raise Malformed("usage.file", f"{path.name} is not an operator's key") from None
