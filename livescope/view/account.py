"""What a record says of its run beside frames and calls: what was lost, who died, what went wrong.

Owns reading it for the player. It is written when the record is closed; until then it is not known.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from livescope.frames import LossCause
from livescope.record.reader import Record
from livescope.respond.readings import deaths_by_frame

__all__ = ["Account", "account_of"]


@dataclass(slots=True, frozen=True)
class Account:
    """Of one record; what is None or missing is not known.

    Attributes
    ----------
    delivered
        Frames that the camera delivered.
    lost
        Frames lost or skipped by cause (`livescope.frames.LossCause`).
    deaths
        Cells seen alive and declared dead since.
    warnings, errors
        Messages of the run.
    """

    delivered: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    deaths: int | None = None
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


def account_of(record: Record) -> Account:
    """Read the account of a record that was closed or recovered; of one that is open nothing is known.

    Raises
    ------
    RecordError
        The manifest or the table of fates cannot be read.
    """
    manifest = record.manifest
    if manifest["closed"] is None:
        return Account()
    rows = manifest.get("losses")
    if rows is None:  # recovered: the newest line of the journal knows
        told = manifest.get("losses_before", {})
    else:
        told = {cause.value: sum(row[f"lost_{cause.value}"] for row in rows) for cause in LossCause}
        told["delivered"] = sum(row["delivered"] for row in rows)
    return Account(
        delivered=told.get("delivered", 0),
        lost={cause.value: told[cause.value] for cause in LossCause if cause.value in told},
        deaths=sum(deaths_by_frame(record).values()) if "fates" in record.tables else None,
        warnings=_of_the_run(manifest.get("warnings", ())),
        errors=_of_the_run(manifest.get("errors", ())),
    )


def _of_the_run(messages: list[str]) -> tuple[str, ...]:
    return tuple(f"in this run: {message}" for message in messages)
