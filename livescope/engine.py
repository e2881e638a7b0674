"""`livescope engine`: engines built ahead of time, the 8-bit version of a model, the model repository of a GPU server.

Owns what the command writes. Building is `detect.tensorrt_build`, the gate of the 8-bit version `quantise`.
"""

from __future__ import annotations

import re
from pathlib import Path

import onnx
from rich.console import Console
from rich.progress import Progress, TaskID

from livescope.detect.bundle import Bundle, Precision, TensorRt, load_bundle
from livescope.detect.frame_graph import build_frame_graph
from livescope.detect.network import read_network
from livescope.detect.scale import fit_scale
from livescope.errors import SettingsError
from livescope.frames import FrameSpec

__all__ = ["build_engine", "export_triton", "frame_spec", "make_int8"]

_CALIBRATION_FRAMES = 64
"""Frames read at most; half set the ranges, half judge."""
_LONGEST_SIDE_PX = 16_384
"""No camera has more; a slip of the finger would build for hours."""


def frame_spec(shape: str, dtype: str, pixel_um: float | None) -> FrameSpec:
    """Read a shape such as ``2048x2048`` (rows x columns).

    Raises
    ------
    SettingsError
        It is none, or larger than any camera's.
    FrameError
        The type is not one of a camera's.
    """
    parts = re.fullmatch(r"(\d+)x(\d+)", shape.strip().lower())
    if parts is None:
        raise SettingsError(f"--shape {shape!r} is not ROWSxCOLUMNS, e.g. 2048x2048.")
    height, width = int(parts[1]), int(parts[2])
    if max(height, width) > _LONGEST_SIDE_PX:
        raise SettingsError(f"--shape {shape!r} has a side of {max(height, width)} pixels; at most {_LONGEST_SIDE_PX}.")
    return FrameSpec(height, width, dtype, 16 if dtype == "uint16" else 8, pixel_um)


def frame_graph_of(bundle: Bundle, spec: FrameSpec, precision: Precision, max_cells: int) -> onnx.ModelProto:
    """Build the frame graph that the live detector would use for these frames."""
    return build_frame_graph(read_network(bundle, precision), spec, max_cells, fit_scale(spec, bundle.card).bin)


def build_engine(
    model: str,
    spec: FrameSpec,
    precision: Precision,
    backend: TensorRt,
    max_cells: int,
    out: Path,
    console: Console,
) -> Path:
    """Build a TensorRT plan for frames of one shape and write it.

    Parameters
    ----------
    model
        Bundled model's name, or path of a bundle's ``.onnx`` file.
    spec
        Shape, type and pixel size of the frames.
    precision, backend, max_cells
        Arithmetic of the network, which TensorRT, rows of the table.
    out
        File to write; replaced if it exists.
    console
        For the progress.

    Raises
    ------
    ModelError, BackendError
        No such model or precision; TensorRT is not installed or refuses the graph.
    SettingsError
        `out` cannot be written.
    """
    from livescope.detect.tensorrt_build import build_plan, import_tensorrt

    trt = import_tensorrt(backend)
    graph = frame_graph_of(load_bundle(model), spec, precision, max_cells)
    with Progress(console=console, transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def show(phase: str, step: int, steps: int) -> None:
            if phase not in tasks:
                tasks[phase] = progress.add_task(phase, total=steps)
            progress.update(tasks[phase], completed=step)

        plan = build_plan(trt, graph, show)
    _write(out, plan)
    console.print(
        f"{out}: {len(plan) / 1e6:.1f} MB, {trt.__name__} {trt.__version__}, {precision}, frames {spec.height} x "
        f"{spec.width} {spec.dtype}, {max_cells} rows. It loads with this version only.",
        markup=False,
    )
    return out


def export_triton(
    model: str, spec: FrameSpec, precision: Precision, max_cells: int, repository: Path, console: Console
) -> Path:
    """Write a model for frames of one shape into a GPU server's model repository; returns its folder there.

    Raises
    ------
    ModelError
        No such model or precision.
    SettingsError
        The repository cannot be written.
    """
    from livescope.detect.triton import export_repository

    bundle = load_bundle(model)
    graph = frame_graph_of(bundle, spec, precision, max_cells)
    try:
        folder = export_repository(bundle.name, graph, repository)
    except OSError as error:
        raise SettingsError(f"--triton {str(repository)!r} cannot be written: {error.strerror}.") from None
    console.print(
        f"{folder}: {precision}, frames {spec.height} x {spec.width} {spec.dtype}, {max_cells} rows.", markup=False
    )
    return folder


def make_int8(model: str, frames: Path, pixel_um: float | None, out: Path, console: Console) -> Bundle:
    """Make and judge the 8-bit version of a model from stored frames, and write a bundle that has it.

    Parameters
    ----------
    model
        Bundled model's name, or path of a bundle's ``.onnx`` file.
    frames
        Image, folder of images, or record: what the model will see.
    pixel_um
        Micrometres a pixel where the files do not say.
    out
        ``NAME.onnx`` of the new bundle; its card and ``NAME.int8.onnx`` are written beside it.
    console
        For the result.

    Raises
    ------
    ModelError
        No such model, or too few frames or cells to judge.
    SourceError
        Nothing to read.
    SettingsError
        `out` is no ``.onnx`` file, the model's own, or cannot be written.
    """
    from livescope.acquire.files import iter_frames, open_pages
    from livescope.quantise import quantise
    from livescope.settings import CameraSettings

    source = load_bundle(model)
    if out.suffix != ".onnx" or out.resolve() == source.onnx_path.resolve():
        raise SettingsError(f"--out {str(out)!r} must be a new file NAME.onnx; a bundle is never changed in place.")
    step = max(1, len(open_pages(frames)) // _CALIBRATION_FRAMES)
    chosen = [
        frame for n, (_, frame) in enumerate(iter_frames(frames, CameraSettings(pixel_um=pixel_um))) if n % step == 0
    ]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        bundle = quantise(source, chosen, f"{len(chosen)} frames of {frames.name}", out)
    except OSError as error:
        raise SettingsError(f"--out {str(out)!r} cannot be written: {error.strerror}. Choose another folder.") from None
    gate = bundle.card.int8
    assert gate is not None
    console.print(
        f"{out}: the 8-bit version {'passed' if gate.passed else 'did NOT pass'} its gate on {gate.n_cells} cells: F1 "
        f"{gate.f1:.3f} and the same state for {gate.same_state:.1%} against the network itself, viability off by "
        f"{gate.viability_shift:.1%}.",
        markup=False,
    )
    return bundle


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise SettingsError(f"--out {str(path)!r} cannot be written: {error.strerror}. Choose another path.") from None
