"""The peer of bench_detect: segment first, then classify a crop of every cell, as published label-free assays do.

Owns the segmentation of `livescope.train.paper` once more in OpenCV, and its ResNet-18 in ONNX Runtime. The weights are
random: they do not change the time.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from livescope.frames import Pixels
from livescope.train.paper import CROP_PX, ResNet18, crops_of, segment

__all__ = ["TwoStage", "segment_opencv", "segment_skimage"]

_BATCH = 32
_TEXTURE_SIGMA = 2.0
_LEAST_AREA = 80
_LEAST_DISTANCE = 8

Image = Pixels
Centres = NDArray[np.float64]


def segment_skimage(image: Image) -> Centres:
    """Segment as `livescope.train.paper` does; (n, 2) centres (y, x)."""
    return segment(image)[0]


def segment_opencv(image: Image) -> Centres:
    """Do the same steps with OpenCV."""
    import cv2

    grey = image.astype(np.float32)
    size = (0, 0)
    mean = cv2.GaussianBlur(grey, size, _TEXTURE_SIGMA)
    variance = cv2.GaussianBlur(grey * grey, size, _TEXTURE_SIGMA) - mean * mean
    deviation = cv2.sqrt(np.maximum(variance, 0))
    texture = cv2.convertScaleAbs(deviation, alpha=255 / max(float(deviation.max()), 1.0))
    _, mask = cv2.threshold(texture, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7)))
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    mask = np.zeros_like(mask)
    cv2.drawContours(mask, [c for c in outlines if cv2.contourArea(c) > _LEAST_AREA], -1, 255, cv2.FILLED)
    distance = cv2.GaussianBlur(cv2.distanceTransform(mask, cv2.DIST_L2, 5), size, 2)
    side = 2 * _LEAST_DISTANCE + 1
    peaks = ((distance == cv2.dilate(distance, np.ones((side, side), np.uint8))) & (mask > 0)).astype(np.uint8)
    _, seeds = cv2.connectedComponents(peaks)
    seeds[(mask == 0)] = seeds.max() + 1  # background
    seeds[(mask > 0) & (peaks == 0)] = 0  # to be flooded
    seeds = cv2.watershed(cv2.cvtColor(texture, cv2.COLOR_GRAY2BGR), seeds)
    count = int(seeds.max())
    flat = np.maximum(seeds, 0).ravel()
    area = np.bincount(flat, minlength=count + 1)[1:count]
    y, x = np.indices(mask.shape, np.float32)
    sums = (np.bincount(flat, weights=axis.ravel(), minlength=count + 1)[1:count] for axis in (y, x))
    return np.stack([s / np.maximum(area, 1) for s in sums], axis=1)


class TwoStage:
    """Segment and classify, on the CPU.

    Parameters
    ----------
    segment
        One of the segmentations of this file.
    threads
        For the network.
    """

    def __init__(self, segment: Callable[[Image], Centres], threads: int) -> None:
        self._segment = segment
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = ort.InferenceSession(_resnet18_onnx(), options, providers=["CPUExecutionProvider"])

    def __call__(self, image: Image) -> NDArray[np.float32]:
        """Return (n, 2) logits of the cells found."""
        centres = self._segment(image)
        crops = crops_of(image, centres)
        batches = [crops[i : i + _BATCH] for i in range(0, len(crops), _BATCH)]
        return np.concatenate([self._session.run(None, {"crops": batch})[0] for batch in batches])


def _resnet18_onnx() -> bytes:
    """ResNet-18 (He et al. 2016) for one grey channel and two classes."""
    network = ResNet18(classes=2).eval()
    file: Any = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(2, 1, CROP_PX, CROP_PX),),
            file,
            dynamo=False,
            input_names=["crops"],
            dynamic_axes={"crops": {0: "n"}},
        )
    content: bytes = file.getvalue()
    return content
