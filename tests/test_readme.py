"""README's examples run as they stand; those that need a window, images or a network say so in a comment above them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(
    r"(?:<!-- not run by the tests: (?P<why>.+?) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S
)


class Block(NamedTuple):
    """A fenced block of code."""

    language: str
    code: str
    why_not: str | None


def _blocks() -> list[Block]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [Block(found["language"], found["code"], found["why"]) for found in _BLOCK.finditer(text)]


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with the configs beside it, as a user's clone, and nothing else."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    return tmp_path


@pytest.mark.parametrize("block", [pytest.param(b, id=f"{n}-{b.language}") for n, b in enumerate(_blocks())])
def test_readme_block(block: Block, workplace: Path) -> None:
    if block.why_not:
        pytest.skip(f"README: {block.why_not}")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "QT_QPA_PLATFORM": "offscreen"}
    if block.language == "python":
        (workplace / "test_block.py").write_text(block.code, encoding="utf-8")
        is_test = "def test_" in block.code
        command = [
            sys.executable,
            *(["-m", "pytest", "-q", "-W", "error"] if is_test else ["-W", "error"]),
            "test_block.py",
        ]
    elif block.language == "bash":
        bash = shutil.which("bash")
        if bash is None:
            pytest.skip("there is no bash here")
        command = [
            bash,
            "-euo",
            "pipefail",
            "-c",
            f'livescope() {{ "{sys.executable}" -m livescope "$@"; }}\n{block.code}',
        ]
    else:
        pytest.fail(f"a block of {block.language!r} is neither python nor bash: the tests do not know how to run it")
    done = subprocess.run(command, cwd=workplace, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{block.code}\n{done.stdout}\n{done.stderr}"


def test_links_to_files_hold() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    paths = re.findall(r"`((?:configs|tools|livescope|docs)/[\w./-]+)`", text)
    assert [path for path in [*links, *paths] if not (ROOT / path).exists()] == []
