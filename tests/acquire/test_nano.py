"""The live loop on the other binding of MMCore: tests of this folder again, in a process that loads pymmcore-nano."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pymmcore_plus import _pymmcore

HERE = Path(__file__).parent
CHOSEN = ("test_core.py", "test_stream.py", "test_changes.py", "test_attach.py", "test_planned.py")


def test_the_binding_is_the_one_that_was_asked_for() -> None:
    wanted = os.environ.get("LIVESCOPE_TEST_BINDING", "pymmcore")
    assert wanted == _pymmcore.BACKEND


@pytest.mark.timeout(900)
@pytest.mark.skipif(_pymmcore.BACKEND == "pymmcore-nano", reason="all tests run on pymmcore-nano already")
def test_the_loop_works_on_pymmcore_nano(run_with_alternative: Callable[..., None]) -> None:
    run_with_alternative(
        "pymmcore-nano", [HERE / name for name in CHOSEN] + [Path(__file__)], LIVESCOPE_TEST_BINDING="pymmcore-nano"
    )
