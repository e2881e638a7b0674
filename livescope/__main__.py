"""`python -m livescope`: the command line without its script, for environments whose scripts are not on the PATH."""

from __future__ import annotations

from livescope.cli import main

if __name__ == "__main__":
    main()
