"""One frozen tree of settings: read from YAML, changed by ``--set key.path=value``, written with every record.

Owns the names, defaults and ranges of everything a user can set. An unknown key is an error that names the nearest
known one.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from livescope.errors import SettingsError, one_of
from livescope.written import as_written, read_yaml, validate

__all__ = [
    "MAX_CELLS",
    "CameraSettings",
    "DetectorSettings",
    "MonitorSettings",
    "RecordSettings",
    "RunSettings",
    "Section",
    "Settings",
    "SimulationSettings",
    "SourceSettings",
    "TrackSettings",
    "ViewSettings",
    "config_text",
    "dump_settings",
    "explain",
    "known_keys",
    "load_settings",
    "override_settings",
    "split_override",
]


MAX_CELLS = 3840
"""Most cells of a frame: TensorRT's TopK ends there."""

_Chance = Annotated[float, Field(ge=0, le=1)]
_Written = Annotated[str | float, BeforeValidator(as_written)]


class Section(BaseModel):
    """A section of settings: frozen, an unknown key is an error, an empty section in it has its defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_empty(cls, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        kinds = {name: field.annotation for name, field in cls.model_fields.items()}
        return {key: {} if value is None and _is_section(kinds.get(key)) else value for key, value in tree.items()}


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


class SourceSettings(Section):
    """Where frames come from."""

    kind: Literal["demo", "micromanager", "simulated", "replay", "attached"] = "simulated"
    """demo: Micro-Manager's demo camera; micromanager: a lab's own cfg; simulated: living cells; replay: files;
    attached: the core of another program (`livescope.attach` sets it).
    """
    cfg: Path | None = None
    """Micro-Manager configuration for `micromanager` (for `demo`, instead of the one that ships with the adapters)."""
    micromanager_dir: Path | None = None
    """Folder of the Micro-Manager installation to use; None lets pymmcore-plus search."""
    path: Path | None = None
    """For `replay`: a folder of TIFF or PNG images, one multi-page TIFF, or an OME-Zarr."""
    rate_fps: float | None = Field(default=None, gt=0, le=10_000)
    """For `replay`: frames a second; None plays at the recorded rate, or 10 where none is known."""
    repeat: bool = False
    """For `replay`: begin again at the end instead of stopping."""


class CameraSettings(Section):
    """The camera, and what the core cannot know."""

    exposure_ms: float | None = Field(default=None, gt=0, le=600_000)
    """Exposure; None leaves the camera as it is."""
    properties: dict[str, _Written] = Field(default_factory=dict)
    """Camera device properties set before the start, e.g. ``PixelType: 16bit``; each as it is written (2.0 as 2)."""
    pixel_um: float | None = Field(default=None, gt=0, le=100)
    """Micrometres a pixel on the sample; None takes the core's. Needed where the core has no pixel-size preset."""
    ring_mb: int | None = Field(default=None, ge=16, le=65_536)
    """Megabytes of Micro-Manager's frame ring; None takes two seconds of frames, at most a quarter of the free
    memory.
    """
    when_lost: Literal["end", "restart"] = "end"
    """If the camera stops by itself: end the run cleanly, or try to start it again with growing pauses."""
    when_stalled: Literal["wait", "end", "restart"] = "wait"
    """If no frame comes for max(2 s, 5 exposures): go on waiting (a triggered camera), end the run, or start again."""
    restart_limit_s: float = Field(default=600.0, gt=0, le=86_400)
    """Seconds after which a camera that does not come back ends the run."""


