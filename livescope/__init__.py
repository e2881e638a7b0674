"""livescope: which cells are alive and which are dead, live at the microscope and without a stain.

`import livescope` is light: no Qt, no torch, no Micro-Manager. Those are imported where they are used.
"""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["__version__"]
