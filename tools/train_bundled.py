"""Train the networks that come with livescope again, from their data, with one command each.

    python tools/train_bundled.py suspension
    python tools/train_bundled.py simulated

`suspension` reads the LDC tiles from the folder in LIVESCOPE_DATA (default ../shared/data); `simulated` needs no data.
The same seed on the same machine and number of threads gives the same network.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from livescope.detect.normalise import Background
from livescope.train.augment import AugmentSettings
from livescope.train.bundling import Facts, Made, make_bundle
from livescope.train.data import Field, read_coco, simulated_fields
from livescope.train.fit import FitSettings

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("LIVESCOPE_DATA", ROOT.parent / "shared" / "data"))

SUSPENSION = Facts(
    name="suspension",
    licence="BSD-3-Clause (network); MIT (training images)",
    trained_on=(
        "1938 bright-field haemocytometer tiles of cells in suspension by Okerulu Chukwudi "
        "(github.com/maxKudi/Cell-Dataset, commit f02ae84, MIT), less those kept for validation and test"
    ),
    modality="bright-field",
    limits=(
        "State was judged by eye on the same images; no dye, cell type or pixel size is documented. The figures show "
        "agreement with one annotator, not that viability is right. Boxes are outlines only roughly, and cells cut by "
        "the frame were marked unevenly. Adherent cells, fluorescence and phase contrast were never seen."
    ),
    kept_apart="LDC tiles kept out of training and calibration by near-duplicate group (dup_group)",
    normalisation=Background(contrast=0.3),
    pixel_um=None,
    reach=1.0,
    border_px=12,
)
SIMULATED = Facts(
    name="simulated",
    licence="BSD-3-Clause",
    trained_on="fields of livescope.simulate: 60-900 cells/mm2, 5-90 % dead, exposure 6-40 ms, focus -4 to +4 um",
    modality="simulated bright-field",
    limits="Knows the simulated microscope only. Never use it on real cells: its calls there mean nothing.",
    kept_apart="simulated cultures of seeds that training and calibration never saw",
    normalisation=Background(contrast=0.3),
    pixel_um=1.3,
    bin_px=2,
    reach=0.5,
)


def suspension(folder: Path, steps: int, seed: int) -> Made:
    """Train on the LDC tiles."""
    fields = read_coco(DATA / "ldc", group="dup_group")
    return _make(fields, SUSPENSION, FitSettings(steps=steps, seed=seed, canvas_px=240), folder)


def simulated(folder: Path, steps: int, seed: int) -> Made:
    """Train on the simulated microscope."""
    fields = simulated_fields(240, seed=1000 + seed)
    settings = FitSettings(
        steps=steps, seed=seed, batch=6, canvas_px=256, augment=AugmentSettings(blur_px=0.8, noise=0.1)
    )
    return _make(fields, SIMULATED, settings, folder)


def _make(fields: list[Field], facts: Facts, settings: FitSettings, folder: Path) -> Made:
    def report(step: int, parts: dict[str, float]) -> None:
        print(f"step {step:5d}  " + "  ".join(f"{name} {value:.4f}" for name, value in parts.items()), flush=True)

    return make_bundle(fields, facts, settings, folder, fractions=(0.8, 0.08), report=report)


RECIPES: dict[str, tuple[Any, int]] = {"suspension": (suspension, 2000), "simulated": (simulated, 1300)}


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=sorted(RECIPES))
    parser.add_argument("--out", type=Path, default=ROOT / "livescope" / "models", help="folder for the bundle")
    parser.add_argument("--steps", type=int, help="steps of training (default: the bundled network's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    recipe, steps = RECIPES[chosen.model]
    made = recipe(chosen.out, chosen.steps or steps, chosen.seed)
    print(made.scores)
    print("written:", made.bundle.onnx_path)


if __name__ == "__main__":
    main()
