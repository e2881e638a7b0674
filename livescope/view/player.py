"""A recorded run, played: the same face as a session, so that the same window shows it.

Owns the position in the run and the thread that reads frames and calls; reading never happens in the GUI thread. A run
that is still going on is followed: new frames come as they are committed.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from livescope.assay.pooled import counting_rows
from livescope.assay.viability import viability, viability_of_counts
from livescope.calls import Analysis, ErrorRates, Viability
from livescope.detect.bundle import load_bundle
from livescope.detect.detector import BackendInfo
from livescope.errors import LivescopeError, RecordError
from livescope.frames import Frame
from livescope.meters import RateMeter
from livescope.places import Place, PlaceTable
from livescope.record.reader import Record, open_record
from livescope.respond.counts import Counts, counts_of
from livescope.settings import Settings
from livescope.status import SessionState, Status
from livescope.view.account import Account, account_of

__all__ = ["RecordPlayer"]

_FOLLOW_S = 2.0
"""How often a run that is still going on is looked at again."""
_REST = 10
"""A look of a long run takes long: the next one comes after so many times that, at the earliest."""
_TICK_S = 0.01


class RecordPlayer:
    """Plays a record. Methods return at once, from any thread.

    Parameters
    ----------
    path
        The record.

    Raises
    ------
    RecordError
        It is no record, or it holds no frame.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._record = open_record(path)
        self._live = self._record.live
        self._rates: ErrorRates | None = None
        self._times_s = np.empty(0)
        self._analysed = np.empty(0, bool)
        self._curve: list[tuple[float, Viability]] = []
        self._curves_by_place: dict[str, list[tuple[float, Viability]]] = {}
        self._viabilities: dict[Counts, Viability] = {}
        self._account = Account()
        self._lost_by_core = 0
        self._wanted = 0
        self._look()
        self._backend, self._model = _model_of(self._record)
        self._fps = (len(self._times_s) - 1) / max(float(self._times_s[-1] - self._times_s[0]), 1e-9)
        self._playing = False
        self._speed = 1.0
        self._anchor = (0.0, 0.0)
        self._shown_rate = RateMeter()
        self._shown = 0
        self._frame: Frame | None = None
        self._analysis: Analysis | None = None
        self._error: str | None = None
        self._out_of_reach: str | None = None
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._read, name="livescope-player", daemon=True)
        self._thread.start()

    # ---- what the user does ----------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """Frames on disk."""
        return len(self._times_s)

    @property
    def number(self) -> int:
        """The frame asked for, 0 to `count` - 1."""
        return self._wanted

    @property
    def playing(self) -> bool:
        """True while frames follow one another by themselves."""
        return self._playing

    @property
    def elapsed_s(self) -> float:
        """Seconds from the first frame of the run to the one asked for."""
        return float(self._times_s[self._wanted])

    @property
    def duration_s(self) -> float:
        """Seconds from the first frame of the run to the last one."""
        return float(self._times_s[-1])

    def seek(self, number: int) -> None:
        """Go to a frame; numbers outside the run go to its ends."""
        self._wanted = min(max(number, 0), self.count - 1)
        self._anchor = (time.perf_counter(), self.elapsed_s)
        self._wake.set()

    def places(self) -> tuple[tuple[Place, ...], str | None]:
        """Return the places of the run as seen up to this frame, and the name of the one of this frame."""
        return self._places.until(self._wanted), self._places.name_at(self._wanted)

    def go_to(self, place: Place) -> None:
        """Show the frame of a place that is nearest in the run."""
        self.seek(self._places.row_near(place.name, self._wanted))

    def play(self, on: bool) -> None:
        """Play at `set_speed`, or stop. At the end of the run playing begins again at its start."""
        self.seek(0 if on and self._wanted == self.count - 1 and not self._live else self._wanted)
        self._playing = on

    def set_speed(self, speed: float) -> None:
        """Play so many times as fast as the run was."""
        self._speed = speed
        self.seek(self._wanted)

    def close(self) -> None:
        """End the reading thread."""
        self._closing = True
        self._wake.set()
        self._thread.join()

    # ---- the face of a session -------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """What the run was told."""
        return self._record.settings

    def latest_frame(self) -> Frame | None:
        """Return the frame that was read last."""
        return self._frame

    def latest_analysis(self) -> Analysis | None:
        """Return the newest analysed frame up to the one shown."""
        return self._analysis

    def record_of(self, _frame: Frame) -> Path:
        """Return the record: all frames are of it."""
        return self.path

    def viability_curve(self) -> list[tuple[float, Viability]]:
        """Viability of the whole run against seconds since its first frame."""
        return self._curve

    def curves_by_place(self) -> dict[str, list[tuple[float, Viability]]]:
        """Viability of each named position against seconds since the first frame of the run."""
        return self._curves_by_place

    def mark_shown(self, frame: Frame) -> None:
        """Count a painted frame."""
        self._shown += 1
        self._shown_rate.tick()

    def status(self) -> Status:
        """What is known of the run."""
        return Status(
            state=SessionState.IDLE,
            reason=None,
            delivered=max(self._account.delivered, self.count),
            recorded=self.count,
            analysed=int(self._analysed.sum()),
            shown=self._shown,
            lost={"core": self._lost_by_core} | self._account.lost,
            deaths=self._account.deaths,
            fps_acquired=self._fps,
            fps_analysed=self._fps * float(self._analysed.mean()),
            fps_shown=self._shown_rate.rate_hz(),
            latency_ms=None,
            recording=False,
            record=self.path,
            queue_fill=0.0,
            disk_free_bytes=None,
            backend=self._backend,
            model=self._model,
            exposure_ms=None if self._frame is None else self._frame.exposure_ms,
            busy=None,
            warnings=self._account.warnings,
            errors=(*self._account.errors, *filter(None, (self._error, self._out_of_reach))),
        )

    # ---- reading thread --------------------------------------------------------------------------------------------

    def _read(self) -> None:
        self._load(self._wanted)  # seen before the model is looked up, which takes a quarter of a second
        self._rates = _rates_of(self._record)
        self._analysis = None  # counted anew with them
        self._read_account()
        look_s = time.perf_counter() + _FOLLOW_S
        done = -1
        while not self._closing:
            if self._playing:
                self._advance()
            if self._wanted != done:
                done = self._wanted
                self._load(done)
            elif self._live and time.perf_counter() >= look_s:
                began_s = time.perf_counter()
                if self._follow():
                    done = -1
                ended_s = time.perf_counter()
                look_s = ended_s + max(_FOLLOW_S, _REST * (ended_s - began_s))
            elif not self._playing:
                self._wake.wait(max(look_s - time.perf_counter(), 0) if self._live else None)
                self._wake.clear()
            else:
                self._wake.wait(_TICK_S)

    def _advance(self) -> None:
        """Go to the frame whose time has come; frames that cannot be read in time are passed over."""
        since_s, from_s = self._anchor
        now_s = from_s + (time.perf_counter() - since_s) * self._speed
        self._wanted = max(int(np.searchsorted(self._times_s, now_s, side="right")) - 1, 0)
        if self._wanted == self.count - 1 and not self._live:
            self._playing = False

    def _load(self, number: int) -> None:
        analysis, failed = None, None
        try:
            frame = self._record.frame(number)
        except Exception as error:  # noqa: BLE001 - boundary of the reading thread: other frames may be whole
            self._error = f"frame {number} cannot be read: {type(error).__name__}: {error}"
            return
        before = np.flatnonzero(self._analysed[: number + 1])
        try:
            analysis = None if not len(before) else self._analysis_of(int(before[-1]), frame, number)
        except Exception as error:  # noqa: BLE001 - as above: the picture itself is whole
            failed = f"frame {number} is shown without calls: {type(error).__name__}: {error}"
        self._error, self._frame, self._analysis = failed, frame, analysis

    def _analysis_of(self, number: int, frame: Frame, frame_number: int) -> Analysis | None:
        old = self._analysis
        index = int(self._indices[number])
        if old is not None and old.frame.index == index:
            return old
        calls = self._record.calls_of(index)
        own = frame if number == frame_number else self._record.frame(number)
        if calls is None:
            return None
        counting = counting_rows(calls, own.spec.shape, self.settings.detector.border)
        return Analysis(own, calls, viability(calls, self._rates, counting))

    def _follow(self) -> bool:
        """Look at what is new; returns whether the frame that is wanted has to be read again."""
        wanted, last = self._wanted, self.count - 1
        try:
            live = self._record.live  # asked before: one look more for the last frames, and how the run ended
            is_other = self._record.refresh()
            self._look()
            self._live = live or self._record.live  # it looks ended while it is out of reach
        except Exception as error:  # noqa: BLE001 - boundary of the reading thread: what is known is still shown
            self._out_of_reach = f"the record is out of reach: {str(error).rstrip('.')}; looking again"
            return False
        self._out_of_reach = None
        self._read_account()
        if wanted == last == self._wanted:
            self._wanted = self.count - 1
        if is_other:
            self._analysis = None
        return is_other or self._error is not None  # what could not be read may be now

    def _read_account(self) -> None:
        try:
            self._account = account_of(self._record)
        except Exception as error:  # noqa: BLE001 - boundary of the reading thread: frames are shown all the same
            self._account = Account(errors=(f"losses and deaths cannot be read: {type(error).__name__}: {error}",))

    def _look(self) -> None:
        """Take from the journal what the window needs of all frames at once."""
        table = self._record.frame_table
        times: NDArray[np.float64] = table["time_s"].to_numpy()
        indices = table["frame"].to_numpy()
        if not len(times):
            raise RecordError(f"record {str(self.path)!r} holds no frame; there is nothing to show.")
        analysed, elapsed_s = table["analysed"].to_numpy(zero_copy_only=False).astype(bool), times - times[0]
        counts = counts_of(self._record)
        curve: list[tuple[float, Viability]] = []
        by_place: dict[str, list[tuple[float, Viability]]] = {}
        called = table.filter(table["analysed"])["position"].to_pylist()
        for seconds, index, place in zip(elapsed_s[analysed], indices[analysed].tolist(), called, strict=True):
            if index in counts:
                curve.append((float(seconds), self._viability_of(counts[index])))
                by_place.setdefault(place or "", []).append(curve[-1])
        self._places, self._indices = PlaceTable(table, counts), indices
        self._curve, self._curves_by_place = curve, {name: points for name, points in by_place.items() if name}
        self._lost_by_core = int(table["lost_before"].to_numpy().sum())
        self._wanted = min(self._wanted, len(times) - 1)  # of a record that was begun anew
        self._analysed, self._times_s = analysed, elapsed_s

    def _viability_of(self, counts: Counts) -> Viability:
        """Return the viability of counted cells, worked out once: a look would else take seconds of a long run."""
        if counts not in self._viabilities:
            self._viabilities[counts] = viability_of_counts(*counts)
        return self._viabilities[counts]


def _model_of(record: Record) -> tuple[BackendInfo | None, str]:
    """What called the cells of a record, as far as its manifest and settings say."""
    known = record.manifest.get("backend")
    names = BackendInfo.__dataclass_fields__
    backend = BackendInfo(**{name: str(known.get(name, "")) for name in names}) if isinstance(known, dict) else None
    return backend, backend.model if backend is not None else record.settings.detector.model


def _rates_of(record: Record) -> ErrorRates | None:
    """Return the error rates of the model that called the cells, where it is at hand and still the same file."""
    try:
        told, detector = record.manifest.get("backend"), record.settings.detector
        bundle = load_bundle(detector.model)
    except LivescopeError:
        return None
    wanted = told.get("model_sha256") if isinstance(told, dict) else None
    return bundle.card.error_rates(detector.uncertain) if wanted in (None, bundle.sha256) else None
