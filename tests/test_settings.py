"""Settings: what is misspelt or out of range is refused with the next step, what is accepted comes back the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livescope.acquire.core import property_text
from livescope.errors import SettingsError
from livescope.settings import MonitorSettings, Settings, SimulationSettings, dump_settings, load_settings


def _refused(*overrides: str, path: Path | None = None) -> str:
    with pytest.raises(SettingsError) as refused:
        load_settings(path, overrides)
    return str(refused.value)


def test_no_file_and_no_override_gives_the_defaults() -> None:
    assert load_settings() == Settings()


@pytest.mark.parametrize(
    ("override", "misspelt", "meant"),
    [
        ("camera.exposur_ms=5", "camera.exposur_ms", "exposure_ms"),
        ("detecter.model=simulated", "detecter", "detector"),
        ("simulation.cell_per_mm2=3", "simulation.cell_per_mm2", "cells_per_mm2"),
        ("view.monitor={adress: localhost, port: 1}", "view.monitor.adress", "address"),
    ],
)
def test_misspelt_key_names_the_near_one_and_all_known(override: str, misspelt: str, meant: str) -> None:
    message = _refused(override)
    assert f"unknown setting {misspelt!r}" in message
    assert f"Did you mean {meant!r}?" in message
    assert message.count("'") >= 10, "the known keys are listed"


def test_unknown_key_without_a_near_one_still_lists_the_known() -> None:
    message = _refused("view.zzz=1")
    assert "Did you mean" not in message
    assert "'theme'" in message


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("camera.exposure_ms=-5", ("camera.exposure_ms", "greater than 0", "-5")),
        ("source.kind=camera", ("source.kind", "'demo'", "'replay'", "'camera'")),
        ("simulation.bit_depth=14", ("simulation.bit_depth", "12", "16")),
        ("record.chunk_px=many", ("record.chunk_px", "integer", "'many'")),
        ("detector.max_cells=5000", ("detector.max_cells", "3840", "5000")),
        ("detector.uncertain=[0.9, 0.1]", ("uncertain is [low, high]", "low is above high", "[0.9, 0.1]")),
        ("detector.uncertain=[0.5, 1.5]", ("detector.uncertain.1", "less than or equal to 1", "1.5")),
    ],
)
def test_bad_value_names_key_value_and_what_is_allowed(override: str, parts: tuple[str, ...]) -> None:
    message = _refused(override)
    for part in parts:
        assert part in message


def test_every_mistake_is_told_at_once() -> None:
    message = _refused("camera.exposure_ms=-5", "view.themes=dark")
    assert "camera.exposure_ms" in message
    assert "view.themes" in message


@pytest.mark.parametrize("override", ["camera.exposure_ms", "=5", "exposure 5"])
def test_override_that_is_no_assignment(override: str) -> None:
    assert "key.path=value" in _refused(override)


@pytest.mark.parametrize("text", ["[day 1", "day: 1: a", "{a"])
def test_override_whose_value_is_not_yaml(text: str) -> None:
    message = _refused(f"source.path={text}")
    assert f"{text!r} is not YAML" in message
    assert "quotes" in message
    assert load_settings(None, [f'source.path="{text}"']).source.path == Path(text)


def test_override_through_a_value(tmp_path: Path) -> None:
    config = tmp_path / "a.yaml"
    config.write_text("camera: {exposure_ms: 5}\n")
    assert "not a section" in _refused("camera.exposure_ms.unit=ms", path=config)


def test_override_in_a_section_that_is_switched_off(root: Path) -> None:
    settings = load_settings(root / "configs" / "simulated.yaml", ["view.monitor.port=8080"])
    assert settings.view.monitor == MonitorSettings(port=8080)


def test_an_empty_section_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    config = tmp_path / "a.yaml"
    config.write_text("camera:\nview:\n  # theme: light\n  monitor:\nrecord:\n")
    assert load_settings(config) == Settings()
    assert load_settings(config, ["camera.exposure_ms=5"]).camera.exposure_ms == 5
    config.write_text("camra:\n")
    assert "Did you mean 'camera'" in _refused(path=config)


NAMES = ["2024-05-01", "20240501", "2024_05_01", "2024.10", "007", "1e3", "0x10", "12:30", "2024-13-45"]


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_or_a_model_named_by_a_date_or_a_number(tmp_path: Path, name: str) -> None:
    settings = load_settings(None, [f"source.path={name}", f"detector.model={name}"])
    assert (settings.source.path, settings.detector.model) == (Path(name), name)
    config = tmp_path / "a.yaml"
    config.write_text(f"source: {{kind: replay, path: {name}}}\nrecord: {{path: {name} # plain\n}}\n")
    settings = load_settings(config)
    assert (settings.source.path, settings.record.path) == (Path(name), Path(name))


def test_a_number_is_a_number_where_one_is_wanted() -> None:
    settings = load_settings(None, ["source.path=10", "run.frames=10", "camera.exposure_ms=2.50", "record.path=10"])
    assert type(settings.run.frames) is int
    assert type(settings.camera.exposure_ms) is float
    assert settings.run.frames == 10
    assert "given: 0)" in _refused("source.path=10", "run.frames=0")


WORDS = ["Yes", "no", "On", "OFF", "true", "010", "-010", "0x10", "1e3", "2.50", "1:30", "1_000", ".nan"]


@pytest.mark.parametrize("word", WORDS)
def test_a_property_is_passed_on_as_it_is_written(tmp_path: Path, word: str) -> None:
    assert load_settings(None, [f"camera.properties.Gain={word}"]).camera.properties == {"Gain": word}
    config = tmp_path / "a.yaml"
    config.write_text(f"camera: {{properties: {{Gain: {word}}}}}\n")
    settings = load_settings(config)
    assert settings.camera.properties == {"Gain": word}
    config.write_text(dump_settings(settings))
    assert load_settings(config) == settings


def test_a_text_may_be_a_word_that_yaml_takes_for_a_truth_value() -> None:
    assert load_settings(None, ["detector.camera=Off", "source.path=on"]).source.path == Path("on")


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("camera.exposure_ms=yes", "valid number"),
        ("run.frames=true", "valid integer"),
        ("run.frames=On", "given: 'On'"),
        ("run.seconds=.inf", "valid number"),
        ("track.hazard=.nan", "valid number"),
    ],
)
def test_what_is_no_number_is_refused_where_one_is_wanted(override: str, part: str) -> None:
    assert part in _refused(override)


def test_a_number_with_a_leading_zero_is_decimal() -> None:
    settings = load_settings(None, ["run.frames=010", "camera.exposure_ms=010", "simulation.seed=007"])
    assert (settings.run.frames, settings.camera.exposure_ms, settings.simulation.seed) == (10, 10.0, 7)


@pytest.mark.parametrize("word", ["yes", "On", "TRUE", "no", "Off", "false"])
def test_a_truth_value_in_any_of_its_words(word: str) -> None:
    wanted = word.lower() in ("yes", "on", "true")
    settings = load_settings(None, [f"record.labels={word}", f"detector.every_frame={word}"])
    assert (settings.record.labels, settings.detector.every_frame) == (wanted, wanted)


@pytest.mark.parametrize(
    ("text", "key", "lines"),
    [
        ("camera: {exposure_ms: 5}\nview: {theme: dark}\ncamera: {ring_mb: 100}\n", "camera", (1, 3)),
        ("camera:\n  exposure_ms: 5\n  exposure_ms: 50\n", "exposure_ms", (2, 3)),
        ("camera: {exposure_ms: 5, 'exposure_ms': 5}\n", "exposure_ms", (1, 1)),
    ],
)
def test_a_key_that_stands_twice(tmp_path: Path, text: str, key: str, lines: tuple[int, int]) -> None:
    config = tmp_path / "twice.yaml"
    config.write_text(text)
    message = _refused(path=config)
    assert f"the key {key!r} stands twice, in line {lines[0]} and in line {lines[1]}" in message
    assert "twice.yaml" in message
    assert "stands twice" in _refused("camera={ring_mb: 20, ring_mb: 30}")


def test_what_is_merged_may_be_overridden(tmp_path: Path) -> None:
    config = tmp_path / "a.yaml"
    config.write_text(
        "camera: &a {exposure_ms: 5, ring_mb: 20}\n"
        "simulation: {<<: [{width: 64, height: 64}, {width: 99}], height: 128}\n"
        "run: &r {<<: &q {frames: 3, seconds: 1}, frames: 4}\n"
    )
    settings = load_settings(config)
    assert (settings.simulation.width, settings.simulation.height) == (64, 128)
    assert (settings.run.frames, settings.run.seconds) == (4, 1)
    config.write_text("view: {<<: &b {<<: &a {theme: light}, rings: no}, rings: yes}\n")
    assert (load_settings(config).view.theme, load_settings(config).view.rings) == ("light", True)


@pytest.mark.parametrize(
    "text",
    [
        "camera: &a {properties: *a}",
        "camera: &a [*a]",
        "camera: " + "[" * 3000 + "]" * 3000,
        "camera: " + "{a: " * 1000,
    ],
    ids=["cyclic mapping", "cyclic list", "brackets", "open braces"],
)
def test_settings_without_an_end(tmp_path: Path, text: str) -> None:
    config = tmp_path / "deep.yaml"
    config.write_text(text)
    assert "deep.yaml' is not YAML" in _refused(path=config)
    assert "is not YAML" in _refused(text.replace(": ", "=", 1))


def test_a_number_of_no_digits_is_not_yaml(tmp_path: Path) -> None:
    config = tmp_path / "a.yaml"
    config.write_text("camera: {exposure_ms: 0x_}\n")
    assert "is not YAML" in _refused(path=config)


def test_overrides_beat_the_file_and_the_last_one_wins(tmp_path: Path) -> None:
    config = tmp_path / "a.yaml"
    config.write_text("camera:\n  exposure_ms: 5\n  properties: {PixelType: 16bit}\n")
    settings = load_settings(config, ["camera.exposure_ms=7", "camera.exposure_ms=8", "camera.properties.Gain=2"])
    assert settings.camera.exposure_ms == 8
    assert settings.camera.properties == {"PixelType": "16bit", "Gain": "2"}


def test_override_values_are_yaml() -> None:
    settings = load_settings(None, ["detector.uncertain=[0.4, 0.6]", "record.labels=false", "camera.exposure_ms=null"])
    assert settings.detector.uncertain == (0.4, 0.6)
    assert settings.record.labels is False
    assert settings.camera.exposure_ms is None


def test_windows_path_as_a_bare_value() -> None:
    assert load_settings(None, [r"source.cfg=C:\scopes\a.cfg"]).source.cfg == Path(r"C:\scopes\a.cfg")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("camera: [1, 2", "is not YAML"),
        ("- camera\n- view\n", "holds a list; expected sections: 'source'"),
        ("camera: 5\n", "camera"),
    ],
)
def test_file_of_the_wrong_form(tmp_path: Path, text: str, part: str) -> None:
    config = tmp_path / "broken.yaml"
    config.write_text(text)
    message = _refused(path=config)
    assert part in message
    assert "broken.yaml" in message


def test_missing_file_names_it_and_where_examples_are(tmp_path: Path) -> None:
    message = _refused(path=tmp_path / "nowhere.yaml")
    assert "nowhere.yaml" in message
    assert "configs/" in message


def test_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    config = tmp_path / "empty.yaml"
    config.write_text("# only a comment\n")
    assert load_settings(config) == Settings()


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().camera.exposure_ms = 5  # type: ignore[misc]


_simulations = st.builds(
    SimulationSettings,
    seed=st.integers(0, 2**63),
    cells_per_mm2=st.floats(0, 3000),
    minutes_per_frame=st.floats(0, 60, exclude_min=True),
    bit_depth=st.sampled_from([12, 16]),
    defocus_um=st.floats(-50, 50),
)


@given(simulation=_simulations, uncertain=st.none() | st.tuples(st.floats(0, 0.5), st.floats(0.5, 1)))
def test_yaml_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, simulation: SimulationSettings, uncertain: tuple[float, float] | None
) -> None:
    defaults = Settings()
    settings = defaults.model_copy(
        update={
            "simulation": simulation,
            "detector": defaults.detector.model_copy(update={"uncertain": uncertain}),
            "record": defaults.record.model_copy(update={"path": Path("a folder/run: 1 #x.ome.zarr")}),
            "camera": defaults.camera.model_copy(
                update={"properties": {"PixelType": "16bit", "Gain": "2.5", "On": "Yes"}}
            ),
        }
    )
    path = tmp_path_factory.mktemp("yaml") / "settings.yaml"
    path.write_text(dump_settings(settings), encoding="utf-8")
    assert load_settings(path) == settings


def test_whole_numbers_of_properties_reach_the_camera_as_devices_take_them() -> None:
    """Settings of old records have 2.0 where somebody wrote 2."""
    read = load_settings(None, ["camera.properties.Binning=2.0", "camera.properties.Gain=2.50"]).camera.properties
    assert {name: property_text(value) for name, value in read.items()} == {"Binning": "2", "Gain": "2.50"}
