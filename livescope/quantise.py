"""Make the 8-bit version of a model, and judge it: the gate that it must pass before anyone can use it.

Owns the gate. The arithmetic of the conversion is `livescope.detect.network`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from shutil import copyfile

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx.utils import Extractor

from livescope.assay.agreement import Tally
from livescope.assay.viability import viability
from livescope.calls import CellCalls
from livescope.detect.bundle import Bundle, Int8, load_bundle, write_card
from livescope.detect.decode import decode
from livescope.detect.detector import Detector
from livescope.detect.frame_graph import NETWORK_INPUT, build_frame_graph
from livescope.detect.graph_detector import graph_inputs
from livescope.detect.network import quantised, read_network
from livescope.detect.onnx_runtime import OnnxDetector
from livescope.detect.scale import fit_scale
from livescope.errors import ModelError
from livescope.frames import Frame
from livescope.settings import DetectorSettings

__all__ = ["LEAST_CELLS", "LEAST_F1", "LEAST_SAME_STATE", "MOST_VIABILITY_SHIFT", "judge", "quantise"]

LEAST_F1 = 0.98
"""Detections that agree with the network itself: two networks trained with other seeds differ by more than this."""
LEAST_SAME_STATE = 0.98
MOST_VIABILITY_SHIFT = 0.01
"""One per cent: a tenth of the 95 % interval at 300 cells."""
LEAST_CELLS = 50
"""Fewer cells cannot show an agreement of 0.98."""
_MAX_CELLS = 3840


def quantise(bundle: Bundle, frames: Sequence[Frame], frames_are: str, target: Path | None = None) -> Bundle:
    """Make, judge and store the 8-bit version of a model.

    Every second frame sets the ranges, the others judge.

    Parameters
    ----------
    bundle
        The model.
    frames
        Frames as the model will see them, of one shape or several.
    frames_are
        Where they come from, for the card.
    target
        ONNX path of the bundle to write; None adds to `bundle` itself.

    Returns
    -------
    The bundle with ``NAME.int8.onnx`` and the gate's figures in its card, whether it passed or not.

    Raises
    ------
    ModelError
        Too few frames or cells to judge.
    """
    if len(frames) < 2:
        raise ModelError(
            f"{len(frames)} frames cannot both set the ranges of an 8-bit network and judge it; give tens."
        )
    small = quantised(read_network(bundle), [_network_image(bundle, frame) for frame in frames[::2]])
    gate = judge(bundle, small, frames[1::2], frames_are)
    path = target or bundle.onnx_path
    if path.resolve() != bundle.onnx_path.resolve():
        copyfile(bundle.onnx_path, path)
        seen, copy = (one.with_suffix(".seen.txt") for one in (bundle.onnx_path, path))
        if seen.is_file():  # by which `livescope evaluate` knows the pictures of the training
            copyfile(seen, copy)
        else:  # what an older bundle of that name had seen is not this one's
            copy.unlink(missing_ok=True)
    path.with_suffix(".int8.onnx").write_bytes(small.SerializeToString())
    write_card(bundle.card.model_copy(update={"int8": gate}), path)
    return load_bundle(path)


def judge(bundle: Bundle, small: onnx.ModelProto, frames: Sequence[Frame], frames_are: str) -> Int8:
    """Compare the calls of an 8-bit network with those of the bundle's own.

    Raises
    ------
    ModelError
        The network finds fewer than `LEAST_CELLS` cells in the frames.
    """
    detectors = OnnxDetector(bundle, _MAX_CELLS), _Candidate(bundle, small)
    tally = Tally()
    counts = np.zeros((2, 2), int)
    for frame in frames:
        truth, calls = (_calls(detector, bundle, frame) for detector in detectors)
        tally.add(calls, truth)
        for row, found in enumerate((truth, calls)):
            seen = viability(found)
            counts[row] += seen.n_live, seen.n_dead
    agreed = tally.agreement()
    if agreed.n_true < LEAST_CELLS:
        raise ModelError(
            f"the network finds {agreed.n_true} cells in the {len(frames)} frames that judge its 8-bit version; it "
            f"takes {LEAST_CELLS}. Give more frames, with cells."
        )
    live = counts[:, 0] / np.maximum(counts.sum(axis=1), 1)
    shift = float(abs(live[0] - live[1]))
    same_state = agreed.same_state if agreed.n_matched else 0.0
    return Int8(
        frames=frames_are,
        n_cells=agreed.n_true,
        f1=round(agreed.f1, 4),
        same_state=round(same_state, 4),
        viability_shift=round(shift, 4),
        passed=agreed.f1 >= LEAST_F1 and same_state >= LEAST_SAME_STATE and shift <= MOST_VIABILITY_SHIFT,
        sha256=hashlib.sha256(small.SerializeToString()).hexdigest(),
    )


class _Candidate(OnnxDetector):
    """A network that is not in its bundle yet."""

    def __init__(self, bundle: Bundle, network: onnx.ModelProto) -> None:
        super().__init__(bundle, _MAX_CELLS, precision="int8")
        self._candidate = network

    def _network(self) -> onnx.ModelProto:
        return self._candidate


def _calls(detector: Detector, bundle: Bundle, frame: Frame) -> CellCalls:
    detector.prepare(frame.spec)
    table = detector.poll(detector.submit(frame))
    return decode(table, frame.spec, bundle.card, DetectorSettings())


def _network_image(bundle: Bundle, frame: Frame) -> NDArray[np.float32]:
    """Return the (H, W) image that enters the network for a frame, cut out of the frame graph itself."""
    graph = build_frame_graph(read_network(bundle), frame.spec, 1, fit_scale(frame.spec, bundle.card).bin)
    front = Extractor(graph).extract_model(["frame", "black", "inv_gain"], [NETWORK_INPUT])
    session = onnxruntime.InferenceSession(front.SerializeToString(), providers=["CPUExecutionProvider"])
    image = session.run(None, dict(graph_inputs(frame.pixels, bundle.card.normalisation)))[0]
    plane: NDArray[np.float32] = image[0, 0]
    return plane
