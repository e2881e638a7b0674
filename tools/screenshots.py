"""Pictures of the whole window, made from real runs: `python tools/screenshots.py OUT [--data DIR]`.

A simulated run in dark and light, zoomed in, a failed start, the empty window, a recorded run, and with `--data` (or
LIVESCOPE_DATA) a replay of real images. Wants a display; on Linux without one it draws offscreen.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from livescope.session import Session
from livescope.settings import Settings
from livescope.view.window import MainWindow, application

SIZE = (1280, 800)
SECONDS = 12.0
"""How long a run is watched before its picture is taken."""


def main() -> int:
    """Make every picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the pictures")
    parser.add_argument("--data", type=Path, default=os.environ.get("LIVESCOPE_DATA"), help="folder of real images")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    app = application()
    app.setQuitOnLastWindowClosed(False)
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "culture.ome.zarr"
        live(app, {"record": {"path": str(record)}}, options.out, {"simulated": same, "zoomed": zoom, "light": light})
        recorded(app, record, options.out / "recorded.png")
    live(app, {}, options.out, {"empty": same}, start=False)
    live(app, {"source": {"kind": "micromanager", "cfg": "missing.cfg"}}, options.out, {"error": same})
    if options.data is not None:
        images = {"kind": "replay", "path": str(options.data / "usiigaci" / "timelapse"), "repeat": True, "rate_fps": 2}
        live(app, {"source": images, "detector": {"model": "suspension"}}, options.out, {"usiigaci": same})
    return 0


def live(
    app: Any,
    settings: dict[str, Any],
    out: Path,
    scenes: dict[str, Callable[[MainWindow], None]],
    *,
    start: bool = True,
) -> None:
    """Run a session and take a picture of each scene."""
    with Session(Settings.model_validate(settings)) as session:
        window = MainWindow(session)
        window.set_theme("dark")
        window.resize(*SIZE)
        window.show()
        if start:
            session.start()
            spin(app, SECONDS)
        for name, arrange in scenes.items():
            arrange(window)
            spin(app, 1.5)
            save(window, out / f"{name}.png")
        session.stop()
        session.wait(60)
        window.close()


def recorded(app: Any, record: Path, out: Path) -> None:
    """Take a picture of a recorded run at its middle."""
    from livescope.settings import ViewSettings
    from livescope.view.player import RecordPlayer
    from livescope.view.recorded import RecordWindow

    window = RecordWindow(RecordPlayer(record), ViewSettings())
    window.resize(*SIZE)
    window.set_theme("dark")
    window.show()
    window.player.seek(window.player.count // 2)
    spin(app, 2.0)
    save(window, out)
    window.close()


def same(window: MainWindow) -> None:
    """Leave the window as it is."""


def zoom(window: MainWindow) -> None:
    """Look at the middle of the frame."""
    window.canvas.look_at(512, 512, 150)


def light(window: MainWindow) -> None:
    """Show all of the frame in light colours."""
    window.canvas.fit()
    window.set_theme("light")


def spin(app: Any, seconds: float) -> None:
    """Let the window live."""
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        app.processEvents()
        time.sleep(0.005)


def save(window: Any, path: Path) -> None:
    """Write a picture of a window."""
    if not window.grab().save(str(path)):
        raise SystemExit(f"{path} cannot be written.")
    print(path)


if __name__ == "__main__":
    sys.exit(main())
