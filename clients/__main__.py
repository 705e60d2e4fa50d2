"""``python -m clients``: what ``zhifu`` runs."""

from __future__ import annotations

from clients.cli import main

if __name__ == "__main__":
    main()
