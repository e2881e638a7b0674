"""The commands `train`, `evaluate` and `calibrate` as a terminal shows them: progress, and where the results lie.

Owns what is printed. What is done lies in `training`, `evaluate` and `recalibrate`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from livescope.errors import SettingsError

__all__ = ["run_calibrate", "run_evaluate", "run_train"]

_SHOWN = ("recall_live", "recall_dead", "auc_dead", "balanced_accuracy", "ece", "error_at_90", "uncertain")

_WIDEST = "at most a quarter of the cells are left uncertain, and none below 0.05 or above 0.95"
"""What keeps the band from reaching every risk."""


def run_train(config: Path, overrides: Sequence[str], resume: bool | None, console: Console) -> None:
    """Train from a config with progress in the terminal; arguments as `livescope.train.training.train` takes them."""
    _require("torch", "onnxscript", "matplotlib")
    from livescope.train.settings import load_train_settings
    from livescope.train.training import train

    settings = load_train_settings(config, overrides)
    started, cpu = time.monotonic(), time.process_time()
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} steps"), TextColumn("{task.fields[loss]}"),
        TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("waiting", total=settings.fit.steps, loss="")

        def report(step: int, parts: dict[str, float]) -> None:
            valid = [value for name, value in parts.items() if name.startswith("valid_")]
            loss = sum(parts.values()) - sum(valid) - parts["seconds"]
            shown = f"loss {loss:.3f}" + (f", validation {sum(valid):.3f}" if valid else "")
            progress.update(task, completed=step, loss=shown)
            if not console.is_terminal:  # a log file shows no moving bar
                console.print(f"step {step} of {settings.fit.steps}: {shown}", highlight=False)

        def tell(what: str) -> None:
            progress.update(task, description=what.split(":")[0])
            progress.console.print(what, highlight=False, soft_wrap=True, markup=False)

        made = train(config, overrides, report, tell, resume)
    card, path = made.bundle.card, made.bundle.onnx_path
    for row in card.validation:
        console.print(f"validation: F1 {row.f1:.3f} on {row.data}", soft_wrap=True, highlight=False, markup=False)
    _warn(console, [f"{note}." for note in made.notes])
    if not card.validation:
        _warn(console, ["no test was made: score the model on other fields, livescope evaluate."])
    sheet = f" and {path.stem}.sheet/sheet.html" if made.tests else ""
    console.print(
        f"{time.monotonic() - started:.0f} s ({time.process_time() - cpu:.0f} s of CPU) -> {path} with its card, "
        f"{path.stem}.losses.png{sheet}. Use it: --model {path}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )


def run_evaluate(model: str, data: Path, out: Path, split: str, pixel_um: float | None, console: Console) -> None:
    """Write validation sheets with progress in the terminal; arguments as `livescope.train.evaluate.evaluate`."""
    _require("matplotlib")
    from livescope.train.evaluate import evaluate_all

    with _stages(console) as tell:
        sheets = evaluate_all(model, data, out, split, pixel_um, tell)
    for folder, sheet in sheets.items():
        if (figures := _figures(sheet)).row_count:
            console.print(figures)
        _warn(console, sheet["warnings"])
        console.print(
            f"-> {folder / 'sheet.html'}, {folder / 'sheet.json'}", soft_wrap=True, highlight=False, markup=False
        )


def run_calibrate(model: str, fields: Path, out: Path, risk: float, pixel_um: float | None, console: Console) -> None:
    """Calibrate with progress in the terminal; arguments as `livescope.train.recalibrate.recalibrate` takes them."""
    from livescope.train.recalibrate import recalibrate

    with _stages(console) as tell:
        done = recalibrate(model, fields, out, risk, pixel_um, tell)
    _warn(console, done.notes)
    if done.ece is None or done.error is None:
        console.print("chances and thresholds are as they were: these fields hold no labels that could set them.")
    else:
        (before, after), (low, high) = done.temperature, done.uncertain[1]
        console.print(
            f"{done.n_live} live and {done.n_dead} dead cells: temperature {before:.3f} -> {after:.3f}, expected "
            f"calibration error {done.ece[0]:.3f} -> {done.ece[1]:.3f} (on groups kept out where there are several), "
            f"uncertain from {low:.3f} to {high:.3f}, {done.error:.1%} of the calls given wrong",
            soft_wrap=True,
            highlight=False,
        )
        if done.error > risk:
            _warn(console, [f"more calls are wrong than --risk {risk:g} lets through: {_WIDEST}."])
    if done.watched:
        console.print("the shift watch now also knows how these fields look.")
    console.print(f"-> {out} with its card. Use it: --model {out}", soft_wrap=True, highlight=False, markup=False)


def _warn(console: Console, warnings: Sequence[str]) -> None:
    for warning in warnings:
        # a config in a sentence is no markup
        console.print(Text.assemble(("warning ", "yellow"), warning), soft_wrap=True, highlight=False)


@contextlib.contextmanager
def _stages(console: Console) -> Iterator[Callable[[str], None]]:
    """Show what is being done; each stage stays on the screen when the next begins."""
    with console.status("starting") as status:

        def tell(what: str) -> None:
            console.print(what, highlight=False, soft_wrap=True, markup=False)
            status.update(escape(what))

        yield tell


def _figures(sheet: dict[str, Any]) -> Table:
    from livescope.train.page import WORDS

    data = sheet["data"]
    dealt = ", ".join(f"{data[name]} {name if data[name] != 1 else name[:-1]}" for name in ("fields", "groups"))
    table = Table(title=f"{escape(sheet['model']['name'])}: {dealt}", min_width=60)
    for column in ("figure", "value", "95 % interval"):
        table.add_column(column)
    # where not every cell is marked a call beside them may be right
    found = ("f1",) if data["every_cell_marked"] else ("recall",)
    for name in (*found, *_SHOWN):
        value, interval = sheet["figures"][name]["value"], sheet["figures"][name]["interval"]
        if value is not None:
            table.add_row(WORDS[name], f"{value:.3f}", "{:.3f} to {:.3f}".format(*interval) if interval else "-")
    if sheet["calls_per_cell"] is not None and not data["every_cell_marked"]:
        table.add_row("calls for each marked cell", f"{sheet['calls_per_cell']:.2f}", "-")
        for row in sheet["free_response"]:
            if row["calls_per_cell"] == 2:
                table.add_row("found at two calls for each", f"{row['recall']:.3f}", "-")
    return table


def _require(*modules: str) -> None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise SettingsError(f"this needs {', '.join(missing)}: pip install 'livescope[train]'.")
