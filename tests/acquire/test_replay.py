"""Files played as a camera, and read offline."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from livescope.acquire.files import iter_frames
from livescope.acquire.replay import ReplayCore
from livescope.acquire.stream import StreamState
from livescope.errors import AcquisitionError, SettingsError, SourceError
from livescope.settings import CameraSettings, SourceSettings
from livescope.train.pictures import read_picture

DATA = Path(os.environ.get("LIVESCOPE_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


def core_of(path: Path, camera: CameraSettings | None = None, **source: Any) -> ReplayCore:
    return ReplayCore(SourceSettings(kind="replay", path=path, **{"rate_fps": 1000.0, **source}), camera)


def pictures(n: int, dtype: type = np.uint16, shape: tuple[int, int] = (8, 12)) -> list[np.ndarray[Any, Any]]:
    return [np.full(shape, k, dtype) for k in range(n)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """t1.tif ... t12.tif, which sort wrongly by letters."""
    for k, pixels in enumerate(pictures(12)):
        tifffile.imwrite(tmp_path / f"t{k + 1}.tif", pixels)
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def values(frames: list[Any]) -> list[int]:
    return [int(f.pixels[0, 0]) for f in frames]


def play(sink: Any, core: ReplayCore, frames: int | None = None) -> StreamState:
    stream = sink.stream(core)
    stream.start(frames)
    assert stream.wait(60)
    core.close()
    return stream.state


def test_a_folder_plays_in_natural_order_to_its_end(folder: Path, sink: Any) -> None:
    core = core_of(folder)
    assert play(sink, core) is StreamState.ENDED
    assert values(sink.frames) == list(range(12))
    assert sink.frames[9].metadata["file"] == "t10.tif"
    assert sink.health == []
    with pytest.raises(AcquisitionError, match="at its end"):
        sink.stream(core).start()


def test_fewer_frames_than_files(folder: Path, sink: Any) -> None:
    core = core_of(folder)
    stream = sink.stream(core)
    stream.start(frames=5)
    assert stream.wait(60)
    assert stream.state is StreamState.ENDED
    stream.start()
    assert stream.wait(60)
    assert values(sink.frames) == list(range(12))
    assert [f.segment for f in sink.frames] == [0] * 5 + [1] * 7


def test_repeat_begins_again(folder: Path, sink: Any) -> None:
    assert play(sink, core_of(folder, repeat=True), frames=30) is StreamState.ENDED
    assert values(sink.frames) == [*range(12), *range(12), *range(6)]


def test_repeat_is_endless_until_stopped(folder: Path, sink: Any) -> None:
    core = core_of(folder, repeat=True)
    stream = sink.stream(core)
    stream.start()
    while len(sink.frames) < 13:
        stream.snap()
    stream.stop()
    assert stream.state is StreamState.STOPPED
    assert values(sink.frames) == [k % 12 for k in range(len(sink.frames))]


def test_a_slow_receiver_makes_the_files_wait(folder: Path, sink: Any) -> None:
    core = core_of(folder, repeat=True)
    stream = sink.stream(core)
    with stream.lock:  # nobody pops meanwhile
        stream.start(frames=30)
        while core.getRemainingImageCount() < 8:
            pass
    assert stream.wait(60)
    assert values(sink.frames) == [k % 12 for k in range(30)]
    assert sink.lost_in_core == 0


def test_rate_and_pixel_size(folder: Path, sink: Any) -> None:
    core = core_of(folder, CameraSettings(pixel_um=0.9), rate_fps=50.0)
    play(sink, core, frames=3)
    assert [f.elapsed_ms for f in sink.frames] == [0.0, 20.0, 40.0]
    assert sink.frames[0].pixel_um == 0.9
    assert ReplayCore(SourceSettings(kind="replay", path=folder)).rate_fps == 10.0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_and_multipage_tiff(tmp_path: Path, dtype: type, sink: Any) -> None:
    (tmp_path / "png").mkdir()
    for k, pixels in enumerate(pictures(3, dtype)):
        Image.fromarray(pixels).save(tmp_path / "png" / f"{k}.png")
    tifffile.imwrite(tmp_path / "stack.tif", np.stack(pictures(4, dtype)), photometric="minisblack")
    play(sink, core_of(tmp_path / "png"))
    play(sink, core_of(tmp_path / "stack.tif"))
    assert values(sink.frames) == [0, 1, 2, 0, 1, 2, 3]
    assert {f.pixels.dtype for f in sink.frames} == {np.dtype(dtype)}


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_tiff_whose_0_is_white_is_read_as_viewers_show_it(tmp_path: Path, dtype: str) -> None:
    seen = np.arange(96, dtype=dtype).reshape(8, 12)
    tifffile.imwrite(tmp_path / "a.tif", np.iinfo(dtype).max - seen, photometric="miniswhite")
    ((_, frame),) = iter_frames(tmp_path / "a.tif")
    np.testing.assert_array_equal(frame.pixels, seen)
    assert frame.pixels.dtype == seen.dtype
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif"), seen)


def write_ome_zarr(path: Path, axes: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """An image as NGFF 0.5 has it."""
    units = {"x": "micrometer", "y": "micrometer", "t": "second"}
    kinds = {"t": "time", "c": "channel"}
    group = zarr.create_group(path, zarr_format=3)
    array = group.create_array("0", shape=shape, dtype="uint16", chunks=shape)
    pixels = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    array[:] = pixels
    scale = [0.5 if a in "xyt" else 1.0 for a in axes]
    described = [{"name": a, "type": kinds.get(a, "space"), **({"unit": units[a]} if a in units else {})} for a in axes]
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": described, "datasets": [dataset]}]}
    return pixels


@pytest.mark.parametrize(("axes", "shape"), [("tcyx", (3, 1, 4, 5)), ("tczyx", (3, 1, 1, 4, 5)), ("yx", (4, 5))])
def test_ome_zarr(tmp_path: Path, axes: str, shape: tuple[int, ...], sink: Any) -> None:
    pixels = write_ome_zarr(tmp_path / "run.ome.zarr", axes, shape)
    core = core_of(tmp_path / "run.ome.zarr", rate_fps=None)
    assert play(sink, core) is StreamState.ENDED
    planes = pixels.reshape(-1, *pixels.shape[-2:])
    assert all((f.pixels == p).all() for f, p in zip(sink.frames, planes, strict=True))
    assert sink.frames[0].pixel_um == 0.5
    assert core.rate_fps == (2.0 if "t" in axes else 10.0)


def test_the_pixel_size_of_an_ome_zarr_is_in_its_unit_and_scaled_by_all_that_scales_it(
    tmp_path: Path, sink: Any
) -> None:
    write_ome_zarr(tmp_path / "run.ome.zarr", "tyx", (2, 4, 5))
    group = zarr.open_group(tmp_path / "run.ome.zarr", mode="r+")
    described = group.attrs.asdict()["ome"]
    (image,) = described["multiscales"]
    image["axes"][0]["unit"], image["axes"][2]["unit"] = "minute", "nanometer"
    image["coordinateTransformations"] = [{"type": "scale", "scale": [2.0, 1300.0, 1300.0]}]
    group.attrs["ome"] = described
    core = core_of(tmp_path / "run.ome.zarr", rate_fps=None)
    assert core.rate_fps == pytest.approx(1 / 60)
    (_, frame), *_ = iter_frames(tmp_path / "run.ome.zarr")
    assert frame.pixel_um == pytest.approx(0.65)


def test_an_ome_zarr_inside_a_collection(tmp_path: Path, sink: Any) -> None:
    zarr.create_group(tmp_path / "run.ome.zarr", zarr_format=3)
    write_ome_zarr(tmp_path / "run.ome.zarr" / "A1", "tyx", (2, 4, 5))
    assert play(sink, core_of(tmp_path / "run.ome.zarr")) is StreamState.ENDED
    assert len(sink.frames) == 2


def test_of_several_images_in_an_ome_zarr_one_must_be_named(tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "run.ome.zarr", zarr_format=3)
    for name in ("10", "2"):
        write_ome_zarr(tmp_path / "run.ome.zarr" / name, "tyx", (2, 4, 5))
    with pytest.raises(SourceError, match=r"holds 2 images \('2', '10'\).* Give one of them: .*run.ome.zarr/2'"):
        core_of(tmp_path / "run.ome.zarr")
    assert core_of(tmp_path / "run.ome.zarr" / "2").remaining_frames() == 2


@pytest.mark.parametrize(
    ("axes", "shape", "message"),
    [
        ("tcyx", (3, 2, 4, 5), "holds 2 channels"),
        ("tczyx", (3, 1, 4, 4, 5), "holds 4 slices"),
        ("myx", (2, 4, 5), "holds 2 pictures along the axis 'm'"),
    ],
)
def test_an_ome_zarr_of_channels_or_slices_is_refused(
    tmp_path: Path, axes: str, shape: tuple[int, ...], message: str
) -> None:
    write_ome_zarr(tmp_path / "run.ome.zarr", axes, shape)
    with pytest.raises(SourceError, match=message):
        core_of(tmp_path / "run.ome.zarr")


def test_a_record_of_two_channels_plays_its_first(tmp_path: Path, sink: Any) -> None:
    pixels = write_ome_zarr(tmp_path / "run.ome.zarr", "tcyx", (3, 2, 4, 5))
    (tmp_path / "run.ome.zarr" / "journal.ndjson").write_text("")
    assert play(sink, core_of(tmp_path / "run.ome.zarr")) is StreamState.ENDED
    assert values(sink.frames) == pixels[:, 0, 0, 0].tolist()


# ---------------------------------------------------------------- what cannot be played


def broken(tmp_path: Path, name: str) -> Path:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8), np.uint16))
    match name:
        case "empty":
            (tmp_path / "empty").mkdir()
            return tmp_path / "empty"
        case "shape":
            tifffile.imwrite(tmp_path / "b.tif", np.zeros((8, 9), np.uint16))
        case "dtype":
            tifffile.imwrite(tmp_path / "b.tif", np.zeros((8, 8), np.uint8))
        case "rgb":
            tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8, 3), np.uint8), photometric="rgb")
        case "rgb-png":
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
            return tmp_path / "a.png"
        case "float":
            tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8), np.float32))
        case "damaged":
            (tmp_path / "a.tif").write_bytes(b"II*\0rubbish")
        case "text":
            (tmp_path / "a.txt").write_text("x")
            return tmp_path / "a.txt"
        case "zarr":
            zarr.create_group(tmp_path / "plain.zarr", zarr_format=3)
            return tmp_path / "plain.zarr"
        case "missing":
            return tmp_path / "nowhere"
    return tmp_path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "holds no image.*'.tif', '.tiff', '.png'"),
        ("shape", r"'b.tif' is \(\(8, 9\)"),
        ("dtype", "'b.tif'.*uint8"),
        ("rgb", "colour"),
        ("rgb-png", "colour"),
        ("float", "float32"),
        ("damaged", "a.tif.*cannot be read"),
        ("text", "no image"),
        ("zarr", "multiscales"),
        ("missing", "does not exist"),
    ],
)
def test_what_cannot_be_played_is_explained(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        core_of(broken(tmp_path, name))


def test_settings_that_make_no_sense_are_refused(folder: Path, sink: Any) -> None:
    with pytest.raises(SourceError, match=r"needs source\.path"):
        ReplayCore(SourceSettings(kind="replay"))
    with pytest.raises(SourceError, match="no camera to set"):
        core_of(folder, CameraSettings(properties={"Gain": 1}))
    with pytest.raises((AcquisitionError, SettingsError), match="recorded frames"):
        sink.stream(core_of(folder)).set_exposure(5.0)


def test_a_file_that_vanishes_ends_the_run_with_its_name(folder: Path, sink: Any) -> None:
    core = core_of(folder)
    (folder / "t6.tif").unlink()
    assert play(sink, core) is StreamState.FAILED
    assert values(sink.frames) == [0, 1, 2, 3, 4]
    assert [e.health for e in sink.health] == ["lost"]
    assert "t6.tif" in sink.health[0].message


# ---------------------------------------------------------------- offline


def test_offline_frames_may_differ_in_shape(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "b2.tif", np.zeros((4, 5), np.uint8))
    tifffile.imwrite(tmp_path / "b10.tif", np.zeros((2, 6, 7), np.uint16))
    seen = list(iter_frames(tmp_path, CameraSettings(pixel_um=0.3)))
    assert [(name, f.pixels.shape, f.index, f.segment, f.metadata["t"]) for name, f in seen if f.metadata] == [
        ("b2.tif", (4, 5), 0, 0, 0),
        ("b10.tif", (6, 7), 1, 1, 0),
        ("b10.tif", (6, 7), 2, 1, 1),
    ]
    assert all(not f.pixels.flags.writeable and f.pixel_um == 0.3 for _, f in seen)


def test_offline_a_single_image_and_a_record(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "one.png")
    assert [name for name, _ in iter_frames(tmp_path / "one.png")] == ["one.png"]
    write_ome_zarr(tmp_path / "run.ome.zarr", "tcyx", (3, 1, 4, 5))
    assert [(n, f.metadata["t"]) for n, f in iter_frames(tmp_path / "run.ome.zarr") if f.metadata] == [
        ("run.ome.zarr", t) for t in range(3)
    ]


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real images at {DATA} (set LIVESCOPE_DATA)")
def test_a_real_time_lapse_plays_whole(sink: Any) -> None:
    assert play(sink, core_of(DATA / "usiigaci" / "timelapse")) is StreamState.ENDED
    assert len(sink.frames) == 8
    assert {(f.pixels.shape, f.pixels.dtype.name) for f in sink.frames} == {((1022, 1024), "uint16")}
    assert sink.lost_in_core == 0


def test_a_replay_of_two_pixel_sizes_is_refused(tmp_path: Path) -> None:
    for name, um in (("a", 0.65), ("b", 0.325)):
        size = {"resolution": (1 / um, 1 / um), "metadata": {"unit": "um"}}
        tifffile.imwrite(tmp_path / f"{name}.tif", pictures(1)[0], imagej=True, **size)
    with pytest.raises(
        SourceError, match=r"'b\.tif' says a pixel size of 0\.325 um, but the first frame 'a\.tif' 0\.65"
    ):
        core_of(tmp_path)
    assert core_of(tmp_path, CameraSettings(pixel_um=0.5)).getPixelSizeUm() == 0.5
