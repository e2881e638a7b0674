"""The frame graph on ONNX Runtime, on the CPU: the backend that works everywhere.

Owns sessions and their threads. Cores are left to acquisition and window, and idle threads sleep instead of spinning.
"""

from __future__ import annotations

import os
from collections import OrderedDict

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from livescope.detect.bundle import Bundle
from livescope.detect.detector import BackendInfo, Table
from livescope.detect.frame_graph import build_frame_graph
from livescope.detect.normalise import levels
from livescope.detect.scale import fit_scale
from livescope.errors import BackendError
from livescope.frames import Frame, FrameSpec, Pixels

__all__ = ["OnnxDetector", "default_threads", "frame_bytes"]

_PROVIDER = "CPUExecutionProvider"
_FAILURES = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)
"""What ONNX Runtime raises; its exceptions have no common base."""
_KEPT_SESSIONS = 4
"""Frame shapes whose sessions are kept: an ROI that is switched back, or images of a few sizes, cost nothing."""


def default_threads() -> int:
    """Threads for a network: every core this process may use, less one for acquisition and window."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, allowed - 1)


def frame_bytes(pixels: Pixels) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """View a frame as the bytes that the frame graph takes, (1, H, W, 1 or 2) uint8, without a copy where possible."""
    little_endian = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<"))
    return little_endian.view(np.uint8).reshape(1, *pixels.shape, pixels.dtype.itemsize)


class OnnxDetector:
    """Implements `livescope.detect.detector.Detector` with ONNX Runtime on the CPU.

    Parameters
    ----------
    bundle
        The network.
    max_cells
        Rows of the table.
    threads
        Threads of the network; None leaves one core free.

    Raises
    ------
    BackendError
        ONNX Runtime has no CPU provider, or refuses a graph.
    """

    def __init__(self, bundle: Bundle, max_cells: int, threads: int | None = None) -> None:
        if _PROVIDER not in ort.get_available_providers():
            raise BackendError(
                f"ONNX Runtime has no {_PROVIDER} (it has {ort.get_available_providers()}); install onnxruntime."
            )
        self._bundle = bundle
        self._max_cells = max_cells
        self._threads = threads or default_threads()
        self._sessions: OrderedDict[tuple[int, int, str, int], ort.InferenceSession] = OrderedDict()
        self._session: ort.InferenceSession | None = None
        self._prepared: tuple[tuple[int, int], str] | None = None
        self._tables: dict[int, Table] = {}
        self._next_ticket = 0

    def prepare(self, spec: FrameSpec) -> None:
        """Build or take up the session for frames of this shape.

        Raises
        ------
        ModelError
            The pixel size does not fit the model.
        BackendError
            ONNX Runtime refuses the graph.
        """
        factor = fit_scale(spec, self._bundle.card).bin
        key = (*spec.shape, spec.dtype, factor)
        session = self._sessions.pop(key, None) or self._open(spec, factor)
        self._sessions[key] = session
        if len(self._sessions) > _KEPT_SESSIONS:
            self._sessions.popitem(last=False)
        self._session = session
        self._prepared = spec.shape, spec.dtype

    def submit(self, frame: Frame) -> int:
        """Analyse a frame; the result waits for `poll`.

        Raises
        ------
        BackendError
            `prepare` was not called for this shape, or ONNX Runtime failed.
        """
        given = frame.pixels.shape, frame.pixels.dtype.name
        if self._session is None or given != self._prepared:
            raise BackendError(f"a frame of {given} was submitted, but the detector is prepared for {self._prepared}.")
        black, inv_gain = levels(frame.pixels, self._bundle.card.normalisation)
        inputs = {
            "frame": frame_bytes(frame.pixels),
            "black": np.array([black], np.float32),
            "inv_gain": np.array([inv_gain], np.float32),
        }
        try:
            (rows,) = self._session.run(["table"], inputs)
        except (*_FAILURES, MemoryError) as error:
            raise BackendError(f"ONNX Runtime failed on frame {frame.index}: {error}") from error
        ticket = self._next_ticket
        self._next_ticket += 1
        self._tables[ticket] = Table(rows, frame.index)
        return ticket

    def poll(self, ticket: int) -> Table:
        """Return the result of a ticket, once."""
        return self._tables.pop(ticket)

    def close(self) -> None:
        """Free the sessions."""
        self._session = self._prepared = None
        self._sessions.clear()
        self._tables.clear()

    def describe(self) -> BackendInfo:
        """Backend, device, precision and model hash actually in use."""
        threads = f"{self._threads} thread{'s' if self._threads > 1 else ''}"
        return BackendInfo(
            f"onnxruntime {ort.__version__}", f"CPU, {threads}", "fp32", self._bundle.name, self._bundle.sha256
        )

    def _open(self, spec: FrameSpec, factor: int) -> ort.InferenceSession:
        graph = build_frame_graph(self._bundle, spec, self._max_cells, factor)
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # a spinning pool burns the core that acquisition and window need between two frames
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            session = ort.InferenceSession(graph.SerializeToString(), options, providers=[_PROVIDER])
        except _FAILURES as error:
            raise BackendError(f"ONNX Runtime refuses model {self._bundle.name!r} for {spec}: {error}") from error
        if session.get_providers() != [_PROVIDER]:
            raise BackendError(f"ONNX Runtime took {session.get_providers()} where {_PROVIDER} was asked for.")
        return session
