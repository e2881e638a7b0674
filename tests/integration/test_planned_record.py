"""A planned run over a well plate is stored as a well plate; channels share an image; a frame aside has its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

import livescope
from livescope.record.reader import open_record
from livescope.record.verify import verify

PLATE = """
axis_order: tpc
stage_positions:
  plate: 96-well
  a1_center_xy: [0, 0]
  selected_wells: [[0, 1], [0, 11]]
  well_points_plan: {rows: 1, columns: 2, fov_width: 200, fov_height: 200}
time_plan: {interval: 0, loops: 2}
"""


def test_a_plan_over_wells_makes_a_plate(tmp_path: Path) -> None:
    v05 = pytest.importorskip("ome_zarr_models.v05")
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLATE)
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
    hcs = v05.HCS.from_zarr(zarr.open_group(str(path), mode="r"))
    assert [well.path for well in hcs.attributes.ome.plate.wells] == ["A/1", "B/12"]
    assert hcs.attributes.ome.plate.name == "96-well"
    assert verify(path).ok
    devices = record.manifest["devices"]
    assert devices["Camera"]["properties"]["Binning"] == "1"
    assert devices["XY"]["library"] == "DemoCamera"
    assert np.asarray(record.stack("B/12/1")).shape == (2, 96, 96)
