"""Pictures of the whole window, made from real runs: `python tools/screenshots.py OUT [--data DIR] [--only NAME ...]`.

A simulated run in dark and light, zoomed in, a plate, a failed start, the empty window, a recorded run with its
corrections, the first page, the training wizard; and with `--data` (or LIVESCOPE_DATA) replays of real images and the
wizard on real dyes. Wants a display; on Linux without one it draws offscreen.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
from PIL import Image

from livescope.session import Session
from livescope.settings import Settings
from livescope.status import SessionState
from livescope.train.data import simulated_fields
from livescope.view.start import StartPage
from livescope.view.theme import THEMES, apply_theme
from livescope.view.train_wizard import TrainWizard
from livescope.view.window import MainWindow, application

SIZE = (1280, 800)
SECONDS = 12.0
"""How long a run is watched before its picture is taken."""


def main() -> int:
    """Make every picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the pictures")
    parser.add_argument("--data", type=Path, default=os.environ.get("LIVESCOPE_DATA"), help="folder of real images")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="groups to make: " + " ".join(GROUPS))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    app = application()
    app.setQuitOnLastWindowClosed(False)
    for name, make in GROUPS.items():
        if options.only is None or name in options.only:
            make(app, options.out.absolute(), options.data)
    return 0


def simulated(app: Any, out: Path, _data: Path | None) -> None:
    """Make a live simulated run, and its record."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "culture.ome.zarr"
        scenes = {"simulated": same, "zoomed": zoom, "correcting": correct, "light": light}
        live(app, {"record": {"path": str(record)}, "simulation": {"minutes_per_frame": 0.5}}, out, scenes)
        recorded(app, record, out / "recorded.png")


def plate(app: Any, out: Path, _data: Path | None) -> None:
    """Visit the wells of a plate; the map beside the picture."""
    wells = [f"{row}{column}" for row in "ABCD" for column in range(1, 7)]
    places = ", ".join(
        f"{{x: {9000 * (int(w[1:]) - 1)}, y: {-9000 * (ord(w[0]) - 65)}, z: 0, name: {w}}}" for w in wells
    )
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan.yaml"
        plan.write_text(f"axis_order: tpzc\nstage_positions: [{places}]\ntime_plan: {{interval: 1, loops: 20}}\n")
        settings = {
            "run": {"plan": str(plan)},
            "simulation": {"width": 512, "height": 512, "minutes_per_frame": 4.0, "death_rate_per_h": 0.5},
        }
        live(app, settings, out, {"plate": show_map}, seconds=30.0)


def states(app: Any, out: Path, _data: Path | None) -> None:
    """Show the window before a start, and after one that failed."""
    live(app, {}, out, {"empty": same}, start=False)
    live(app, {"source": {"kind": "micromanager", "cfg": "missing.cfg"}}, out, {"error": same}, seconds=4.0)


def real(app: Any, out: Path, data: Path | None) -> None:
    """Replay real images."""
    if data is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        tiles = fullest_tiles(data / "ldc", Path(folder))
        replays = (("usiigaci", data / "usiigaci" / "timelapse", "adherent", 0.65), ("ldc", tiles, "suspension", None))
        for name, images, model, pixel_um in replays:
            source = {"kind": "replay", "path": str(images), "repeat": True, "rate_fps": 2}
            settings = {"source": source, "detector": {"model": model}, "camera": {"pixel_um": pixel_um}}
            live(app, settings, out, {name: same})


def fullest_tiles(folder: Path, out: Path, count: int = 20) -> Path:
    """Copy the tiles with most cells of the commonest shape: a replay has frames of one shape."""
    tree = json.loads((folder / "annotations.coco.json").read_text(encoding="utf-8"))
    cells = Counter(mark["image_id"] for mark in tree["annotations"])
    sizes = {}
    for image in tree["images"]:
        with Image.open(folder / "images" / image["file_name"]) as tile:
            sizes[image["id"]] = (tile.size, tile.mode)
    ((commonest, _),) = Counter(sizes.values()).most_common(1)
    alike = [image for image in tree["images"] if sizes[image["id"]] == commonest]
    for image in sorted(alike, key=lambda image: -cells[image["id"]])[:count]:
        shutil.copy(folder / "images" / image["file_name"], out)
    return out


def first_page(app: Any, out: Path, _data: Path | None) -> None:
    """Show the first page."""
    for theme in ("dark", "light"):
        apply_theme(app, THEMES[theme])
        page = StartPage(theme)
        page.show()
        spin(app, 0.5)
        save(page, out / f"start-{theme}.png")
        page.close()


def wizard(app: Any, out: Path, data: Path | None) -> None:
    """Go through the training wizard: dyes where there are real ones, else boxes on simulated fields."""
    apply_theme(app, THEMES["dark"])
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "culture"
        if data is not None:
            source = data / "mcf7_dye_pairs" / "fields"
        else:
            write_boxes(source)
        pages = TrainWizard(None, THEMES["dark"], "adherent", Path(folder) / "models", source)
        pages.data_page.pixel.setValue(0.31 if data is not None else 0.65)
        pages.show()
        spin(app, 0.5)
        save(pages, out / "wizard-data.png")
        pages.next()
        await_state(app, pages.label_page.isComplete)
        save(pages, out / "wizard-labels.png")
        pages.next()
        pages.train_page.panel.start_asked.emit()
        await_state(app, lambda: pages.train_page.panel.bar.value() > 80 or pages.train_page.isComplete())
        save(pages, out / "wizard-training.png")
        await_state(app, pages.train_page.isComplete)
        pages.next()
        spin(app, 1.0)
        save(pages, out / "wizard-made.png")
        pages.close()


GROUPS: dict[str, Callable[[Any, Path, Path | None], None]] = {
    "simulated": simulated,
    "plate": plate,
    "states": states,
    "real": real,
    "first": first_page,
    "wizard": wizard,
}


def live(
    app: Any,
    settings: dict[str, Any],
    out: Path,
    scenes: Mapping[str, Callable[[MainWindow], None]],
    *,
    start: bool = True,
    seconds: float = SECONDS,
) -> None:
    """Run a session and take a picture of each scene."""
    with Session(Settings.model_validate(settings)) as session:
        window = MainWindow(session)
        window.set_theme("dark")
        window.resize(*SIZE)
        window.show()
        if start:
            session.start()
            failed = SessionState.FAILED
            await_state(app, lambda: session.latest_analysis() is not None or session.status().state is failed)
            spin(app, seconds)
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


def correct(window: MainWindow) -> None:
    """Look for uncertain cells and flip one."""
    actions = {action.text(): action for action in window.actions()}
    actions["Correct calls with the mouse"].trigger()
    actions["Next uncertain cell"].trigger()


def show_map(window: MainWindow) -> None:
    """Show the map of positions."""
    window.map.show()


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


def await_state(app: Any, there: Callable[[], bool]) -> None:
    """Let the window live until a state is reached."""
    end_s = time.perf_counter() + 1800
    while not there():
        if time.perf_counter() > end_s:
            raise SystemExit("half an hour has passed and nothing came")
        spin(app, 0.1)


def write_boxes(folder: Path) -> None:
    """Write simulated fields as boxes with classes."""
    (folder / "images").mkdir(parents=True)
    images: list[dict[str, Any]] = []
    marks: list[dict[str, Any]] = []
    for k, field in enumerate(simulated_fields(12, seed=5, side_px=384)):
        Image.fromarray(field.pixels).save(folder / "images" / f"{k}.tif")
        images.append({"id": k, "file_name": f"{k}.tif"})
        for contour, state in zip(field.contours_yx, field.state.tolist(), strict=True):
            (y, x), (height, width) = contour.min(axis=0) + 0.5, np.ptp(contour, axis=0)
            box = [float(v) for v in (x, y, width, height)]
            marks.append({"id": len(marks), "image_id": k, "category_id": state, "bbox": box})
    kinds = [{"id": 1, "name": "live"}, {"id": 2, "name": "dead"}]
    tree = {"images": images, "annotations": marks, "categories": kinds}
    (folder / "annotations.coco.json").write_text(json.dumps(tree), encoding="utf-8")


def save(window: Any, path: Path) -> None:
    """Write a picture of a window."""
    if not window.grab().save(str(path)):
        raise SystemExit(f"{path} cannot be written.")
    print(path)


if __name__ == "__main__":
    sys.exit(main())
