"""The networks and what can run them: bundled models, inference backends, GPUs.

Owns the probes. A backend counts as available only if it called the cells of a frame here.
"""

from __future__ import annotations

import ctypes
import json
import re
import statistics
import sys
import time
from collections.abc import Iterator
from typing import get_args

from livescope.doctor.machine import probe
from livescope.doctor.report import Check, Verdict
from livescope.errors import BackendError, LivescopeError
from livescope.settings import DetectorSettings

__all__ = ["backends", "gpu", "models", "try_backend"]

_SIDE_PX = 1024
_TIMEOUT_S = 300.0
"""TensorRT builds its engine on the first frame, which takes a minute or two."""


def models() -> Iterator[Check]:
    """The bundled models: whole, and made for which pixel size."""
    from livescope.detect.bundle import bundled_names, load_bundle

    names = bundled_names()
    if not names:
        yield Check("models", Verdict.FAIL, "no model came with this livescope", "install livescope again")
    for name in names:
        try:
            bundle = load_bundle(name)
        except LivescopeError as error:
            yield Check(f"model {name}", Verdict.FAIL, str(error), "install livescope again")
            continue
        pixel = bundle.card.pixel_um
        size = "pixel size not stated" if pixel is None else f"{pixel:g} um a pixel"
        yield Check(f"model {name}", Verdict.OK, f"{bundle.card.modality}, {size}, sha256 {bundle.sha256[:12]}")


def backends() -> Iterator[Check]:
    """Every backend of `detector.backend`: each must analyse frames, in a process of its own."""
    for backend in get_args(DetectorSettings.model_fields["backend"].annotation):
        if backend == "auto":
            continue
        code = f"from livescope.doctor.engines import try_backend; print(try_backend({backend!r}))"
        ended, said = probe(code, _TIMEOUT_S)
        needed = backend == "onnx"
        if not ended:  # a crash, not an explained refusal
            step = "install livescope again" if needed else f"go on with another backend, or install {backend} again"
            yield Check(backend, Verdict.FAIL if needed else Verdict.WARNING, said, step)
            continue
        answer = json.loads(said)
        if answer["runs"]:
            yield Check(backend, Verdict.OK, answer["said"])
        elif needed:
            yield Check(backend, Verdict.FAIL, answer["said"], "install livescope again")
        else:
            reason, _, step = answer["said"].removeprefix(f"backend {backend!r} is not usable: ").partition(". ")
            short = re.split(r"[;(]", reason)[0].strip()
            yield Check(backend, Verdict.OK, f"not here (optional): {short}", step.rstrip("."))


def try_backend(backend: str) -> str:
    """Analyse some frames of noise with a bundled model; JSON with `runs` and what was `said`."""
    import numpy as np

    from livescope.detect.bundle import bundled_names, load_bundle
    from livescope.detect.detector import open_detector
    from livescope.frames import Frame, FrameSpec

    bundle = load_bundle(bundled_names()[0])
    settings = DetectorSettings.model_validate({"backend": backend})
    pixels = np.random.default_rng(0).integers(1000, 3000, (_SIDE_PX, _SIDE_PX), np.uint16)
    milliseconds = []
    try:
        detector = open_detector(settings, bundle)
        detector.prepare(FrameSpec(_SIDE_PX, _SIDE_PX, "uint16", 12, bundle.card.pixel_um))
        for index in range(6):
            started_s = time.perf_counter()
            detector.poll(detector.submit(Frame(pixels, index, 0, "doctor", started_s, 0.0, bit_depth=12)))
            milliseconds.append((time.perf_counter() - started_s) * 1e3)
        info, told = detector.describe(), detector.warnings
        detector.close()
    except BackendError as error:
        return json.dumps({"runs": False, "said": str(error)})
    stands_in = "another backend stands in: "
    if told and told[0].startswith(stands_in):  # what was measured is not what was asked for
        return json.dumps({"runs": False, "said": told[0].removeprefix(stands_in)})
    speed = f"{statistics.median(milliseconds[1:]):.0f} ms a frame of {_SIDE_PX} x {_SIDE_PX} just now"
    return json.dumps({"runs": True, "said": f"{info.backend} on {info.device}, {info.precision}: {speed}"})


def gpu() -> Iterator[Check]:
    """NVIDIA GPUs, asked of the driver itself."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        yield Check("GPU", Verdict.OK, "no NVIDIA driver; the network runs on the CPU")
        return
    code = driver.cuInit(0)
    if code != 0:
        step = "install the driver of this GPU again; nvidia-smi tells more"
        yield Check("GPU", Verdict.WARNING, f"the NVIDIA driver does not start (cuInit: {code})", step)
        return
    cuda, count = ctypes.c_int(), ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(cuda))
    driver.cuDeviceGetCount(ctypes.byref(count))
    for index in range(count.value):
        name, memory = ctypes.create_string_buffer(128), ctypes.c_size_t()
        driver.cuDeviceGetName(name, len(name), index)
        driver.cuDeviceTotalMem_v2(ctypes.byref(memory), index)
        supports = f"{cuda.value // 1000}.{cuda.value % 1000 // 10}"
        found = f"{name.value.decode()}, {memory.value / 1e9:.0f} GB, driver for CUDA up to {supports}"
        yield Check(f"GPU {index}", Verdict.OK, found)
    if not count.value:
        yield Check("GPU", Verdict.OK, "an NVIDIA driver, but no GPU; the network runs on the CPU")
