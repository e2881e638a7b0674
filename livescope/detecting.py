"""The detector thread: every frame that is to be analysed goes through one chain of links, in order.

    mailbox -> analyser with its shift watch -> follower -> record, book, subscribers -> responder

Owns the thread, the order of the links, and the border at which what fails in one of them is noted and the next frame
taken. What a link does lies in its room.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from livescope.analysis import Follower, FrameAnalyser
from livescope.calls import Analysis
from livescope.detect.bundle import load_bundle
from livescope.detect.detector import BackendInfo
from livescope.detect.shift import LIVE
from livescope.frames import Frame, FrameSpec
from livescope.messages import Messages
from livescope.recording import Recording
from livescope.run_book import RunBook
from livescope.settings import DetectorSettings, TrackSettings

if TYPE_CHECKING:
    from livescope.simulate.truth import Truth

__all__ = ["Detecting", "Respond"]

Respond = Callable[[Analysis], None]
"""Acts on an analysis that is recorded and shown. Must not wait for the control thread."""


class Detecting:
    """Opens the model, and analyses the frames of one run after the other.

    Parameters
    ----------
    settings
        Model, backend and thresholds.
    recording
        Takes the calls.
    truth
        Cells that are really there, where the source is simulated and knows.
    publish
        Given each finished analysis, on the detector thread.
    messages
        Takes the warnings and errors.

    Attributes
    ----------
    busy
        What is being done that takes seconds or more, None at other times.
    backend
        Backend, device, precision and model hash in use; None before the model is ready. Reading it opens nothing.
    respond
        Optional link, set while no run is going on. What it raises is noted as an error; calls are recorded and shown
        all the same.

    Raises
    ------
    ModelError
        The model is missing or damaged.
    BackendError
        The backend is not to be had on this machine.
    """

    def __init__(
        self,
        settings: DetectorSettings,
        recording: Recording,
        truth: Callable[[Frame], Truth | None],
        publish: Callable[[Analysis], None],
        messages: Messages,
    ) -> None:
        self._analyser = FrameAnalyser(load_bundle(settings.model), settings, self._progress, LIVE)
        self._recording = recording
        self._truth = truth
        self._publish = publish
        self._messages = messages
        self._thread: threading.Thread | None = None
        self._turn = threading.Lock()
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="livescope-preparing")
        self.backend: BackendInfo | None = None
        self.busy: str | None = None
        self.respond: Respond | None = None

    def prepare(self, spec: FrameSpec) -> None:
        """Build what frames of this shape need, so that the first of them does not wait.

        Raises
        ------
        ModelError
            The pixel size does not fit the model.
        """
        self._prepare(spec, "getting the model ready")

    def prepare_aside(self, spec: FrameSpec, why: str) -> None:
        """Get ready for frames of another shape on a thread of its own: a GPU engine may take minutes to build.

        Meanwhile frames are stored and shown; what fails is noted as an error, and so it is for each frame.
        """
        self._aside.submit(
            self._prepare_noted, spec, f"getting the model ready for {spec.width} x {spec.height} px: {why}"
        )

    def begin(self, run: RunBook, track: TrackSettings) -> None:
        """Analyse what comes into the mailbox of a run, on a thread of its own, until it is closed and empty."""
        self._analyser.forget()
        follow = Follower(track, self._analyser.uncertain) if track.enabled else None
        self._thread = threading.Thread(target=self._loop, args=(run, follow), name="livescope-detector", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait for the end of the thread, after the run's mailbox was closed."""
        if self._thread is not None:
            self._thread.join()

    def analyse(self, run: RunBook, frame: Frame, follow: Follower | None = None) -> None:
        """Send one frame through the chain, on the caller's thread: of a snap, while no run is going on."""
        with self._using():
            analysis = self._analyser(frame)
        if follow is not None:
            analysis = follow(analysis)
        truth = self._truth(frame)
        self._recording.put_analysis(analysis, truth)
        run.note_called(analysis, truth)
        self._publish(analysis)
        if self.respond is not None:
            self._respond(self.respond, analysis)

    def close(self) -> None:
        """Free the device."""
        self._aside.shutdown(wait=True)
        self._analyser.close()

    @contextlib.contextmanager
    def _using(self, what: str | None = None) -> Iterator[None]:
        """Have the analyser to oneself; say what takes long, and afterwards what there is to say."""
        with self._turn:
            self.busy = what
            try:
                yield
                self.backend = self._analyser.describe()  # it may have fallen back on another
                for warning in self._analyser.warnings:
                    self._messages.warn(warning)
            finally:
                self.busy = None

    def _progress(self, what: str) -> None:
        self.busy = what

    def _prepare(self, spec: FrameSpec, what: str) -> None:
        with self._using(what):
            self._analyser.prepare(spec)

    def _prepare_noted(self, spec: FrameSpec, what: str) -> None:
        try:
            self._prepare(spec, what)
        except Exception as error:  # noqa: BLE001 - boundary of a thread; the change of shape stands
            self._messages.fail("analysis", error)

    def _loop(self, run: RunBook, follow: Follower | None) -> None:
        while not run.to_analyse.exhausted:
            frame = run.to_analyse.get(0.2)
            if frame is None:
                continue
            try:
                self.analyse(run, frame, follow)
            except Exception as error:  # noqa: BLE001 - boundary of the detector thread: acquisition and record go on
                run.note_not_analysed(frame)
                self._messages.fail("analysis", error)

    def _respond(self, respond: Respond, analysis: Analysis) -> None:
        try:
            respond(analysis)
        except Exception as error:  # noqa: BLE001 - boundary of a link: the calls are good without it
            self._messages.fail("responding", error)