class SimulationSettings(Section):
    """The simulated culture and its optics (source kind `simulated`)."""

    seed: int = Field(default=1, ge=0)
    cells_per_mm2: float = Field(default=450.0, ge=0, le=3000)
    """Density of the culture at the start."""
    dead_fraction: float = Field(default=0.25, ge=0, le=1)
    """Fraction of the cells dead at the start."""
    death_rate_per_h: float = Field(default=0.05, ge=0, le=10)
    """Chance an hour that a living cell begins to die."""
    division_rate_per_h: float = Field(default=0.04, ge=0, le=10)
    minutes_per_frame: float = Field(default=0.05, gt=0, le=60)
    """Simulated time between two frames."""
    width: int = Field(default=1024, ge=32, le=8192)
    height: int = Field(default=1024, ge=32, le=8192)
    """Camera pixels."""
    pixel_um: float = Field(default=0.65, gt=0, le=10)
    bit_depth: Literal[12, 16] = 12
    rate_fps: float = Field(default=30.0, gt=0, le=1000)
    """Frames a second at most; a long exposure lowers it."""
    defocus_um: float = Field(default=0.0, ge=-50, le=50)
    """Offset of the culture from the stage's z = 0."""


class DetectorSettings(Section):
    """The network and how it runs."""

    model: str = "simulated"
    """Name of a bundled model, or the path of a bundle's .onnx file."""
    backend: Literal["auto", "onnx", "openvino", "coreml", "directml", "tensorrt", "tensorrt-rtx", "triton"] = "auto"
    """Inference backend; auto takes the fastest that works on this machine, measured once."""
    precision: Literal["auto", "fp32", "fp16", "int8"] = "auto"
    """Arithmetic of the network; auto is fp16 with TensorRT and Triton, fp32 elsewhere."""
    triton_url: str = "localhost:8001"
    """``host:port`` of a GPU server's gRPC endpoint, for `triton`."""
    threads: int | None = Field(default=None, ge=1, le=256)
    """CPU threads of the network; None leaves one core to acquisition and window."""
    max_cells: int = Field(default=1024, ge=1, le=MAX_CELLS)
    """Rows of the table; a frame with more cells is reported as saturated."""
    every_frame: bool | None = None
    """Analyse every frame in order (true), the newest only (false), or every frame as long as the detector keeps up and
    the newest only while it does not (null).
    """
    camera: str | None = None
    """Of several cameras, the one whose frames are called and shown; None calls those of every camera."""
    p_cell: float | None = Field(default=None, ge=0, le=1)
    """Least score of a detection; None takes the model card's."""
    uncertain: tuple[_Chance, _Chance] | None = None
    """Calls with p_dead between these two are uncertain; None takes the model card's. Its error rates, by which a
    viability is corrected, are of calls outside that band: with another there is no correction.
    """
    channel: str | None = None
    """Channel of a plan whose frames are called; None takes the first that it names. Others are stored only."""
    border: Literal["all", "inside", "brick"] = "all"
    """Which cells at the border count for the viability: all, which is unbiased where the model calls cells whose
    centre is in the frame; inside: none that touch it, which favours small (dead) cells; brick: those at the top and
    left but not at the bottom and right, which is unbiased where the model calls all that show any part.
    """

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.uncertain is not None and self.uncertain[0] > self.uncertain[1]:
            raise ValueError("uncertain is [low, high] of p_dead, and low is above high")
        return self


class TrackSettings(Section):
    """Following cells from frame to frame."""

    enabled: bool = True
    """Give each cell an identity that it keeps, and gather over time whether and when it died."""
    hazard: float = Field(default=0.05, gt=0, lt=1)
    """Chance a frame that a living cell dies, as believed beforehand; the default suits frames minutes apart."""


class RecordSettings(Section):
    """What is stored, and where."""

    path: Path | None = None
    """The record, ``NAME.ome.zarr``; None stores nothing. ``{time}`` becomes the date and time of the start. A second
    record of a session, or of a second, gets a number: ``NAME-2``.
    """
    overwrite: bool = False
    """Replace an existing record instead of refusing."""
    codec: Literal["lz4", "zstd", "none"] = "lz4"
    chunk_px: int = Field(default=512, ge=64, le=4096)
    """Side of the inner chunks; a shard holds a whole frame."""
    levels: int = Field(default=3, ge=1, le=8)
    """Resolution levels of the pyramid, each half the one before."""
    pyramid: Literal["live", "close"] = "live"
    """When the smaller levels are made: while the run goes on, or when it closes, which leaves more of a slow machine
    to the run and takes about as long as writing the frames did.
    """
    queue_frames: int = Field(default=64, ge=2, le=1024)
    """Frames that may wait for the disk."""
    queue_mb: int = Field(default=1000, ge=16, le=65_536)
    """Megabytes of memory that these frames may take."""
    min_free_mb: int = Field(default=500, ge=0)
    """Least free disk space, in megabytes, to begin with."""
    when_full: Literal["count", "stop"] = "count"
    """If the disk cannot keep up, is full, or out of reach: count the lost frames and go on, or stop the run."""
    labels: bool = True
    """Store `labels/cells` and `labels/viability`."""


