"""How fast the window shows frames with calls, beside pyqtgraph's ImageView, ndv and napari; how it holds at 200 fps.

    python tools/bench_view.py --json view.json

Every shower is given the same uint16 frames and the same cells, and is timed from the frame at hand to the end of its
paint. Ours does conversion and shapes in another thread when it is live; here they are counted in. What the others are
not asked to draw is to their advantage: napari draws rings only, ndv no cells at all. Peers that are not installed are
left out: `pip install napari "ndv[vispy,pyside]"`. Wants a display; on Linux without one it starts Xvfb.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import psutil

from livescope.calls import N_RAYS, Analysis, CellCalls, State, Viability
from livescope.frames import Frame
from livescope.run_book import RunBook
from livescope.settings import Settings
from livescope.status import SessionState, Status

VIEW_PX = (900, 900)
CELLS = (0, 500, 2000)
SIDES = (1024, 2048)
Show = Callable[[Frame, Analysis], None]


def main() -> int:
    """Run the benchmark; prints a table or writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the rows there instead of printing a table")
    parser.add_argument("--quick", action="store_true", help="a minute instead of several")
    options = parser.parse_args()
    if sys.platform == "linux" and not os.environ.get("DISPLAY") and shutil.which("xvfb-run"):
        screen = ["xvfb-run", "-a", "-s", "-screen 0 1920x1080x24", sys.executable, *sys.argv]
        os.execvp(screen[0], screen)
    from livescope.view.window import application

    app = application()
    app.setQuitOnLastWindowClosed(False)
    rows = paint_rows(app, rounds=5 if options.quick else 15)
    rows += live_rows(app, seconds=10.0 if options.quick else 60.0)
    report = {"benchmark": "view", "machine": machine(), "rows": rows}
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    else:
        for row in rows:
            print(
                f"{row['case']:34} {row['metric']:26} {row['ours']:9.2f} {row['peer']:22} {row['theirs']:9.2f} "
                f"x{row['ratio']:.2f}"
            )
    return 0


def machine() -> dict[str, Any]:
    """Say where this was measured."""
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "display": os.environ.get("QT_QPA_PLATFORM") or ("xcb" if os.environ.get("DISPLAY") else "native"),
    }


def row(
    case: str, metric: str, ours: float, peer: str, theirs: float, *, more_is_better: bool = False
) -> dict[str, Any]:
    """One comparison; `ratio` above 1 where we are better."""
    ratio = ours / theirs if more_is_better else theirs / ours
    return {
        "case": case,
        "metric": metric,
        "ours": round(ours, 3),
        "peer": peer,
        "theirs": round(theirs, 3),
        "ratio": round(ratio, 3),
    }


# ---- frames and cells ------------------------------------------------------------------------------------------------


def make_frames(side: int, count: int = 4) -> list[Frame]:
    """Noisy 12-bit frames of `side` x `side` pixels."""
    rng = np.random.default_rng(1)
    pixels = [rng.normal(1800, 150, (side, side)).clip(0, 4095).astype(np.uint16) for _ in range(count)]
    return [Frame(p, k, 0, "Camera", time.perf_counter(), time.time(), 12, pixel_um=0.65) for k, p in enumerate(pixels)]


def make_analysis(frame: Frame, n: int, seed: int) -> Analysis:
    """`n` cells spread over a frame: 70 % live, 25 % dead, 5 % uncertain."""
    rng = np.random.default_rng(seed)
    side = frame.pixels.shape[0]
    state = rng.choice([int(s) for s in State], n, p=[0.7, 0.25, 0.05]).astype(np.uint8)
    place = rng.uniform(0, side, (2, n)).astype(np.float32)
    radii = (rng.uniform(0.007, 0.013, (n, 1)) * side * rng.uniform(0.8, 1.2, (n, N_RAYS))).astype(np.float32)
    calls = CellCalls(
        frame.index,
        place[0],
        place[1],
        radii,
        np.ones(n, np.float32),
        rng.random(n, np.float32),
        state,
        np.ones(n, np.float32),
        np.zeros(n, bool),
        np.arange(n),
        frame.pixel_um,
    )
    live, dead, unsure = (calls.count(s) for s in State)
    return Analysis(frame, calls, Viability(live, dead, unsure, 0.7, 0.6, 0.8))


# ---- the showers -----------------------------------------------------------------------------------------------------


def livescope_shower(app: Any) -> tuple[Any, Show]:
    """Our canvas, with the work of the render thread done in line."""
    from livescope.view.canvas import Canvas
    from livescope.view.render import Contrast, Renderer
    from livescope.view.theme import DARK

    canvas, render, contrast = Canvas(lambda frame: None, DARK), Renderer(), Contrast()
    step = [1]
    canvas.step_changed.connect(lambda new: step.__setitem__(0, new))
    canvas.resize(*VIEW_PX)
    canvas.show()

    def show(frame: Frame, analysis: Analysis) -> None:
        canvas.show_picture(render(frame, analysis, contrast, step[0]))
        app.processEvents()

    return canvas, show


