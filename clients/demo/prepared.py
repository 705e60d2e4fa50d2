"""What every process of the demo reads of the package at its start, read once by the server that they are forked from:
no key, no record, nothing of anybody's.
"""

from __future__ import annotations

from policies import load

load.load()
