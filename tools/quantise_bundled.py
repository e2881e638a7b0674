"""Give the bundled networks their 8-bit versions, judged: ``python tools/quantise_bundled.py [NAME ...]``.

To be run after a bundled network was trained anew; then run ``python tests/detect/golden_kit.py``. The frames are the
simulator's for `simulated`, the LDC tiles of the data folder (LIVESCOPE_DATA) for `suspension`, and for `adherent` the
simulator's with the Usiigaci fields.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tools"))

from livescope.acquire.files import iter_frames  # noqa: E402
from livescope.detect.bundle import bundled_names, load_bundle  # noqa: E402
from livescope.frames import Frame  # noqa: E402
from livescope.quantise import quantise  # noqa: E402
from livescope.settings import CameraSettings  # noqa: E402
from livescope.train.data import simulated_fields  # noqa: E402

DATA = Path(os.environ.get("LIVESCOPE_DATA", ROOT / ".." / "shared" / "data"))
EVERY = 10
"""One tile in ten sets the ranges or judges: some 600 cells."""
DRAWN = 24
"""Simulated fields beside the real ones for `adherent`; even, so that half of either kind judges."""


def frames_of(name: str) -> tuple[list[Frame], str]:
    """Frames as the network will see them, and what they are."""
    if name == "simulated":
        from bench_detect import scene

        densities = (40, 120, 250, 500)
        frames = [scene(n, 1024, seed=20 + k) for k, n in enumerate(densities * 3)]
        return frames, f"{len(frames)} simulated fields of {min(densities)} to {max(densities)} cells"
    if name == "adherent":
        fields = simulated_fields(DRAWN, seed=3000)  # no culture of its training, which is seeded 2000
        drawn = [Frame(field.pixels, 0, 0, "Simulated", 0.0, 0.0, 16, pixel_um=0.65) for field in fields]
        pictures = iter_frames(DATA / "usiigaci" / "images", CameraSettings(pixel_um=0.65))
        real = [frame for _, frame in pictures]
        return drawn + real, f"{DRAWN} simulated and {len(real)} Usiigaci fields"
    tiles = list(iter_frames(DATA / "ldc" / "images"))
    frames = [frame for _, frame in tiles[::EVERY]]
    return frames, f"{len(frames)} LDC tiles, every {EVERY}th"


def main() -> int:
    """Quantise and judge each model; 1 where one did not pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=bundled_names(), help="default: %(default)s")
    good = True
    for name in parser.parse_args().names:
        frames, frames_are = frames_of(name)
        gate = quantise(load_bundle(name), frames, frames_are).card.int8
        assert gate is not None
        good &= gate.passed
        print(f"{name}: {'passed' if gate.passed else 'NOT PASSED'}: {gate}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
