"""``python -m broker``: the commands of the broker and of the pseudonym service (`broker.parser`).

Data goes to stdout, log lines (JSON) to stderr. Exit codes are those of `zhifu.errors.Exit`.
"""

from __future__ import annotations

import os
import sys
from pkgutil import resolve_name
from typing import Final

from broker.parser import parser
from zhifu.errors import Error, Exit

_PSEUDONYM: Final = "pseudonym"


def main(argv: list[str] | None = None) -> int:
    """Run a command; the exit code."""
    given = sys.argv[1:] if argv is None else argv
    alone = given[:1] == [_PSEUDONYM]
    arguments = parser(_PSEUDONYM).parse_args(given[1:]) if alone else parser().parse_args(given)
    # Keys, the database and its log: nothing a broker writes is for others on this machine.
    os.umask(0o077)
    try:
        return int(resolve_name(arguments.run)(arguments) or Exit.OK)
    except Error as error:
        print(f"zhifu broker: {error}", file=sys.stderr)
        return int(error.exit)
    except BrokenPipeError:
        return int(Exit.FAILURE)
    except OSError as error:
        if error.filename is None:
            raise
        print(f"zhifu broker: usage.file: {error.filename}: {error.strerror}", file=sys.stderr)
        return int(Exit.USAGE)


if __name__ == "__main__":
    sys.exit(main())