class MonitorSettings(Section):
    """The read-only page on a run (`view.monitor`)."""

    port: int = Field(default=0, ge=0, le=65_535)
    """Port; 0 takes a free one, which is told."""
    address: str = "127.0.0.1"
    """Address to listen on; any but this machine's own 127.0.0.1 needs a token."""
    token: str | None = Field(default=None, repr=False, min_length=16, pattern=r"^[A-Za-z0-9_.~-]+$")
    """A secret that every request must bring along (``http://.../?token=...``): at least 16 letters and digits."""

    @model_validator(mode="after")
    def _guard(self) -> Self:
        if self.token is None and self.address not in ("127.0.0.1", "localhost"):
            raise ValueError(
                f"{self.address} can be reached from other machines: set view.monitor.token to at least 16 letters and "
                "digits, or leave the address at 127.0.0.1"
            )
        return self


class ViewSettings(Section):
    """The window."""

    rate_fps: float = Field(default=60.0, gt=0, le=240)
    """Most frames drawn a second; a screen shows 60, and a faster camera's frames between them are skipped."""
    theme: Literal["dark", "light"] = "dark"
    outlines: bool = True
    rings: bool = True
    monitor: MonitorSettings | None = Field(default=None, exclude=True)
    """A read-only page on the run for a browser: ``{port: 8080}``; None serves none. It is not stored with the record:
    its token is nobody's business there.
    """


class RunSettings(Section):
    """When a run ends and what it follows; None runs until stopped."""

    frames: int | None = Field(default=None, ge=1)
    seconds: float | None = Field(default=None, gt=0)
    """Of a run without a window; one with a window is stopped by its user."""
    plan: Path | None = None
    """Instead of a stream, snap at the positions, tiles, times and channels of this useq-schema plan (YAML)."""
    rules: Path | None = None
    """What the microscope is to do when the culture does this or that (YAML, see `configs/rules.yaml`)."""


class Settings(Section):
    """Everything a run is told. The config files in `configs/` show every key with a comment."""

    source: SourceSettings = SourceSettings()
    camera: CameraSettings = CameraSettings()
    simulation: SimulationSettings = SimulationSettings()
    detector: DetectorSettings = DetectorSettings()
    track: TrackSettings = TrackSettings()
    record: RecordSettings = RecordSettings()
    view: ViewSettings = ViewSettings()
    run: RunSettings = RunSettings()


def load_settings(path: Path | None = None, overrides: Sequence[str] = ()) -> Settings:
    """Read settings from a YAML file and apply overrides.

    Parameters
    ----------
    path
        YAML file; None starts from the defaults.
    overrides
        ``"key.path=value"`` each, the value in YAML syntax.

    Raises
    ------
    SettingsError
        File missing or not YAML, unknown key, or value out of range.
    """
    return _validate({} if path is None else _read_yaml(path), overrides, path)


def override_settings(settings: Settings, overrides: Sequence[str]) -> Settings:
    """Apply ``"key.path=value"`` overrides to settings.

    Raises
    ------
    SettingsError
        Unknown key, or value out of range.
    """
    return _validate(settings.model_dump(), overrides, None)


