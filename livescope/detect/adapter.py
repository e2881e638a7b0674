"""What a card says of a network made elsewhere: what goes in, and what its outputs mean.

Owns the adapters as data: a class map, and boxes. How their outputs become rows of a table is `adapted`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Adapter", "Boxes", "ClassMap", "Classes"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Classes(_Frozen):
    """Which of the network's classes, counted from 0, is what; all others are no cells."""

    live: int | None = Field(default=None, ge=0)
    dead: int | None = Field(default=None, ge=0)
    cell: int | None = Field(default=None, ge=0)
    """A cell of which the network does not say whether it lives: it is called uncertain."""

    @model_validator(mode="after")
    def _differ(self) -> Self:
        given = [index for index in (self.live, self.dead, self.cell) if index is not None]
        if not given or len(set(given)) != len(given):
            raise ValueError("name at least one of live, dead and cell, each by a number of its own")
        return self


class _Adapted(_Frozen):
    classes: Classes
    multiple: int = Field(default=32, ge=1, le=1024)
    """Frames are padded to a multiple of this along each axis, where the network takes any size."""


class ClassMap(_Adapted):
    """A network that gives each pixel a class; touching cells are parted by their shape.

    The output is (1, C, h, w) of logits or chances, or (1, h, w) or (1, 1, h, w) of class numbers, h and w those of the
    input or a whole part of them. Of a network that takes (1, H, W, C) it is (1, h, w, C).
    """

    kind: Literal["class_map"] = "class_map"
    output: str | None = None
    """Name of the output; None takes the only one."""
    values: Literal["logits", "chances", "classes"] = "logits"


class Boxes(_Adapted):
    """A network that gives boxes x0, y0, x1, y1, each with a score and a class; an outline is the ellipse of its box.

    Either three outputs, `boxes` (n, 4), `scores` (n) and `labels` (n), or one, `detections` (n, 6), with score and
    class behind the box; each may have a leading axis of length 1. Suppressed already or not: weaker cells near
    stronger ones are dropped in either case.
    """

    kind: Literal["boxes"] = "boxes"
    detections: str | None = None
    boxes: str | None = None
    scores: str | None = None
    labels: str | None = None
    unit: Literal["pixels", "parts"] = "pixels"
    """Of the coordinates: pixels of the network's input, or parts of its width and height."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        three = [self.boxes, self.scores, self.labels]
        if any(three) == bool(self.detections) or (any(three) and not all(three)):
            raise ValueError("name the outputs: either detections, or all of boxes, scores and labels")
        return self


Adapter = Annotated[ClassMap | Boxes, Field(discriminator="kind")]
"""The adapter named in a card."""
