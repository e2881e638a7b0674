"""The map of positions: how it lies, what it says, and going there, live and in a record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from qtpy.QtCore import Qt

from livescope.acquire.changes import Move
from livescope.assay.viability import viability_of_counts
from livescope.calls import State
from livescope.frames import Frame, LossLedger
from livescope.places import Place, PlaceTable, place_of, places_in_plan
from livescope.record.writer import Recorder
from livescope.run_book import RunBook
from livescope.settings import RecordSettings, Settings, ViewSettings
from livescope.status import SessionState
from livescope.view.plate_map import PlateMap, describe
from livescope.view.player import RecordPlayer
from livescope.view.recorded import RecordWindow
from livescope.view.theme import DARK
from livescope.view.window import MainWindow

LIVE, DEAD = State.LIVE, State.DEAD


@pytest.fixture
def plate_map(qtbot: Any) -> Iterator[PlateMap]:
    widget = PlateMap(DARK)
    qtbot.addWidget(widget)
    widget.resize(500, 400)
    widget.show()
    yield widget
    widget.close()


def _click_on(qtbot: Any, window: Any, name: str) -> None:
    place = window.map.map.rect_of(name).center().toPoint()
    qtbot.mouseClick(window.map.map, Qt.MouseButton.LeftButton, pos=place)


def test_wells_lie_as_on_their_plate(plate_map: PlateMap) -> None:
    seen = viability_of_counts(30, 10)
    plate_map.show_places([Place("A1"), Place("C2_f1", viability=seen), Place("C2_f2")], "A1")
    a1, c2 = plate_map.rect_of("A1"), plate_map.rect_of("C2_f1")
    assert (c2.left() - a1.left(), c2.top() - a1.top()) == (a1.width(), 2 * a1.width())
    assert plate_map.rect_of("C2_f2") == c2
    assert plate_map.place_at(c2.center()).name == "C2_f1"  # the field that was seen
    assert plate_map.place_at(a1.topLeft() * 0) is None
    assert plate_map.grab().toImage().pixelColor(a1.center().toPoint()) != plate_map.grab().toImage().pixelColor(
        c2.center().toPoint()
    )


def test_positions_lie_as_on_the_stage(plate_map: PlateMap) -> None:
    plate_map.show_places([Place("left", 0, 0), Place("right", 300, 0), Place("up", 0, 300)], None)
    left, right, up = (plate_map.rect_of(name) for name in ("left", "right", "up"))
    assert right.left() > left.right()
    assert up.bottom() < left.top()
    plate_map.show_places([Place("one"), Place("two"), Place("three")], None)  # nobody knows where they are
    assert not plate_map.rect_of("one").intersects(plate_map.rect_of("two"))
    plate_map.show_places([Place("lonely", 5, 5)], None)
    assert plate_map.place_at(plate_map.rect_of("lonely").center()).name == "lonely"


def test_words_of_a_place() -> None:
    assert describe(Place("A1")) == "A1: not seen yet"
    assert describe(Place("A1", viability=viability_of_counts(0, 0, 3))) == "A1: no cell called live or dead"
    assert describe(Place("A1", viability=viability_of_counts(9, 1))) == (
        "A1: 90.0 % alive (60 \u2013 98), n = 10, few cells"
    )


def test_places_of_a_plan_and_of_a_run(tmp_path: Path, new_frame: Any, new_analysis: Any) -> None:
    planned = places_in_plan(Path(__file__).parents[2] / "configs" / "plan.yaml")
    assert [(p.name, p.x_um, p.y_um, p.well) for p in planned.values()] == [
        ("A1", 0, 0, (0, 0)),
        ("A2", 400, 0, (0, 1)),
        ("B1", 0, 400, (1, 0)),
    ]
    tiled = tmp_path / "plan.yaml"
    tiles = "{rows: 1, columns: 2, fov_width: 40, fov_height: 40}"
    tiled.write_text(f"{{stage_positions: [{{x: 10, y: 0, name: A1}}, {{x: 900, y: 0}}], grid_plan: {tiles}}}")
    assert [(p.name, p.x_um, p.y_um, p.well) for p in places_in_plan(tiled).values()] == [
        ("A1_0000", -10, 0, (0, 0)),
        ("A1_0001", 30, 0, (0, 0)),
    ]
    made = new_frame(4)
    frame = Frame(made.pixels, 4, 0, "Camera", 1.0, 2.0, 12, position="B1", x_um=0.0, y_um=400.0)
    place = place_of(new_analysis(frame, [LIVE, DEAD]))
    assert place is not None
    assert (place.name, place.frame_index, place.viability.fraction) == ("B1", 4, 0.5)
    assert place_of(new_analysis(made, [LIVE])) is None


def test_places_of_a_table_as_seen_up_to_a_frame() -> None:
    table = pa.table(
        {
            "position": ["A1", "A2", "A1", None, "A2"],
            "x_um": [0.0, 9.0, 0.0, None, 9.0],
            "y_um": [0.0, 0.0, 0.0, None, 0.0],
            "frame": [10, 11, 12, 13, 14],
        }
    )
    places = PlaceTable(table, {10: (4, 0, 0), 12: (1, 3, 0), 13: (5, 5, 0), 14: (3, 1, 0)})
    fractions = [{p.name: p.viability and p.viability.fraction for p in places.until(row)} for row in (0, 2, 4)]
    assert fractions == [{"A1": 1.0, "A2": None}, {"A1": 0.25, "A2": None}, {"A1": 0.25, "A2": 0.75}]
    assert (places.name_at(1), places.name_at(3)) == ("A2", None)
    assert (places.row_near("A1", 4), places.row_near("A2", 2)) == (2, 1)


def test_a_click_moves_the_stage_only_after_asking(
    qtbot: Any, scripted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.book = RunBook(1)
    monkeypatch.setattr(scripted, "change", lambda change: scripted.asked.append(change), raising=False)
    plan = Path(__file__).parents[2] / "configs" / "plan.yaml"
    scripted.settings = Settings.model_validate({"run": {"plan": str(plan)}})
    window = MainWindow(scripted)
    qtbot.addWidget(window)
    window.show()
    qtbot.waitUntil(window.isActiveWindow)
    qtbot.keyClicks(window, "P")
    assert window.map.isVisible()
    qtbot.waitUntil(lambda: len(window.map.map.places) == 3)
    _click_on(qtbot, window, "B1")
    assert window.map.question.text() == "Move the stage to B1 (x 0, y 400 \u00b5m)?"
    qtbot.mouseClick(window.map.no, Qt.MouseButton.LeftButton)
    assert scripted.asked == []
    _click_on(qtbot, window, "B1")
    qtbot.mouseClick(window.map.yes, Qt.MouseButton.LeftButton)
    assert scripted.asked == [Move(0.0, 400.0, name="B1")]
    scripted.fields = {"state": SessionState.RUNNING}
    _click_on(qtbot, window, "A1")
    qtbot.mouseClick(window.map.yes, Qt.MouseButton.LeftButton)
    assert "The plan moves the stage" in window.map.question.text()
    assert len(scripted.asked) == 1
    scripted.book.places["A2"] = Place("A2", 400, 0, viability_of_counts(3, 1), 7)
    qtbot.waitUntil(lambda: any(place.viability for place in window.map.map.places))
    window.close()


def test_a_click_shows_the_position_of_a_record(qtbot: Any, tmp_path: Path, new_frame: Any, new_analysis: Any) -> None:
    settings = RecordSettings(min_free_mb=0, chunk_px=64)
    recorder = Recorder(
        tmp_path / "run.ome.zarr",
        settings,
        LossLedger(),
        run_settings=Settings(record=settings),
        on_error=lambda error: None,
    )
    for index, name in enumerate(("A1", "A2", "A1", "A2")):
        pixels = new_frame(index).pixels
        frame = Frame(pixels, index, 0, "Camera", 50.0 + index, 1.7e9 + index, 12, position=name, pixel_um=0.65)
        assert recorder.put(frame)
        recorder.put_calls(frame, new_analysis(frame, [LIVE, DEAD]).calls)
    recorder.close({})
    window = RecordWindow(RecordPlayer(recorder.path), ViewSettings())
    qtbot.addWidget(window)
    window.show()
    qtbot.waitUntil(window.isActiveWindow)
    qtbot.keyClicks(window, "P")
    qtbot.waitUntil(lambda: len(window.map.map.places) == 2)
    assert [place.viability is None for place in window.map.map.places] == [False, True]
    _click_on(qtbot, window, "A2")
    assert window.player.number == 1
    qtbot.waitUntil(lambda: window.map.map.here == "A2")
    assert "50.0 % alive" not in window.map.question.text()  # it was not seen yet when it was clicked
    window.close()
