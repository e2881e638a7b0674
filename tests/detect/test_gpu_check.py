"""The tool for the day a GPU is there: its logic on the fake device, and its word where there is none."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from cuda_kit import Error, FakeCuda, FakeTrt

from livescope.detect import tensorrt
from livescope.detect.bundle import load_bundle
from livescope.detect.cuda import Gpu
from livescope.detect.engine_cache import EngineCache
from livescope.detect.onnx_runtime import OnnxDetector
from livescope.detect.tensorrt import TensorRtDetector


@pytest.fixture
def tool(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [*sys.path, str(root / "tools")])
    spec = importlib.util.spec_from_file_location("gpu_check", root / "tools" / "gpu_check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_gpu_is_exit_2_and_a_clear_word(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(root / "tools" / "gpu_check.py"), "--json", str(tmp_path / "out.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode in (0, 1):
        pytest.skip("this machine has an NVIDIA GPU")
    assert done.returncode == 2, done.stderr
    assert "NO GPU CHECK WAS RUN" in done.stdout
    assert not (tmp_path / "out.json").exists()


def test_what_is_compared_and_measured(tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = load_bundle("simulated")
    cuda = FakeCuda()
    trt = FakeTrt(cuda)
    monkeypatch.setattr(tensorrt, "build_plan", lambda trt, graph, tell: tell("tactics", 1, 2) or trt.plan(graph))
    monkeypatch.setattr(tensorrt, "logger_of", lambda trt: SimpleNamespace(lines=[]))
    gpu = TensorRtDetector(bundle, tool.MAX_CELLS, "fp32", cache=EngineCache(tmp_path / "e"), trt=trt, cuda=cuda)
    figures = tool.compare(bundle, gpu, OnnxDetector(bundle, tool.MAX_CELLS, 1), "fp32")
    assert figures["cells"] > 10
    assert (figures["f1"], figures["same_state"], figures["good"]) == (1.0, 1.0, True)
    other = OnnxDetector(load_bundle("suspension"), tool.MAX_CELLS, 1)
    assert not tool.compare(bundle, gpu, other, "fp32")["good"]
    speed = tool.speed(bundle, gpu, 128, 20)
    assert 0 < speed["warm_start_s"] < 60
    assert trt.builds == 2  # the golden frames are of one shape, and the second start built nothing
    assert 0 < speed["p50_ms"] <= speed["p99_ms"]
    assert speed["fps"] > 0
    row = {"model": "kit", "precision": "fp32", "memory_mb": 1.0, "speed": [speed], **figures}
    text = tool.markdown(Gpu("Fake GPU", "8.9", "13000"), [row, {"model": "kit", "precision": "int8"}])
    assert text.count("\n| kit | fp32 | 128 x 128 |") == 1
    assert {line.count("|") for line in text.splitlines()[2:]} == {11}


def test_a_failing_device_is_a_row_and_not_a_crash(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = FakeCuda()
    monkeypatch.setattr(cuda, "cudaMemGetInfo", lambda: (Error.cudaSuccess, 1, 2), raising=False)
    monkeypatch.setattr(tool, "TensorRtDetector", lambda *_: TensorRtDetector(*_, trt=FakeTrt(cuda), cuda=FakeCuda(0)))
    row = tool.check_one("simulated", "fp32", "tensorrt-rtx", cuda, 5, tmp_path)
    assert row["good"] is False
    assert "no NVIDIA GPU" in row["error"]
