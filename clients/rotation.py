"""Drawing new keys in a node's folder, while the node runs or not; a running node states and takes them up by itself.

What was in use stays beside them, since something may be on its way to it: KEM keys open what is still queued, a TLS
key serves the connections that are open. The next rotation, or ``forget``, destroys them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from clients import durable
from clients.keystore import (
    EARLIER,
    EARLIER_TLS,
    NEXT_TLS,
    STORAGE_BEFORE,
    FileKeystore,
    StorageKey,
    fresh,
    read_key,
)
from clients.locking import locked
from clients.store import alone
from zhifu.errors import Refused

KINDS: Final = {
    "signing": ("signing", "cosigning"),
    "kem": ("kem-x25519", "kem-xwing"),
    "tls": ("tls",),
}
"""What is rotated together: the names of the keys' files."""

_PATIENCE_S: Final = 10.0


def draw(keys: Path, kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Draw the keys of these ``kinds``; the names of those that are new. Raises `Refused` (usage.file)."""
    FileKeystore.load(keys)
    drawn, names = fresh(), [name for kind in kinds for name in KINDS[kind]]
    with _held(keys):
        for name in names:
            _draw_one(keys, name, drawn[name])
    return tuple(names)


def _draw_one(keys: Path, name: str, drawn: bytes) -> None:
    if name == "tls":
        durable.create(keys / NEXT_TLS, drawn)
        return
    if name.startswith("kem"):
        durable.write(keys / f"{name}{EARLIER}.key", read_key(keys / f"{name}.key"))
    durable.write(keys / f"{name}.key", drawn)


@contextmanager
def _held(keys: Path) -> Iterator[None]:
    """Who rotates has the folder alone: of two at once one would draw what nobody keeps."""
    with locked(keys / "rotation.lock", "another command rotates these keys", patience_s=_PATIENCE_S):
        durable.sweep(keys)
        yield


def take_up_tls(keys: Path, certificate: Path, issued: bytes) -> None:
    """The next TLS key becomes the current one, with its certificate (PEM). Taken up again by `settle` after a crash.

    Raises `Refused` (usage.file).
    """
    durable.write(_waiting(certificate), issued)
    settle(keys, certificate)


def settle(keys: Path, certificate: Path) -> None:
    """Finish what `take_up_tls` began. Raises `Refused` (usage.file)."""
    waiting, after = _waiting(certificate), keys / NEXT_TLS
    if not waiting.exists():
        return
    with _held(keys):
        if after.exists():
            durable.write(keys / EARLIER_TLS, read_key(keys / "tls.key"))
            durable.move(after, keys / "tls.key")
        durable.move(waiting, certificate)


def _waiting(certificate: Path) -> Path:
    return certificate.with_name("tls.next.crt")


def rotate_storage(keys: Path, database: Path, progress: Callable[[int, int], None]) -> int:
    """Another storage key: every row is wrapped anew, and the key before destroyed; how many rows were wrapped.

    ``progress`` gets rows done and rows in all. Nobody else may have the store open. Both keys are kept until every row
    is under the new one: interrupted at any point, it is taken up again by the next call, and a node that is started in
    between reads both. Raises `Refused` (usage.file; unavailable.store: another process uses it), `NotAuthentic`
    (leaf.open): a row that neither key opens; then nothing is destroyed.
    """
    with alone(database) as rewrap:
        draw_storage(keys)
        held = FileKeystore.load(keys)
        changed = rewrap(StorageKey(held.storage_before), StorageKey(held.storage), progress)
        _destroy([keys / STORAGE_BEFORE])
    return changed


def draw_storage(keys: Path) -> None:
    """Draw the key that what is stored is wrapped with; the one before stays beside it. Raises `Refused` (usage.file).

    Where a rotation was interrupted nothing is drawn: it is taken up again.
    """
    FileKeystore.load(keys)
    current, before, after = (keys / name for name in ("storage.key", STORAGE_BEFORE, "storage.next.key"))
    with _held(keys):
        if not before.exists():
            durable.write(after, fresh()["storage"])
            durable.write(before, read_key(current))
        # Where a crash came before this, it is done now; where it came after, there is no next key any more.
        if after.exists():
            durable.move(after, current)


def forget(keys: Path) -> int:
    """Destroy the keys that others have taken the place of; how many. Raises `Refused` (usage.file)."""
    with _held(keys):
        earlier = sorted(keys.glob(f"*{EARLIER}.key"))
        _destroy(earlier)
        return len(earlier)


def _destroy(paths: Iterable[Path]) -> None:
    try:
        for path in paths:
            with path.open("r+b") as file:
                file.write(os.urandom(path.stat().st_size))
                file.flush()
                os.fsync(file.fileno())
            path.unlink()
            durable.sync_folder(path.parent)
    except OSError as error:
        raise Refused("usage.file", f"a key cannot be destroyed: {error.strerror}") from error
