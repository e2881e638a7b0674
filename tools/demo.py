"""Run livescope's main job from a fresh clone: `python tools/demo.py [options of livescope demo]`.

Makes `.venv`, installs livescope with its viewer and Micro-Manager's demo devices, then hands over to `livescope demo`.
This file keeps to syntax that an old Python still reads, so that it can say which Python is needed.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - a user may start it with an older one
    sys.exit("livescope needs Python 3.11 or newer; this is %s (%s)." % (sys.version.split()[0], sys.executable))  # noqa: UP031

import _setup

if __name__ == "__main__":
    _setup.main(
        doc=__doc__,
        extras=("viewer", "demo"),
        command=("-m", "livescope", "demo"),
        without_window=("--headless",),
        examples=("", "--headless --seconds 20"),
    )
