"""Training as a window asks for it: `python -m livescope.train propose|train CONFIG`, one JSON object a line on stdout.

Owns those lines. What is done is what `livescope train` does; `livescope.view.trainer` reads the lines.

``{"stage": text}``, ``{"step": n, "steps": n, "losses": {...}}``, ``{"proposed": {...}}`` (`livescope.train.proposal`),
``{"made": {"model", "sheet", "before", "after", "notes"}}`` (sheet and before None where there is none, figures
None where nothing was kept for a test), ``{"error": text}`` with the error's exit code.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from livescope.detect.bundle import load_bundle
from livescope.errors import LivescopeError
from livescope.train.bundling import Made
from livescope.train.evaluate import call_fields
from livescope.train.proposal import gather_pairs, propose
from livescope.train.scoring import match_field, score
from livescope.train.settings import load_train_settings
from livescope.train.sources import DyePairs
from livescope.train.training import train

__all__ = ["main"]

_FIGURES = ("f1", "recall_live", "recall_dead", "auc_dead", "balanced_accuracy", "uncertain", "ece")


def main(arguments: list[str] | None = None) -> int:
    """Do what the arguments ask; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m livescope.train", description=__doc__)
    parser.add_argument("what", choices=("propose", "train"))
    parser.add_argument("config", type=Path)
    parser.add_argument("--out", type=Path, default=Path("labels"), help="propose: folder for the pictures")
    parser.add_argument(
        "--gather", nargs=4, metavar=("FOLDER", "BRIGHTFIELD", "DEAD", "NUCLEAR"), help="propose: link dye pairs first"
    )
    options = parser.parse_args(arguments)
    try:
        if options.what == "propose":
            _propose(options.config, options.out, options.gather)
        else:
            _train(options.config)
    except LivescopeError as error:
        _say(error=str(error))
        return error.exit_code
    return 0


def _propose(config: Path, out: Path, gather: list[str] | None) -> None:
    settings = load_train_settings(config)
    first = settings.data[0]
    if gather is not None and isinstance(first, DyePairs):
        _say(stage="gathering the channels")
        gather_pairs(Path(gather[0]), (gather[1], gather[2], gather[3]), first.path)
    _say(stage="reading pictures and labels")
    _say(proposed=propose(settings, out))


def _train(config: Path) -> None:
    settings = load_train_settings(config)

    def report(step: int, parts: dict[str, float]) -> None:
        _say(step=step, steps=settings.fit.steps, losses=parts)

    made = train(config, report=report, tell=lambda stage: _say(stage=stage))
    before = None
    if settings.start is not None and made.tests:
        _say(stage=f"scoring {Path(settings.start).stem}, where it began, on the same pictures")
        before = _figures(settings.start, made)
    sheet = settings.out / f"{settings.name}.sheet" / "sheet.html" if made.tests else None
    model = str(made.bundle.onnx_path.absolute())
    after = _figures(model, made)
    shown = None if sheet is None else str(sheet.absolute())
    _say(made={"model": model, "sheet": shown, "before": before, "after": after, "notes": made.notes})


def _figures(model: str, made: Made) -> dict[str, float | None]:
    """Figures of a model on the test fields of a training, None where there is nothing to measure."""
    if not made.tests:
        return {**dict.fromkeys(_FIGURES), "n_live": 0, "n_dead": 0}
    bundle = load_bundle(model)
    matched = []
    for dataset, fields in made.tests:
        calls = call_fields(bundle, fields, dataset.pixel_um)
        matched += [match_field(f, c, dataset.reach) for f, c in zip(fields, calls, strict=True)]
    scores = asdict(score(matched))
    known = {name: scores[name] if np.isfinite(scores[name]) else None for name in _FIGURES}
    return {**known, "n_live": scores["n_live"], "n_dead": scores["n_dead"]}


def _say(**what: Any) -> None:
    print(json.dumps(what, default=str), flush=True)


if __name__ == "__main__":
    sys.exit(main())
