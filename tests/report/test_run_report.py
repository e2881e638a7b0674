from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from recorder_kit import recorder_at

pytest.importorskip("matplotlib", reason="reports need matplotlib: pip install livescope[assay]")

from livescope.assay.plate import load_plate
from livescope.assay.pooled import pooled_viability
from livescope.assay.survival import kaplan_meier
from livescope.errors import AssayError, RecordError, SettingsError
from livescope.frames import LossLedger
from livescope.record.reader import open_record
from livescope.record.writer import Recorder
from livescope.report import run as report
from livescope.report.command import report_runs
from livescope.report.deaths import deaths_section
from livescope.report.gather import EVERYTHING, gather
from livescope.report.run import write_report
from livescope.settings import RecordSettings, Settings
from livescope.track.fate import FateFilter
from livescope.track.link import Linker
from livescope.track.testing import calls_at, frame_of

pytestmark = pytest.mark.timeout(600)  # records are written and figures drawn; machines may be busy

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

PLATE = """well,compound,dose,control
A1,,,negative
A2,,,negative
B1,killer,0.1,
B2,killer,1,
B3,killer,10,
B4,killer,100,
H1,detergent,1,positive
H2,detergent,1,positive
"""
DAYS = {"monday": 0.9, "tuesday": 0.5}
SURVIVE = {"A1": 1.0, "A2": 0.97, "B1": 0.95, "B2": 0.75, "B3": 0.3, "B4": 0.1, "H1": 0.0, "H2": 0.03}


