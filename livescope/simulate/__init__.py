"""A microscope that is not there: cells with known truth, optics, a Micro-Manager camera in Python, a scripted core."""

from __future__ import annotations

from typing import Any

__all__ = ["FakeCore"]


def __getattr__(name: str) -> Any:
    if name == "FakeCore":  # imported when asked for: `import livescope.simulate` stays cheap
        from livescope.simulate.fake_core import FakeCore

        return FakeCore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
