"""Every layout opens in zarr-python, yaozarrs, ome-zarr-models and ome-zarr-py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import useq
import zarr

from livescope.calls import CellCalls
from livescope.errors import RecordError
from livescope.frames import ASIDE, REASON, Frame
from livescope.record.plate import PlateLayout, channels_of_plan, plate_of_plan
from livescope.record.reader import open_record
from livescope.record.recover import recover
from livescope.record.verify import verify

WELLS = {f"{row}{column}_{field}": (row, column, field) for row in "AB" for column in ("2", "10") for field in (0, 1)}
SHAPE = (96, 130)


def facts(layout: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return options of the recorder and what differs between the frames."""
    match layout:
        case "single":
            return {}, [{}] * 3
        case "positions":
            return {}, [{"position": f"P{k % 3}"} for k in range(6)]
        case "channels":
            return {"channels": ("BF", "GFP")}, [{"channel": ("BF", "GFP")[k % 2]} for k in range(6)]
        case "fluorescence beside the stream":
            return {}, [{"channel": "Cy5" if k % 4 == 3 else "BF"} for k in range(8)]
        case "several cameras":
            return {}, [{"camera": f"Camera-{k % 2 + 1}"} for k in range(6)]
        case "a frame aside in a shared channel":
            aside = {"channel": "GFP", "metadata": {ASIDE: "channel GFP", REASON: "rule 'dye'"}}
            return {"channels": ("BF", "GFP")}, [{"channel": "BF"}, {"channel": "GFP"}, aside, {"channel": "BF"}]
        case "segments":
            shapes = [SHAPE, SHAPE, (64, 64), SHAPE]
            return {}, [{"segment": k, "shape": shape} for k, shape in enumerate(shapes)]
        case "plate":
            return {"plate": PlateLayout("assay 7", WELLS)}, [{"position": name} for _ in range(2) for name in WELLS]
    raise ValueError(layout)


LAYOUTS = (
    "single",
    "positions",
    "channels",
    "fluorescence beside the stream",
    "several cameras",
    "a frame aside in a shared channel",
    "segments",
    "plate",
)


@pytest.fixture(params=LAYOUTS)
def stored(
    request: pytest.FixtureRequest, bench: Any, make_frame: Callable[..., Frame], make_calls: Callable[..., CellCalls]
) -> tuple[Path, list[Frame]]:
    options, differences = facts(request.param)
    recorder = bench.open(queue_frames=64, levels=2, **options)
    frames = [make_frame(k, **{"shape": SHAPE, "metadata": {}, **differs}) for k, differs in enumerate(differences)]
    for frame in frames:
        assert recorder.put(frame)
        recorder.put_calls(frame, make_calls(frame.index, 4, shape=frame.pixels.shape))
    recorder.close()
    assert bench.errors == []
    return recorder.path, frames


def test_layout_is_whole_and_accepted(stored: tuple[Path, list[Frame]]) -> None:
    yaozarrs, v05 = pytest.importorskip("yaozarrs"), pytest.importorskip("ome_zarr_models.v05")
    io, reader = pytest.importorskip("ome_zarr.io"), pytest.importorskip("ome_zarr.reader")
    path, frames = stored
    record = open_record(path)
    for found, frame in zip(record.iter_frames(), frames, strict=True):
        np.testing.assert_array_equal(found.pixels, frame.pixels)
        assert (found.camera, found.channel, found.metadata) == (frame.camera, frame.channel, frame.metadata)
    assert verify(path).ok, str(verify(path))
    yaozarrs.validate_zarr_store(str(path))
    for image in record.images:
        yaozarrs.validate_zarr_store(str(path / image))
        v05.Image.from_zarr(zarr.open_group(str(path / image), mode="r"))
        nodes = list(reader.Reader(io.parse_url(str(path / image)))())
        assert nodes[0].data[0].shape[0] == 1 + max(
            row["t"] for row in record.frame_table.to_pylist() if row["image"] == image
        )
        assert {node.zarr.basename() for node in nodes} >= {"cells", "viability"}


def test_a_frame_aside_leaves_the_channels_in_step(bench: Any, make_frame: Callable[..., Frame]) -> None:
    recorder = bench.open(channels=("BF", "GFP"))
    taken = ["BF", "GFP", "aside", "BF", "GFP"]
    for k, what in enumerate(taken):
        aside = {"channel": "GFP", "metadata": {ASIDE: "channel GFP"}}
        recorder.put(make_frame(k, **(aside if what == "aside" else {"channel": what})))
    recorder.close()
    rows = open_record(recorder.path).frame_table.to_pylist()
    assert [(row["image"], row["t"], row["c"]) for row in rows] == [
        ("", 0, 0),
        ("", 0, 1),
        ("images/1", 0, 0),
        ("", 1, 0),
        ("", 1, 1),
    ]


