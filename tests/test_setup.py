"""From a fresh clone: the scripts in tools/ and the pins they install from."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11.7", "3.12.1", "3.13.0", "3.14.0")
SYSTEMS = {"linux": ("Linux", "x86_64"), "win32": ("Windows", "AMD64"), "darwin": ("Darwin", "arm64")}


def _environment(python: str, system: str) -> dict[str, str]:
    name, machine = SYSTEMS[system]
    return {
        **default_environment(),  # type: ignore[typeddict-item]
        "python_full_version": python,
        "python_version": ".".join(python.split(".")[:2]),
        "sys_platform": system,
        "platform_system": name,
        "platform_machine": machine,
        "os_name": "nt" if system == "win32" else "posix",
        "extra": "",
    }


def _pins(environment: dict[str, str]) -> dict[str, str]:
    lines = (ROOT / "tools" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins: dict[str, str] = {}
    for requirement in (Requirement(line) for line in lines if line and not line.startswith("#")):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            assert requirement.name not in pins, (
                f"{requirement.name} is pinned twice for {environment['python_version']}"
            )
            (specifier,) = requirement.specifier
            assert specifier.operator == "==", f"{requirement} is no exact version"
            pins[requirement.name] = specifier.version
    return pins


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_every_dependency_is_pinned_within_its_range(python: str, system: str) -> None:
    environment = _environment(python, system)
    pins = _pins(environment)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    del project["optional-dependencies"]["tensorrt"]  # from NVIDIA's own index
    wanted = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    for requirement in map(Requirement, [*wanted, "hatchling", "editables"]):
        name = requirement.name.lower().replace("_", "-")
        if name == "livescope" or (requirement.marker and not requirement.marker.evaluate(environment)):
            continue
        assert name in pins, (
            f"{name} is not in tools/constraints.txt; the command to make it anew is in its first lines"
        )
        assert pins[name] in requirement.specifier, f"{name} {pins[name]} is outside {requirement.specifier}"


_MODULES = {
    "PIL": "pillow", "cv2": "opencv-python-headless", "google": "protobuf", "skimage": "scikit-image", "yaml": "pyyaml",
    "PySide6": "pyside6-essentials", "useq": "useq-schema", "cuda": "cuda-bindings",
    "tensorrt_rtx": "tensorrt-rtx-cu13", "upath": "universal-pathlib", "bioimageio": "bioimageio-core",
}  # fmt: skip
"""Distributions whose name is not that of their module."""
_PEERS = {"napari", "ndv"}
"""What a bench compares with where it happens to be installed: too large for an extra."""


def _imported(folder: str) -> dict[str, Path]:
    """Distribution of every third-party import in a folder, and one file that has it."""
    own = {"livescope", *(path.stem for part in ("tools", "tests") for path in (ROOT / part).rglob("*.py"))}
    found: dict[str, Path] = {}
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            for name in {name.partition(".")[0] for name in names} - own - _PEERS - sys.stdlib_module_names:
                found[_MODULES.get(name, name.lower().replace("_", "-"))] = path.relative_to(ROOT)
    return found


@pytest.mark.parametrize("folder", ["livescope", "tools", "tests"])
def test_every_import_is_declared(folder: str) -> None:
    """What is imported but only comes along with something else goes away with its next release."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    rooms = {"livescope/view": ["viewer", "export"], "livescope/train": ["train"]}
    for name, path in _imported(folder).items():
        allowed = next((rooms[room] for room in rooms if str(path.as_posix()).startswith(room)), list(extras))
        lines = [*project["dependencies"], *(line for extra in allowed for line in extras[extra])]
        declared = {Requirement(line).name.lower().replace("_", "-") for line in lines}
        assert name in declared, f"{path} imports {name}, which pyproject.toml does not name"


def test_a_demo_installs_no_torch() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    names = [Requirement(line).name for extra in ("viewer", "demo") for line in extras[extra]]
    assert "torch" not in names
    assert any(line == "torch==2.13.0" for line in extras["train"])


@pytest.mark.parametrize("script", ["demo.py", "test.py"])
def test_an_old_python_can_read_the_scripts(script: str) -> None:
    """So that it gets as far as the sentence which Python is needed."""
    tree = ast.parse((ROOT / "tools" / script).read_text(encoding="utf-8"), feature_version=(3, 4))
    check = next(n for n, node in enumerate(tree.body) if isinstance(node, ast.If))
    assert all(isinstance(node, ast.Expr) or node.names[0].name == "sys" for node in tree.body[:check])  # type: ignore[attr-defined]


