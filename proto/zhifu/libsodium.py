"""`rbcl`, loaded when it is first needed, without the file that it would leave.

At every import, which is in every process, it writes its copy of libsodium (2.8 MB) to a temporary file, loads it from
there and leaves it: /tmp fills up, and where that is mounted ``noexec``, as containers do, nothing is loaded at all.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Final

_PART: Final = "rbcl._sodium"
_ELF: Final = "7f454c46"


@cache
def load() -> Any:
    """The module. Raises `ImportError`, `OSError`."""
    if _PART not in sys.modules and (library := _library()):
        # Where memory may not be run, the package's own way is left.
        with suppress(OSError):
            part: Any = ModuleType(_PART)
            part._sodium = _from_memory(library)
            # Found there, it is not run.
            sys.modules[_PART] = part
    found = import_module("rbcl")
    _remove(getattr(sys.modules[_PART], "lib_path", ""))
    return found


def _library() -> bytes:
    """The shared library that stands in the package as hexadecimal text; nothing where it is another system's."""
    spec = find_spec("rbcl")
    if spec is None or spec.origin is None or not hasattr(os, "memfd_create"):
        return b""
    code = SourceFileLoader(_PART, str(Path(spec.origin).with_name("_sodium.py"))).get_code(_PART)
    texts = (one for one in (code.co_consts if code is not None else ()) if isinstance(one, str))
    return next((bytes.fromhex(one) for one in texts if one.startswith(_ELF)), b"")


def _from_memory(library: bytes) -> ctypes.CDLL:
    with os.fdopen(os.memfd_create("libsodium"), "wb") as file:
        file.write(library)
        file.flush()
        return ctypes.CDLL(f"/proc/self/fd/{file.fileno()}")


def _remove(left: str) -> None:
    """What the package wrote, where it could not be kept from it. A library that is loaded needs its file no more."""
    if left and os.name == "posix":
        Path(left).unlink(missing_ok=True)
