"""The networks and what can run them: bundled models, inference engines, GPUs.

Owns the probes. An engine counts as available only if it ran something here.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from importlib.util import find_spec

from livescope.doctor.machine import probe
from livescope.doctor.report import Check, Verdict
from livescope.errors import LivescopeError

__all__ = ["gpu", "models", "onnxruntime_providers", "other_engines"]

_OTHER_ENGINES = {
    "openvino": "import openvino; print(openvino.__version__, 'on', ', '.join(openvino.Core().available_devices))",
    "tensorrt": "import tensorrt as t; t.Runtime(t.Logger(t.Logger.ERROR)); print(t.__version__)",
    "tensorrt_rtx": "import tensorrt_rtx as t; t.Runtime(t.Logger(t.Logger.ERROR)); print(t.__version__)",
}


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


def onnxruntime_providers() -> Iterator[Check]:
    """ONNX Runtime's providers: each must run a small network by itself."""
    import numpy as np
    import onnxruntime as ort

    ort.set_default_logger_severity(4)
    x = np.ones((1, 4), np.float32)
    for provider in ort.get_available_providers():
        if provider == "AzureExecutionProvider":  # calls a paid service over the network: no engine of this machine
            continue
        name = f"ONNX Runtime {provider.removesuffix('ExecutionProvider')}"
        try:
            session = ort.InferenceSession(_small_network(), providers=[provider])
            right = np.array_equal(session.run(None, {"x": x})[0], x + x)
            taken = session.get_providers()[0]
        except Exception as error:  # noqa: BLE001 - each provider fails in its own way; the line says how
            yield Check(name, _failure(provider), f"does not run: {error}", "the CPU is used")
            continue
        works = right and taken == provider
        found = f"{ort.__version__}, ran a test network" if works else f"{taken} ran instead"
        yield Check(name, Verdict.OK if works else _failure(provider), found, "" if works else "the CPU is used")


def other_engines() -> Iterator[Check]:
    """Optional engines: installed or not, and whether they start."""
    for module, code in _OTHER_ENGINES.items():
        if find_spec(module) is None:
            yield Check(module, Verdict.OK, "not installed (optional)")
            continue
        works, said = probe(code)
        step = "" if works else f"pip install --force-reinstall {module.replace('_', '-')}, or go on with the CPU"
        yield Check(module, Verdict.OK if works else Verdict.WARNING, said, step)


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


def _small_network() -> bytes:
    from onnx import TensorProto, helper

    shape = [1, 4]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "doctor",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def _failure(provider: str) -> Verdict:
    """Without the CPU provider nothing can be analysed; the others are a gain, not a need."""
    return Verdict.FAIL if provider == "CPUExecutionProvider" else Verdict.WARNING
