"""Run livescope's checks and tests from a fresh clone: `python tools/test.py [options of pytest]`.

Makes `.venv`, installs livescope with all that its tests need (PyTorch too), then hands over to pytest. The linters and
the type checker run as tests: `tests/test_style.py`. This file keeps to syntax that an old Python still reads.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - a user may start it with an older one
    sys.exit("livescope needs Python 3.11 or newer; this is %s (%s)." % (sys.version.split()[0], sys.executable))  # noqa: UP031

import _setup

if __name__ == "__main__":
    _setup.main(
        doc=__doc__,
        extras=("dev",),
        command=("-m", "pytest"),
        examples=("", "-n 2 --dist loadfile", "-k settings", "tests/simulate"),
        environment={"QT_QPA_PLATFORM": "offscreen"},
        in_root=True,
    )
