"""Train the networks that come with livescope again, from their data, with one command each.

    python tools/train_bundled.py suspension
    python tools/train_bundled.py simulated
    python tools/train_bundled.py adherent

With --measure-only nothing is trained: the figures on the test fields, and what the shift watch compares with, are
measured again and written into the card, from the same fields through the network as it is.

Real images are read from the folder in LIVESCOPE_DATA (default ../shared/data); `simulated` needs none. The same seed
on the same machine, code and number of threads gives the same network.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from livescope.detect.bundle import load_bundle, write_card
from livescope.train.augment import AugmentSettings
from livescope.train.bundling import make_bundle, measured
from livescope.train.dealing import deal
from livescope.train.fit import FitSettings
from livescope.train.settings import TrainSettings
from livescope.train.sources import Coco, Masks, Simulated, read

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("LIVESCOPE_DATA", ROOT.parent / "shared" / "data"))
MODELS = ROOT / "livescope" / "models"

SUSPENSION = TrainSettings(
    name="suspension",
    out=MODELS,
    data=(Coco(path=DATA / "ldc", group="dup_group"),),
    fractions=(0.8, 0.08),
    border_px=12,
    fit=FitSettings(steps=3000, canvas_px=240),
    licence=(
        "BSD-3-Clause (network). Training images: MIT, Okerulu Chukwudi, github.com/maxKudi/Cell-Dataset, f02ae84"
    ),
    limits=(
        "State was judged by eye on the same images; no dye, cell type or pixel size is documented. The figures show "
        "agreement with one annotator, not that viability is right. Boxes are outlines only roughly, and cells cut by "
        "the frame were marked unevenly. Adherent cells, fluorescence and phase contrast were never seen."
    ),
)
SIMULATED = TrainSettings(
    name="simulated",
    out=MODELS,
    data=(Simulated(fields=360, seed=1000),),
    pixel_um=1.3,
    fractions=(0.8, 0.08),
    fit=FitSettings(steps=4000, batch=6, canvas_px=256, augment=AugmentSettings(blur_px=0.8, noise=0.1)),
    licence="BSD-3-Clause",
    modality="simulated bright-field",
    limits="Knows the simulated microscope only. Never use it on real cells: its calls there mean nothing.",
)
ADHERENT = TrainSettings(
    name="adherent",
    out=MODELS,
    data=(Simulated(fields=120, seed=2000), Masks(path=DATA / "usiigaci", pixel_um=0.65, repeat=8)),
    pixel_um=1.3,
    fractions=(0.75, 0.1),
    fit=FitSettings(steps=3000, batch=6, canvas_px=256, augment=AugmentSettings(blur_px=0.8, noise=0.1)),
    licence="BSD-3-Clause (network). Training images: MIT, Tsai et al. 2019, github.com/oist/Usiigaci, commit 9501d80",
    modality="bright-field and phase contrast",
    limits=(
        "Where cells are and how they are outlined was learned from the simulator and from phase-contrast fields of "
        "one line (T98G). Their pixel size is not documented: 0.65 um is nominal. Dead or live was learned from the "
        "simulator alone: on real cells p_dead is unproven and must not be used before it was checked against a dye "
        "(livescope evaluate) or the network was fine-tuned on dye pairs (livescope train). Round bright cells may be "
        "in mitosis."
    ),
)
RECIPES = {settings.name: settings for settings in (SUSPENSION, SIMULATED, ADHERENT)}


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=sorted(RECIPES))
    parser.add_argument("--out", type=Path, default=MODELS, help="folder for the bundle")
    parser.add_argument("--steps", type=int, help="steps of training (default: the bundled network's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--measure-only", action="store_true", help="measure again what the card says, no more")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    recipe = RECIPES[chosen.model]
    if chosen.measure_only:
        bundle = load_bundle(chosen.out / f"{recipe.name}.onnx")
        parts = deal([read(one) for one in recipe.data], recipe)
        changes, _, _ = measured(bundle, parts, recipe.border_px)
        print(write_card(bundle.card.model_copy(update=changes), bundle.onnx_path))
        return
    fit = recipe.fit.model_copy(update={"seed": chosen.seed, "steps": chosen.steps or recipe.fit.steps})

    def report(step: int, parts: dict[str, float]) -> None:
        print(f"step {step:5d}  " + "  ".join(f"{name} {value:.4f}" for name, value in parts.items()), flush=True)

    made = make_bundle(recipe.model_copy(update={"out": chosen.out, "fit": fit}), report=report)
    for scores in made.scores:
        print(scores)
    print("written:", made.bundle.onnx_path)


if __name__ == "__main__":
    main()
