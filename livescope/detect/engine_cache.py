"""Built engines on disk, so that the second start takes no build.

Owns the files: their names (a hash of all that an engine depends on), their integrity, their total size. A cache that
cannot be read or written is never a reason not to run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

__all__ = ["EngineCache", "EngineKey"]

_MAGIC = b"livescope engine 1\n"
_DIGEST = hashlib.sha256().digest_size
_LOCK_TIMEOUT_S = 600.0
"""An enterprise TensorRT build takes minutes; after this we build for ourselves."""


@dataclass(slots=True, frozen=True)
class EngineKey:
    """All that an engine depends on; another value of any of them is another engine.

    Attributes
    ----------
    graph_sha256
        Of the serialised frame graph: network, precision, frame shape and type, bin, rows.
    builder
        Module and version that build and load it.
    gpu, compute_capability, driver
        The device; empty where it is built ahead of time.
    flags
        Builder flags.
    system
        Operating system and machine.
    """

    graph_sha256: str
    builder: str
    gpu: str = ""
    compute_capability: str = ""
    driver: str = ""
    flags: str = ""
    system: str = f"{platform.system()}-{platform.machine()}"

    @property
    def file_name(self) -> str:
        """Name of the engine's file."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.engine"


class EngineCache:
    """Engines by key.

    Parameters
    ----------
    folder
        Where they lie; None takes the user's cache folder.
    max_bytes
        Total size; the engines used longest ago go first.
    """

    def __init__(self, folder: Path | None = None, max_bytes: int = 2_000_000_000) -> None:
        self.folder = folder or user_cache_path("livescope") / "engines"
        self._max_bytes = max_bytes
        self.troubles: list[str] = []

    def get(self, key: EngineKey) -> bytes | None:
        """Return a stored plan, or None; a file that is damaged or not ours is removed."""
        path = self.folder / key.file_name
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._note("read", path, error)
            return None
        head, plan = content[: len(_MAGIC) + _DIGEST], content[len(_MAGIC) + _DIGEST :]
        if head != _MAGIC + hashlib.sha256(plan).digest():
            self.discard(key)
            return None
        with contextlib.suppress(OSError):  # a folder that is only read needs no order
            os.utime(path)  # used last now
        return plan

    def get_or_build(self, key: EngineKey, build: Callable[[], bytes]) -> bytes:
        """Return a stored plan, or build and store it; of several processes one builds and the others wait for it."""
        plan = self.get(key)
        if plan is not None:
            return plan
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / f"{key.file_name}.lock", timeout=_LOCK_TIMEOUT_S):
                plan = self.get(key)  # another process was faster
                if plan is None:
                    plan = build()
                    self.put(key, plan)
                return plan
        except (OSError, Timeout) as error:
            self._note("lock", self.folder, error)
            return plan or build()

    def put(self, key: EngineKey, plan: bytes) -> None:
        """Store a plan, whole or not at all."""
        path = self.folder / key.file_name
        temporary = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".part", delete=False) as file:
                temporary = Path(file.name)
                file.write(_MAGIC + hashlib.sha256(plan).digest())
                file.write(plan)
            temporary.replace(path)
            self._prune(keep=path)
        except OSError as error:
            self._note("write", path, error)
            if temporary is not None:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)

    def discard(self, key: EngineKey) -> None:
        """Remove an engine that does not load."""
        path = self.folder / key.file_name
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            self._note("remove", path, error)

    def _prune(self, keep: Path) -> None:
        engines = sorted(self.folder.glob("*.engine"), key=lambda path: path.stat().st_mtime)
        total = sum(path.stat().st_size for path in engines)
        for path in engines:
            if total <= self._max_bytes:
                break
            if path != keep:
                total -= path.stat().st_size
                path.unlink(missing_ok=True)

    def _note(self, what: str, path: Path, error: Exception) -> None:
        self.troubles.append(f"engine cache: cannot {what} {str(path)!r} ({error}); the engine is built at each start.")
