"""From a trained network to a bundle's ONNX file.

Owns the export and its check against torch. What the card says is decided in `calibrate` and `evaluate`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from livescope.errors import ModelError
from livescope.train.network import MULTIPLE, Maps, StarNet, fold

__all__ = ["export_onnx"]

OPSET = 20
_TOLERANCE = 1e-3
"""Largest difference from torch that is let through, in units of each output; measured: 2e-5."""


def export_onnx(network: StarNet, path: Path) -> Path:
    """Write a network as ONNX: input `image` (1, 1, H, W) with free H and W, outputs named as in `Maps`.

    Raises
    ------
    ModelError
        ONNX Runtime's answers to a test picture differ from torch's.
    """
    folded = fold(network.cpu().to(memory_format=torch.contiguous_format))  # type: ignore[call-overload]
    example = torch.zeros(1, 1, 4 * MULTIPLE, 6 * MULTIPLE)
    height, width = (torch.export.Dim(f"{side}_over_16", min=1, max=512) for side in ("height", "width"))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    # the exporter prints its progress and warns of its own deprecated calls
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            folded,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=list(Maps._fields),
            dynamic_shapes={"image": {2: MULTIPLE * height, 3: MULTIPLE * width}},
            external_data=False,
        )
    assert program is not None
    model = program.model_proto
    for node in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        node.ClearField("metadata_props")  # stack traces with paths of this machine
        node.ClearField("doc_string")
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    _compare(folded, path)
    return path


def _compare(network: StarNet, path: Path) -> None:
    """Ask both for a picture of another shape than the example's."""
    image = np.random.default_rng(0).standard_normal((1, 1, 5 * MULTIPLE, 3 * MULTIPLE)).astype(np.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    answers = session.run(list(Maps._fields), {"image": image})
    with torch.no_grad():
        expected = network(torch.from_numpy(image))
    for name, answer, truth in zip(Maps._fields, answers, expected, strict=True):
        difference = float(np.abs(answer - truth.numpy()).max())
        if not difference <= _TOLERANCE * max(1.0, float(truth.abs().max())):
            raise ModelError(f"exported network {str(path)!r}: output {name!r} differs from torch by {difference:.2g}.")
