"""Others read a record: zarr-python, yaozarrs, ome-zarr-py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from livescope.calls import CellCalls
from livescope.frames import Frame
from livescope.record.layout import STATE_RGBA, level_shapes


@pytest.fixture
def written(bench: Any, make_frame: Callable[..., Frame], make_calls: Callable[..., CellCalls]) -> Path:
    recorder = bench.open()
    for k in range(5):
        recorder.put(make_frame(k))
        if k != 2:
            recorder.put_calls(make_frame(k), make_calls(k, 6))
    recorder.put(make_frame(5, shape=(70, 64)))
    recorder.close()
    assert bench.errors == []
    return recorder.path


def test_zarr_python_reads_every_array(written: Path, make_frame: Callable[..., Frame]) -> None:
    group = zarr.open_group(str(written), mode="r")
    assert group["0"].shape == (5, 1, 96, 130)
    assert group["0"].metadata.dimension_names == ("t", "c", "y", "x")
    assert group["0"].shards == (1, 1, 128, 192)  # a frame is one file
    np.testing.assert_array_equal(group["0"][3, 0], make_frame(3).pixels)
    assert group["images/1/0"].shape == (1, 1, 70, 64)
    for name, dtype in (("cells", "int32"), ("viability", "uint8")):
        for level, shape in enumerate(level_shapes(96, 130, 3)):
            array = group[f"labels/{name}/{level}"]
            assert array.shape == (5, *shape)
            assert array.dtype == dtype
        assert group[f"labels/{name}/0"][1].any()
        assert not group[f"labels/{name}/0"][2].any()


def test_yaozarrs_accepts_image_and_labels(written: Path) -> None:
    yaozarrs = pytest.importorskip("yaozarrs")
    for group in ("", "images/1", "labels", "labels/cells", "labels/viability"):
        yaozarrs.validate_zarr_store(str(written / group))


def test_ome_zarr_py_reads_image_and_colours(written: Path) -> None:
    io, reader = pytest.importorskip("ome_zarr.io"), pytest.importorskip("ome_zarr.reader")
    nodes = {node.zarr.basename(): node for node in reader.Reader(io.parse_url(str(written)))()}
    image, viability, cells = nodes[written.name], nodes["viability"], nodes["cells"]
    assert [(level.shape[0], *level.shape[2:]) for level in image.data] == [level.shape for level in cells.data]
    assert len(image.data) == len(viability.data) == 3
    scale = image.metadata["coordinateTransformations"][1][0]["scale"]
    np.testing.assert_allclose(scale, [0.1, 1, 1.3, 1.3])
    colours = {state: np.round(np.array(viability.metadata["color"][int(state)]) * 255) for state in STATE_RGBA}
    assert {state: tuple(map(int, colour)) for state, colour in colours.items()} == STATE_RGBA
    assert viability.metadata["properties"] == {1: {"state": "live"}, 2: {"state": "dead"}, 3: {"state": "uncertain"}}


def test_ome_zarr_models_accepts_the_image(written: Path) -> None:
    v05 = pytest.importorskip("ome_zarr_models.v05")
    for group in (written, written / "images" / "1"):
        image = v05.Image.from_zarr(zarr.open_group(str(group), mode="r"))
        assert [axis.name for axis in image.attributes.ome.multiscales[0].axes] == ["t", "c", "y", "x"]


@pytest.mark.filterwarnings("default")  # napari's own
def test_napari_shows_image_and_labels_in_their_colours(written: Path) -> None:
    layers = pytest.importorskip("napari.layers")
    read = pytest.importorskip("napari_ome_zarr").napari_get_reader(str(written))
    found: dict[str, list[Any]] = {"image": [], "labels": []}
    for data, options, kind in read(str(written)):
        found[kind].append((data, options))
    ((image, shown),) = found["image"]
    # napari-ome-zarr before 0.11 leaves the split into channels to napari
    channel = shown.get("channel_axis")
    planes = [level.shape if channel is None else (level.shape[0], *level.shape[2:]) for level in image]
    assert planes == [(5, 96, 130), (5, 48, 65), (5, 24, 33)]
    assert channel in (None, 1)
    labels = {options["name"].rpartition("/")[2]: layers.Labels(data, **options) for data, options in found["labels"]}
    assert set(labels) == {"cells", "viability"}
    for layer in labels.values():
        assert layer.data[0].shape == (5, 96, 130), "the same t, y and x as a channel of the image"
        np.testing.assert_allclose(layer.scale, shown["scale"])
    for state, rgba in STATE_RGBA.items():
        np.testing.assert_allclose(labels["viability"].get_color(int(state)), np.array(rgba) / 255, atol=1e-6)
