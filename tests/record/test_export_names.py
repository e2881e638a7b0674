"""Every format that the command line offers is written, beside the record by default."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from livescope.calls import CellCalls
from livescope.cli.records import Format
from livescope.errors import LivescopeError, RecordError
from livescope.frames import Frame
from livescope.record.plate import PlateLayout
from livescope.view.exports import SUFFIXES, export_record


@pytest.mark.filterwarnings("ignore:The '.*' option is deprecated")  # anndata's own, with pandas 3.1
def test_every_format_is_written_beside_the_record(
    bench: Any, make_frame: Callable[..., Frame], make_calls: Callable[..., CellCalls], tmp_path: Path
) -> None:
    for module in ("anndata", "imageio_ffmpeg"):
        pytest.importorskip(module)
    recorder = bench.open()
    recorder.put(make_frame(0))
    recorder.put_calls(make_frame(0), make_calls(0, 3))
    recorder.close()
    assert {to.value for to in Format} == set(SUFFIXES)
    for to, suffix in SUFFIXES.items():
        files = export_record(recorder.path, to)
        assert files[0] == tmp_path / f"run{suffix}"
        assert all(file.stat().st_size > 0 for file in files)
    with pytest.raises(RecordError, match=r"'xls'; choose one of 'csv', 'anndata'"):
        export_record(recorder.path, "xls")


def test_an_image_of_its_own_has_a_file_of_its_own(
    bench: Any, make_frame: Callable[..., Frame], tmp_path: Path
) -> None:
    recorder = bench.open()
    for index, shape in enumerate([(96, 130), (64, 70)]):
        recorder.put(make_frame(index, shape=shape))
    recorder.close()
    assert export_record(recorder.path, "ome-tiff") == [tmp_path / "run.ome.tif"]
    assert export_record(recorder.path, "ome-tiff", image="images/1") == [tmp_path / "run.images-1.ome.tif"]
    with pytest.raises(RecordError, match=r"leave out --image images/1"):
        export_record(recorder.path, "csv", image="images/1")


def test_of_a_plate_the_first_image_is_written_and_named(
    bench: Any, make_frame: Callable[..., Frame], make_calls: Callable[..., CellCalls], tmp_path: Path
) -> None:
    recorder = bench.open(plate=PlateLayout("assay", {"A1": ("A", "1", 0), "B1": ("B", "1", 0)}))
    for index, position in enumerate(["A1", "B1"]):
        recorder.put(make_frame(index, position=position))
        recorder.put_calls(make_frame(index, position=position), make_calls(index, 3))
    recorder.close()
    assert export_record(recorder.path, "ome-tiff") == [tmp_path / "run.A-1-0.ome.tif"]
    assert export_record(recorder.path, "labels") == [tmp_path / "run.A-1-0.labels.tif"]


@pytest.mark.parametrize(
    ("to", "name", "message"),
    [
        ("csv", "a.tif", r"ends in '\.tif'; a file of --to csv ends in '\.csv'"),
        ("ome-tiff", "a.csv", r"ends in '\.csv'; a file of --to ome-tiff ends in '\.tif', '\.tiff'"),
        ("mp4", "a.avi", r"ends in '\.avi'; a file of --to mp4 ends in '\.mp4'"),
        ("csv", "run.ome.zarr/calls.csv", "lies in the record 'run.ome.zarr', whose own files stay"),
        ("ome-tiff", "mine.tif", "exists, and no picture is ever replaced"),
        ("labels", "mine.tif", "exists, and no picture is ever replaced"),
    ],
)
def test_what_an_export_must_not_be_written_to(
    bench: Any, make_frame: Callable[..., Frame], tmp_path: Path, to: str, name: str, message: str
) -> None:
    recorder = bench.open()
    recorder.put(make_frame(0))
    recorder.close()
    (tmp_path / "mine.tif").write_bytes(b"mine")
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    with pytest.raises(LivescopeError, match=message):
        export_record(recorder.path, to, tmp_path / name)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before
    assert (tmp_path / "mine.tif").read_bytes() == b"mine"


def test_a_table_of_an_earlier_export_is_replaced(bench: Any, make_frame: Callable[..., Frame], tmp_path: Path) -> None:
    recorder = bench.open()
    recorder.put(make_frame(0))
    recorder.close()
    (tmp_path / "a.csv").write_text("old")
    assert export_record(recorder.path, "csv", tmp_path / "a.csv")[0].read_text() != "old"
