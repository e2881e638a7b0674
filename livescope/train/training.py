"""A lab's own network from one config: what `livescope train` does.

Owns the order: settings, pictures of the dye's thresholds, training, losses, validation sheet.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from livescope.detect.bundle import load_bundle
from livescope.errors import SettingsError
from livescope.train.bundling import Made, make_bundle
from livescope.train.evaluate import sheet_of, write_sheet
from livescope.train.figures import draw_dye, draw_history
from livescope.train.settings import TrainSettings, load_train_settings
from livescope.train.sources import Dataset, read

__all__ = ["train"]


def train(
    config: Path,
    overrides: Sequence[str] = (),
    report: Callable[[int, dict[str, float]], None] = lambda _step, _parts: None,
    tell: Callable[[str], None] = lambda _what: None,
    resume: bool | None = None,
) -> Made:
    """Train, or fine-tune, a network on labelled data and validate it on groups kept out.

    Writes into the config's `out`: NAME.onnx with NAME.card.yaml (the bundle), NAME.losses.png, NAME.dye.png (of dye
    pairs: the thresholds, to be looked at), NAME.sheet/ (validation sheet; those of an earlier network of the name are
    deleted), NAME.seen.txt (what it was trained on, and what the network that it began from was), and while it runs
    NAME.checkpoint.pt, from which the same command goes on after an interruption.

    Parameters
    ----------
    config, overrides
        As `livescope.train.settings.load_train_settings` takes them.
    report
        Called with (step, mean parts of the loss) some twenty times in a run.
    tell
        Told each stage.
    resume
        Whether to go on from the checkpoint of an interrupted training: None if there is one of these settings,
        pictures and labels, True must, False starts anew.

    Raises
    ------
    SettingsError
        The config has a fault, the bundle to start from would be overwritten, there is nothing to resume, or the
        network is to have a pixel size and that of some data is unknown.
    SourceError
        Data are missing, of too few groups, or without cells to learn from.
    ModelError
        The network to start from is none, or too little was found to calibrate on.
    """
    settings = load_train_settings(config, overrides)
    _writable(settings)
    tell("reading data")
    datasets = [read(one) for one in settings.data]
    settings = _as_started(settings, datasets)
    for number, dataset in enumerate(datasets):
        for note in dataset.notes:
            tell(f"warning: {note}")
        if dataset.thresholds is not None:
            name = settings.out / f"{settings.name}.dye{number or ''}.png"
            draw_dye(dataset.measured, dataset.thresholds, name)
            tell(f"dye thresholds: {dataset.thresholds} - look at {name}")
    tell(f"training {settings.fit.steps} steps on {sum(len(dataset.fields) for dataset in datasets)} fields")
    made = make_bundle(settings, datasets, report=report, resume=resume, tell=tell)
    draw_history(made.history, settings.out / f"{settings.name}.losses.png")
    _drop_sheets(settings)
    for number, (dataset, fields) in enumerate(made.tests):
        tell(f"validation sheet: {dataset.described}")
        sheet = sheet_of(made.bundle, dataset, fields, tell)
        write_sheet(sheet, settings.out / f"{settings.name}.sheet{number or ''}", dataset)
    return made


def _drop_sheets(settings: TrainSettings) -> None:
    """Delete the sheets of an earlier network of this name: it is overwritten, and they say nothing of the new one."""
    for sheet in settings.out.glob("*/sheet.json"):
        if re.fullmatch(re.escape(settings.name) + r"\.sheet\d*", sheet.parent.name):
            shutil.rmtree(sheet.parent)


def _writable(settings: TrainSettings) -> None:
    """Refuse to overwrite the network that is started from, before any time is spent."""
    if settings.start is not None:
        start = load_bundle(settings.start).onnx_path
        if start.resolve() == (settings.out / f"{settings.name}.onnx").resolve():
            raise SettingsError(f"{str(start)!r} would be overwritten by its own fine-tuning; choose another name.")
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"out {str(settings.out)!r} cannot be made: {error.strerror}. Choose another.") from None


def _as_started(settings: TrainSettings, datasets: Sequence[Dataset]) -> TrainSettings:
    """Take normalisation and pixel size from the network that is started from, where the config does not set them."""
    if settings.start is None:
        return settings
    card, said = load_bundle(settings.start).card, settings.model_fields_set
    changed: dict[str, object] = {} if "normalisation" in said else {"normalisation": card.normalisation}
    # pictures of unknown pixel size are taken as they are, and the new card must not claim to know better
    if "pixel_um" not in said and all(dataset.pixel_um is not None for dataset in datasets):
        changed["pixel_um"] = card.pixel_um
    return settings.model_copy(update=changed)
