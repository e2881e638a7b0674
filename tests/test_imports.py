"""What `import livescope` and its command line cost: no Qt, no torch, no Micro-Manager before they are used."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    "PySide6", "PyQt6", "qtpy", "pyqtgraph", "torch", "pymmcore", "pymmcore_plus", "pymmcore_nano", "onnxruntime",
    "tensorstore", "zarr", "scipy", "skimage",
}  # fmt: skip
BUDGET_MS = 150


def _imported(statement: str, root: Path) -> tuple[set[str], float]:
    """Top-level modules that a fresh Python holds after `statement`, and the milliseconds of livescope's imports."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    total_us = max(int(us) for us in re.findall(r"\| +(\d+) \| livescope", done.stderr))
    return set(done.stdout.split()), total_us / 1000


@pytest.mark.parametrize(
    "statement",
    ["import livescope", "import livescope.settings, livescope.frames, livescope.calls", "import livescope.cli"],
)
def test_light_imports_stay_light(statement: str, root: Path, record_property: pytest.RecordProperty) -> None:
    modules, milliseconds = _imported(statement, root)
    assert "livescope" in modules
    assert modules & HEAVY == set()
    # shown, not judged: how long an import takes depends on who else uses the machine
    print(f"{statement}: {milliseconds:.1f} ms (budget of a bare import: {BUDGET_MS} ms)")
    record_property("import_ms", milliseconds)


def test_a_heavy_import_would_be_seen(root: Path) -> None:
    modules, _ = _imported("import livescope, onnxruntime", root)
    assert "onnxruntime" in modules & HEAVY
