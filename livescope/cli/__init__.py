"""The command line: a line per command, each calls one function.

Owns exit codes. Errors that livescope or the disk explains are printed without a traceback.
"""

from __future__ import annotations

import sys
from typing import NoReturn

from rich.console import Console
from rich.markup import escape

from livescope.cli.base import app
from livescope.errors import LivescopeError

# isort: split
from livescope.cli import running  # the order in which --help lists them

# isort: split
from livescope.cli import records

# isort: split
from livescope.cli import models

__all__ = ["app", "main", "models", "records", "running"]


def main() -> None:
    """Run the command line; explained errors end it with their exit code, as does what a disk refuses."""
    try:
        app()
    except LivescopeError as error:
        _end(str(error), error.exit_code)
    except OSError as error:
        file = f"{error.filename!r}: " if error.filename else ""
        _end(f"{file}{error.strerror or error}.", LivescopeError.exit_code)


def _end(message: str, exit_code: int) -> NoReturn:
    Console(stderr=True).print(f"[bold red]error[/] {escape(message)}", highlight=False, soft_wrap=True)
    sys.exit(exit_code)
