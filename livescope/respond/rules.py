"""Rules: when a reading crosses a threshold, for long enough and with enough cells, something is to be done.

Owns the conditions and their memory. Carries nothing out (`actions`); the same engine runs live and in a dry run over
a record.

A condition is a Schmitt trigger: it turns on after `frames` readings in a row beyond its threshold and off after as
many beyond `clear`, so that a value that wavers between the two changes nothing. A rule fires when all its conditions
have come on, and again, if it repeats, once they were off in between. What comes on within the cooldown and stays on
fires when the cooldown is over. Nothing fires at a reading that does not say whether all conditions hold.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from livescope.errors import SettingsError, one_of
from livescope.respond.actions import Action
from livescope.written import read_yaml, validate

__all__ = ["Condition", "Firing", "Metric", "Reading", "Rule", "RuleEngine", "Rules", "dry_run", "load_rules"]

Metric = Literal[
    "viability",
    "viability_low",
    "viability_high",
    "n_live",
    "n_dead",
    "n_uncertain",
    "n_cells",
    "death_rate_per_h",
    "focus",
    "shift",
    "disk_free_gb",
    "elapsed_h",
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Condition(_Frozen):
    """One threshold on one metric."""

    metric: Metric
    below: float | None = None
    above: float | None = None
    clear: float | None = None
    """The condition is over only beyond this value, on the far side of the threshold; None is the threshold itself."""
    frames: int = Field(default=1, ge=1, le=10_000)
    """Readings in a row that it takes to come on, and to go off."""
    min_cells: int = Field(default=0, ge=0)
    """Readings with fewer live and dead cells count neither way."""

    @model_validator(mode="after")
    def _one_threshold(self) -> Self:
        if (self.below is None) == (self.above is None):
            raise ValueError("give exactly one of below and above")
        for value in (self.below, self.above, self.clear):
            if self.metric.startswith("viability") and value is not None and not 0 <= value <= 1:
                raise ValueError(f"{self.metric} lies between 0 and 1, not {value:g}; 80 % is 0.8")
        if self.clear is not None:
            if self.below is not None and self.clear < self.below:
                raise ValueError(f"clear ({self.clear:g}) must not lie under below ({self.below:g})")
            if self.above is not None and self.clear > self.above:
                raise ValueError(f"clear ({self.clear:g}) must not lie over above ({self.above:g})")
        return self

    def knows(self, reading: Reading) -> bool:
        """Whether a reading says anything: its value is known, and rests on enough cells."""
        return not math.isnan(reading.values.get(self.metric, math.nan)) and reading.n_cells >= self.min_cells

    def beyond(self, value: float) -> bool:
        """Whether a value lies beyond the threshold."""
        return value < self.below if self.below is not None else value > (self.above or 0.0)

    def cleared(self, value: float) -> bool:
        """Whether a value ends the condition."""
        if self.below is not None:
            return value >= (self.below if self.clear is None else self.clear)
        return value <= ((self.above or 0.0) if self.clear is None else self.clear)

    def __str__(self) -> str:
        sign, limit = ("<", self.below) if self.below is not None else (">", self.above)
        return f"{self.metric} {sign} {limit:g}"


class Rule(_Frozen):
    """Conditions that must all hold, and what is then to be done."""

    name: str = Field(min_length=1)
    when: tuple[Condition, ...] = Field(min_length=1)
    per: Literal["position", "run"] = "position"
    """position: each stage position by itself, and each camera there; run: all readings together."""
    repeat: bool = False
    """Fire each time the conditions come on anew, instead of once."""
    cooldown_s: float = Field(default=0.0, ge=0)
    """Least time between two firings of a rule that repeats; conditions that came on meanwhile wait for its end."""
    do: tuple[Action, ...] = Field(min_length=1)

    @field_validator("when", mode="before")
    @classmethod
    def _single(cls, value: object) -> object:
        return [value] if isinstance(value, Mapping) else value


class Rules(_Frozen):
    """A rules file."""

    rules: tuple[Rule, ...] = ()

    @property
    def metrics(self) -> frozenset[str]:
        """Metrics that some condition looks at."""
        return frozenset(condition.metric for rule in self.rules for condition in rule.when)

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        names = [rule.name for rule in self.rules]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"rule names must differ; twice: {one_of(sorted(twice))}")
        return self


@dataclass(slots=True, frozen=True)
class Reading:
    """What was measured at one analysed frame; a metric that is not known is left out or NaN.

    Attributes
    ----------
    frame_index, time_s, position
        Of the frame; the time is the culture's (`Frame.culture_s`).
    values
        By name of `Metric`.
    n_cells
        Live and dead cells that the values rest on.
    camera
        Its camera; of several at one position each sees cells of its own.
    """

    frame_index: int
    time_s: float
    position: str | None
    values: Mapping[str, float]
    n_cells: int
    camera: str = ""


@dataclass(slots=True, frozen=True)
class Firing:
    """A rule fired; stored with the record.

    Attributes
    ----------
    rule
        Its name.
    position, frame_index, time_s
        Where and when.
    reason
        The values that did it, in words.
    actions
        What is to be done.
    """

    rule: str
    position: str | None
    frame_index: int
    time_s: float
    reason: str
    actions: tuple[Action, ...]


@dataclass(slots=True)
class _Trigger:
    """Memory of one condition at one place."""

    on: bool = False
    in_a_row: int = 0

    def update(self, condition: Condition, reading: Reading) -> None:
        if not condition.knows(reading):
            self.in_a_row = 0  # what is not known is not in a row
            return
        value = reading.values[condition.metric]
        changes = condition.cleared(value) if self.on else condition.beyond(value)
        self.in_a_row = self.in_a_row + 1 if changes else 0
        if self.in_a_row >= condition.frames:
            self.on, self.in_a_row = not self.on, 0


@dataclass(slots=True)
class _Memory:
    """Memory of one rule at one place."""

    triggers: list[_Trigger]
    since_s: float | None = None
    """When all conditions came on, None while one is off."""
    answered: bool = False
    """Whether the rule has fired since then."""
    fired_s: float | None = None


class RuleEngine:
    """Watches readings; one thread uses it.

    Examples
    --------
    >>> when = {"metric": "viability", "below": 0.8, "clear": 0.85, "frames": 2}
    >>> rules = Rules.model_validate({"rules": [{"name": "dying", "when": when, "do": [{"action": "stop"}]}]})
    >>> engine = RuleEngine(rules)
    >>> for index, value in enumerate([0.9, 0.79, 0.78, 0.77]):
    ...     for firing in engine.update(Reading(index, float(index), None, {"viability": value}, 100)):
    ...         print(firing.frame_index, firing.reason)
    2 viability < 0.8 (0.78) in 2 frames in a row, 100 cells
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules.rules
        self._memory: dict[tuple[str, tuple[str | None, str] | None], _Memory] = {}

    def update(self, reading: Reading) -> list[Firing]:
        """Take in a reading and return what fires at it."""
        return [firing for rule in self._rules if (firing := self._update(rule, reading)) is not None]

    def _update(self, rule: Rule, reading: Reading) -> Firing | None:
        place = (reading.position, reading.camera) if rule.per == "position" else None
        memory = self._memory.setdefault((rule.name, place), _Memory([_Trigger() for _ in rule.when]))
        for trigger, condition in zip(memory.triggers, rule.when, strict=True):
            trigger.update(condition, reading)
        if not all(trigger.on for trigger in memory.triggers):
            memory.since_s, memory.answered = None, False
            return None
        memory.since_s = reading.time_s if memory.since_s is None else memory.since_s
        if memory.answered:
            return None
        if memory.fired_s is not None and (not rule.repeat or reading.time_s - memory.fired_s < rule.cooldown_s):
            return None
        if not all(condition.knows(reading) for condition in rule.when):
            return None  # the cooldown is over, but whether the conditions still hold must be seen
        cooled = memory.fired_s is not None and memory.since_s < memory.fired_s + rule.cooldown_s
        memory.answered, memory.fired_s = True, reading.time_s
        reason = " and ".join(_words(condition, reading) for condition in rule.when)
        waited_s = reading.time_s - memory.since_s
        if waited_s > 0:
            reason += f", held for {waited_s:.4g} s" + (" until the cooldown was over" if cooled else "")
        return Firing(
            rule.name,
            reading.position,
            reading.frame_index,
            reading.time_s,
            f"{reason}, {reading.n_cells} cells",
            rule.do,
        )


