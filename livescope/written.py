"""YAML as people write it: a key stands once, only plain numbers are numbers, and each knows how it was written.

Owns reading it for settings, where a folder may be called 2024-05-01, 20240501 or 2024.10, a channel No, and a property
On or 010. Dates, truth values, numbers with a leading 0 and those that are none (.nan, .inf) stay the text that they
are; where a model wants a truth value or a number, it makes one of it, or refuses. What the settings are is
`settings.py`'s.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

__all__ = ["as_written", "read_yaml", "validate"]

_TEXTS = {"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:bool"}
_MERGE = "tag:yaml.org,2002:merge"
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]")
"""YAML 1.1 would have 010 be 8."""
_WHOLE = re.compile(r"[-+]?\d+\.0")
Made = TypeVar("Made")


class _Int(int):
    written = ""


class _Float(float):
    written = ""


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012 - as its parent has them
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _TEXTS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.deep_construct = True  # an alias within what it names is then an error, not a tree without an end

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            line, name = key.start_mark.line + 1, (key.tag, str(key.value))
            if name in lines and key.tag != _MERGE:
                raise yaml.YAMLError(
                    f"the key {key.value!r} stands twice, in line {lines[name]} and in line {line}; leave one, with "
                    "all that belongs to it"
                )
            lines[name] = line
        return node

    def integer(self, node: yaml.ScalarNode) -> _Int | str:
        if _LEADING_ZERO.match(node.value):
            return str(node.value)
        number = _Int(self.construct_yaml_int(node))
        number.written = node.value
        return number

    def decimal(self, node: yaml.ScalarNode) -> _Float | str:
        number = _Float(self.construct_yaml_float(node))
        number.written = node.value
        return number if math.isfinite(number) else str(node.value)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.decimal)


def read_yaml(text: str) -> Any:
    """Read YAML for `validate`.

    Raises
    ------
    yaml.YAMLError
        It is none, a key stands twice in one place, or it is nested without an end.
    """
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except RecursionError:
        raise yaml.YAMLError("it is nested too deep, or holds itself") from None
    except ValueError as error:  # of a number that is none, such as 0x
        raise yaml.YAMLError(str(error)) from None
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
        return make(_with_texts(tree, [one for one in faults if isinstance(one, (_Int, _Float))]))


def as_written(value: Any) -> Any:
    """Return a number that `read_yaml` read as the text that was written, anything else as it is.

    So is 2.0: settings that were stored have whole numbers so, and devices that take 2 refuse it.
    """
    if isinstance(value, _Float) and _WHOLE.fullmatch(value.written):
        return float(value)
    return value.written if isinstance(value, (_Int, _Float)) else value


def _with_texts(tree: Any, numbers: list[_Int | _Float]) -> Any:
    """Return the tree with these very numbers, not their equals, as texts."""
    if isinstance(tree, dict):
        return {key: _with_texts(child, numbers) for key, child in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_with_texts(child, numbers) for child in tree]
    return tree.written if any(tree is number for number in numbers) else tree
