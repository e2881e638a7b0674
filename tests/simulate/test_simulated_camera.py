from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip(
    "mm_test_adapters", reason="the simulated microscope needs the demo stages: pip install livescope[demo]"
)

from livescope.calls import State
from livescope.errors import CoreError, FrameError
from livescope.frames import Frame
from livescope.settings import CameraSettings, SimulationSettings
from livescope.simulate.camera import SimulatedCore, open_simulated_core, truth_of
from livescope.simulate.optics import render_field

SIMULATION = SimulationSettings(width=256, height=192, rate_fps=200, seed=5, minutes_per_frame=0.5)


@pytest.fixture
def core() -> Iterator[SimulatedCore]:
    core = open_simulated_core(SIMULATION, CameraSettings(exposure_ms=5.0))
    yield core
    core.stopSequenceAcquisition()
    core.unloadAllDevices()


def take(core: SimulatedCore, n: int) -> list[Frame]:
    """Frames of a finite sequence, as the live loop would make them."""
    core.startSequenceAcquisition(n, 0, True)
    frames: list[Frame] = []
    while core.isSequenceRunning() or core.getRemainingImageCount():
        if not core.getRemainingImageCount():
            time.sleep(0.001)
            continue
        pixels, metadata = core.popNextImageAndMD()
        frames.append(Frame(pixels, len(frames), 0, "Camera", 0.0, 0.0, 12, metadata=dict(metadata)))
    return frames


def test_core_knows_depth_and_pixel_size(core: SimulatedCore) -> None:
    assert core.getImageBitDepth() == 12
    assert core.getPixelSizeUm() == pytest.approx(SIMULATION.pixel_um)
    assert (core.getImageHeight(), core.getImageWidth()) == (192, 256)
    assert core.getExposure() == 5.0


def test_finite_sequence_makes_exactly_that_many(core: SimulatedCore) -> None:
    frames = take(core, 7)
    assert [f.metadata["ImageNumber"] for f in frames if f.metadata] == [str(k) for k in range(7)]


def test_camera_shows_what_render_field_shows(core: SimulatedCore) -> None:
    core.setXYPosition(30.0, -12.0)
    core.waitForDevice("XY")
    core.setPosition("Z", 2.0)
    core.waitForDevice("Z")
    take(core, 3)
    frame = take(core, 2)[1]  # the fifth of its life: pauses do not move the culture on
    x_um, y_um = core.getXYPosition()
    pixels, truth = render_field(
        SIMULATION, frame_number=4, exposure_ms=5.0, x_um=x_um, y_um=y_um, z_um=core.getPosition()
    )
    np.testing.assert_array_equal(frame.pixels, pixels)
    asked = truth_of(core, frame)
    np.testing.assert_array_equal(asked.cell_id, truth.cell_id)
    np.testing.assert_array_equal(asked.y_px, truth.y_px)


def test_truth_of_each_frame_after_stage_moves(core: SimulatedCore) -> None:
    before = take(core, 1)[0]
    core.setXYPosition(40 * SIMULATION.pixel_um, 0.0)
    core.waitForDevice("XY")
    after = take(core, 1)[0]
    there, here = truth_of(core, after), truth_of(core, before)  # out of order
    _, i, j = np.intersect1d(here.cell_id, there.cell_id, return_indices=True)
    assert np.median(here.x_px[i] - there.x_px[j]) == pytest.approx(40, abs=1.5)


def test_region_of_interest_shifts_the_truth(core: SimulatedCore) -> None:
    core.setROI(32, 16, 128, 96)
    frame = take(core, 1)[0]
    assert frame.pixels.shape == (96, 128)
    truth = truth_of(core, frame)
    _, whole = render_field(SIMULATION, frame_number=0)
    _, i, j = np.intersect1d(truth.cell_id, whole.cell_id, return_indices=True)
    np.testing.assert_allclose(whole.y_px[j] - truth.y_px[i], 16, atol=1e-3)
    np.testing.assert_allclose(whole.x_px[j] - truth.x_px[i], 32, atol=1e-3)


def test_long_exposure_can_be_stopped_and_started_again(core: SimulatedCore) -> None:
    core.setExposure(60_000.0)
    core.startContinuousSequenceAcquisition(0)
    core.stopSequenceAcquisition()
    assert not core.isSequenceRunning()
    core.setExposure(5.0)
    assert len(take(core, 2)) == 2


def test_frame_from_elsewhere_has_no_truth(core: SimulatedCore) -> None:
    strange = Frame(np.zeros((4, 4), np.uint16), 0, 0, "Other", 0.0, 0.0, 12)
    with pytest.raises(FrameError, match="SimulatedFrame"):
        truth_of(core, strange)


def test_refused_property_names_the_known_ones() -> None:
    with pytest.raises(CoreError, match=r"Gain.*Binning"):
        open_simulated_core(SIMULATION, CameraSettings(properties={"Gain": 3.0}))


def test_the_dye_channel_stains_the_dead_and_only_them(core: SimulatedCore) -> None:
    assert core.getChannelGroup() == "Channel"
    assert list(core.getAvailableConfigs("Channel")) == ["Brightfield", "Cy5"]
    core.setExposure(50.0)
    core.setConfig("Channel", "Cy5")
    core.waitForConfig("Channel", "Cy5")
    frame = take(core, 1)[0]
    core.setConfig("Channel", "Brightfield")
    truth = truth_of(core, frame).in_frame()
    rows, columns = truth.y_px.round().astype(int), truth.x_px.round().astype(int)
    middle = frame.pixels[rows, columns].astype(float)
    dead = truth.state == State.DEAD
    # a living cell beside a dead one may be lit by its neighbour
    assert np.median(middle[dead]) > 4 * np.median(middle[~dead])
    assert (middle[dead].min() > np.percentile(middle[~dead], 80)) or dead.sum() == 0
    bright_field = take(core, 1)[0]
    assert np.median(bright_field.pixels) > 3 * np.median(frame.pixels)
