"""A record in an object store reads as one on the disk, and is analysed there. The store is moto's S3 server.

In a process of its own: the clients of S3 leave sessions behind that Python warns of at its end.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from livescope.calls import CellCalls
from livescope.frames import Frame

CHECK = """
import os, sys
from pathlib import Path

import numpy as np
import s3fs
from moto.server import ThreadedMotoServer

from livescope.errors import RecordError
from livescope.reanalysis import reanalyse
from livescope.record.reader import open_record
from livescope.record.verify import verify

server = ThreadedMotoServer(port=0)
server.start()
host, port = server.get_host_and_port()
os.environ |= {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
os.environ |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
store = s3fs.S3FileSystem()
store.mkdir("lab")
store.put(sys.argv[1], "lab/run.ome.zarr", recursive=True)
here, there = open_record(sys.argv[1]), open_record("s3://lab/run.ome.zarr")
assert there.closed and not there.live
assert there.settings == here.settings
assert there.tables == here.tables
assert there.calls.equals(here.calls)
assert there.frame_table.equals(here.frame_table)
for one, other in zip(there.iter_frames(), here.iter_frames(), strict=True):
    np.testing.assert_array_equal(one.pixels, other.pixels)
np.testing.assert_array_equal(there.stack(labels="cells")[0], here.stack(labels="cells")[0])
assert there.dask().shape == here.dask().shape
found = verify("s3://lab/run.ome.zarr")
assert found.ok and found.frames == 3, found
try:
    open_record("s3://lab/other.ome.zarr")
except RecordError as error:
    assert "is not there" in str(error)
else:
    raise AssertionError("opened what is not there")
found = [reanalyse(path, Path(sys.argv[2])) for path in (sys.argv[1], "s3://lab/run.ome.zarr")]
assert found[0] == found[1] and found[0].frames == 2, found
server.stop()
print("all equal")
"""


def test_a_record_in_s3_reads_as_one_on_the_disk(
    bench: Any, make_frame: Callable[..., Frame], make_calls: Callable[..., CellCalls], tmp_path: Path
) -> None:
    for module in ("moto.server", "s3fs", "upath", "dask.array"):
        pytest.importorskip(module)
    recorder = bench.open()
    for k in range(3):
        recorder.put(make_frame(k))
        if k != 1:
            recorder.put_calls(make_frame(k), make_calls(k, 4))
    recorder.close()
    command = [sys.executable, "-c", CHECK, str(recorder.path), str(tmp_path / "calls.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "all equal" in done.stdout
