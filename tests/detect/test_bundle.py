from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from network_kit import as_frame, blob_network, make_bundle

from livescope.analysis import FrameAnalyser
from livescope.detect.bundle import Card, bundled_names, load_bundle
from livescope.detect.detector import open_detector
from livescope.detect.normalise import Background
from livescope.errors import BackendError, ModelError
from livescope.settings import DetectorSettings, SimulationSettings
from livescope.simulate.optics import render_field


def test_a_bundle_comes_back_as_it_was_written(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, blob_network(), Background(contrast=0.2))
    assert bundle.name == "kit"
    assert bundle.card.normalisation == Background(contrast=0.2)
    assert bundle.sha256 == bundle.card.sha256


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ModelError, match="'nobody' is not known") as caught:
        load_bundle("nobody")
    assert all(repr(name) in str(caught.value) for name in bundled_names())


def test_a_missing_file_and_a_missing_card_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"missing\.card\.yaml' cannot be read"):
        load_bundle(tmp_path / "missing.onnx")
    bundle = make_bundle(tmp_path, blob_network())
    bundle.onnx_path.unlink()
    with pytest.raises(ModelError, match=r"kit\.onnx' cannot be read"):
        load_bundle(bundle.onnx_path)


def test_a_damaged_network_is_refused(tmp_path: Path) -> None:
    path = make_bundle(tmp_path, blob_network()).onnx_path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="damaged or not the one its card describes"):
        load_bundle(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("p_cell: 0.5", "p_cell: 1.5", "p_cell: Input should be less than or equal to 1"),
        ("p_cell: 0.5", "p_sell: 0.5", "p_sell: Extra inputs"),
        ("kind: background", "kind: magic", "normalisation: .*'background', 'spread'"),
        ("uncertain: [0.4,", "uncertain: [0.9,", "no band"),
        ("temperature: 1.0", "temperature: .inf", "temperature: Input should be a finite number"),
        ("cell_diameter_px: [10.0, 14.0]", "cell_diameter_px: [10.0, .inf]", "should be a finite number"),
        ("contrast: 0.5", "contrast: .nan", "contrast: Input should be"),
        ("name: kit", "name: [", "is not YAML"),
        ("name: kit", "\x00", "is not YAML"),
    ],
)
def test_a_wrong_card_names_the_entry(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = make_bundle(tmp_path, blob_network()).onnx_path
    card = path.with_suffix(".card.yaml")
    text = card.read_text()
    assert old in text
    card.write_text(text.replace(old, new, 1))
    with pytest.raises(ModelError, match=message):
        load_bundle(path)


@pytest.mark.parametrize("name", bundled_names())
def test_bundled_cards_are_whole(name: str) -> None:
    bundle = load_bundle(name)
    assert bundle.name == name
    assert bundle.onnx_path.stat().st_size < 2_000_000
    assert bundle.card.validation
    assert isinstance(bundle.card, Card)


def test_an_unknown_backend_lists_the_known_ones(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, blob_network())
    settings = DetectorSettings.model_construct(backend="abacus")
    with pytest.raises(BackendError, match="'abacus' is not known; choose one of 'auto', 'onnx'"):
        open_detector(settings, bundle)


@pytest.mark.parametrize(("band", "known"), [(None, True), ("own", True), ((0.25, 0.75), False)])
def test_error_rates_are_of_the_cards_own_band(band: object, known: bool) -> None:
    bundle = load_bundle("simulated")
    uncertain = bundle.card.uncertain if band == "own" else band
    settings = DetectorSettings.model_validate({"backend": "onnx", "threads": 1, "uncertain": uncertain})
    analyser = FrameAnalyser(bundle, settings)
    pixels, _ = render_field(SimulationSettings(width=256, height=256, cells_per_mm2=900), 0, exposure_ms=12)
    assert (analyser(as_frame(np.asarray(pixels), pixel_um=0.65)).viability.corrected is not None) is known
    analyser.close()
