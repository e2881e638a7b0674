"""Grouped cross-validation of the single-pass network on real images: how it does on groups that it never saw.

    python tools/cross_validate.py ldc --json ldc.json
    python tools/cross_validate.py usiigaci
    python tools/cross_validate.py mcf7 --folds 2
    python tools/cross_validate.py simulated       # the bundled network on cultures of fresh seeds: nothing is trained

Whole groups (series, field, experiment) are dealt into folds. For each fold a network is trained on the groups of the
others, with the settings, the fit and the calibration of `livescope train`. The training is stopped, and thresholds and
temperature are chosen, on groups kept apart inside the training folds, never on the test fold. Near-duplicates of test
pictures (LDC) are left out of the training. The calls of each fold are kept beside its network (OUT/fold_K.npz):
figures can be computed again, and what an interrupted run has finished is not trained again.

Real images are read from the folder in LIVESCOPE_DATA (default ../shared/data).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tools"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from _validation import FIGURES, Fold, as_markdown, group_table, load_fold, predict, save_fold  # noqa: E402
from train_bundled import DATA, SUSPENSION  # noqa: E402

from livescope.calls import State  # noqa: E402
from livescope.detect.bundle import load_bundle  # noqa: E402
from livescope.detect.normalise import Spread  # noqa: E402
from livescope.train.augment import AugmentSettings  # noqa: E402
from livescope.train.bundling import make_bundle  # noqa: E402
from livescope.train.data import Field, read_coco  # noqa: E402
from livescope.train.dealing import Part  # noqa: E402
from livescope.train.dye import Thresholds  # noqa: E402
from livescope.train.fit import FitSettings  # noqa: E402
from livescope.train.settings import TrainSettings  # noqa: E402
from livescope.train.sources import Coco, Dataset, DyePairs, Masks, Simulated, read  # noqa: E402


@dataclass(frozen=True)
class Recipe:
    """What is trained and how it is dealt.

    Attributes
    ----------
    settings
        Data, training, card.
    folds
        Folds unless the command says otherwise.
    inner
        Parts into which the training groups are dealt; one of them chooses when to stop and where the thresholds lie.
    kin
        Name of a field to a finer group (near-duplicates): no two fields of one may lie on both sides of any split.
    masks
        Folder of instance masks, where outlines are to be scored.
    """

    settings: TrainSettings
    folds: int
    inner: int
    kin: Callable[[], dict[str, str]] = dict
    masks: Path | None = None


def _near_duplicates() -> dict[str, str]:
    return {field.name: field.group for field in read_coco(DATA / "ldc", "dup_group")}


RECIPES = {
    "ldc": Recipe(
        SUSPENSION.model_copy(update={"data": (Coco(path=DATA / "ldc", group="series"),)}), 3, 10, _near_duplicates
    ),
    "usiigaci": Recipe(
        TrainSettings(
            name="usiigaci",
            data=(Masks(path=DATA / "usiigaci", pixel_um=0.65),),
            pixel_um=1.3,
            modality="phase contrast",
            fit=FitSettings(steps=1500, batch=6, canvas_px=256),
        ),
        3,
        6,
        masks=DATA / "usiigaci" / "masks",
    ),
    "mcf7": Recipe(
        TrainSettings(
            name="mcf7",
            data=(
                DyePairs(
                    path=DATA / "mcf7_dye_pairs" / "fields",
                    pixel_um=0.311,
                    # the lines by which the set's own nuclei.csv was made, so that figures stand beside those of others
                    thresholds=Thresholds(),
                    # all MCF-7 cells are marked, NK and blood cells are not: those are not to be called
                    unmarked="background",
                ),
            ),
            pixel_um=0.311,
            # contrast differs sixfold between the experiments; the strengths below are in units of the frame's spread
            normalisation=Spread(),
            fit=FitSettings(
                steps=2400,
                state_weight=1.5,
                dead_miss_weight=1.0,
                # NK and blood cells look like dead MCF-7 ones: what counts is the order of faint calls
                focal=1.0,
                # red blood cells lie over the cells of some fields
                augment=AugmentSettings(level=0.04, gradient=0.6, noise=0.05, discs=0.3),
            ),
        ),
        3,
        5,
    ),
}


def deal(fields: Sequence[Field], group: Callable[[Field], str], parts: int) -> list[set[str]]:
    """Deal whole groups, heaviest first, into parts that hold about as many dead cells, cells and pictures."""
    counts = np.array([((field.state == State.DEAD).sum(), len(field.state), 1) for field in fields], float)
    shares = (counts / np.maximum(counts.sum(axis=0), 1)).sum(axis=1)
    weight: dict[str, float] = {}
    for field, share in zip(fields, shares, strict=True):
        weight[group(field)] = weight.get(group(field), 0.0) + float(share)
    dealt: list[set[str]] = [set() for _ in range(parts)]
    loads = [0.0] * parts
    for name in sorted(weight, key=lambda one: (-weight[one], one)):
        lightest = loads.index(min(loads))
        dealt[lightest].add(name)
        loads[lightest] += weight[name]
    return dealt


def split(recipe: Recipe, dataset: Dataset, test_groups: set[str], kin: dict[str, str]) -> Part:
    """Lay one fold apart, and of the rest what stops and calibrates the training."""

    def fine(field: Field) -> str:
        return kin.get(field.name, field.group)

    test = [field for field in dataset.fields if field.group in test_groups]
    near = {fine(field) for field in test}
    rest = [field for field in dataset.fields if field.group not in test_groups and fine(field) not in near]
    inner = deal(rest, fine, recipe.inner)
    # thresholds and temperature must serve groups of any kind: of the parts, the one from most groups; of several such
    # the one with the middle number of dead cells, neither one huge group nor what was left over
    held = [[field for field in rest if fine(field) in part] for part in inner]
    dead = [sum(int((field.state == State.DEAD).sum()) for field in part) for part in held]
    middle = sorted(dead)[len(dead) // 2]
    kinds = [len({field.group for field in part}) for part in held]
    chosen = inner[max(range(len(inner)), key=lambda k: (kinds[k], -abs(dead[k] - middle)))]
    return Part(
        dataset,
        [field for field in rest if fine(field) not in chosen],
        [field for field in rest if fine(field) in chosen],
        test,
    )


def train_fold(recipe: Recipe, number: int, part: Part, out: Path) -> Fold:
    """Train, calibrate and keep one fold."""
    fit = recipe.settings.fit.model_copy(update={"seed": recipe.settings.fit.seed + number})
    settings = recipe.settings.model_copy(update={"name": f"fold_{number}", "out": out, "fit": fit})

    def report(step: int, parts: dict[str, float]) -> None:
        print(f"  step {step:5d}  " + "  ".join(f"{name} {value:.4f}" for name, value in parts.items()), flush=True)

    bundle = make_bundle(settings, [part], report=report).bundle
    return predict(bundle, part.dataset, part.test, recipe.masks)


def cross_validate(recipe: Recipe, folds: int, out: Path) -> tuple[Dataset, list[Fold]]:
    """Return the data and the calls of every fold, trained now or kept from before."""
    dataset, kin = read(recipe.settings.data[0]), recipe.kin()
    dealt = deal(dataset.fields, lambda field: field.group, folds)
    done = []
    for number, groups in enumerate(dealt):
        kept = out / f"fold_{number}.npz"
        part = split(recipe, dataset, groups, kin)
        print(
            f"fold {number}: test {sorted(groups)} ({len(part.test)} fields), {len(part.train)} for training, "
            f"{len(part.valid)} for stopping and thresholds{', kept from before' if kept.is_file() else ''}",
            flush=True,
        )
        if not kept.is_file():
            save_fold(train_fold(recipe, number, part, out), kept)
        done.append(load_fold(kept))
    return dataset, done


def shortened(recipe: Recipe) -> Recipe:
    """Train for a tenth of the steps."""
    fit = recipe.settings.fit
    fit = fit.model_copy(update={"steps": max(fit.steps // 10, 1)})
    return replace(recipe, settings=recipe.settings.model_copy(update={"fit": fit}))


def fresh_cultures(fields: int) -> tuple[Dataset, list[Fold]]:
    """Call cells of simulated cultures that no bundled network has seen: their seeds are 5 000 000 000 and up."""
    dataset = read(Simulated(fields=fields, seed=5000))
    return dataset, [predict(load_bundle("simulated"), dataset, dataset.fields)]


def main() -> None:
    """Parse the command line, train, score, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=[*RECIPES, "simulated"])
    parser.add_argument("--folds", type=int, help="default: 3")
    parser.add_argument("--out", type=Path, help="folder for networks and calls (default cross_validation/DATASET)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps: does it run at all?")
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    out = chosen.out or Path("cross_validation") / (chosen.dataset + ("-quick" if chosen.quick else ""))
    if chosen.dataset == "simulated":
        dataset, folds = fresh_cultures(12 if chosen.quick else 120)
    else:
        recipe = RECIPES[chosen.dataset]
        if chosen.quick:
            recipe = shortened(recipe)
        dataset, folds = cross_validate(recipe, chosen.folds or recipe.folds, out)
    rows = FIGURES[chosen.dataset](dataset, folds)
    groups = group_table(dataset, folds)
    print(as_markdown(rows, groups))
    if chosen.json:
        tree = {
            "data": dataset.described,
            "folds": len(folds),
            "rows": [row.plain() for row in rows],
            "groups": groups,
        }
        chosen.json.write_text(json.dumps(tree, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
