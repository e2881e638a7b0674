"""livescope: which cells are alive and which are dead, live at the microscope and without a stain.

`import livescope` is light: no Qt, no torch, no Micro-Manager. Those are imported where they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from livescope.api import attach, open_record, open_session

__version__ = "0.1.0"
__all__ = ["__version__", "attach", "open_record", "open_session"]


def __getattr__(name: str) -> Any:
    """Import the Python interface (`livescope.api`) when it is first used."""
    if name in __all__:
        return getattr(importlib.import_module("livescope.api"), name)
    raise AttributeError(f"module 'livescope' has no attribute {name!r}; it offers {', '.join(__all__)}")
