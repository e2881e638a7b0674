"""From a frame to its calls and the viability: the one code path of the live session and of `livescope analyze`.

Owns the order of the steps (prepare, infer, decode, count) and nothing of how each is done.
"""

from __future__ import annotations

from dataclasses import replace

from livescope.assay.pooled import counting_rows
from livescope.assay.viability import viability
from livescope.calls import Analysis
from livescope.detect.bundle import Bundle
from livescope.detect.decode import decode
from livescope.detect.detector import BackendInfo, Detector, Progress, open_detector
from livescope.detect.scale import fit_scale
from livescope.detect.shift import PICTURES, ShiftWatch, WatchPace
from livescope.frames import Frame, FrameSpec
from livescope.settings import MAX_CELLS, DetectorSettings, TrackSettings
from livescope.track.fate import FateFilter, FateSettings
from livescope.track.link import Linker

__all__ = ["Follower", "FrameAnalyser"]


class FrameAnalyser:
    """Calls the cells of frames, one after the other, in one thread.

    Parameters
    ----------
    bundle
        The model.
    settings
        Backend, threads and thresholds.
    on_progress
        Told what `prepare` does where it takes seconds or more.
    watch
        How the frames are watched for a shift; None does not watch.

    Raises
    ------
    BackendError
        The backend is not to be had on this machine.
    """

    def __init__(
        self,
        bundle: Bundle,
        settings: DetectorSettings,
        on_progress: Progress = lambda _: None,
        watch: WatchPace | None = PICTURES,
    ) -> None:
        self._bundle = bundle
        self._settings = settings
        self._detector: Detector = open_detector(settings, bundle, on_progress)
        self._spec: FrameSpec | None = None
        self._bin = 1
        self._told: dict[str, None] = dict.fromkeys(bundle.card.cautions)
        self._pace = watch
        self.forget()

    def forget(self) -> None:
        """Begin a new run: what was off in the frames before it is not told of it, unless it is so again."""
        self._watch = None if self._pace is None else ShiftWatch(self._bundle.card, self._pace)
        self._shifts: dict[str, None] = {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user must be told of the calls so far, each text once."""
        return (*self._told, *self._shifts)

    def prepare(self, spec: FrameSpec) -> None:
        """Build what frames of this shape need, so that the first of them does not wait.

        Raises
        ------
        ModelError
            The pixel size does not fit the model.
        """
        scale = fit_scale(spec, self._bundle.card)
        if scale.warning:
            self._told.setdefault(scale.warning)
        self._detector.prepare(spec)
        self._spec, self._bin = spec, scale.bin

    def __call__(self, frame: Frame) -> Analysis:
        """Call every cell of one frame.

        Raises
        ------
        ModelError
            The frame's pixel size does not fit the model.
        BackendError
            The backend failed.
        """
        spec = frame.spec
        if spec != self._spec:
            self.prepare(spec)
        table = self._detector.poll(self._detector.submit(frame))
        for warning in self._detector.warnings:
            self._told.setdefault(warning)
        card = self._bundle.card
        calls = decode(table, spec, card, self._settings)
        if calls.saturated:
            rows = self._settings.max_cells
            more = (
                f"Raise detector.max_cells (at most {MAX_CELLS})." if rows < MAX_CELLS else "Cut the frames into parts."
            )
            self._told.setdefault(
                f"a frame had as many cells as the table's {rows} rows, or more: counts are a lower bound. {more}"
            )
        if self._watch is not None:
            self._shifts |= dict.fromkeys(self._watch(frame, calls, self._bin))
        counting = counting_rows(calls, frame.spec.shape, self._settings.border)
        shift = None if self._watch is None else self._watch.distance
        rates = card.error_rates(self._settings.uncertain)
        return Analysis(frame, calls, viability(calls, rates, counting), shift=shift)

    @property
    def uncertain(self) -> tuple[float, float]:
        """Between these two values of p_dead a call is uncertain."""
        return self._settings.uncertain or self._bundle.card.uncertain

    def describe(self) -> BackendInfo:
        """Backend, device, precision and model hash actually in use."""
        return self._detector.describe()

    def close(self) -> None:
        """Free the device."""
        self._detector.close()


class Follower:
    """Follows the cells of a run: who is who, and when each died. One thread uses it, in the order of the frames.

    Parameters
    ----------
    settings
        What is believed of death beforehand.
    uncertain
        The model's band of p_dead; between the two a cell's state is uncertain.
    """

    def __init__(self, settings: TrackSettings, uncertain: tuple[float, float]) -> None:
        self._linker = Linker()
        self._filter = FateFilter(FateSettings(hazard=settings.hazard, uncertain=uncertain))

    def __call__(self, analysis: Analysis) -> Analysis:
        """Return the analysis with identities in its calls and with fates; nothing else of it changes."""
        calls = self._linker.update(analysis.calls, analysis.frame)
        fates = self._filter.update(calls, analysis.frame, self._linker.report.shift_yx_px)
        return replace(analysis, calls=calls, fates=fates)
