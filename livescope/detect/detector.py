"""The one interface of every inference backend, and the choice between them.

Owns the protocol. The backends themselves lie beside this file, one module each.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from livescope.detect.bundle import Bundle, Precision, TensorRt
from livescope.errors import BackendError, one_of
from livescope.frames import Frame, FrameSpec
from livescope.settings import DetectorSettings

__all__ = ["TABLE_COLUMNS", "BackendInfo", "Detector", "Progress", "Table", "open_detector"]

Progress = Callable[[str], None]

_PROVIDERS = {"onnx": "CPU", "coreml": "CoreML", "directml": "Dml"}
"""Backends that are execution providers of ONNX Runtime."""
_OPTIONAL = {"openvino": "openvino", "tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""Backends that auto looks for, by the module that must be there."""

TABLE_COLUMNS = 36
"""Columns of a table: score, dead logit, y, x, 32 radii."""


@dataclass(slots=True, frozen=True)
class Table:
    """What a backend returns for one frame.

    Attributes
    ----------
    rows
        (K, 36) float32, sorted by falling score: score (0..1), dead logit, y, x (pixels of the raw frame), 32 radii
        (pixels of the raw frame, convention of `livescope.calls.ray_angles`). Rows past the last peak have score 0. If
        the network's score map is not finite, no score is: a failed network never looks like an empty field.
    frame_index
        `Frame.index` of the frame it belongs to.
    """

    rows: NDArray[np.float32]
    frame_index: int


@dataclass(slots=True, frozen=True)
class BackendInfo:
    """What is actually used, never what was asked for."""

    backend: str
    device: str
    precision: str
    model: str
    model_sha256: str


@runtime_checkable
class Detector(Protocol):
    """A network on a device: raw frames in, tables out. One thread uses it."""

    def prepare(self, spec: FrameSpec) -> None:
        """Build what frames of this shape need; must be called before `submit` and again for each new shape."""

    def submit(self, frame: Frame) -> int:
        """Begin the analysis of a frame and return its ticket. May return before the result is there."""

    def poll(self, ticket: int) -> Table:
        """Wait for the result of a ticket. Tickets are polled in the order in which they were submitted."""

    def close(self) -> None:
        """Free the device. May be called twice."""

    def describe(self) -> BackendInfo:
        """Backend, device, precision and model hash actually in use."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know, e.g. why another backend than the one asked for is in use."""


def open_detector(settings: DetectorSettings, bundle: Bundle, on_progress: Progress = lambda _: None) -> Detector:
    """Open the backend that the settings ask for. Nothing is built before `Detector.prepare`.

    Parameters
    ----------
    settings, bundle
        What to open, and the model.
    on_progress
        Called during `Detector.prepare` with what is being done, where it takes seconds or more.

    Raises
    ------
    BackendError
        The backend is unknown or not to be had on this machine.
    """
    if bundle.card.adapter is not None:
        return _adapted(settings, bundle)
    precision: Precision = "fp32" if settings.precision == "auto" else settings.precision
    match settings.backend:
        case "auto":
            return _auto(settings, bundle, on_progress)
        case "onnx" | "coreml" | "directml":
            from livescope.detect.onnx_runtime import OnnxDetector

            provider = f"{_PROVIDERS[settings.backend]}ExecutionProvider"
            return OnnxDetector(bundle, settings.max_cells, settings.threads, precision, provider)
        case "openvino":
            try:
                from livescope.detect.openvino import OpenVinoDetector
            except ImportError as error:
                raise BackendError(
                    f"backend 'openvino' is not installed ({error}): pip install 'livescope[openvino]', or choose "
                    "detector.backend onnx, which works everywhere."
                ) from None
            return OpenVinoDetector(bundle, settings.max_cells, settings.threads, precision)
        case "tensorrt" | "tensorrt-rtx":
            return _tensorrt(settings, bundle, on_progress)
        case "triton":
            return _triton(settings, bundle)
        case _:
            known = DetectorSettings.model_fields["backend"].annotation
            raise BackendError(f"backend {settings.backend!r} is not known; choose one of {one_of(get_args(known))}.")


def _adapted(settings: DetectorSettings, bundle: Bundle) -> Detector:
    """Open a network made elsewhere: what its adapter makes of its outputs is no part of a graph."""
    from livescope.detect.adapted import AdaptedDetector

    backend = "onnx" if settings.backend == "auto" else settings.backend
    if backend not in _PROVIDERS or settings.precision not in ("auto", "fp32"):
        raise BackendError(
            f"model {bundle.name!r} has an adapter and runs as fp32 on ONNX Runtime only: detector.backend 'auto', "
            f"{one_of(_PROVIDERS)}, not {settings.backend!r} in {settings.precision}."
        )
    return AdaptedDetector(bundle, settings.max_cells, settings.threads, f"{_PROVIDERS[backend]}ExecutionProvider")


def _auto(settings: DetectorSettings, bundle: Bundle, on_progress: Progress) -> Detector:
    """Open the fastest of the backends that are installed; ONNX Runtime at once where it is the only one."""
    installed = [name for name, module in _OPTIONAL.items() if importlib.util.find_spec(module) is not None]

    def maker(name: str) -> Callable[[], Detector]:
        return lambda: open_detector(settings.model_copy(update={"backend": name}), bundle, on_progress)

    if not installed:
        return maker("onnx")()
    from livescope.detect.auto import AutoDetector

    asked = f"{bundle.sha256} {settings.precision} {settings.threads} {settings.max_cells} {_gpu(installed)}"
    return AutoDetector({name: maker(name) for name in ("onnx", *installed)}, asked, on_progress)


def _gpu(installed: list[str]) -> str:
    """Say what TensorRT would run on: a GPU or driver that came since the last measurement asks for another one."""
    if not any(name.startswith("tensorrt") for name in installed):
        return ""
    from livescope.detect.cuda import import_cuda, open_gpu

    try:
        return str(open_gpu(import_cuda()))
    except BackendError:
        return "no GPU"


def _tensorrt(settings: DetectorSettings, bundle: Bundle, on_progress: Progress) -> Detector:
    """Open TensorRT with ONNX Runtime standing by. Not installed or no GPU is an error, as it was asked for by name."""
    from livescope.detect.fallback import FallbackDetector
    from livescope.detect.onnx_runtime import OnnxDetector
    from livescope.detect.tensorrt import TensorRtDetector

    precision: Precision = "fp16" if settings.precision == "auto" else settings.precision
    backend: TensorRt = "tensorrt" if settings.backend == "tensorrt" else "tensorrt-rtx"
    detector = TensorRtDetector(bundle, settings.max_cells, precision, backend, on_progress=on_progress)
    return FallbackDetector(lambda: detector, lambda: OnnxDetector(bundle, settings.max_cells, settings.threads))


def _triton(settings: DetectorSettings, bundle: Bundle) -> Detector:
    """Open a GPU server with ONNX Runtime standing by; a server that goes away is tried again with growing pauses."""
    from livescope.detect.fallback import FallbackDetector
    from livescope.detect.onnx_runtime import OnnxDetector
    from livescope.detect.triton import TritonDetector

    precision: Precision = "fp16" if settings.precision == "auto" else settings.precision
    return FallbackDetector(
        lambda: TritonDetector(bundle, settings.max_cells, settings.triton_url, precision),
        lambda: OnnxDetector(bundle, settings.max_cells, settings.threads),
        retry_s=1.0,
    )
