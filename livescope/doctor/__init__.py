"""`livescope doctor`: what was found on this machine, and what to do about what was not.

Owns the checks and their report. It looks and measures; it changes nothing.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["run_doctor"]


def run_doctor(as_json: bool = False, record: Path | None = None) -> int:
    """Check this machine and print what was found.

    Parameters
    ----------
    as_json
        Print JSON instead of a table.
    record
        Where records will be stored: the disk that is measured. None takes the current folder.

    Returns
    -------
    int
        Exit code: 0, or 1 if something that every run needs is missing.
    """
    from livescope.doctor import engines, machine, microscope
    from livescope.doctor.report import Report

    report = Report()
    report.gather("software", machine.software)
    report.gather("Micro-Manager", microscope.installations, microscope.demo_camera)
    report.gather("network", engines.models, engines.backends, engines.gpu)
    report.gather("disk", lambda: machine.disk(record or Path.cwd()))
    report.gather("window", machine.window)
    report.show(as_json)
    return report.exit_code
