"""A policy directory, or the packaged one, to a `Bundle`; strictly: a policy that nobody read would not be in force."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from policies import cedar, retention, tables
from policies.bundle import Access, Bundle, Files, Retention, Rule, Tables
from zhifu.errors import Refused

__all__ = ["Access", "Bundle", "Rule", "load", "policy_hash"]

_LABEL: Final = b"zhifu/v1 policy\0"
_Part = tuple[tuple[str, bytes], ...]
_SUFFIXES: Final = {"access": (".cedar", ".cedarschema"), "disclosure": (".toml",), "retention": (".toml",)}


def load(directory: Path | None = None) -> Bundle:
    """Read a policy: ``directory`` holds ``access``, ``disclosure`` and ``retention``; None means the packaged one.

    Raises `Refused` (policy.invalid) with the file at fault, usage.file where there is no such folder; nothing of a
    policy that is not wholly valid is used.
    """
    files = read(directory)
    parts = {name: tuple(item for item in files.items() if item[0].startswith(f"{name}/")) for name in _SUFFIXES}
    return Bundle(policy_hash(files), _access(parts["access"]), *_rest(parts["disclosure"], parts["retention"]))


# Both are kept, since one program asks for its policy in several places, and to check one takes a tenth of a second;
# apart, since what a newer version changes is mostly its tables.
@lru_cache(maxsize=4)
def _access(files: _Part) -> Access:
    return cedar.parse(dict(files))


@lru_cache(maxsize=4)
def _rest(disclosure: _Part, kept: _Part) -> tuple[Tables, Retention]:
    return tables.parse(dict(disclosure)), retention.parse(dict(kept))


def read(directory: Path | None = None) -> Files:
    """A policy's files, ascending by path; they need not be valid. Raises `Refused` (policy.invalid, usage.file)."""
    if directory is not None and not directory.is_dir():
        raise Refused("usage.file", f"{directory.name}: there is no such folder")
    return dict(sorted(_read(directory or resources.files("policies")), key=lambda item: item[0].encode()))


def policy_hash(files: Files) -> bytes:
    """SHA-256 over label and files in the order of their paths' bytes: what a statute's basis and the log name.

    ``"zhifu/v1 policy\\0" || for each file: u16 len(path) || path || u32 len(bytes) || bytes``, big-endian, paths
    relative and with "/".
    """
    digest = hashlib.sha256(_LABEL)
    for path, source in sorted((path.encode(), source) for path, source in files.items()):
        digest.update(len(path).to_bytes(2, "big") + path + len(source).to_bytes(4, "big") + source)
    return digest.digest()


def _read(root: Traversable) -> Iterator[tuple[str, bytes]]:
    _refuse_strays(root)
    for folder, suffixes in _SUFFIXES.items():
        for file in _list(root / folder, folder):
            path = f"{folder}/{file.name}"
            if not file.is_file() or not file.name.endswith(suffixes):
                raise Refused("policy.invalid", f"{path}: is not a policy file")
            try:
                yield path, file.read_bytes()
            except OSError:
                raise Refused("policy.invalid", f"{path}: cannot be read") from None


def _refuse_strays(root: Traversable) -> None:
    every = tuple(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)
    for file in _list(root, "."):
        if file.name.endswith(every):
            raise Refused("policy.invalid", f"{file.name}: lies beside {' and '.join(_SUFFIXES)}: nothing reads it")


def _list(folder: Traversable, name: str) -> list[Traversable]:
    """What lies in a folder, without what file systems and editors hide there."""
    try:
        return [file for file in folder.iterdir() if not file.name.startswith(".")]
    except OSError:
        raise Refused("policy.invalid", f"{name}: is not a directory that can be read") from None
