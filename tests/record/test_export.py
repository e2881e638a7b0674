"""What is exported is what the record holds, as other tools read it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as pa_csv
import pytest
import tifffile

from livescope.calls import CellCalls
from livescope.errors import RecordError
from livescope.frames import Frame
from livescope.record.export import export_anndata, export_csv, export_label_stack, export_ome_tiff
from livescope.record.labels import UNLINKED
from livescope.record.layout import FORMAT, STATE_RGBA
from livescope.record.reader import Record, open_record


@pytest.fixture
def record(bench: Any, make_frame: Callable[..., Frame], make_calls: Callable[..., CellCalls]) -> Record:
    recorder = bench.open()
    for k in range(5):
        recorder.put(make_frame(k, position="B2"))
        if k != 2:
            recorder.put_calls(make_frame(k), make_calls(k, 0 if k == 3 else 6))
    recorder.close()
    return open_record(recorder.path)


def test_csv_holds_every_call_and_every_frame(record: Record, tmp_path: Path) -> None:
    calls, frames = (pa_csv.read_csv(file) for file in export_csv(record, tmp_path / "calls.csv"))
    assert len(calls) == len(record.calls) == 18
    np.testing.assert_array_equal(calls["y_px"].to_numpy().astype(np.float32), record.calls["y_px"].to_numpy())
    radii = np.column_stack([calls[f"radius_{k:02}_px"].to_numpy() for k in range(32)]).astype(np.float32)
    np.testing.assert_array_equal(radii[:6], record.calls_of(0).radii_px)
    assert frames["analysed"].to_pylist() == [True, True, False, True, True]


@pytest.mark.filterwarnings("ignore:The '.*' option is deprecated")  # anndata's own, with pandas 3.1
def test_anndata_reads_back(record: Record, tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    (file,) = export_anndata(record, tmp_path / "a.h5ad")
    data = anndata.read_h5ad(file)
    assert data.shape == (18, 35)
    np.testing.assert_array_equal(data[:6, "p_dead"].X.ravel(), record.calls_of(0).p_dead)
    np.testing.assert_allclose(data.obsm["spatial"][:6, 0], record.calls_of(0).x_px * 0.65, rtol=1e-6)
    assert set(data.obs["state"]) <= {"live", "dead", "uncertain"}
    assert json.loads(data.uns["livescope"]["manifest"])["format"] == FORMAT


@pytest.mark.filterwarnings("ignore:The '.*' option is deprecated")
@pytest.mark.parametrize("other_um", [0.325, None])
def test_anndata_has_each_image_in_its_own_scale(
    bench: Any, make_frame: Callable[..., Frame], make_calls: Callable[..., CellCalls], tmp_path: Path, other_um: float
) -> None:
    anndata = pytest.importorskip("anndata")
    recorder = bench.open()
    recorder.put(make_frame(0))
    recorder.put(make_frame(1, pixel_um=other_um))
    calls = [make_calls(0, 3), *(replace(make_calls(k, 3), pixel_um=other_um) for k in (1, 2))]
    for k in range(3):  # frame 2 was not stored
        recorder.put_calls(make_frame(k), calls[k])
    recorder.close()
    (file,) = export_anndata(open_record(recorder.path), tmp_path / "a.h5ad")
    data = anndata.read_h5ad(file)
    scales = (0.65, 0.325, 0.325) if other_um else (1, 1, 1)
    x = np.concatenate([one.x_px * scale for one, scale in zip(calls, scales, strict=True)])
    np.testing.assert_allclose(data.obsm["spatial"][:, 0], x, rtol=1e-6)
    assert data.uns["livescope"]["spatial_unit"] == ("micrometre" if other_um else "pixel")


def test_ome_tiff_has_pixels_sizes_and_times(record: Record, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    (file,) = export_ome_tiff(record, tmp_path / "a.ome.tif", progress=lambda done, total: steps.append((done, total)))
    assert steps[-1] == (5, 5)
    with tifffile.TiffFile(file) as tiff:
        assert tiff.is_ome
        np.testing.assert_array_equal(tiff.asarray(), record.frames[:])
        about = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
    assert (about["SizeT"], about["SizeC"], about["PhysicalSizeX"]) == (5, 1, 0.65)
    assert [plane["DeltaT"] for plane in about["Plane"]] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_ome_tiff_of_several_channels_with_a_hole(bench: Any, make_frame: Callable[..., Frame], tmp_path: Path) -> None:
    recorder = bench.open(channels=("BF", "GFP"))
    frames = [make_frame(k, channel=("BF", "GFP")[k % 2]) for k in range(3)]
    for frame in frames:
        recorder.put(frame)
    recorder.close()
    file, missing = export_ome_tiff(open_record(recorder.path), tmp_path / "a.ome.tif")
    with tifffile.TiffFile(file) as tiff:
        pixels = tiff.asarray()
        about = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
    assert pixels.shape == (2, 2, 96, 130)
    np.testing.assert_array_equal(pixels[0, 1], frames[1].pixels)
    # what is not there is black, and said
    assert not pixels[1, 1].any()
    assert [plane["DeltaT"] for plane in about["Plane"]] == pytest.approx([0, 0.1, 0.2, 0.2])
    assert pa_csv.read_csv(missing).to_pylist() == [{"t": 1, "c": 1}]


def test_label_stack_is_an_imagej_hyperstack(record: Record, tmp_path: Path) -> None:
    (file,) = export_label_stack(record, tmp_path / "cells.tif")
    with tifffile.TiffFile(file) as tiff:
        assert tiff.is_imagej
        assert tiff.imagej_metadata["frames"] == 5
        assert tiff.imagej_metadata["unit"] == "um"
        np.testing.assert_array_equal(tiff.asarray(), record.stack(labels="cells")[:])
        assert tiff.pages[0].tags["XResolution"].value[0] / tiff.pages[0].tags["XResolution"].value[1] == pytest.approx(
            1 / 0.65
        )


def test_label_stack_numbers_large_ids_anew(
    bench: Any, make_frame: Callable[..., Frame], make_calls: Callable[..., CellCalls], tmp_path: Path
) -> None:
    recorder = bench.open()
    calls = make_calls(0, 3)
    calls = replace(calls, track=np.array([70_000, -1, 5]))
    recorder.put(make_frame(0))
    recorder.put_calls(make_frame(0), calls)
    recorder.close()
    record = open_record(recorder.path)
    stack, ids = export_label_stack(record, tmp_path / "cells.tif")
    table = pa_csv.read_csv(ids)
    assert table.to_pydict() == {"label": [1, 2, 3], "cell": [5, 70_000, UNLINKED + 2]}
    numbered, stored = tifffile.imread(stack), record.stack(labels="cells")[0]
    for label, cell in zip(table["label"].to_pylist(), table["cell"].to_pylist(), strict=True):
        np.testing.assert_array_equal(numbered == label, stored == cell)


def test_a_path_that_cannot_be_written_is_named(record: Record, tmp_path: Path) -> None:
    for export in (export_csv, export_ome_tiff, export_label_stack):
        with pytest.raises(RecordError, match="its folder does not exist"):
            export(record, tmp_path / "missing" / "a")


def test_labels_have_the_colours_of_the_window() -> None:
    theme = pytest.importorskip("livescope.view.theme")
    for state, rgba in STATE_RGBA.items():
        assert "#" + "".join(f"{value:02X}" for value in rgba[:3]) == theme.STATE_COLOURS[state]
