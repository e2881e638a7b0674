"""The command line: a line per command, each calls one function.

Owns exit codes. Errors that livescope explains are printed without a traceback.
"""

from __future__ import annotations

import sys

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
    """Run the command line; explained errors end it with their exit code."""
    try:
        app()
    except LivescopeError as error:
        Console(stderr=True).print(f"[bold red]error[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