def dump_settings(settings: Settings) -> str:
    """Write settings as YAML that `load_settings` reads back."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)


def split_override(override: str) -> tuple[list[str], Any]:
    """Read ``"key.path=value"``: the keys, and the value, which is YAML.

    Raises
    ------
    SettingsError
        It is of another form, or its value is not YAML.
    """
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise SettingsError(f"--set {override!r} is not of the form key.path=value, e.g. --set camera.exposure_ms=20.")
    try:
        return key.strip().split("."), read_yaml(text)
    except yaml.YAMLError as error:
        why = getattr(error, "problem", None) or error
        raise SettingsError(
            f"--set {override!r}: {text!r} is not YAML ({why}). A text with brackets or colons in it goes into "
            f"quotes of its own, e.g. --set '{key}=\"a: b\"'."
        ) from None


def config_text(path: Path, what: str = "config") -> str:
    """Read a text file of settings; `what` names its kind in messages.

    Raises
    ------
    SettingsError
        It cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"{what} {str(path)!r} cannot be read: {error.strerror}. Examples lie in configs/."
        ) from None
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{what} {str(path)!r} is no UTF-8 text (byte {error.start}, {error.object[error.start]:#x}): save it as "
            "UTF-8, or write um for micrometres."
        ) from None


def explain(error: ValidationError, model: type[BaseModel], path: Path | None) -> str:
    """Say what is wrong with settings of `model`, a line each: the key, the value, what is known or allowed there."""
    where = "" if path is None else f" in {str(path)!r}"
    faults = error.errors()
    counted = [fault for fault in faults if fault["type"] == "too_short" and fault["input"]]  # only its sound items
    return "\n".join(_explain_one(fault, model, where) for fault in faults if len(faults) == 1 or fault not in counted)


def known_keys(model: type[BaseModel], above: Sequence[str | int]) -> list[str]:
    """Return the fields of the sections under `above`, of each kind that may stand there (pydantic names it last)."""
    models = [model]
    for key in above:
        if isinstance(key, str):  # a number counts in a list
            fields = [child.model_fields[key] for child in models if key in child.model_fields]
            under = [child for field in fields for child in _models_in(field.annotation)]
            models = under or [child for child in models if _kind(child) == key]
    return sorted({name for child in models for name in child.model_fields})


def _validate(tree: dict[str, Any], overrides: Sequence[str], path: Path | None) -> Settings:
    for override in overrides:
        keys, value = split_override(override)
        _assign(tree, keys, value, override)
    try:
        return validate(Settings.model_validate, tree)
    except ValidationError as error:
        raise SettingsError(explain(error, Settings, path)) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = read_yaml(config_text(path))
    except yaml.YAMLError as error:
        raise SettingsError(f"config {str(path)!r} is not YAML: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise SettingsError(f"config {str(path)!r} holds a {type(tree).__name__}; expected sections: {_sections()}.")
    return tree


def _assign(tree: dict[str, Any], keys: Sequence[str], value: object, override: str) -> None:
    for key in keys[:-1]:
        if tree.get(key) is None:  # a section that is left empty, or switched off
            tree[key] = {}
        tree = tree[key]
        if not isinstance(tree, dict):
            raise SettingsError(f"--set {override!r}: {key!r} is a value, not a section.")
    tree[keys[-1]] = value


def _sections() -> str:
    return one_of(Settings.model_fields)


def _explain_one(error: Mapping[str, Any], model: type[BaseModel], where: str) -> str:
    *above, last = error["loc"] or ("",)
    name = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        known = known_keys(model, above)
        near = difflib.get_close_matches(str(last), known, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"unknown setting {name!r}{where}.{hint} Known here: {one_of(known)}."
    return f"setting {name!r}{where}: {error['msg'].removeprefix('Value error, ')} (given: {error['input']!r})."


def _kind(model: type[BaseModel]) -> object:
    return model.model_fields["kind"].default if "kind" in model.model_fields else None


def _models_in(kind: Any) -> list[type[BaseModel]]:
    if _is_section(kind):
        return [kind]
    return [model for part in get_args(kind) for model in _models_in(part)]
