"""The TensorRT backend's types against enterprise TensorRT 11: what it no longer has must not be called.

The bindings' wheel has no libraries, so empty ones stand in while stubgen reads the bindings' own signatures; nothing
of NVIDIA's is kept. Pyright then checks the backend against them, as `basedpyright`, which brings its own node.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKED = ("tensorrt_build.py", "cuda.py", "tensorrt_kernels.py", "tensorrt.py")
LIBRARIES = ("libnvinfer.so.11", "libnvinfer_plugin.so.11", "libnvonnxparser.so.11")


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``tensorrt.pyi``, made by stubgen out of the bindings."""
    spec = importlib.util.find_spec("tensorrt_bindings")
    compiler, symbols_of = shutil.which("cc"), shutil.which("nm")
    if spec is None or spec.origin is None or compiler is None or symbols_of is None:
        pytest.skip("needs `pip install --no-deps tensorrt-cu13-bindings==11.4.0.106`, cc and nm")
    folder = tmp_path_factory.mktemp("stubs")
    bindings = Path(spec.origin).with_name("tensorrt.so")
    listed = subprocess.run(
        [symbols_of, "-D", "--undefined-only", bindings], capture_output=True, text=True, check=True
    )
    names = [line.split()[-1] for line in listed.stdout.splitlines()]
    wanted = [name for name in names if re.fullmatch(r"(create|get|init)\w*(_INTERNAL|Registry|Version|Plugins)", name)]
    source = folder / "empty.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in wanted))
    for library in LIBRARIES:
        command = [compiler, "-shared", "-fPIC", source, "-o", folder / library, f"-Wl,-soname,{library}"]
        subprocess.run(command, check=True)
    stubgen = (
        "from mypy.stubgen import main; main(['-q', '--inspect-mode', '-m', 'tensorrt_bindings.tensorrt', '-o', '.'])"
    )
    subprocess.run(
        [sys.executable, "-c", stubgen], cwd=folder, env=os.environ | {"LD_LIBRARY_PATH": str(folder)}, check=True
    )
    text = (folder / "tensorrt_bindings" / "tensorrt.pyi").read_text()
    (folder / "tensorrt.pyi").write_text(_valid(text))
    shutil.rmtree(folder / "tensorrt_bindings")
    return folder


def _valid(text: str) -> str:
    """Loosen the few signatures that pybind11 writes in a way that is no Python."""
    lines = text.splitlines()
    for _ in range(20):
        try:
            ast.parse("\n".join(lines))
        except SyntaxError as error:
            wrong = (error.lineno or 1) - 1
            lines[wrong] = re.sub(r"\(.*", "(self, *args, **kwargs): ...", lines[wrong])
        else:
            return "\n".join(lines)
    raise AssertionError("the stubs are not Python")


def errors_of(stubs: Path, root: Path, folder: Path, change: tuple[str, str] | None = None) -> str:
    """What pyright says of the backend, with one change made to its text."""
    for name in CHECKED:
        text = (root / "livescope" / "detect" / name).read_text(encoding="utf-8")
        (folder / name).write_text(text.replace(*change) if change else text, encoding="utf-8")
    settings = {
        "include": list(CHECKED),
        "extraPaths": [str(root)],
        "stubPath": str(stubs),
        "typeCheckingMode": "standard",
        "reportMissingImports": False,  # cuda.bindings is not installed where there is no NVIDIA
        "reportMissingModuleSource": False,
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--outputjson"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    result = json.loads(done.stdout)
    assert result["summary"]["filesAnalyzed"] == len(CHECKED), done.stdout + done.stderr
    found = result["generalDiagnostics"]
    return "\n".join(f"{Path(one['file']).name}: {one['message']}" for one in found if one["severity"] == "error")


def test_the_backend_s_types_are_tensorrt_11_s(stubs: Path, root: Path, tmp_path: Path) -> None:
    assert errors_of(stubs, root, tmp_path) == ""


@pytest.mark.parametrize(
    ("now", "once"),
    [
        ("execute_async_v3(int(stream))", "execute_async_v2(int(stream))"),
        ("set_tensor_address(tensor, address)", "set_binding_shape(tensor, address)"),
        ("build_serialized_network(network, config)", "build_engine(network, config)"),
    ],
)
def test_what_tensorrt_no_longer_has_is_found(stubs: Path, root: Path, tmp_path: Path, now: str, once: str) -> None:
    found = errors_of(stubs, root, tmp_path, (now, once))
    assert f'Cannot access attribute "{once.partition("(")[0]}"' in found


def test_every_name_taken_from_the_module_is_there(stubs: Path, root: Path) -> None:
    known = (stubs / "tensorrt.pyi").read_text()
    for name in CHECKED:
        tree = ast.parse((root / "livescope" / "detect" / name).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("trt", "self._trt"):
                assert node.attr.startswith("__") or f"class {node.attr}" in known, f"{name}: trt.{node.attr}"
