"""``python -m tests.altered CODE MODULE WORDS``: a module's ``main``, after Python of a test's own that changes what it
finds.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def main(words: list[str]) -> Any:
    """The module's, or of a package its ``__main__``'s."""
    code, module, *rest = words
    exec(code, {})
    sys.argv = [module, *rest]
    named = f"{module}.__main__" if hasattr(import_module(module), "__path__") else module
    return import_module(named).main(rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
