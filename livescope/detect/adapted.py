"""A network made elsewhere, run through its card's adapter on ONNX Runtime: frames in, the same table of cells out.

Owns the picture that such a network takes and the order of the steps. What its outputs mean is `adapted_rows`;
thresholds and states are `decode`'s, as for every model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from livescope.detect.adapted_rows import box_rows, map_rows
from livescope.detect.adapter import Boxes, ClassMap
from livescope.detect.bundle import Bundle
from livescope.detect.detector import TABLE_COLUMNS, BackendInfo, Table
from livescope.detect.graph_detector import default_threads
from livescope.detect.normalise import levels
from livescope.detect.onnx_runtime import FAILURES, open_session
from livescope.detect.scale import fit_scale
from livescope.detect.screen import read_screened
from livescope.errors import BackendError, ModelError, one_of
from livescope.frames import Frame, FrameSpec

__all__ = ["AdaptedDetector"]

_TYPES: dict[str, type[np.floating[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}
_CHANNELS = (1, 3)


@dataclass(slots=True, frozen=True)
class _Picture:
    """What the network takes: type, channels, their place, and its size where that is fixed."""

    name: str
    dtype: type[np.floating[Any]]
    channels: int
    channels_last: bool
    size: tuple[int | None, int | None]


class AdaptedDetector:
    """Implements `livescope.detect.detector.Detector` for a bundle whose card has an adapter.

    Parameters
    ----------
    bundle
        Network and card.
    max_cells
        Rows of the table.
    threads
        CPU threads; None leaves one core free.
    provider
        Execution provider of ONNX Runtime.

    Raises
    ------
    ModelError
        The network's inputs and outputs are not what the card says.
    BackendError
        ONNX Runtime refuses the network.
    """

    def __init__(
        self, bundle: Bundle, max_cells: int, threads: int | None = None, provider: str = "CPUExecutionProvider"
    ) -> None:
        assert bundle.card.adapter is not None
        self._bundle, self._adapter = bundle, bundle.card.adapter
        self._max_cells = max_cells
        self._threads = threads or default_threads()
        network = read_screened(bundle.onnx_path, bundle.sha256)
        self._session: ort.InferenceSession | None = open_session(
            network.SerializeToString(), self._threads, provider, bundle.name
        )
        self._providers = self._session.get_providers()
        self._picture = _picture_of(self._session, bundle)
        self._outputs = _outputs_of(self._session, bundle)
        self._spec: FrameSpec | None = None
        self._bin = 1
        self._tables: dict[int, Table] = {}
        self._next_ticket = 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """Nothing to say."""
        return ()

    @property
    def size(self) -> tuple[int | None, int | None]:
        """(H, W) of the network's input, None where it takes any."""
        return self._picture.size

    def prepare(self, spec: FrameSpec) -> None:
        """Choose the bin for frames of this shape.

        Raises
        ------
        ModelError
            The pixel size does not fit the model, or the frame is larger than the one size that the network takes.
        """
        factor = fit_scale(spec, self._bundle.card).bin
        for size, fixed in zip(spec.shape, self._picture.size, strict=True):
            if fixed is not None and math.ceil(size / factor) > fixed:
                raise ModelError(
                    f"frames of {spec.height} x {spec.width} are too large for model {self._bundle.name!r}, which "
                    f"takes {self._picture.size[0]} x {self._picture.size[1]} pixels. Set an ROI of the camera, or "
                    "export the network for any size (dynamic axes)."
                )
        self._bin, self._spec = factor, spec

    def submit(self, frame: Frame) -> int:
        """Analyse a frame; the result waits for `poll`.

        Raises
        ------
        BackendError
            `prepare` was not called for this shape, or ONNX Runtime failed.
        ModelError
            The outputs are not as the card says.
        """
        if self._session is None or self._spec is None or frame.spec.shape != self._spec.shape:
            raise BackendError(
                f"a frame of {frame.pixels.shape} was submitted, but the detector is not prepared for it."
            )
        picture, shape = self._prepared(frame)
        try:
            found = self._session.run(self._outputs, {self._picture.name: picture})
        except FAILURES as error:
            raise BackendError(f"ONNX Runtime failed: {error}") from error
        outputs = dict(zip(self._outputs, found, strict=True))
        size = picture.shape[1:3] if self._picture.channels_last else picture.shape[2:]
        if isinstance(self._adapter, ClassMap):
            low = self._bundle.card.cell_diameter_px[0]
            rows = map_rows(self._adapter, outputs[self._outputs[0]], size, shape, low, self._picture.channels_last)
        else:
            rows = box_rows(self._adapter, outputs, size)
        rows[:, 2:4] = rows[:, 2:4] * self._bin + (self._bin - 1) / 2
        rows[:, 4:] *= self._bin
        table = np.zeros((self._max_cells, TABLE_COLUMNS), np.float32)
        # one that is not finite comes first, so that it is seen: a failed network never looks like an empty field
        order = np.argsort(-np.nan_to_num(rows[:, 0], nan=np.inf), kind="stable")[: self._max_cells]
        table[: len(order)] = rows[order]
        ticket, self._next_ticket = self._next_ticket, self._next_ticket + 1
        self._tables[ticket] = Table(table, frame.index)
        return ticket

    def poll(self, ticket: int) -> Table:
        """Return the result of a ticket, once."""
        return self._tables.pop(ticket)

    def close(self) -> None:
        """Free the device."""
        self._session = self._spec = None
        self._tables.clear()

    def describe(self) -> BackendInfo:
        """Backend, device, precision and model hash actually in use."""
        names = " + ".join(name.removesuffix("ExecutionProvider") for name in self._providers)
        device = f"{names}, {self._threads} thread{'s' if self._threads > 1 else ''}"
        return BackendInfo(f"onnxruntime {ort.__version__}", device, "fp32", self._bundle.name, self._bundle.sha256)

    def _prepared(self, frame: Frame) -> tuple[NDArray[np.floating[Any]], tuple[int, int]]:
        """Bin, normalise and pad a frame; returns the input, and the frame's size within it."""
        k = self._bin
        black, inv_gain = levels(frame.pixels, self._bundle.card.normalisation)
        image = (frame.pixels.astype(np.float32) - np.float32(black)) * np.float32(inv_gain)
        height, width = (math.ceil(n / k) for n in image.shape)
        image = np.pad(image, [(0, n * k - m) for n, m in zip((height, width), image.shape, strict=True)], mode="edge")
        image = image.reshape(height, k, width, k).mean(axis=(1, 3), dtype=np.float32)
        multiple = self._adapter.multiple
        full = [
            fixed or math.ceil(n / multiple) * multiple
            for fixed, n in zip(self._picture.size, (height, width), strict=True)
        ]
        image = np.pad(image, [(0, full[0] - height), (0, full[1] - width)], mode="edge")
        stacked = np.repeat(image[None], self._picture.channels, axis=0)
        if self._picture.channels_last:
            stacked = np.moveaxis(stacked, 0, -1)
        return np.ascontiguousarray(stacked[None], self._picture.dtype), (height, width)