def imageview_shower(app: Any) -> tuple[Any, Show]:
    """Show with pyqtgraph's ImageView: fixed levels, one curve item of outlines and one item of rings a state."""
    import pyqtgraph as pg

    pg.setConfigOptions(imageAxisOrder="row-major")
    view = pg.ImageView()
    view.resize(*VIEW_PX)
    curves = {state: pg.PlotCurveItem(pen=colour) for state, colour in zip(State, "brm", strict=True)}
    rings = {
        state: pg.ScatterPlotItem(pen=colour, brush=None, size=9) for state, colour in zip(State, "brm", strict=True)
    }
    for item in (*curves.values(), *rings.values()):
        view.addItem(item)
    view.show()

    def show(frame: Frame, analysis: Analysis) -> None:
        view.setImage(frame.pixels, autoLevels=False, levels=(1000, 2600), autoRange=False, autoHistogramRange=False)
        calls = analysis.calls
        for state in State:
            chosen = calls.state == state
            outlines = calls.outlines_yx()[chosen]
            closed = np.concatenate([outlines, outlines[:, :1]], axis=1)
            connect = np.ones(closed.shape[:2], np.int32)
            connect[:, -1] = 0
            curves[state].setData(closed[..., 1].ravel(), closed[..., 0].ravel(), connect=connect.ravel())
            rings[state].setData(calls.x_px[chosen], calls.y_px[chosen])
        app.processEvents()

    return view, show


def _await_draw(app: Any, canvas: Any) -> Callable[[], None]:
    """Return a wait until a vispy canvas has drawn once more."""
    drawn: list[int] = []
    canvas.events.draw.connect(lambda event: drawn.append(1), position="last")

    def wait() -> None:
        drawn.clear()
        canvas.update()
        while not drawn:
            app.processEvents()

    return wait


def ndv_shower(app: Any) -> tuple[Any, Show]:
    """Show with ndv's array viewer; it has no overlay of cells, so that it draws the frame alone."""
    import ndv

    viewer = ndv.ArrayViewer(np.zeros((1024, 1024), np.uint16))
    viewer.show()
    widget = viewer.widget()
    widget.resize(*VIEW_PX)
    canvas = viewer._canvas._canvas  # noqa: SLF001 - the only way to know when it has drawn
    wait = _await_draw(app, canvas)

    def show(frame: Frame, analysis: Analysis) -> None:
        viewer.data = frame.pixels
        wait()

    return widget, show


def napari_shower(app: Any) -> tuple[Any, Show]:
    """Show with napari: an image layer and a points layer: rings of three colours, no outlines."""
    import napari

    viewer = napari.Viewer(show=True)
    window = viewer.window._qt_window  # noqa: SLF001 - the only way to size it
    window.resize(VIEW_PX[0] + 300, VIEW_PX[1] + 120)
    image = viewer.add_image(np.zeros((1024, 1024), np.uint16), contrast_limits=(1000, 2600))
    colours = np.array([[0, 0, 0, 0], [0.34, 0.7, 0.91, 1], [0.9, 0.62, 0, 1], [0.94, 0.38, 0.7, 1]])
    rings = viewer.add_points(np.zeros((1, 2)), size=9, face_color="transparent", border_color="blue")
    wait = _await_draw(app, viewer.window._qt_viewer.canvas._scene_canvas)  # noqa: SLF001 - as above

    def show(frame: Frame, analysis: Analysis) -> None:
        image.data = frame.pixels
        calls = analysis.calls
        rings.data = np.stack([calls.y_px, calls.x_px], axis=-1)
        if len(calls):
            rings.border_color = colours[calls.state]
        wait()

    return window, show


SHOWERS: dict[str, Callable[[Any], tuple[Any, Show]]] = {
    "livescope": livescope_shower,
    "pyqtgraph ImageView": imageview_shower,
    "ndv (no cells)": ndv_shower,
    "napari (rings only)": napari_shower,
}


def paint_rows(app: Any, rounds: int) -> list[dict[str, Any]]:
    """Update and paint, milliseconds a frame, in interleaved rounds."""
    showers: dict[str, Show] = {}
    windows = []
    for name, make in SHOWERS.items():
        try:
            window, showers[name] = make(app)
        except ImportError as error:
            print(f"{name} left out: {error}", file=sys.stderr)
            continue
        windows.append(window)
    rows = []
    for side in SIDES:
        frames = make_frames(side)
        for n in CELLS:
            analyses = [make_analysis(frame, n, k) for k, frame in enumerate(frames)]
            case = f"{side} x {side} uint16, {n} cells"
            for metric, times in time_showers(app, showers, frames, analyses, rounds).items():
                ours = times.pop("livescope")
                rows += [row(case, metric, ours, peer, theirs) for peer, theirs in times.items()]
    for window in windows:
        window.close()
    app.processEvents()
    return rows