@pytest.mark.parametrize(("script", "words"), [("demo.py", "--headless --seconds 20"), ("test.py", "-k settings")])
def test_help_needs_no_install(script: str, words: str, tmp_path: Path) -> None:
    for path in ("tools", "livescope", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / path).is_dir() else shutil.copy
        copy(ROOT / path, tmp_path / path)
    done = subprocess.run(
        [sys.executable, f"tools/{script}", "--help"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert words in done.stdout
    assert not (tmp_path / ".venv").exists()


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    """tools/_setup.py with an environment and a log of its own."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    import _setup

    for name in ("CONSTRAINTS", "STAMP", "LOG"):
        monkeypatch.setattr(_setup, name, tmp_path / name)
    monkeypatch.setattr(_setup, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "CONSTRAINTS").write_text("numpy==2\n")
    monkeypatch.setattr(_setup, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(_setup.time, "sleep", lambda seconds: None)
    yield _setup
    del sys.modules["_setup"]


def test_installed_as_long_as_project_and_pins_are_the_same(setup: ModuleType, tmp_path: Path) -> None:
    assert not setup._is_installed(["viewer"])
    setup.STAMP.write_text(json.dumps({"digest": setup._digest(), "extras": ["demo", "viewer"]}))
    assert setup._is_installed(["viewer", "demo"])
    assert not setup._is_installed(["dev"])
    (tmp_path / "CONSTRAINTS").write_text("numpy==3\n")
    assert not setup._is_installed(["viewer", "demo"])


def test_an_environment_whose_python_has_moved_up_is_made_anew(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A Python that no longer finds what was installed for the one before it, though the stamp is good."""
    setup.STAMP.write_text(json.dumps({"digest": setup._digest(), "extras": ["demo"]}))
    assert setup._is_installed(["demo"])
    venv.create(tmp_path / "bare", symlinks=os.name != "nt")
    monkeypatch.setattr(
        setup, "PYTHON", tmp_path / "bare" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    )
    assert not setup._is_installed(["demo"])


def test_a_folder_in_which_no_environment_can_be(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(setup, "VENV", tmp_path / f"a{os.pathsep}b")
    monkeypatch.setattr(setup, "PYTHON", tmp_path / "none")
    with pytest.raises(SystemExit, match=r"livescope: Refusing to create a venv .* Move livescope to a folder"):
        setup._make_venv()


def test_the_path_of_the_project_is_written_as_windows_reads_it(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(setup.locale, "getencoding", lambda: "cp1252")
    file = tmp_path / "_editable_impl_livescope.pth"
    file.write_text("C:\\Users\\J\u00fcrgen", encoding="utf-8")
    setup._make_path_readable(tmp_path)
    assert file.read_text(encoding="cp1252") == "C:\\Users\\J\u00fcrgen"
    file.write_text("C:\\\u7d30\u80de", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"\(cp1252\) has no '\u7d30\u80de', which"):
        setup._make_path_readable(tmp_path)


def test_the_extra_of_the_tests_holds_all_others(setup: ModuleType) -> None:
    setup.STAMP.write_text(json.dumps({"digest": setup._digest(), "extras": ["dev"]}))
    assert setup._is_installed(["viewer", "demo"])


def test_a_damaged_stamp_means_not_installed(setup: ModuleType) -> None:
    setup.STAMP.write_text('{"digest"')
    assert not setup._is_installed(["viewer"])


def _pip_that(what: str) -> list[str]:
    return [sys.executable, "-c", what]


def test_a_broken_connection_is_tried_again_and_then_told(
    setup: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        setup._pip(_pip_that("print('ERROR: NewConnectionError: no route'); raise SystemExit(1)"))
    message = str(stopped.value)
    assert "Check the network" in message
    assert "ERROR: NewConnectionError: no route" in message
    assert str(setup.LOG) in message
    assert "trying once more" in capsys.readouterr().out
    assert setup.LOG.read_text().count("ERROR: NewConnectionError") == 2 * 2, "the command and its output, twice"


def test_another_failure_is_told_at_once(setup: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="No space left") as stopped:
        setup._pip(_pip_that("print('ERROR: No space left on device'); raise SystemExit(1)"))
    assert "network" not in str(stopped.value)
    assert "trying once more" not in capsys.readouterr().out


def test_warnings_of_a_working_pip_are_no_failure(setup: ModuleType) -> None:
    setup._pip(_pip_that("print('WARNING: Location x is ignored'); print('Collecting numpy')"))
    assert "Location x is ignored" in setup.LOG.read_text()


@pytest.mark.parametrize(
    ("system", "machine", "words"), [("Linux", "aarch64", "Linux on ARM"), ("Darwin", "x86_64", "Intel Macs")]
)
def test_machines_without_packages_are_told(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, system: str, machine: str, words: str
) -> None:
    monkeypatch.setattr(setup.platform, "system", lambda: system)
    monkeypatch.setattr(setup.platform, "machine", lambda: machine)
    with pytest.raises(SystemExit, match=words):
        setup._check_machine()
