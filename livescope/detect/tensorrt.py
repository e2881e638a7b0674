"""The frame graph on an NVIDIA GPU with TensorRT: three frames in flight, one table each back.

Owns the engine and its slots. Building is `tensorrt_build`, storing `engine_cache`, device memory `cuda`. What happens
when the GPU fails in the middle of a run is decided in `fallback`.

Not run yet on a GPU: see ``tools/gpu_check.py``.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from livescope.detect.bundle import Bundle, Precision, TensorRt
from livescope.detect.cuda import Slot, check, import_cuda, open_gpu
from livescope.detect.detector import TABLE_COLUMNS, BackendInfo, Progress, Table
from livescope.detect.engine_cache import EngineCache, EngineKey
from livescope.detect.frame_graph import build_frame_graph
from livescope.detect.graph_detector import graph_inputs
from livescope.detect.network import read_network
from livescope.detect.scale import fit_scale
from livescope.detect.tensorrt_build import FLAGS, build_plan, import_tensorrt, logger_of, start
from livescope.detect.tensorrt_kernels import Contexts
from livescope.errors import BackendError
from livescope.frames import Frame, FrameSpec

if TYPE_CHECKING:
    import tensorrt  # the enterprise bindings' types, also right for tensorrt_rtx; checked by tests/detect

__all__ = ["KEPT", "SLOTS", "TensorRtDetector"]

SLOTS = 3
"""Frames in flight: one is copied in, one computed, one copied out."""
KEPT = 2
"""Frame shapes whose engines stay on the device: two cameras take turns without loading anything."""


@dataclass(slots=True)
class _Loaded:
    """An engine on the device, for frames of one shape, with its slots."""

    engine: tensorrt.ICudaEngine
    contexts: Contexts
    slots: list[Slot] = field(default_factory=list)
    free: deque[Slot] = field(default_factory=deque)

    def close(self) -> None:
        self.free.clear()
        while self.slots:
            self.slots.pop().close()


class TensorRtDetector:
    """Implements `livescope.detect.detector.Detector` with TensorRT.

    Parameters
    ----------
    bundle, max_cells, precision
        The network, the rows of the table, the arithmetic.
    backend
        ``"tensorrt"`` or ``"tensorrt-rtx"``.
    cache
        Where engines are stored; None takes the user's.
    on_progress
        Told the steps of a build.
    trt, cuda
        Modules to use instead of the installed ones.

    Raises
    ------
    BackendError
        TensorRT or the CUDA bindings are not installed, or there is no GPU.
    """

    def __init__(
        self,
        bundle: Bundle,
        max_cells: int,
        precision: Precision = "fp16",
        backend: TensorRt = "tensorrt-rtx",
        cache: EngineCache | None = None,
        on_progress: Progress = lambda _: None,
        trt: ModuleType | Any = None,
        cuda: Any = None,
    ) -> None:
        self._bundle, self._max_cells = bundle, max_cells
        self._precision: Precision = precision
        self._trt = trt or import_tensorrt(backend)
        self._cuda = cuda or import_cuda()
        self._gpu = open_gpu(self._cuda)
        self._cache = cache or EngineCache()
        self._on_progress = on_progress
        self._runtime: tensorrt.Runtime = start(self._trt, "Runtime")
        self._kept: OrderedDict[tuple[int, int, str, int], _Loaded] = OrderedDict()
        self._flying: dict[int, tuple[_Loaded, Slot, int]] = {}
        self._prepared: tuple[tuple[int, ...], str] | None = None
        self._next_ticket = 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know: troubles of the engine cache."""
        return tuple(self._cache.troubles)

    def prepare(self, spec: FrameSpec) -> None:
        """Load or build the engine for frames of this shape and capture its graphs, or take them up again.

        Raises
        ------
        ModelError
            The pixel size does not fit the model, or the network is not readable.
        BackendError
            The engine cannot be built or loaded, or the GPU fails.
        """
        factor = fit_scale(spec, self._bundle.card).bin
        key = (*spec.shape, spec.dtype, factor)
        self._prepared = None
        if key in self._kept:
            self._kept.move_to_end(key)
        else:
            graph = build_frame_graph(read_network(self._bundle, self._precision), spec, self._max_cells, factor)
            self._make_room(KEPT - 1)
            try:
                self._kept[key] = self._loaded(graph, spec)
            except BackendError:
                if not self._kept:
                    raise
                self._make_room(0)  # they may have been what filled the device
                self._kept[key] = self._loaded(graph, spec)
        self._prepared = spec.shape, spec.dtype

    def submit(self, frame: Frame) -> int:
        """Start the analysis of a frame and return at once.

        Raises
        ------
        BackendError
            `prepare` was not called for this shape, all slots wait for `poll`, or the GPU fails.
        """
        given = frame.pixels.shape, frame.pixels.dtype.name
        if given != self._prepared:
            raise BackendError(f"a frame of {given} was submitted, but the detector is prepared for {self._prepared}.")
        loaded = next(reversed(self._kept.values()))
        if not loaded.free:
            raise BackendError(f"all {SLOTS} slots hold frames in flight; poll a ticket before the next submit.")
        slot = loaded.free.popleft()
        ticket, self._next_ticket = self._next_ticket, self._next_ticket + 1
        self._flying[ticket] = loaded, slot, frame.index
        slot.launch(dict(graph_inputs(frame.pixels, self._bundle.card.normalisation)))
        return ticket

    def poll(self, ticket: int) -> Table:
        """Wait for the result of a ticket."""
        loaded, slot, frame_index = self._flying.pop(ticket)
        rows = slot.wait()
        loaded.free.append(slot)
        return Table(rows, frame_index)

    def close(self) -> None:
        """Free the device. May be called twice."""
        self._prepared = None
        self._make_room(0)

    def describe(self) -> BackendInfo:
        """Backend, device, precision and model hash actually in use."""
        return BackendInfo(
            f"{self._trt.__name__} {self._trt.__version__}",
            f"{self._gpu.name} (compute capability {self._gpu.compute_capability})",
            self._precision,
            self._bundle.name,
            self._bundle.sha256,
        )

    def _make_room(self, most: int) -> None:
        """Free the engines used longest ago, with their frames in flight, until `most` are left."""
        while len(self._kept) > most:
            _, gone = self._kept.popitem(last=False)
            self._flying = {ticket: flight for ticket, flight in self._flying.items() if flight[0] is not gone}
            gone.close()

    def _loaded(self, graph: onnx.ModelProto, spec: FrameSpec) -> _Loaded:
        # a thread's device is its own, and this may not be the thread that opened it
        check(self._cuda, "cudaSetDevice", 0)
        key = self._key(graph)
        engine = self._load(graph, key)
        self._on_progress(f"loading the engine on {self._gpu.name}")
        loaded = _Loaded(engine, Contexts(engine, self._cache, key))
        inputs: dict[str, tuple[tuple[int, ...], type]] = {
            "frame": ((1, *spec.shape, np.dtype(spec.dtype).itemsize), np.uint8),
            "black": ((1,), np.float32),
            "inv_gain": ((1,), np.float32),
        }
        foreground = next(output for output in graph.graph.output if output.name == "foreground")
        shape = [dim.dim_value for dim in foreground.type.tensor_type.shape.dim]
        others = {"foreground": 4 * int(np.prod(shape))}
        table = ("table", (self._max_cells, TABLE_COLUMNS))
        try:
            for _ in range(SLOTS):
                loaded.slots.append(Slot(self._cuda, loaded.contexts.make, inputs, table, others))
        except BaseException:
            loaded.close()
            raise
        loaded.contexts.store()
        loaded.free.extend(loaded.slots)
        return loaded

    def _tell(self, phase: str, step: int, steps: int) -> None:
        self._on_progress(f"building the engine, once: {phase} {step}/{steps}")

    def _key(self, graph: onnx.ModelProto) -> EngineKey:
        return EngineKey(
            hashlib.sha256(graph.SerializeToString(deterministic=True)).hexdigest(),
            f"{self._trt.__name__} {self._trt.__version__}",
            self._gpu.name,
            self._gpu.compute_capability,
            self._gpu.driver,
            FLAGS,
        )

    def _load(self, graph: onnx.ModelProto, key: EngineKey) -> tensorrt.ICudaEngine:
        """Load the engine; a stored one that does not load is built again, once."""
        built = False

        def build() -> bytes:
            nonlocal built
            built = True
            return build_plan(self._trt, graph, self._tell)

        for _ in range(2):
            plan = self._cache.get_or_build(key, build)
            # returns None, and raises nothing, for a plan of another version or device
            engine = self._runtime.deserialize_cuda_engine(plan)
            if engine is not None:
                return engine
            self._cache.discard(key)
            if built:  # it takes minutes, and would give the same
                break
        lines = " | ".join(logger_of(self._trt).lines) or "no reason given"
        raise BackendError(f"{key.builder} built an engine that {self._gpu.name} does not load: {lines}")