def _words(condition: Condition, reading: Reading) -> str:
    value = reading.values[condition.metric]
    row = f" in {condition.frames} frames in a row" if condition.frames > 1 else ""
    return f"{condition} ({value:.4g}){row}"


def dry_run(rules: Rules, readings: Iterable[Reading]) -> list[Firing]:
    """Return when each rule would have fired; nothing is carried out."""
    engine = RuleEngine(rules)
    return [firing for reading in readings for firing in engine.update(reading)]


def load_rules(path: Path) -> Rules:
    """Read a rules file (YAML with the section ``rules``).

    Raises
    ------
    SettingsError
        The file is missing, not YAML, or a rule is wrong; the message names it.
    """
    try:
        tree = read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"rules {str(path)!r} cannot be read: {error.strerror}. An example lies in configs/."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"rules {str(path)!r} are not YAML: {error}") from None
    if not isinstance(tree, Mapping):
        raise SettingsError(
            f"rules {str(path)!r} hold a {type(tree).__name__}; expected is the key 'rules' with a list of them. An "
            "example lies in configs/."
        )
    try:
        return validate(Rules.model_validate, tree)
    except ValidationError as invalid:
        found = invalid.errors()
        # a tuple one of whose members is wrong is also called too short, which only misleads
        inner = {error["loc"][:k] for error in found for k in range(len(error["loc"]))}
        deepest = [error for error in found if error["loc"] not in inner]
        raise SettingsError("\n".join(_explain(path, tree, dict(e)) for e in deepest)) from None