def _picture_of(session: ort.InferenceSession, bundle: Bundle) -> _Picture:
    """Read from the network itself what it takes."""
    inputs = session.get_inputs()
    one = inputs[0] if len(inputs) == 1 else None
    if one is None or len(one.shape) != 4 or one.type not in _TYPES:
        taken = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
        raise ModelError(
            f"model {bundle.name!r} takes {taken}; an adapted network takes one picture, (1, C, H, W) or (1, H, W, C), "
            f"of {one_of(_TYPES)}. Export it so."
        )
    # after a channel axis of 1 or 3, H and W: a picture of 3 rows is none
    channels_last = one.shape[1] not in _CHANNELS and one.shape[3] in _CHANNELS
    channels, *size = (one.shape[3], one.shape[1], one.shape[2]) if channels_last else one.shape[1:]
    if channels not in _CHANNELS or (isinstance(one.shape[0], int) and one.shape[0] != 1):
        raise ModelError(
            f"model {bundle.name!r} takes pictures of shape {one.shape}; livescope gives one at a time, with 1 "
            "channel, or 3 equal ones. Export it with that number of channels fixed."
        )
    height, width = (n if isinstance(n, int) else None for n in size)
    return _Picture(one.name, _TYPES[one.type], channels, channels_last, (height, width))


def _outputs_of(session: ort.InferenceSession, bundle: Bundle) -> list[str]:
    """Names of the outputs that the adapter reads."""
    given = [one.name for one in session.get_outputs()]
    adapter = bundle.card.adapter
    if isinstance(adapter, ClassMap):
        wanted = [adapter.output] if adapter.output else given
        if len(wanted) != 1:
            raise ModelError(
                f"model {bundle.name!r} gives {one_of(given)}; say in its card which is the class map: adapter.output."
            )
    else:
        assert isinstance(adapter, Boxes)
        named = (adapter.detections, adapter.boxes, adapter.scores, adapter.labels)
        wanted = [name for name in named if name is not None]
    if missing := [name for name in wanted if name not in given]:
        raise ModelError(
            f"the card of model {bundle.name!r} names outputs {one_of(missing)}, but the network gives "
            f"{one_of(given)}. Mend adapter in the card."
        )
    return wanted
