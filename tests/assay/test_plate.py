from __future__ import annotations

import re
from pathlib import Path

import pytest

from livescope.assay.plate import Plate, Well, load_plate, well_of_position
from livescope.errors import AssayError

CSV = """well,compound,dose,unit,replicate,control
A1,,,,1,negative
A02,,,,2,negative
B1,staurosporine,0.1,uM,1,
B2,staurosporine,1,uM,1,
B3,staurosporine,1,uM,2,
H12,triton,1,%,1,positive
"""

YAML = """
wells:
  - {well: A1, control: negative}
  - {well: a2, control: negative, replicate: 2}
  - {well: B1, compound: staurosporine, dose: 0.1}
  - {well: B2, compound: staurosporine, dose: 1}
  - {well: B3, compound: staurosporine, dose: 1, replicate: 2}
  - {well: H12, compound: triton, dose: 1, unit: "%", control: positive}
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_csv_and_yaml_say_the_same(tmp_path: Path) -> None:
    from_csv, from_yaml = load_plate(write(tmp_path, "p.csv", CSV)), load_plate(write(tmp_path, "p.yaml", YAML))
    assert from_csv.wells == from_yaml.wells
    semicolons = load_plate(write(tmp_path, "q.csv", CSV.replace(",", ";")))
    assert semicolons.wells == from_csv.wells
    assert [well.well for well in from_csv.controls("negative")] == ["A1", "A2"]
    assert {name: len(wells) for name, wells in from_csv.conditions().items()} == {
        "negative control": 2,
        "triton 1 %": 1,
        "staurosporine 0.1 uM": 1,
        "staurosporine 1 uM": 2,
    }


@pytest.mark.parametrize(
    ("position", "well"),
    [
        ("A01", "A1"),
        ("Plate_H12_003", "H12"),
        ("Pos0", None),
        ("B2-Site_1", "B2"),
        ("af48", "AF48"),
        ("T0", None),
        (None, None),
    ],
)
def test_well_of_a_position(position: str | None, well: str | None) -> None:
    assert well_of_position(position) == well


def test_rows_past_z() -> None:
    assert Well(well="AF48").row_column == (31, 47)
    assert Well(well="H12").row_column == (7, 11)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("well,dose\nA1,-3\n", "dose.*greater than or equal to 0"),
        ("well,dosis\nA1,3\n", "dosis.*Known columns: well, compound, dose"),
        ("well\nrow 1\n", "named like A1"),
        ("well\nA0\n", "named like A1"),
        ("well,compound,dose,unit\nA1,X,0,5,uM\n", "line 2 has more values.*write the dose as 0.5"),
        ("well\nA1\na01\n", "A1 stands twice"),
        ("well,dose,Dose \nA1,3,5\n", "'dose' more than once"),
        ("well\n", "no wells"),
        ("well,control\nA1,vehicle\n", "control.*'negative'"),
    ],
)
def test_a_wrong_map_is_one_clear_error(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(AssayError, match=says):
        load_plate(write(tmp_path, "p.csv", text))


def test_missing_file_and_odd_yaml(tmp_path: Path) -> None:
    with pytest.raises(AssayError, match="No such file"):
        load_plate(tmp_path / "none.csv")
    with pytest.raises(AssayError, match="not a list of wells"):
        load_plate(write(tmp_path, "p.yaml", "wells: 3"))
    with pytest.raises(AssayError, match="not YAML"):
        load_plate(write(tmp_path, "q.yaml", "wells: ["))


def test_yaml_in_which_a_key_stands_twice_or_holds_itself(tmp_path: Path) -> None:
    with pytest.raises(AssayError, match="the key 'dose' stands twice, in line 1 and in line 1"):
        load_plate(write(tmp_path, "p.yaml", "wells: [{well: A1, dose: 1, dose: 3}]"))
    with pytest.raises(AssayError, match="not YAML"):
        load_plate(write(tmp_path, "q.yaml", "wells: &a [*a]"))


def test_yaml_texts_and_doses_are_what_was_written(tmp_path: Path) -> None:
    text = "[{well: A1, compound: No, dose: 010}, {well: A2, compound: 5, dose: 1}]"
    plate = load_plate(write(tmp_path, "p.yaml", text))
    assert [(well.compound, well.dose) for well in plate.wells] == [("No", 10), ("5", 1)]
    with pytest.raises(AssayError, match=r"dose.*valid number"):
        load_plate(write(tmp_path, "q.yaml", "[{well: A1, dose: yes}]"))


def test_maps_as_spreadsheets_write_them(tmp_path: Path) -> None:
    decimals = load_plate(write(tmp_path, "p.csv", "well;compound;dose\nA1;DMSO, 1%;0,25\n"))
    assert (decimals["A1"].dose, decimals["A1"].compound) == (0.25, "DMSO, 1%")
    latin = tmp_path / "q.csv"
    latin.write_bytes("well,compound,dose,unit\nA1,X,1,\u00b5M\n".encode("cp1252"))
    with pytest.raises(AssayError, match="save it as 'CSV UTF-8'"):
        load_plate(latin)


def test_separators_alone_are_no_well(tmp_path: Path) -> None:
    assert len(load_plate(write(tmp_path, "p.csv", "well,compound,dose\nA1,X,0.5,,\n,,,,\n\n")).wells) == 1


def test_a_position_is_in_the_well_that_the_map_has() -> None:
    """Of names with two parts like a well: plate and site, time and well."""
    plate = Plate([Well(well="B3"), Well(well="C1")])
    found = [plate.at_position(name) for name in ("P1_B03", "s2-B3-t1", "T0_C01", "C1_B3", "P1_D04")]
    assert [well and well.well for well in found] == ["B3", "B3", "C1", "C1", None]


def test_one_compound_has_one_unit(tmp_path: Path) -> None:
    lines = "well,compound,dose,unit\nA1,X,1,uM\nA2,X,100,nM\n"
    with pytest.raises(AssayError, match=r"'X' has doses in 'uM' and in 'nM' \(well A2\)"):
        load_plate(write(tmp_path, "p.csv", lines))
    assert load_plate(write(tmp_path, "q.csv", lines.replace("100", "0"))).wells


def test_unknown_well_names_the_known() -> None:
    plate = Plate([Well(well="A1")])
    assert plate.at_position("C5") is None
    with pytest.raises(AssayError, match="it has A1"):
        plate["C5"]


def test_the_example_in_configs_is_right() -> None:
    configs = Path(__file__).parents[2] / "configs"
    plate = load_plate(configs / "platemap.csv")
    positions = re.findall(r"name: (\w+)", (configs / "plan.yaml").read_text(encoding="utf-8"))
    found = [plate.at_position(name) for name in positions]
    assert [well.condition for well in found if well is not None] == [
        "negative control",
        "staurosporine 0.1 uM",
        "staurosporine 1 uM",
    ]
