"""The peer of bench_detect: segment first, then classify a crop of every cell, as published label-free assays do.

Owns two segmentations of the same steps (scikit-image, OpenCV) and a ResNet-18 on 64 x 64 crops in ONNX Runtime. The
weights are random: they do not change the time.
"""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

__all__ = ["TwoStage", "segment_opencv", "segment_skimage"]

_CROP = 64
_BATCH = 32
_TEXTURE_SIGMA = 2.0
_LEAST_AREA = 80
_LEAST_DISTANCE = 8

Image = NDArray[np.uint16]
Centres = NDArray[np.float64]


def segment_skimage(image: Image) -> Centres:
    """Texture, Otsu, closing, distance transform, watershed, regions; (n, 2) centres (y, x)."""
    skimage: Any = importlib.import_module("skimage")  # lazily loaded parts, some of them untyped
    feature, filters, measure = skimage.feature, skimage.filters, skimage.measure
    morphology, segmentation = skimage.morphology, skimage.segmentation
    grey = image.astype(np.float32)
    mean = filters.gaussian(grey, _TEXTURE_SIGMA)
    texture = np.sqrt(np.maximum(filters.gaussian(grey**2, _TEXTURE_SIGMA) - mean**2, 0))
    mask = texture > filters.threshold_otsu(texture)
    mask = ndimage.binary_fill_holes(morphology.closing(mask, morphology.disk(3)))
    mask = morphology.remove_small_objects(mask, max_size=_LEAST_AREA)
    distance = ndimage.distance_transform_edt(mask)
    peaks = feature.peak_local_max(
        filters.gaussian(distance, 2), min_distance=_LEAST_DISTANCE, labels=measure.label(mask)
    )
    seeds = np.zeros(mask.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    regions = measure.regionprops(segmentation.watershed(-distance, seeds, mask=mask))
    return np.array([region.centroid for region in regions]).reshape(-1, 2)


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
        centres = self._segment(image).round().astype(int)
        half = _CROP // 2
        padded = np.pad(image, half, mode="edge")
        crops = np.stack([padded[y : y + _CROP, x : x + _CROP] for y, x in centres]).astype(np.float32)[:, None]
        crops = (crops - crops.mean((2, 3), keepdims=True)) / (crops.std((2, 3), keepdims=True) + 1)
        batches = [crops[i : i + _BATCH] for i in range(0, len(crops), _BATCH)]
        return np.concatenate([self._session.run(None, {"crops": batch})[0] for batch in batches])


class _Residual(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
            nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )
        same = stride == 1 and c_in == c_out
        shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))
        self.shortcut: nn.Module = nn.Identity() if same else shortcut

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def _resnet18_onnx() -> bytes:
    """ResNet-18 (He et al. 2016) for one grey channel and two classes."""
    layers: list[Any] = [nn.Conv2d(1, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [_Residual(channels, width, stride), _Residual(width, width, 1)]
        channels = width
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 2)).eval()
    file: Any = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(2, 1, _CROP, _CROP),),
            file,
            dynamo=False,
            input_names=["crops"],
            dynamic_axes={"crops": {0: "n"}},
        )
    content: bytes = file.getvalue()
    return content