def time_showers(
    app: Any, showers: dict[str, Show], frames: list[Frame], analyses: list[Analysis], rounds: int
) -> dict[str, dict[str, float]]:
    """Median milliseconds of each shower: by the clock, and of the GUI thread alone, which other load disturbs less."""
    clocks = {"update and paint (ms)": time.perf_counter, "GUI thread's CPU (ms)": time.thread_time}
    times: dict[str, dict[str, list[float]]] = {metric: {name: [] for name in showers} for metric in clocks}
    for turn in range(rounds + 1):
        for name, show in showers.items():
            for frame, analysis in zip(frames, analyses, strict=True):
                app.processEvents()
                begin = {metric: clock() for metric, clock in clocks.items()}
                show(frame, analysis)
                if turn:  # the first round warms up
                    for metric, clock in clocks.items():
                        times[metric][name].append((clock() - begin[metric]) * 1e3)
    return {
        metric: {name: statistics.median(found) for name, found in by_name.items()} for metric, by_name in times.items()
    }


# ---- live at 200 fps -------------------------------------------------------------------------------------------------


class Camera(threading.Thread):
    """Hands out frames at 200 fps, paced by deadline, and 500 cells at 10 fps; keeps account of what was shown."""

    rate_fps = 200.0

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.settings = Settings()
        self.book = RunBook()
        self.made = 0
        self.latencies_ms: list[float] = []
        self.began_s = time.perf_counter()
        self._source = make_frames(1024, 8)
        self._analyses = [make_analysis(frame, 500, k) for k, frame in enumerate(self._source)]
        self._newest: Frame | None = None
        self._analysis: Analysis | None = None
        self._stopping = threading.Event()

    def run(self) -> None:
        """Make frames until `end`."""
        self.began_s = due_s = time.perf_counter()
        while not self._stopping.is_set():
            pixels = self._source[self.made % 8].pixels
            self._newest = Frame(pixels, self.made, 0, "Camera", time.perf_counter(), time.time(), 12, pixel_um=0.65)
            if self.made % 20 == 0:
                self._analysis = self._analyses[self.made // 20 % 8]
            self.made += 1
            due_s += 1 / self.rate_fps
            self._stopping.wait(max(0.0, due_s - time.perf_counter()))

    core = None

    def end(self) -> float:
        """Stop; returns the frames a second."""
        self._stopping.set()
        self.join()
        return self.made / (time.perf_counter() - self.began_s)

    def latest_frame(self) -> Frame | None:
        """Return the newest frame."""
        return self._newest

    def latest_analysis(self) -> Analysis | None:
        """Return the newest analysis."""
        return self._analysis

    def viability_curve(self) -> list[tuple[float, Viability]]:
        """Return no curve."""
        return []

    def mark_shown(self, frame: Frame) -> None:
        """Note the latency of a painted frame."""
        self.latencies_ms.append((time.perf_counter() - frame.time_s) * 1e3)

    def status(self) -> Status:
        """Return a running status."""
        lost = dict.fromkeys(("core", "camera", "recorder", "analysis", "display"), 0)
        return Status(
            SessionState.RUNNING,
            None,
            self.made,
            0,
            0,
            len(self.latencies_ms),
            lost,
            self.rate_fps,
            10.0,
            30.0,
            None,
            False,
            None,
            0.0,
            None,
            None,
            "none",
            5.0,
            None,
            (),
            (),
        )


def live_rows(app: Any, seconds: float) -> list[dict[str, Any]]:
    """The whole window at 200 fps against what issue it must hold."""
    from livescope.view.window import MainWindow

    alone = Camera()
    alone.start()
    time.sleep(seconds / 4)
    rate_alone = alone.end()
    camera = Camera()
    window = MainWindow(camera)  # type: ignore[arg-type]
    window.set_theme("dark")
    window.resize(1280, 800)
    window.show()
    camera.start()
    _spin(app, seconds / 5)  # warm
    camera.latencies_ms.clear()
    memory = _memory_mb()
    begin = time.perf_counter()
    _spin(app, seconds)
    took = time.perf_counter() - begin
    grown = _memory_mb() - memory
    shown = list(camera.latencies_ms)
    rate = camera.end()
    window.close()
    case = "200 fps in, 1024 x 1024, 500 cells"
    return [
        row(case, "shown (fps)", len(shown) / took, "required", 30.0, more_is_better=True),
        row(case, "latency p95 (ms)", float(np.percentile(shown, 95)), "required", 40.0),
        row(case, "memory growth (MB)", max(grown, 0.1), "required", 20.0),
        row(case, "acquisition rate (fps)", rate, "without window", rate_alone, more_is_better=True),
    ]


def _spin(app: Any, seconds: float) -> None:
    from qtpy.QtCore import QEventLoop, QTimer

    loop = QEventLoop(app)
    QTimer.singleShot(int(seconds * 1000), loop.quit)
    loop.exec()


def _memory_mb() -> float:
    gc.collect()
    return float(psutil.Process().memory_info().rss) / 1e6


if __name__ == "__main__":
    sys.exit(main())