class Page(HTMLParser):
    """Collects what a page refers to and shows; complains of tags that do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.refers: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self.refers += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    assert not page.open
    return page


def record_run(
    path: Path, positions: dict[str | None, float], frames: int = 24, unanalysed: Collection[int] = ()
) -> Path:
    """A run in which the cells of each position die at even intervals until its fraction survives; five minutes a
    frame. Frames whose index is in `unanalysed` are recorded only."""
    rng = np.random.default_rng(0)
    places = np.stack(np.meshgrid(np.arange(40, 216, 25.0), np.arange(40, 216, 25.0)), axis=-1).reshape(-1, 2)
    recorder = recorder_at(path)
    linker, fate, index = Linker(), FateFilter(), 0
    for round_ in range(frames):
        for position, survive in positions.items():
            pixels = rng.integers(90, 110, (256, 256)).astype(np.uint8)
            frame = frame_of(
                index, time_s=300.0 * round_ + index * 1e-3, position=position, pixels=pixels, pixel_um=0.65
            )
            doomed = np.arange(len(places)) < (1 - survive) * len(places)
            dies = 3 + (frames - 6) * np.arange(len(places)) / len(places)
            p_dead = np.where(doomed & (round_ >= dies), 0.98, 0.02)
            calls = linker.update(calls_at(places, p_dead=p_dead, radius_px=9.0, frame_index=index), frame)
            fates = fate.update(calls, frame, linker.report.shift_yx_px)
            assert recorder.put(frame)
            index += 1
            if frame.index in unanalysed:
                continue
            recorder.put_calls(frame, calls)
            # death_s is not in a session's records: the report is held against it
            columns = ("death_frame", "arrived_dead", "declared", "resurrected", "death_s")
            table = {name: getattr(fates, name) for name in columns}
            recorder.put_table("fates", {"frame": np.full(len(calls), frame.index), "track": calls.track, **table})
    recorder.close({})
    return path


@pytest.fixture(scope="module")
def plate_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plate")
    (folder / "plate.csv").write_text(PLATE)
    return record_run(folder / "killer.ome.zarr", dict(SURVIVE))


def test_page_stands_alone_and_says_the_main_things(plate_run: Path) -> None:
    files = write_report([plate_run], plate=plate_run.with_name("plate.csv"))
    assert [file.name for file in files] == ["killer.report.html", "killer.viability.csv", "killer.lives.parquet"]
    page = read(files[0])
    assert all(reference.startswith(("data:", "#")) for reference in page.refers)
    assert sum(reference.startswith("data:image/png") for reference in page.refers) >= 12
    words = " ".join(page.words)
    for section in (
        "Viability",
        "Plate",
        "Dose and response",
        "Deaths",
        "Cells",
        "Losses",
        "Model",
        "Methods",
        "Settings",
    ):
        assert section in words
    assert "Pattarone" in words
    assert re.search(r"Z' of the controls at the end: 0\.\d\d", words)
    assert "Log-rank test" in words
    assert re.search(r"with wells for replicates .*: F\(\d, \d\) = \d+\.\d\d, p = ", words)
    assert "Left out, for they are of one well: killer 0.1 uM, killer 1 uM, killer 10 uM, killer 100 uM." in words
    assert not re.search(r"\bnan\b", words)


def test_numbers_of_the_run_are_right(plate_run: Path) -> None:
    run = gather(plate_run, load_plate(plate_run.with_name("plate.csv")))
    for well, survive in SURVIVE.items():
        assert run.wells[well].fraction == pytest.approx(survive, abs=0.02)
    killed = run.lives["killer 10 uM"]
    # a cell that dies within a few frames may have been dead on arrival for all that is known: it is not followed
    assert 62 <= len(killed) <= 64
    assert int(killed.died.sum()) == pytest.approx(64 * 0.7, abs=2)
    # the first dies in round 3 of five minutes
    assert killed.exit_h[killed.died].min() == pytest.approx(3 * 5 / 60, abs=2.5 * 5 / 60)
    assert run.curves["killer 100 uM"].viability[0].fraction == 1.0


def test_times_of_death_are_the_filters_wherever_a_well_stands_in_the_plan(plate_run: Path) -> None:
    """All but milliseconds of a round pass between its last position and the first one of the next."""
    run = gather(plate_run, load_plate(plate_run.with_name("plate.csv")))
    newest = {row["track"]: row for row in open_record(plate_run).table("fates").sort_by("frame").to_pylist()}
    deaths = [row["death_s"] / 3600 for row in newest.values() if np.isfinite(row["death_s"])]
    told = np.concatenate([lives.exit_h[lives.died] for lives in run.lives.values()])
    assert len(deaths) > 100
    np.testing.assert_allclose(np.sort(told), np.sort(deaths), atol=1e-9)


def test_cells_that_died_shortly_before_the_end_are_not_taken_for_alive(tmp_path: Path) -> None:
    """All die, evenly from round 3 to 20 of 24; some eight frames pass until a death is declared."""
    path = record_run(tmp_path / "late.ome.zarr", {None: 0.0})
    run = gather(path)
    lives = run.lives[EVERYTHING]
    assert lives.died.mean() > 0.95
    assert run.undeclared > 10
    died_h = (3 + 18 * np.arange(64) / 64) * 300 / 3600
    assert kaplan_meier(lives).median_h == pytest.approx(np.median(died_h), abs=300 / 3600)
    assert f"{run.undeclared} of these deaths" in " ".join(read(write_report([path])[0]).words)


def test_deaths_that_are_not_in_the_table_are_none_of_the_undeclared(tmp_path: Path) -> None:
    """Of two positions one is on the plate map; of the other, whose cells all die late, nothing is in the table."""
    path = record_run(tmp_path / "beside.ome.zarr", {"A1": 1.0, "B1": 0.0})
    (tmp_path / "plate.csv").write_text("well,compound,dose,control\nA1,,,negative\n")
    run = gather(path, load_plate(tmp_path / "plate.csv"))
    assert run.deaths > 50
    assert run.undeclared == sum(int(lives.died.sum()) for lives in run.lives.values()) == 0


def test_fields_of_one_well_are_not_independent(tmp_path: Path) -> None:
    """Two wells of one condition that differ: what they differ by is in the interval, however many fields each has."""
    fields = {f"{well}_{k}": survive for well, survive in (("A1", 0.9), ("A2", 0.6)) for k in range(3)}
    path = record_run(tmp_path / "fields.ome.zarr", dict(fields), frames=12)
    (tmp_path / "plate.csv").write_text("well,control\nA1,negative\nA2,negative\n")
    run = gather(path, load_plate(tmp_path / "plate.csv"))
    last, wells = run.curves["negative control"].viability[-1], list(run.wells.values())
    by_well = pooled_viability([well.n_live for well in wells], [well.n_dead for well in wells])
    assert (last.fraction, last.low, last.high) == (by_well.fraction, by_well.low, by_well.high)
    assert last.low < 0.6
    assert last.high > 0.9


def test_a_field_that_was_not_analysed_once_does_not_make_a_peak(tmp_path: Path) -> None:
    """A detector that cannot keep up leaves frames out; the condition is that of both fields all the same."""
    run = gather(record_run(tmp_path / "gap.ome.zarr", {"p": 1.0, "q": 0.0}, frames=24, unanalysed={31}))
    fractions = [v.fraction for v in run.curves[EVERYTHING].viability]
    assert max(np.diff(fractions)) <= 0.01


def test_a_well_that_is_left_out_counts_as_it_was_last_seen(tmp_path: Path) -> None:
    """Of two wells A2 dies, and is visited no more from round 22 on of 48, or in every twelfth round only."""
    (tmp_path / "plate.csv").write_text("well,compound,dose\nA1,drug,1\nA2,drug,1\n")
    for name, unvisited in (("skip", range(22, 48)), ("rare", [k for k in range(48) if k % 12])):
        left_out = {2 * k + 1 for k in unvisited}
        path = record_run(tmp_path / f"{name}.ome.zarr", {"A1": 1.0, "A2": 0.0}, frames=48, unanalysed=left_out)
        run = gather(path, load_plate(tmp_path / "plate.csv"))
        (curve,) = run.curves.values()
        wells = run.wells.values()
        assert {v.n_live + v.n_dead for v in curve.viability} == {128}
        assert max(np.diff([v.fraction for v in curve.viability])) <= 0
        assert curve.viability[-1].n_live == sum(well.n_live for well in wells)
        assert curve.hours[-1] == pytest.approx(run.hours, abs=300 / 3600)
        assert (np.diff(curve.hours) > 0).all()


def test_a_curve_begins_when_all_its_fields_were_seen(tmp_path: Path) -> None:
    """q, in which nearly all are dead, is seen from round 3 on; the place that a rule adds to p comes in round 6."""
    late = {3 * k + 1 for k in range(3)} | {3 * k + 2 for k in range(6)}
    path = record_run(tmp_path / "late.ome.zarr", {"p": 1.0, "q": 0.0, "p+1": 1.0}, frames=24, unanalysed=late)
    run = gather(path)
    curve = run.curves[EVERYTHING]
    assert 3 * 300 / 3600 <= curve.hours[0] < 6 * 300 / 3600
    assert curve.viability[0].n_live + curve.viability[0].n_dead == 128
    assert curve.viability[-1].n_live + curve.viability[-1].n_dead == 192


def methods_of(path: Path, plate: Path | None = None) -> str:
    return " ".join(read(write_report([path], plate=plate)[0]).words).split("Cells were imaged")[1]


def test_methods_name_what_was_done(plate_run: Path, tmp_path: Path) -> None:
    done = methods_of(plate_run, plate_run.with_name("plate.csv"))
    assert all(words in done for words in ("analysis of variance) and by the log-rank test", "four-parameter logistic"))
    path = record_run(tmp_path / "two.ome.zarr", {"A1": 1.0, "B1": 0.5}, frames=12)
    for plate, tests in (("A1,,,negative\n", False), ("A1,,,negative\nB1,killer,1,\n", True)):
        (tmp_path / "plate.csv").write_text("well,compound,dose,control\n" + plate)
        said = methods_of(path, tmp_path / "plate.csv")
        assert "Kaplan and Meier" in said
        assert ("Conditions were compared by the log-rank test." in said) == ("log-rank" in said) == tests
        assert "analysis of variance" not in said
        assert "logistic" not in said


def test_a_run_without_a_cell_says_what_is_true_of_it(tmp_path: Path) -> None:
    recorder, linker, fate = recorder_at(tmp_path / "empty.ome.zarr"), Linker(), FateFilter()
    for index in range(4):
        frame = frame_of(index, time_s=60.0 * index, pixels=np.zeros((64, 64), np.uint8))
        calls = linker.update(calls_at(np.empty((0, 2)), p_dead=[], frame_index=index), frame)
        fates = fate.update(calls, frame, linker.report.shift_yx_px)
        assert recorder.put(frame)
        recorder.put_calls(frame, calls)
        columns = ("death_frame", "arrived_dead", "declared", "resurrected")
        recorder.put_table("fates", {"frame": [], "track": [], **{name: getattr(fates, name) for name in columns}})
    recorder.close({})
    words = " ".join(read(write_report([tmp_path / "empty.ome.zarr"])[0]).words)
    assert "no cell called no cell called no cell called" in " ".join(words.split())
    assert "no cell was seen alive and followed" in words
    for untrue in ("states no error rates", "were not followed", "It was corrected", "Kaplan and Meier"):
        assert untrue not in words


def test_why_a_viability_is_not_corrected(plate_run: Path) -> None:
    run = gather(plate_run)
    assert run.card is not None
    card = run.card
    bare = replace(run.curves[EVERYTHING].viability[-1], corrected=None)
    assert run.rates == card.error_rates(None) is not None
    assert report._corrected(bare, replace(run, card=None)) == "the model's card is not at hand"
    unrated = replace(run, card=card.model_copy(update={"sensitivity": None}), rates=None)
    assert report._corrected(bare, unrated).endswith("states no error rates")
    assert report._corrected(bare, replace(run, rates=None)).endswith("for the run's detector.uncertain")
    assert report._corrected(bare, run).endswith("no better than chance")


def test_deaths_and_their_onset_as_the_page_tells_them(plate_run: Path) -> None:
    run = gather(plate_run)
    words = " ".join(deaths_section(replace(run, undeclared=1, resurrected=1)).split())
    lag = r"\d[\d.]* h \([\d.-]+ to [\d.]+\), [\d.]+ \([\d.]+ to [\d.]+\) an hour</td></tr></table>"
    # beside the table whose deaths they are
    assert re.search(lag + "<p>1 of these deaths was likelier .* did not count it", words)
    assert f"1 of {run.tracks} tracks was declared dead" in words
    assert "2 of these deaths were likelier" in deaths_section(replace(run, undeclared=2))
    assert "of these deaths" not in deaths_section(replace(run, undeclared=0))


def test_no_onset_where_no_death_was_seen(plate_run: Path) -> None:
    """The curve falls, as calls or fields may make it, but of the cells that were watched none died."""
    run = gather(plate_run)
    alive = replace(run.lives[EVERYTHING], died=np.zeros(len(run.lives[EVERYTHING]), bool))
    assert deaths_section(replace(run, undeclared=0, lives={EVERYTHING: alive})).endswith("<td></td></tr></table>")


@pytest.mark.parametrize("untreated", ["DMSO,0.1,negative", "killer,0,negative", "killer,0,"])
def test_untreated_wells_have_none_of_the_compound(plate_run: Path, tmp_path: Path, untreated: str) -> None:
    """However the map writes them: with their vehicle's dose, or as the compound's own dose of nothing."""
    (tmp_path / "plate.csv").write_text(PLATE.replace(",,,negative", f",{untreated}"))
    half = re.compile(r"killer \S+ \(\S+ to \S+\) uM .* 6 (?=The interval)")
    told = [
        half.findall(" ".join(read(write_report([plate_run], tmp_path / name, plate)[0]).words))
        for name, plate in (("a.html", plate_run.with_name("plate.csv")), ("b.html", tmp_path / "plate.csv"))
    ]
    assert len(told[0]) == 1
    assert told[0] == told[1]


def test_cells_of_every_camera_at_a_position_count(tmp_path: Path) -> None:
    """Of two cameras that were called in turn only the newest frame's cells were in the curve."""
    recorder = Recorder(
        tmp_path / "two.ome.zarr", RecordSettings(), LossLedger(), run_settings=Settings(), on_error=lambda e: None
    )
    for index in range(8):
        pixels = np.zeros((64, 64), np.uint8)
        frame = frame_of(index, time_s=60.0 * (index // 2), position="A1", camera="AB"[index % 2], pixels=pixels)
        assert recorder.put(frame)
        recorder.put_calls(frame, calls_at([[20, 20], [40, 40]], p_dead=[index % 2, index % 2], frame_index=index))
    recorder.close({})
    (tmp_path / "plate.csv").write_text("well\nA1\n")
    run = gather(tmp_path / "two.ome.zarr", load_plate(tmp_path / "plate.csv"))
    (curve,) = run.curves.values()
    assert {(v.n_live, v.n_dead) for v in curve.viability} == {(2, 2)}
    assert (run.wells["A1"].n_live, run.wells["A1"].n_dead) == (2, 2)


def test_plate_at_an_earlier_time(plate_run: Path, tmp_path: Path) -> None:
    words = " ".join(
        read(write_report([plate_run], tmp_path / "early.html", plate_run.with_name("plate.csv"), at_h=0.2)[0]).words
    )
    assert "Viability at 0.2 h." in words
    early = gather(plate_run, load_plate(plate_run.with_name("plate.csv")), at_h=0.2)
    assert early.wells["B4"].fraction == 1.0


def test_a_time_after_the_end_is_the_end_and_says_so(plate_run: Path, tmp_path: Path) -> None:
    told: list[str] = []
    plate, hours = plate_run.with_name("plate.csv"), gather(plate_run).hours
    page = write_report([plate_run], tmp_path / "late.html", plate, at_h=1000, warn=told.append)[0]
    assert told == [f"killer: the run ended after {hours:.3g} h, before 1000 h: its wells are shown at the end."]
    words = " ".join(read(page).words)
    assert "Viability at the end." in words
    assert "at 1000 h" not in words
    with pytest.raises(SettingsError, match=r"--at .* give --plate too"):
        report_runs([plate_run], at_h=0.2)


def test_positions_that_are_not_on_the_plate_map_are_named(plate_run: Path, tmp_path: Path) -> None:
    told: list[str] = []
    whole = gather(plate_run)
    (tmp_path / "one.csv").write_text("well\nB4\n")
    page = write_report([plate_run], tmp_path / "one.html", tmp_path / "one.csv", warn=told.append)[0]
    left_out = [position for position in SURVIVE if not str(position).endswith("B4")]
    said = f"positions in no condition, for their names are no well of the plate map: {', '.join(map(str, left_out))}."
    assert told == [f"killer: {said}"]
    words = " ".join(read(page).words)
    assert said in words
    assert f"{whole.tracks}, {whole.deaths} of them seen to die" in words


def test_a_plate_map_that_fits_no_position(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plate.csv").write_text(PLATE)
    path = record_run(tmp_path / "day [b].ome.zarr", {None: 0.5}, frames=12)
    assert report_runs([path], plate=tmp_path / "plate.csv") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "warning day [b]: no stage position names a well of the plate map" in said
    assert "day [b].report.html" in said
    words = " ".join(read(tmp_path / "day [b].report.html").words)
    assert "no stage position names a well of the plate map" in words
    assert EVERYTHING in words
    assert "no frame was analysed" not in words
    assert "cells were not followed" not in words
    assert "Dose" not in words


def test_tables_hold_what_the_page_shows(plate_run: Path, tmp_path: Path) -> None:
    files = write_report([plate_run], tmp_path / "page.html")
    with files[1].open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24 * len(SURVIVE)
    assert {row["position"] for row in rows} == set(SURVIVE)
    lives = pq.read_table(files[2])
    assert 62 * len(SURVIVE) <= lives.num_rows <= 64 * len(SURVIVE)
    assert set(lives["condition"].to_pylist()) == {EVERYTHING}


def test_runs_side_by_side(plate_run: Path, tmp_path: Path) -> None:
    other = record_run(tmp_path / "gentle.ome.zarr", {None: 0.9}, frames=12)
    words = " ".join(read(write_report([plate_run, other], tmp_path / "both.html")[0]).words)
    assert "2 runs compared" in words
    assert f"killer: {EVERYTHING}" in words
    assert f"gentle: {EVERYTHING}" in words


def test_records_of_one_name_are_told_apart_by_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [record_run(tmp_path / day / "run.ome.zarr", {None: alive}, frames=12) for day, alive in DAYS.items()]
    files = write_report(records, tmp_path / "both.html")
    words = " ".join(read(files[0]).words)
    assert all(f"{day}/run: {EVERYTHING}" in words for day in DAYS)
    assert len(set(files)) == 5
    assert (tmp_path / "monday-run.viability.csv").is_file()
    with pytest.raises(SettingsError, match="given twice"):
        write_report([records[0], records[1], records[0]], tmp_path / "both.html")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="given twice"):
        write_report([records[0], records[0].relative_to(tmp_path)], tmp_path / "both.html")


def test_a_record_without_calls_gives_a_page_that_says_so(tmp_path: Path) -> None:
    recorder = recorder_at(tmp_path / "bare.ome.zarr")
    recorder.put(frame_of(0, pixels=np.zeros((64, 64), np.uint8)))
    recorder.close({})
    words = " ".join(read(write_report([tmp_path / "bare.ome.zarr"], dye="Cy9")[0]).words)
    assert "no frame of channel 'Cy9'" in words
    assert "no frame was analysed" in words
    assert "cells were not followed" in words


def test_of_a_run_without_an_end_no_warnings_are_denied(tmp_path: Path) -> None:
    path = record_run(tmp_path / "cut.ome.zarr", {None: 0.5}, frames=12)
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    for more, said in (
        ({"closed": None}, "not yet, or it was cut off: then run livescope recover"),
        (
            {"recovered": True, "losses_before": {"delivered": 9, "core": 3, "camera": 0}},
            "it was cut off and recovered. Lost before",
        ),
    ):
        (path / "manifest.json").write_text(json.dumps(manifest | more), encoding="utf-8")
        words = " ".join(read(write_report([path])[0]).words)
        assert said in words
        assert "Of warnings and errors nothing is known" in words
        assert "Warnings: none" not in words
    assert "as far as is known: core 3." in words


def test_wrong_paths_are_one_clear_error(plate_run: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordError):
        write_report([tmp_path / "none.ome.zarr"])
    with pytest.raises(RecordError, match="--out"):
        write_report([plate_run], tmp_path / "no" / "folder" / "page.html")
    with pytest.raises(AssayError, match="cannot be read"):
        write_report([plate_run], plate=tmp_path / "none.csv")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine to open the page in")
def test_page_opens_in_a_browser(plate_run: Path, tmp_path: Path) -> None:
    page = write_report([plate_run], tmp_path / "page.html", plate_run.with_name("plate.csv"))[0]
    assert CHROMIUM is not None
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}",
        "--enable-logging=stderr",
    ]
    done = subprocess.run(
        [*command, f"--screenshot={tmp_path / 'page.png'}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    assert "Dose and response" in done.stdout
    assert done.stdout.count("<svg") >= 4
    assert "CONSOLE" not in done.stderr