def test_a_plan_says_what_is_a_plate_and_which_channels_go_together() -> None:
    wells = {"plate": "96-well", "a1_center_xy": (0, 0), "selected_wells": ((0, 1), (0, 11))}
    points = {"rows": 1, "columns": 2, "fov_width": 1, "fov_height": 1}
    channels = [{"config": "BF"}, {"config": "Cy5", "acquire_every": 2}, {"config": "GFP", "do_stack": False}]
    plan = useq.MDASequence(stage_positions={**wells, "well_points_plan": points}, channels=channels)
    plate = plate_of_plan(plan)
    assert plate is not None
    assert plate.wells == {
        "A1_0000": ("A", "1", 0),
        "A1_0001": ("A", "1", 1),
        "B12_0000": ("B", "12", 0),
        "B12_0001": ("B", "12", 1),
    }
    single = plate_of_plan(useq.MDASequence(stage_positions=wells))
    assert single is not None
    assert single.wells == {"A1": ("A", "1", 0), "B12": ("B", "12", 0)}
    tiled = plate_of_plan(useq.MDASequence(stage_positions=wells, grid_plan=points))
    assert tiled is not None
    assert tiled.wells == plate.wells  # as the run names its tiles
    assert plate_of_plan(useq.MDASequence(stage_positions=[(0, 0)])) is None
    assert channels_of_plan(plan) == ("BF", "GFP")
    stack = useq.MDASequence(channels=channels, z_plan={"range": 4, "step": 2})
    assert channels_of_plan(stack) == ("BF",)


def test_a_plate_opens_as_a_plate(
    bench: Any, make_frame: Callable[..., Frame], make_calls: Callable[..., CellCalls]
) -> None:
    v05, reader = pytest.importorskip("ome_zarr_models.v05"), pytest.importorskip("ome_zarr.reader")
    io = pytest.importorskip("ome_zarr.io")
    recorder = bench.open(plate=PlateLayout("assay 7", WELLS), levels=2)
    frames = [make_frame(k, position=name) for k, name in enumerate(WELLS)]
    frames.append(make_frame(8, position="A2_0", shape=(64, 64)))
    frames.append(make_frame(9, position="elsewhere"))
    for frame in frames:
        recorder.put(frame)
    recorder.close()
    record = open_record(recorder.path)
    assert record.images[:4] == ("A/2/0", "A/2/1", "A/10/0", "A/10/1")
    assert record.images[8:] == ("images/8", "images/9")
    hcs = v05.HCS.from_zarr(zarr.open_group(str(recorder.path), mode="r"))
    plate = hcs.attributes.ome.plate
    assert [column.name for column in plate.columns] == ["2", "10"]
    assert [well.path for well in plate.wells] == ["A/10", "A/2", "B/10", "B/2"]
    nodes = list(reader.Reader(io.parse_url(str(recorder.path)))())
    stitched = np.asarray(nodes[0].data[0][0, 0])
    assert stitched.shape[0] >= 2 * SHAPE[0]
    assert stitched.any()


def test_a_plate_that_was_cut_short_names_only_wells_with_images(bench: Any, make_frame: Callable[..., Frame]) -> None:
    recorder = bench.open(plate=PlateLayout("cut", WELLS))
    recorder.put(make_frame(0, position="B10_0"))
    recorder.close()
    manifest = recorder.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"closed": "', '"closed": null, "was": "'))
    (recorder.path / "A" / "2" / "0").mkdir(parents=True)  # begun, never journalled
    recover(recorder.path)
    plate = zarr.open_group(str(recorder.path), mode="r").attrs["ome"]["plate"]
    assert [well["path"] for well in plate["wells"]] == ["B/10"]
    assert not (recorder.path / "A" / "2" / "0").exists()
    assert verify(recorder.path).ok


def test_a_plate_that_cannot_be_is_refused() -> None:
    with pytest.raises(RecordError, match="letters and digits"):
        PlateLayout("p", {"x": ("A/B", "1", 0)})
    with pytest.raises(RecordError, match="same field"):
        PlateLayout("p", {"x": ("A", "1", 0), "y": ("A", "1", 0)})
