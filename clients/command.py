"""What every command has in common.

Data to stdout, chatter to stderr, one clear line and the right code for an error.
"""

from __future__ import annotations

import errno
import functools
import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from clients import plain
from zhifu.errors import Error, Exit

P = ParamSpec("P")
R = TypeVar("R")
_running: ContextVar[ExitStack] = ContextVar("_running")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, nothing else.")]
Folder = Annotated[
    Path, typer.Argument(help="The folder with its keys and settings: a node's, a wallet's, a registrar's.")
]
Output = Annotated[Path, typer.Option("-o", "--output", help="The file to write.")]
Language = Annotated[str, typer.Option("--lang", help="zh or en.", envvar="ZHIFU_LANG")]

chatter = Console(stderr=True)


def clear(function: Callable[P, R]) -> Callable[P, R]:
    """Turn our errors into one line on stderr and their exit code.

    Nobody who types a command sees a traceback of them.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with ExitStack() as stack:
                _running.set(stack)
                return function(*args, **kwargs)
        except Error as error:
            print(f"zhifu: {error}", file=sys.stderr)
            raise typer.Exit(int(error.exit)) from None
        except BrokenPipeError:
            raise typer.Exit(int(Exit.FAILURE)) from None
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            print(f"zhifu: usage.file: the output cannot be written: {error.strerror}", file=sys.stderr)
            raise typer.Exit(int(Exit.USAGE)) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None

    return wrapped


def to_the_end(held: AbstractContextManager[R]) -> R:
    """What ``held`` gives, until the `clear` command that runs has ended."""
    return _running.get().enter_context(held)


def row(table: Table, *cells: object, style: str | None = None) -> None:
    """A row of a table whose cells are somebody else's words: shown as they are, never understood (`plain.line`),
    and whole: what is wider than its column goes on in the next line.
    """
    shown = ("\n".join(map(plain.line, str(cell).split("\n"))) for cell in cells)
    table.add_row(*(Text(cell, overflow="fold") for cell in shown), style=style)


def show(table: Table, nothing: str) -> None:
    """The table on stdout; where it has no row, ``nothing`` on stderr, since a frame around nothing says less."""
    if table.row_count:
        Console().print(table)
    else:
        chatter.print(nothing)


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    print(to_json(document))


def to_json(document: Any) -> str:
    """JSON as people can read it too."""
    return json.dumps(document, ensure_ascii=False, indent=1)


def app(text: str) -> typer.Typer:
    """A group of commands."""
    return typer.Typer(help=text, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
