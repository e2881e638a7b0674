"""The design of 2021 (segment, then classify 64 x 64 crops) beside the single pass: same split, and cost of a frame.

    python tools/paper_mode.py --json paper.json
    python tools/paper_mode.py --fold 0 --steps 1200 --out cross_validation/ldc

Both are trained on the fold's training groups of LDC (by series, as tools/cross_validate.py deals them), choose their
thresholds on the same fields, and are scored on the same test groups. A fold that cross_validate.py has finished in OUT
is not trained again. The cost is that of tools/bench_detect.py: one 2048 x 2048 frame with 300 cells, in turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tools"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from _two_stage import TwoStage, segment_skimage  # noqa: E402
from _validation import Fold, load_fold, matched_of, save_fold  # noqa: E402
from bench_detect import SIDE, detector_for, frame_to_calls, scene  # noqa: E402
from cross_validate import RECIPES, deal, split, train_fold  # noqa: E402

from livescope.assay.agreement import auc  # noqa: E402
from livescope.calls import State  # noqa: E402
from livescope.detect.bundle import load_bundle  # noqa: E402
from livescope.train.dealing import Part  # noqa: E402
from livescope.train.paper import PaperModel, PaperSettings, crops_of, train_paper  # noqa: E402
from livescope.train.scoring import Matched, bootstrap, match_field, score  # noqa: E402
from livescope.train.sources import read  # noqa: E402

FIGURES = ("f1", "precision", "recall", "recall_dead", "auc_dead", "balanced_accuracy", "ece", "n_live", "n_dead")


def figures(matched: list[Matched]) -> dict[str, Any]:
    """Scores of one design, with 95 % intervals where there are several groups."""
    values, intervals = asdict(score(matched)), bootstrap(matched, score)
    return {name: {"value": values[name], "interval": intervals.get(name)} for name in FIGURES}


def given_boxes(model: PaperModel, part: Part) -> float:
    """AUC of dead where every cell is handed over at its marked centre: the classifier alone."""
    logits = np.concatenate([model.logits(crops_of(field.pixels, field.centres_yx)) for field in part.test])
    state = np.concatenate([field.state for field in part.test])
    p_dead = model.p_dead(logits)
    return auc(p_dead[state == State.DEAD], p_dead[state == State.LIVE])


def single_pass(part: Part, number: int, out: Path) -> tuple[Fold, float | None]:
    """Take up the fold of the single pass, or train it; returns the seconds of that, None where it was there."""
    kept, begin = out / f"fold_{number}.npz", time.perf_counter()
    there = kept.is_file() and set(load_fold(kept).names) == {field.name for field in part.test}
    if not there:
        save_fold(train_fold(RECIPES["ldc"], number, part, out), kept)
    return load_fold(kept), None if there else time.perf_counter() - begin


def cost(threads: int, rounds: int) -> dict[str, float]:
    """Milliseconds of one frame from pixels to calls by either design, medians over interleaved rounds."""
    bundle, frame = load_bundle("simulated"), scene(300, SIDE)
    two_stage = TwoStage(segment_skimage, threads)
    ours = frame_to_calls(detector_for(bundle, "onnx", "fp32", threads), bundle, frame)
    cases: dict[str, Callable[[], object]] = {"single pass": ours, "paper mode": lambda: two_stage(frame.pixels)}
    times: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(rounds + 1):
        for name, case in cases.items():
            begin = time.perf_counter()
            case()
            if turn:
                times[name].append((time.perf_counter() - begin) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Parse, train, score, time, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fold", type=int, default=0, help="which of the three folds by series is the test")
    parser.add_argument("--steps", type=int, default=PaperSettings().steps, help="batches of 32 crops")
    parser.add_argument("--out", type=Path, default=Path("cross_validation/ldc"), help="folder of cross_validate.py")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="of the timing")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    recipe = RECIPES["ldc"]
    dataset, kin = read(recipe.settings.data[0]), recipe.kin()
    groups = deal(dataset.fields, lambda field: field.group, recipe.folds)[chosen.fold]
    part = split(recipe, dataset, groups, kin)
    print(f"test {sorted(groups)} ({len(part.test)} fields), {len(part.train)} for training", flush=True)
    fold, seconds = single_pass(part, chosen.fold, chosen.out)
    begin = time.perf_counter()
    model = train_paper(
        part.train,
        part.valid,
        dataset.reach,
        PaperSettings(steps=chosen.steps),
        lambda step, loss: print(f"  step {step:5d}  loss {loss:.4f}  {time.perf_counter() - begin:.0f} s", flush=True),
    )
    spent = time.perf_counter() - begin
    calls = [model.calls(field.pixels) for field in part.test]

    def paper(border_px: float) -> dict[str, Any]:
        return figures([match_field(f, c, dataset.reach, border_px) for f, c in zip(part.test, calls, strict=True)])

    tree: dict[str, Any] = {
        "test_groups": sorted(groups),
        "fields": {"train": len(part.train), "valid": len(part.valid), "test": len(part.test)},
        "steps": chosen.steps,
        "training_s": {"paper mode": round(spent), "single pass": None if seconds is None else round(seconds)},
        "whole tiles": {
            "single pass": figures(matched_of(dataset, [fold])),
            "paper mode": paper(0),
        },
        "without a border of 12 px": {
            "single pass": figures(matched_of(dataset, [fold], 12)),
            "paper mode": paper(12),
        },
        "auc_dead_on_given_boxes": {"paper mode": given_boxes(model, part)},
    }
    milliseconds = cost(chosen.threads, chosen.rounds)
    ratio = milliseconds["paper mode"] / milliseconds["single pass"]
    tree["cost_ms"] = {**milliseconds, "ratio": ratio, "frame": f"{SIDE} x {SIDE} uint16, about 300 cells"}
    for where in ("whole tiles", "without a border of 12 px"):
        for design, scores in tree[where].items():
            print(where, design, "  ".join(f"{name} {one['value']:.3f}" for name, one in scores.items()))
    print("cost", tree["cost_ms"], "AUC on given boxes", tree["auc_dead_on_given_boxes"])
    if chosen.json:
        chosen.json.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