def _explain(path: Path, tree: object, error: Mapping[str, object]) -> str:
    whole = error["loc"] if isinstance(error["loc"], tuple) else ()
    where = [part for part in whole if part not in ("function-after", "tuple")]
    name = ""
    if len(where) > 1 and where[0] == "rules" and isinstance(tree, Mapping):
        rule = tree["rules"][where[1]]
        name = f", rule {rule.get('name', where[1])!r}" if isinstance(rule, Mapping) else ""
    key = ".".join(str(part) for part in where[2 if name else 0 :])
    if error["type"] == "extra_forbidden":
        known = _known_keys([part for part in where[:-1] if isinstance(part, str)])
        near = difflib.get_close_matches(str(where[-1]), known, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"rules {str(path)!r}{name}: unknown key {key!r}.{hint} Known here: {one_of(known)}."
    said = str(error["msg"]).removeprefix("Value error, ").replace("valid tuple", "list")
    return f"rules {str(path)!r}{name}: {key + ': ' if key else ''}{said} (given: {error['input']!r})."


def _known_keys(above: list[str]) -> list[str]:
    """Return the keys of a rules file, a rule, a condition, or the action that is named last."""
    actions: dict[str, type[BaseModel]] = {
        get_args(kind.model_fields["action"].annotation)[0]: kind for kind in get_args(get_args(Action)[0])
    }
    of_rules: dict[tuple[str, ...], type[BaseModel]] = {(): Rules, ("rules",): Rule, ("rules", "when"): Condition}
    return list((of_rules.get(tuple(above)) or actions[above[-1]]).model_fields)
