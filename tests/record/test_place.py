"""The folder of a record: what cannot hold one is refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from livescope.errors import RecordError
from livescope.record.place import make_record_folder


def test_a_folder_that_may_not_be_looked_into(locked_folder: Path) -> None:
    path = locked_folder / "run.ome.zarr"
    with pytest.raises(RecordError, match=r"run\.ome\.zarr' cannot be written: Permission denied.*may write to"):
        make_record_folder(path, overwrite=False, min_free_bytes=0)
