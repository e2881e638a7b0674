"""Every example in a docstring runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import livescope

_SKIP = ("livescope.train", "livescope.view")  # need torch and Qt; their own tests run their examples


def _modules() -> list[str]:
    found = pkgutil.walk_packages(livescope.__path__, "livescope.")
    return [module.name for module in found if not module.name.startswith(_SKIP)]


@pytest.mark.parametrize("name", _modules())
def test_docstring_examples(name: str) -> None:
    module = importlib.import_module(name)
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0
