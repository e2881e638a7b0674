"""No failure, however often it comes, hides another."""

from __future__ import annotations

from livescope.errors import AcquisitionError, RecordError
from livescope.messages import Messages


def test_a_failure_that_repeats_is_one_error_with_its_newest_count() -> None:
    messages = Messages()
    for k in range(1100):
        messages.fail("recording", RecordError(f"record 'r': cannot write \"/r/c/{k}/0\". {k} frames lost so far."))
        messages.warn(f"camera stalled: no frame for {k} s")
    messages.fail("acquisition", AcquisitionError("camera lost"))
    messages.warn("the light is dim")
    assert messages.errors == (
        "recording: record 'r': cannot write \"/r/c/1099/0\". 1099 frames lost so far.",
        "acquisition: camera lost",
    )
    assert messages.warnings == ("camera stalled: no frame for 1099 s", "the light is dim")


def test_numbers_in_names_tell_failures_apart() -> None:
    messages = Messages()
    for name in ("Cam1", "Cam2", "1", "2", "run-1", "run-2"):
        messages.warn(f"camera {name!r} was lost")
    assert len(messages.warnings) == 6


def test_names_in_quotes_are_different_and_the_newest_text_stands_last() -> None:
    messages = Messages()
    for rule in ("below 50 % live", "below 80 % live"):
        messages.warn(f"rule {rule!r}: command failed")
    messages.warn("1 frames lost")
    messages.warn("one odd frame")
    messages.warn("30 frames lost")
    messages.warn("one odd frame")  # told again, and no news
    rules = [f"rule 'below {n} % live': command failed" for n in (50, 80)]
    assert messages.warnings == (*rules, "one odd frame", "30 frames lost")
