from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import pytest

from livescope.detect.engine_cache import EngineCache, EngineKey

KEY = EngineKey("ab" * 32, "tensorrt_rtx 1.7", "Some GPU", "8.6", "13000")


def no_build() -> bytes:
    raise AssertionError("built although it was stored")


def test_an_engine_comes_back(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "not" / "there")
    assert cache.get(KEY) is None
    assert cache.get_or_build(KEY, lambda: b"plan") == b"plan"
    assert EngineCache(cache.folder).get_or_build(KEY, no_build) == b"plan"
    assert [p.suffix for p in cache.folder.iterdir() if p.suffix != ".lock"] == [".engine"]
    assert cache.troubles == []


@pytest.mark.parametrize("name", [field.name for field in fields(EngineKey)])
def test_every_part_of_the_key_counts(tmp_path: Path, name: str) -> None:
    cache = EngineCache(tmp_path)
    cache.put(KEY, b"plan")
    assert cache.get(replace(KEY, **{name: "another"})) is None


@pytest.mark.parametrize(
    "damage", [lambda c: c[:-1], lambda c: b"", lambda c: b"x" + c[1:], lambda c: c[:60] + b"?" + c[61:]]
)
def test_a_damaged_engine_is_a_miss_and_is_removed(tmp_path: Path, damage: object) -> None:
    cache = EngineCache(tmp_path)
    cache.put(KEY, b"plan" * 10)
    path = tmp_path / KEY.file_name
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    assert cache.get(KEY) is None
    assert not path.exists()


def test_the_cache_keeps_to_its_size_and_drops_the_oldest(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path, max_bytes=3500)
    keys = [replace(KEY, gpu=str(n)) for n in range(4)]
    for age, key in enumerate(keys[:3]):
        cache.put(key, bytes(1000))
        os.utime(tmp_path / key.file_name, (age, age))
    cache.get(keys[0])  # used: now the newest
    cache.put(keys[3], bytes(1000))
    assert [cache.get(key) is not None for key in keys] == [True, False, True, True]
    cache.put(keys[1], bytes(9000))  # larger than all: it alone stays
    assert [cache.get(key) is not None for key in keys] == [False, True, False, False]


def test_one_of_many_builds(tmp_path: Path) -> None:
    built = []

    def build() -> bytes:
        built.append(1)
        return b"plan"

    with ThreadPoolExecutor(8) as pool:
        caches = [EngineCache(tmp_path) for _ in range(8)]
        plans = list(pool.map(lambda cache: cache.get_or_build(KEY, build), caches))
    assert plans == [b"plan"] * 8
    assert len(built) == 1


def test_two_processes_build_once(tmp_path: Path, root: Path) -> None:
    code = f"""
import time
from pathlib import Path
from livescope.detect.engine_cache import EngineCache, EngineKey
def build():
    with open({str(tmp_path / "builds")!r}, "a") as file:
        file.write("x")
    time.sleep(0.5)
    return b"plan"
print(EngineCache(Path({str(tmp_path / "engines")!r})).get_or_build(EngineKey("a", "b"), build))
"""
    runs = [subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE) for _ in range(2)]
    assert [run.communicate()[0] for run in runs] == [b"b'plan'\n"] * 2
    assert (tmp_path / "builds").read_text() == "x"


def test_a_cache_that_cannot_be_written_does_not_stop_a_run(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file where the folder should be")
    cache = EngineCache(blocked / "engines")
    assert cache.get_or_build(KEY, lambda: b"plan") == b"plan"
    assert "engine cache: cannot" in cache.troubles[0]


@pytest.mark.skipif(sys.platform == "win32", reason="rights are told apart by user id")
@pytest.mark.parametrize("stored", [True, False])
def test_a_folder_that_is_only_read_serves_what_it_has(stored: bool, root: Path) -> None:
    """Root may write anywhere, so the process takes another user's id."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own folder is closed to other users
        cache = EngineCache(Path(name))
        if stored:
            cache.put(KEY, b"stored")
            (cache.folder / KEY.file_name).chmod(0o444)
        cache.folder.chmod(0o555)
        code = f"""
import os
from pathlib import Path
from livescope.detect.engine_cache import EngineCache, EngineKey
cache = EngineCache(Path({name!r}))
if os.getuid() == 0:
    os.setuid(65534)
key = EngineKey({KEY.graph_sha256!r}, "tensorrt_rtx 1.7", "Some GPU", "8.6", "13000")
print(cache.get_or_build(key, lambda: b"built"), len(cache.troubles), os.access({name!r}, os.W_OK))
"""
        done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
        cache.folder.chmod(0o755)
    assert done.stdout == ("b'stored' 0 False\n" if stored else "b'built' 1 False\n"), done.stderr


def test_a_full_disk_does_not_stop_a_run(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    cache = EngineCache(tmp_path)
    # in a process of its own: its temporary file is the device that is always full
    code = f"""
import tempfile
from pathlib import Path
from livescope.detect.engine_cache import EngineCache, EngineKey
class Full:
    name = {str(tmp_path / "x.part")!r}
    def __init__(self, **_): self.file = open("/dev/full", "wb", buffering=0)
    def __enter__(self): return self
    def __exit__(self, *_): self.file.close()
    def write(self, data): self.file.write(data)
tempfile.NamedTemporaryFile = Full
cache = EngineCache(Path({str(tmp_path)!r}))
print(cache.get_or_build(EngineKey("a", "b"), lambda: b"plan"), "No space left" in cache.troubles[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert done.stdout == "b'plan' True\n"
    assert list(cache.folder.glob("*.engine")) == []
