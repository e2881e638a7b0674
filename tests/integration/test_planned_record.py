"""A planned run over a well plate is stored as a well plate; channels share an image; a frame aside has its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

import livescope
from livescope.assay.plate import Plate, Well
from livescope.record.reader import open_record
from livescope.record.verify import verify
from livescope.report.gather import gather

PLATE = """
axis_order: tpc
stage_positions:
  plate: 96-well
  a1_center_xy: [0, 0]
  selected_wells: [[0, 1], [0, 11]]
time_plan: {interval: 0, loops: 2}
"""
TILES = "{rows: 1, columns: 2, fov_width: 200, fov_height: 200}"
PLANS = {
    "points": PLATE.replace("time_plan", f"  well_points_plan: {TILES}\ntime_plan"),
    "tiles": PLATE.replace("tpc", "tpgc") + f"grid_plan: {TILES}\n",
}


@pytest.mark.parametrize("fields", PLANS)
def test_a_plan_over_wells_makes_a_plate(tmp_path: Path, fields: str) -> None:
    v05 = pytest.importorskip("ome_zarr_models.v05")
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLANS[fields])
    path = tmp_path / "plate.ome.zarr"
    settings = [
        "simulation.width=96",
        "simulation.height=96",
        "record.min_free_mb=0",
        f"run.plan={plan}",
        f"record.path={path}",
    ]
    with livescope.open_session(None, *settings) as session:
        analysed = sum(1 for _ in session.results())
    record = open_record(path)
    assert analysed == len(record) == 8
    assert record.images == ("A/1/0", "A/1/1", "B/12/0", "B/12/1")
    report = gather(path, Plate([Well(well="A1"), Well(well="B12")]))
    assert {row["position"] for row in report.frame_rows} == {"A1_0000", "A1_0001", "B12_0000", "B12_0001"}
    assert set(report.wells) == {"A1", "B12"}
    hcs = v05.HCS.from_zarr(zarr.open_group(str(path), mode="r"))
    assert [well.path for well in hcs.attributes.ome.plate.wells] == ["A/1", "B/12"]
    assert hcs.attributes.ome.plate.name == "96-well"
    assert verify(path).ok
    devices = record.manifest["devices"]
    assert devices["Camera"]["properties"]["Binning"] == "1"
    assert devices["XY"]["library"] == "DemoCamera"
    assert np.asarray(record.stack("B/12/1")).shape == (2, 96, 96)
