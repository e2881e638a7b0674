"""A correction belongs to the record that holds its frame: a session has many runs, and a run many records or none."""

from __future__ import annotations

import time
from pathlib import Path

from livescope.calls import Analysis
from livescope.frames import Frame
from livescope.record.reader import open_record
from livescope.session import Session
from livescope.settings import load_settings


def test_a_session_knows_the_record_of_each_frame(tmp_path: Path) -> None:
    size = ["simulation.width=128", "simulation.height=128", "record.labels=false"]
    settings = load_settings(None, [*size, f"record.path={tmp_path / 'run.ome.zarr'}"])
    seen: dict[tuple[int, int], Frame] = {}
    with Session(settings) as session:

        def see(run: int, least: int) -> None:
            before = len(seen)
            while len(seen) < before + least:
                analysis: Analysis | None = session.latest_analysis()
                if analysis is not None:
                    seen[run, analysis.frame.index] = analysis.frame
                time.sleep(0.005)

        session.start().result()
        see(0, 3)
        session.stop_recording().result()
        see(0, 3)
        session.start_recording().result()
        see(0, 3)
        session.stop().result()
        see(0, 0)
        session.settings = load_settings(None, size)
        session.start().result()
        see(1, 3)
        session.stop().result()
        session.snap().result()
        snapped = session.latest_frame()
        assert snapped is not None
        assert session.record_of(snapped) is None
        told = {key: session.record_of(frame) for key, frame in seen.items()}
    records = [tmp_path / "run.ome.zarr", tmp_path / "run-2.ome.zarr"]
    held = {index: path for path in records for index in open_record(path).frame_table["frame"].to_pylist()}
    assert told == {(run, index): None if run else held.get(index) for run, index in told}
    assert {*told.values()} == {None, *records}
