"""YAML as people write it: nothing in it is a date, and a number knows how it was written.

Owns reading it for settings, where a folder may be called 2024-05-01, 20240501 or 2024.10. What the settings are is
`settings.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

__all__ = ["read_yaml", "validate"]

_DATE = "tag:yaml.org,2002:timestamp"
Made = TypeVar("Made")


class _Int(int):
    written = ""


class _Float(float):
    written = ""


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012 - as its parent has them
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _DATE]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def integer(self, node: yaml.ScalarNode) -> _Int:
        number = _Int(self.construct_yaml_int(node))
        number.written = node.value
        return number

    def decimal(self, node: yaml.ScalarNode) -> _Float:
        number = _Float(self.construct_yaml_float(node))
        number.written = node.value
        return number


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.decimal)


def read_yaml(text: str) -> Any:
    """Read YAML for `validate`.

    Raises
    ------
    yaml.YAMLError
        It is none.
    """
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def validate(make: Callable[[Any], Made], tree: Any) -> Made:
    """Make a model of what `read_yaml` read; where it wants a text or a path, a number is what was written.

    Parameters
    ----------
    make
        ``model_validate`` of a model, or the like.
    tree
        What was read.

    Raises
    ------
    pydantic.ValidationError
        A key is unknown, or a value out of range.
    """
    try:
        return make(tree)
    except ValidationError as error:
        faults = [fault["input"] for fault in error.errors() if fault["type"] in ("path_type", "string_type")]
        return make(_as_written(tree, [one for one in faults if isinstance(one, (_Int, _Float))]))


def _as_written(tree: Any, numbers: list[_Int | _Float]) -> Any:
    """Return the tree with these very numbers, not their equals, as texts."""
    if isinstance(tree, dict):
        return {key: _as_written(child, numbers) for key, child in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_as_written(child, numbers) for child in tree]
    return tree.written if any(tree is number for number in numbers) else tree
