"""What the commands on stored images and records do: analyze, export, verify.

Owns the order in which they call the rooms, their progress and what they print. Options and help are in
`livescope.cli.records`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from livescope.errors import RecordError, SettingsError, SourceError, one_of
from livescope.settings import Settings, load_settings, override_settings, split_override

__all__ = ["analyze", "export", "verify"]

_console = Console()

_OF_CALLS = tuple(
    f"detector.{name}" for name in ("p_cell", "uncertain", "max_cells", "backend", "precision", "threads", "triton_url")
)
"""Settings that `analyze` can be told."""
_INSTEAD = {
    "detector.model": "--model",
    "camera.pixel_um": "--pixel-um",
    "detector.border": "`livescope report RECORD --border`",
}
"""What serves instead of a setting."""


def analyze(
    source: str,
    model: str | None,
    out: Path | None,
    overrides: Sequence[str],
    pixel_um: float | None,
    refined: bool = False,
    labels: Path | None = None,
    **how: Any,
) -> int:
    """Call every cell of stored images or of a record; returns the exit code.

    `refined` and `labels` are of `livescope.outlines.StoredOutlines`, labels of images only. `how` is what only a
    record can be asked for: ``workers``, ``scheduler``, ``every_frame`` of `livescope.reanalysis.reanalyse`.
    """
    from livescope.record.place import is_record

    stored = "://" in source or is_record(Path(source).expanduser())
    _refuse_idle(overrides, (*_OF_CALLS, "detector.model" if stored else "camera.pixel_um"))
    if stored:
        if labels is not None:
            raise SettingsError("--labels is for images; of a record take `livescope export RECORD --to labels`.")
        return _analyze_record(source, model, out, overrides, pixel_um=pixel_um, refined=refined, **how)
    if not Path(source).expanduser().exists():
        raise SourceError(f"{source!r} does not exist; give an image, a folder of images, or a record.")
    if any(how.values()):
        raise SettingsError(
            f"{source!r} is no record: --workers, --scheduler and --every-frame are for records. Leave them out."
        )
    if model is None or out is None:
        missing = " and ".join(name for name, value in (("--model", model), ("--out", out)) if value is None)
        raise SettingsError(
            f"{source!r} is no record, so {missing} must be given, e.g. --model suspension --out calls.parquet."
        )
    return _analyze_images(Path(source), model, out, overrides, pixel_um, refined=refined, labels=labels)


def export(record: str, to: str, out: Path | None, image: str) -> int:
    """Write a record in another format; returns the exit code."""
    from livescope.view.exports import export_record

    with _progress("exporting") as progress:
        written = export_record(record, to, out, image=image, progress=progress)
    for file in written:
        _print(f"-> {file}")
    return 0


def verify(record: str) -> int:
    """Check a record against its own hashes and sums; returns the exit code."""
    from livescope.record.verify import verify as verify_record

    with _progress("checking") as progress:
        found = verify_record(record, progress)
    _print(str(found))
    return 0 if found.ok else RecordError.exit_code


def _analyze_images(
    source: Path, model: str, out: Path, overrides: Sequence[str], pixel_um: float | None, **outlines: Any
) -> int:
    from livescope.offline import analyze_input

    done = analyze_input(source, model, pixel_um, out, load_settings(None, overrides), _console, **outlines)
    _warn(done.warnings)
    _print(
        f"{done.cells} cells in {done.frames} frames ({done.live} live, {done.dead} dead, {done.uncertain} uncertain) "
        f"-> {out}"
    )
    return 0


def _analyze_record(path: str, model: str | None, out: Path | None, overrides: Sequence[str], **how: Any) -> int:
    from livescope.reanalysis import reanalyse
    from livescope.record.reader import open_record

    record = open_record(path)
    chosen = [] if model is None else [f"detector.model={json.dumps(model)}"]
    detector = override_settings(record.settings, [*chosen, *overrides]).detector
    if out is None:
        folder = Path() if "://" in path else record.path.parent
        out = folder / f"{record.path.name.removesuffix('.zarr').removesuffix('.ome')}.calls.parquet"
    with _progress("analysing") as progress:
        found = reanalyse(path, out, detector=detector, progress=progress, **how)
    _warn(found.warnings)
    if found.same_model is False:
        _print("The record was made with another model.")
    compared = found.identical + found.only_identities + len(found.differing)
    _print(
        f"{found.cells} cells in {found.frames} frames -> {out}\n"
        f"Of {compared} frames that were called in the run {found.identical} have the very same calls, "
        f"{found.only_identities} the same but for identities; counts are equal in {found.same_counts}."
    )
    if found.differing:
        first = ", ".join(map(str, found.differing[:5]))
        _print(f"Other calls in {len(found.differing)} frames: {first}{', ...' if len(found.differing) > 5 else ''}.")
    return 0


def _refuse_idle(overrides: Sequence[str], taken: Sequence[str]) -> None:
    """Refuse settings that change nothing of the calls of stored images: who gives one believes that it does."""
    for override in overrides:
        key = ".".join(split_override(override)[0])
        if key not in taken and key.split(".")[0] in Settings.model_fields:  # others are refused as unknown
            instead = _INSTEAD.get(key)
            raise SettingsError(
                f"--set {key} changes no call of stored images; analyze takes {one_of(taken)}. "
                + ("Leave it out." if instead is None else f"Use {instead} instead.")
            )


@contextmanager
def _progress(doing: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar; what is yielded takes what is done and what there is in all."""
    with Progress(console=_console, transient=True) as bar:
        task = bar.add_task(doing, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print(text: str) -> None:
    _console.print(text, soft_wrap=True, highlight=False, markup=False)


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        _print(f"warning: {warning}")
