"""A movie shows every recorded frame with the outlines of its cells.

Beside the tests of the record, not of the window: those watch that no thread is left, and zarr keeps its own.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from livescope.calls import CellCalls, State
from livescope.errors import RecordError
from livescope.frames import Frame, LossLedger
from livescope.record.corrections import Correction, CorrectionLog
from livescope.record.layout import ImageKey
from livescope.record.reader import Record, open_record
from livescope.record.writer import Recorder
from livescope.settings import RecordSettings, Settings
from livescope.view.movie import main, save_movie


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """Four dark frames; in the first a live cell, in the third none, the others not analysed."""
    settings = RecordSettings(min_free_mb=0)
    errors: list[Exception] = []
    recorder = Recorder(
        tmp_path / "a.ome.zarr", settings, LossLedger(), run_settings=Settings(), on_error=errors.append
    )
    for k in range(4):
        frame = Frame(np.full((121, 160), 500 + k, np.uint16), k, 0, "Camera", 3600.0 * k, 0.0, 12)
        recorder.put(frame)
        if k in (0, 2):
            n = 1 if k == 0 else 0
            ones, centre = np.ones(n, np.float32), np.full(n, 60, np.float32)
            radii, live = np.full((n, 32), 30, np.float32), np.ones(n, np.uint8)
            calls = CellCalls(k, centre, centre, radii, ones, ones, live, ones, np.zeros(n, bool), np.full(n, -1))
            recorder.put_calls(frame, calls)
    recorder.close()
    assert errors == []
    return open_record(recorder.path)


def blue(picture: np.ndarray) -> int:
    """Return the number of pixels in the colour of living cells."""
    rgb = picture[..., :3].astype(int)
    return int(np.count_nonzero((rgb[..., 2] - rgb[..., 0] > 60) & (rgb[..., 2] > 120)))


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_every_frame_is_there_with_its_outlines(record: Record, tmp_path: Path, suffix: str) -> None:
    if suffix == ".mp4":
        ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    steps: list[tuple[int, int]] = []
    (file,) = save_movie(record, tmp_path / f"a{suffix}", progress=lambda done, total: steps.append((done, total)))
    if suffix == ".gif":
        with Image.open(file) as gif:
            assert gif.n_frames == 4
            pictures = []
            for k in range(4):
                gif.seek(k)
                pictures.append(np.asarray(gif.convert("RGB")))
    else:
        command = [ffmpeg, "-loglevel", "error", "-i", str(file), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        decoded = subprocess.run(command, capture_output=True, check=True).stdout
        pictures = list(np.frombuffer(decoded, np.uint8).reshape(-1, 120, 160, 3))
    assert len(pictures) == 4
    assert pictures[0].shape == (120, 160, 3)
    outlined = [blue(picture) > 60 for picture in pictures]
    assert outlined == [True, True, False, False], "frame 1 shows the calls of frame 0, frame 2 has none of its own"
    assert steps[-1] == (4, 4)


def test_corrections_hold_where_they_are_given(record: Record, tmp_path: Path) -> None:
    gone = Correction(0, "remove", 0, -1, 60, 60, 30, None, State.LIVE, 0.1, "me", 0.0)
    (file,) = save_movie(record, tmp_path / "a.gif", corrections=[gone])
    with Image.open(file) as gif:
        assert blue(np.asarray(gif.convert("RGB"))) == 0


def test_a_window_gets_the_image_that_it_shows_as_corrected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = RecordSettings(min_free_mb=0)
    recorder = Recorder(tmp_path / "a.ome.zarr", settings, LossLedger(), run_settings=Settings(), on_error=print)
    frames = []
    for k, position in enumerate(["A1", "B1", "B1"]):
        pixels = np.full((121, 160), 500 + k, np.uint16)
        frames.append(Frame(pixels, k, 0, "Camera", float(k), 0.0, 12, position=position, pixel_um=0.65))
        recorder.put(frames[-1])
    recorder.close()
    out = str(tmp_path / "a.gif")
    for key, n_frames, said in (([], 1, "position A1"), ([frames[2]], 2, "position B1")):
        assert main([str(recorder.path), out, *(json.dumps(ImageKey.of(frame).as_dict()) for frame in key)]) == 0
        with Image.open(out) as gif:
            assert gif.n_frames == n_frames
        assert capsys.readouterr().out == f"{said}\n"
    log = CorrectionLog(recorder.path)
    log.save(log.take([Correction(0, "add", 1, -1, 60, 60, 30, State.LIVE, None, None, "me", 0.0)]))
    assert main([str(recorder.path), out]) == 0
    assert capsys.readouterr().out == "position A1, as corrected\n"
    assert main([str(tmp_path), out]) == RecordError.exit_code
    assert "not a livescope record" in capsys.readouterr().err


def test_without_overlay_nothing_is_drawn_on_the_cells(record: Record, tmp_path: Path) -> None:
    (file,) = save_movie(record, tmp_path / "a.gif", overlay=False)
    with Image.open(file) as gif:
        assert blue(np.asarray(gif.convert("RGB"))) == 0


def test_what_cannot_be_written_is_named(record: Record, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"\.mp4 or \.gif"):
        save_movie(record, tmp_path / "a.avi")
    for name in ("a.gif", "a.mp4"):
        with pytest.raises(RecordError, match="cannot be written"):
            save_movie(record, tmp_path / "missing" / name)
    with pytest.raises(RecordError, match="no frame of image 'images/3'"):
        save_movie(record, tmp_path / "a.gif", image="images/3")
