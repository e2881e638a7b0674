"""Execution contexts of an engine, and the kernels that TensorRT-RTX compiles for them, kept between starts.

TensorRT-RTX compiles on the device when a context is made or first runs: seconds, for each context and at each start,
unless the contexts share a cache and it is stored. Enterprise TensorRT compiles during the build and has no such cache.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from livescope.detect.engine_cache import EngineCache, EngineKey

if TYPE_CHECKING:
    import tensorrt  # the enterprise bindings' types, also right for tensorrt_rtx; checked by tests/detect

__all__ = ["Contexts"]


class Contexts:
    """Makes the execution contexts of one engine. Must live as long as they do.

    Parameters
    ----------
    engine
        Deserialised.
    cache, key
        Where compiled kernels lie, beside the engine of this key.
    """

    def __init__(self, engine: tensorrt.ICudaEngine, cache: EngineCache, key: EngineKey) -> None:
        self._engine = engine
        self._cache, self._key = cache, replace(key, flags=f"{key.flags} kernels")
        self._stored: bytes | None = None
        self._kernels: Any = None
        # Any: what TensorRT-RTX has more is not in the enterprise types
        self._config = cast(Any, engine.create_runtime_config())
        if hasattr(self._config, "create_runtime_cache"):
            self._kernels = self._config.create_runtime_cache()
            self._stored = cache.get(self._key)
            if self._stored is not None and not self._kernels.deserialize(self._stored):
                self._stored = None  # of another driver or device: compiled anew
            self._config.set_runtime_cache(self._kernels)

    def make(self) -> tensorrt.IExecutionContext | None:
        """Make one more context; None where the device has no memory for it."""
        if self._kernels is None:
            return self._engine.create_execution_context()
        return self._engine.create_execution_context(self._config)

    def store(self) -> None:
        """Keep what was compiled, for the next start; to be called when every context has run once."""
        compiled = None if self._kernels is None else self._kernels.serialize()
        if compiled is not None and bytes(compiled) != self._stored:
            self._cache.put(self._key, bytes(compiled))
