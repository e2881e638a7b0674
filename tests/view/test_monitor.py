"""The monitor's page: over plain HTTP, and in a real browser where one is installed."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
import yaml
from PIL import Image

from livescope.calls import State, Viability
from livescope.errors import DisplayError, SettingsError
from livescope.session import Session
from livescope.settings import MonitorSettings, Settings, dump_settings, load_settings
from livescope.status import SessionState
from livescope.view.monitor import Monitor, monitoring

TOKEN = "a-token-of-some-length"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.fixture
def watched(scripted: Any, new_frame: Any, new_analysis: Any) -> Any:
    """A session that runs, with three live, one dead and one uncertain cell."""
    states = [State.LIVE, State.LIVE, State.LIVE, State.DEAD, State.UNCERTAIN]
    scripted.analysis = new_analysis(new_frame(41), states)
    gap = Viability(0, 0, 0, float("nan"), float("nan"), float("nan"))
    scripted.curve = [(60.0 * k, gap if k == 2 else Viability(8, 2, 0, 0.8, 0.5, 0.9)) for k in range(1000)]
    scripted.fields = {"state": SessionState.RUNNING, "record": Path("/secret/place/run.ome.zarr"), "recording": True}
    scripted.fields |= {"warnings": ("darker than <b>known</b>",), "errors": ("recording: disk full",)}
    return scripted


@pytest.fixture
def monitor(watched: Any) -> Iterator[Monitor]:
    with monitoring(watched, MonitorSettings()) as monitor:
        assert monitor is not None
        yield monitor


def _get(url: str, **headers: str) -> Any:
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60)


def test_figures_are_json_without_nan(monitor: Monitor) -> None:
    with _get(monitor.url + "status.json") as answer:
        assert answer.headers["Content-Type"] == "application/json"
        figures = json.loads(answer.read(), parse_constant=lambda name: pytest.fail(name))
    assert (figures["state"], figures["record"]) == ("running", "run.ome.zarr")  # no folder is told
    assert figures["viability"]["n_live"] == 3
    assert figures["frame"]["index"] == 41
    assert figures["lost"]["core"] == 0
    assert len(figures["curve"]) <= 300
    assert figures["curve"][-1] == [60.0 * 999, 0.8, 0.5, 0.9]


def test_snapshot_is_the_picture_with_its_calls_drawn_once_in_a_while(
    monitor: Monitor, watched: Any, new_frame: Any, new_analysis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livescope.view.monitor._LEAST_BETWEEN_S", 3600.0)
    first = _get(monitor.url + "snapshot.png").read()
    picture = Image.open(io.BytesIO(first))
    assert picture.width >= 900
    assert len(picture.getcolors(1 << 24) or []) > 100
    watched.analysis = new_analysis(new_frame(42), [State.DEAD])
    assert _get(monitor.url + "snapshot.png").read() == first
    monkeypatch.setattr("livescope.view.monitor._LEAST_BETWEEN_S", 0.0)
    assert _get(monitor.url + "snapshot.png").read() != first


def test_before_the_first_analysis_there_is_no_picture(monitor: Monitor, watched: Any) -> None:
    watched.analysis = None
    assert _get(monitor.url + "snapshot.png").status == 204
    assert "viability" not in json.loads(_get(monitor.url + "status.json").read())


def test_nothing_can_be_asked_of_the_session(monitor: Monitor, watched: Any) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        request = urllib.request.Request(monitor.url, data=b"stop", method=method)
        with pytest.raises(HTTPError, match="501"):
            urllib.request.urlopen(request, timeout=60)
    with pytest.raises(HTTPError, match="404"):
        _get(monitor.url + "../../etc/passwd")
    assert watched.asked == []


def test_a_foreign_name_for_this_machine_is_refused(monitor: Monitor) -> None:
    port = monitor.url.rstrip("/").rpartition(":")[2]
    assert _get(monitor.url, Host=f"localhost:{port}").status == 200
    for name in ("evil.example", f"evil.example:{port}", "10.0.0.1"):
        with pytest.raises(HTTPError, match="403"):
            _get(monitor.url, Host=name)


def test_another_address_needs_a_token(watched: Any) -> None:
    with pytest.raises(SettingsError, match=r"view\.monitor.*set view\.monitor\.token"):
        load_settings(None, ["view.monitor={port: 0, address: 0.0.0.0}"])
    with monitoring(watched, MonitorSettings(address="0.0.0.0", token=TOKEN)) as monitor:
        base = monitor.url.partition("?")[0].replace("0.0.0.0", "127.0.0.1")
        for wrong in ("", "?token=", "?token=another-token-of-length", "status.json", "snapshot.png"):
            with pytest.raises(HTTPError, match="403"):
                _get(base + wrong)
        assert _get(f"{base}?token={TOKEN}").status == 200
        assert _get(base + "status.json", Authorization=f"Bearer {TOKEN}").status == 200


def test_the_token_is_not_stored_with_the_record() -> None:
    settings = load_settings(None, [f"view.monitor={{address: 0.0.0.0, token: {TOKEN}}}"])
    assert TOKEN not in dump_settings(settings) + repr(settings)
    assert Settings.model_validate(yaml.safe_load(dump_settings(settings))).view.monitor is None


def test_a_port_that_is_taken_is_one_clear_error(monitor: Monitor, watched: Any) -> None:
    port = int(monitor.url.rstrip("/").rpartition(":")[2])
    with pytest.raises(DisplayError, match=r"cannot listen.*Choose another view\.monitor\.port"):
        Monitor(watched, MonitorSettings(port=port))


def test_it_watches_a_headless_run() -> None:
    settings = Settings.model_validate(
        {"simulation": {"width": 128, "height": 128}, "detector": {"threads": 1}, "run": {"frames": 30}}
    )
    with Session(settings) as session, monitoring(session, MonitorSettings()) as monitor:
        session.start().result()
        assert session.wait(60)
        figures = json.loads(_get(monitor.url + "status.json").read())
        assert figures["delivered"] == 30
        assert figures["viability"]["n_live"] + figures["viability"]["n_dead"] > 0
        assert Image.open(io.BytesIO(_get(monitor.url + "snapshot.png").read())).width > 0


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on PATH: the page is tested over HTTP only")
@pytest.mark.timeout(300)
def test_the_page_in_a_real_browser(watched: Any, tmp_path: Path) -> None:
    picture = Path(os.environ.get("LIVESCOPE_SCREENSHOTS", tmp_path)) / "monitor.png"
    with monitoring(watched, MonitorSettings(token=TOKEN)) as monitor:
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=4000",
            "--window-size=1200,900",
        ]
        folder = f"--user-data-dir={tmp_path / 'profile'}"
        command = [str(CHROMIUM), *options, folder, f"--screenshot={picture}", "--dump-dom", monitor.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=True)
    page = done.stdout
    assert 'id="viability">75.0 %<' in page
    assert 'id="state" class="running">running<' in page
    assert [f'id="{name}">{count}<' in page for name, count in (("n_live", 3), ("n_dead", 1))] == [True, True]
    assert "darker than &lt;b&gt;known&lt;/b&gt;" in page  # what a device says is text, not markup
    assert "recording: disk full" in page
    assert "<polyline" in page
    assert "frame=41" in page
    assert "Content Security Policy" not in done.stderr
    with Image.open(picture) as image:
        assert image.size == (1200, 900)
