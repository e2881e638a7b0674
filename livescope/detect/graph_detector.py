"""What all backends share that run the frame graph one frame at a time: graphs by shape, inputs, tickets.

Owns no device: a backend says how a graph is compiled.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from livescope.detect.bundle import Bundle, Precision
from livescope.detect.detector import BackendInfo, Table
from livescope.detect.frame_graph import build_frame_graph
from livescope.detect.network import read_network
from livescope.detect.normalise import Normalisation, levels
from livescope.detect.scale import fit_scale
from livescope.errors import BackendError
from livescope.frames import Frame, FrameSpec, Pixels

__all__ = ["GraphDetector", "GraphInputs", "Rows", "Runner", "default_threads", "frame_bytes", "graph_inputs"]

Rows = NDArray[np.float32]
GraphInputs = Mapping[str, NDArray[np.uint8] | NDArray[np.float32]]
Runner = Callable[[GraphInputs], Rows]
"""A compiled frame graph: its inputs by name in, the rows of the table out."""

_KEPT_GRAPHS = 4
"""Frame shapes whose graphs are kept: an ROI that is switched back, or images of a few sizes, cost nothing."""


def default_threads() -> int:
    """Threads for a network: every core this process may use, less one for acquisition and window."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, allowed - 1)


def frame_bytes(pixels: Pixels) -> NDArray[np.uint8]:
    """View a frame as the bytes that the frame graph takes, (1, H, W, 1 or 2) uint8, without a copy where possible."""
    little_endian = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<"))
    return little_endian.view(np.uint8).reshape(1, *pixels.shape, pixels.dtype.itemsize)


def graph_inputs(pixels: Pixels, normalisation: Normalisation) -> GraphInputs:
    """Inputs of the frame graph for one frame; see `build_frame_graph`."""
    black, inv_gain = levels(pixels, normalisation)
    return {
        "frame": frame_bytes(pixels),
        "black": np.array([black], np.float32),
        "inv_gain": np.array([inv_gain], np.float32),
    }


class GraphDetector(ABC):
    """Implements `livescope.detect.detector.Detector` for a backend that can compile a frame graph.

    Parameters
    ----------
    bundle
        The network.
    max_cells
        Rows of the table.
    precision
        Arithmetic of the network.
    """

    _sums_by_convolution = False

    def __init__(self, bundle: Bundle, max_cells: int, precision: Precision = "fp32") -> None:
        self._bundle = bundle
        self._max_cells = max_cells
        self._precision: Precision = precision
        self._runners: OrderedDict[tuple[int, int, str, int], Runner] = OrderedDict()
        self._runner: Runner | None = None
        self._prepared: tuple[tuple[int, ...], str] | None = None
        self._tables: dict[int, Table] = {}
        self._next_ticket = 0

    @property
    @abstractmethod
    def backend(self) -> str:
        """Name and version."""

    @property
    @abstractmethod
    def device(self) -> str:
        """The device in use."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Nothing to say."""
        return ()

    @abstractmethod
    def _compile(self, graph: onnx.ModelProto) -> Runner:
        """Make a frame graph runnable; raise `BackendError` where the device refuses it."""

    def _network(self) -> onnx.ModelProto:
        return read_network(self._bundle, self._precision)

    def prepare(self, spec: FrameSpec) -> None:
        """Build or take up the graph for frames of this shape.

        Raises
        ------
        ModelError
            The pixel size does not fit the model, the network is not readable, or has no 8-bit version.
        BackendError
            The backend refuses the graph.
        """
        factor = fit_scale(spec, self._bundle.card).bin
        key = (*spec.shape, spec.dtype, factor)
        runner = self._runners.pop(key, None)
        if runner is None:
            runner = self._compile(
                build_frame_graph(self._network(), spec, self._max_cells, factor, self._sums_by_convolution)
            )
        self._runners[key] = runner
        if len(self._runners) > _KEPT_GRAPHS:
            self._runners.popitem(last=False)
        self._runner = runner
        self._prepared = spec.shape, spec.dtype

    def submit(self, frame: Frame) -> int:
        """Analyse a frame; the result waits for `poll`.

        Raises
        ------
        BackendError
            `prepare` was not called for this shape, or the backend failed.
        """
        given = frame.pixels.shape, frame.pixels.dtype.name
        if self._runner is None or given != self._prepared:
            raise BackendError(f"a frame of {given} was submitted, but the detector is prepared for {self._prepared}.")
        rows = self._runner(graph_inputs(frame.pixels, self._bundle.card.normalisation))
        ticket = self._next_ticket
        self._next_ticket += 1
        self._tables[ticket] = Table(rows, frame.index)
        return ticket

    def poll(self, ticket: int) -> Table:
        """Return the result of a ticket, once."""
        return self._tables.pop(ticket)

    def close(self) -> None:
        """Free the device."""
        self._runner = self._prepared = None
        self._runners.clear()
        self._tables.clear()

    def describe(self) -> BackendInfo:
        """Backend, device, precision and model hash actually in use."""
        return BackendInfo(self.backend, self.device, self._precision, self._bundle.name, self._bundle.sha256)
