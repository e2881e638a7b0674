"""Files that a command writes at its end: one that cannot be written is refused at the beginning."""

from __future__ import annotations

from pathlib import Path

import pytest

from livescope.errors import SettingsError
from livescope.outputs import make_room


@pytest.mark.parametrize("name", ["calls.csv", "new/calls.csv"])
def test_a_folder_that_may_not_be_looked_into(locked_folder: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=r"--out '.*calls\.csv' cannot be written: Permission denied"):
        make_room("--out", locked_folder / name)


def test_no_file_of_a_command_goes_into_a_record(tmp_path: Path) -> None:
    record = tmp_path / "day.ome.zarr"
    record.mkdir()
    (record / "journal.ndjson").write_text('{"kind": "open", "livescope": "0"}\n')
    with pytest.raises(SettingsError, match=r"--summary '.*' cannot be written: it lies in the record 'day.ome.zarr'"):
        make_room("--summary", record / "new" / "a.json")
    assert not (record / "new").exists()
