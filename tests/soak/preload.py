"""Small libraries in C that stand between a program and its system, made when they are needed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def build(name: str, folder: Path) -> Path:
    """The library of ``NAME.c`` beside this file, made in ``folder``; for ``LD_PRELOAD``."""
    compiler, made = shutil.which("cc"), folder / f"{name}.so"
    assert compiler is not None, "a C compiler is needed"
    source = Path(__file__).with_name(f"{name}.c")
    words = f"{compiler} -O2 -Wall -Werror -shared -fPIC -ldl -lpthread".split()
    subprocess.run([*words, "-o", made, source], check=True)
    return made
