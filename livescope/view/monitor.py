"""A read-only page on a run, for the person who left the microscope room: snapshot, counts, curve, health.

Owns the web server and its threads. It reads what any window may read, never touches acquisition or GUI thread, knows
no way to ask anything of the session, and listens on this machine only unless the settings name an address and a token.
"""

from __future__ import annotations

import contextlib
import hmac
import importlib.resources
import io
import ipaddress
import json
import math
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from livescope.calls import Analysis, Viability
from livescope.errors import DisplayError
from livescope.settings import MonitorSettings
from livescope.status import Status
from livescope.view.picture import draw_picture

__all__ = ["Monitor", "Watched", "monitoring"]

_LEAST_BETWEEN_S = 2.0
"""A picture is drawn at most so often, however many look on: it takes 0.2 s of a processor."""
_MOST_POINTS = 300
_TIMEOUT_S = 5.0
"""A client that says nothing for so long is let go."""


class Watched(Protocol):
    """What the page needs of a session. Every method is cheap and may be called on any thread."""

    def status(self) -> Status:
        """Everything about this instant."""

    def latest_analysis(self) -> Analysis | None:
        """Newest analysed frame."""

    def viability_curve(self) -> list[tuple[float, Viability]]:
        """(seconds, viability) pairs."""


class Monitor:
    """Serves the page until it is closed.

    Parameters
    ----------
    watched
        The session, or a played record.
    settings
        Port, address and token.

    Raises
    ------
    DisplayError
        The port is taken or the address is not of this machine.
    """

    def __init__(self, watched: Watched, settings: MonitorSettings) -> None:
        self._watched, self._settings = watched, settings
        self._drawing = threading.Lock()
        self._drawn: tuple[Analysis | None, float, bytes] = (None, -math.inf, b"")
        handler = type("Handler", (_Handler,), {"monitor": self})
        server = type("Server", (ThreadingHTTPServer,), {"daemon_threads": False})  # close waits for its threads
        try:
            self._server = server((settings.address, settings.port), handler)
        except OSError as error:
            raise DisplayError(
                f"the monitor cannot listen on {settings.address}:{settings.port}: {error.strerror}. "
                "Choose another view.monitor.port; 0 takes a free one."
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="livescope-monitor")
        self._thread.start()

    @property
    def url(self) -> str:
        """Where the page is, its token included."""
        token = "" if self._settings.token is None else f"?token={self._settings.token}"
        return f"http://{self._settings.address}:{self._server.server_port}/{token}"

    def close(self) -> None:
        """Stop serving; what is being answered is answered."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def admits(self, host: str, token: str) -> bool:
        """Whether a request may be answered.

        Parameters
        ----------
        host
            Its Host header. Without a token a foreign name is refused: a web page elsewhere that has its name resolved
            to 127.0.0.1 would otherwise read this one through the user's browser.
        token
            What it brought along.
        """
        if self._settings.token is not None:
            return hmac.compare_digest(token.encode(), self._settings.token.encode())
        name = urlsplit(f"//{host}").hostname or ""
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(name).is_loopback
        return name == "localhost"

    def page(self, nonce: str) -> bytes:
        """The page; its script asks for the rest."""
        html = importlib.resources.files("livescope.view").joinpath("monitor.html").read_text(encoding="utf-8")
        return html.replace("NONCE", nonce).encode()

    def figures(self) -> dict[str, Any]:
        """All numbers of the page, ready for JSON."""
        status, analysis = self._watched.status(), self._watched.latest_analysis()
        figures = asdict(status) | {"record": status.record and status.record.name}
        if analysis is not None:
            frame = analysis.frame
            figures["viability"] = asdict(analysis.viability)
            figures["frame"] = {
                "index": frame.index,
                "position": frame.position,
                "age_s": time.time() - frame.wall_time,
            }
        curve = self._watched.viability_curve()
        step = -(-len(curve) // _MOST_POINTS) or 1
        figures["curve"] = [(t, v.fraction, v.low, v.high) for t, v in curve[::-step][::-1]]
        return figures

    def snapshot(self) -> bytes | None:
        """PNG of the newest analysed frame with its calls, None before the first; drawn anew every 2 s at most."""
        with self._drawing:
            analysis, now_s = self._watched.latest_analysis(), time.monotonic()
            drawn, when_s, png = self._drawn
            if analysis is not None and analysis is not drawn and now_s - when_s >= _LEAST_BETWEEN_S:
                buffer = io.BytesIO()
                draw_picture(analysis).save(buffer, "PNG", compress_level=1)
                self._drawn = (analysis, now_s, buffer.getvalue())
                return self._drawn[2]
            return png or None


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD; every other method is refused by the base class."""

    monitor: Monitor
    timeout = _TIMEOUT_S
    server_version, sys_version = "livescope", ""

    def do_GET(self) -> None:
        """Answer."""
        asked = urlsplit(self.path)
        bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
        token = parse_qs(asked.query).get("token", [bearer])[0]
        if not self.monitor.admits(self.headers.get("Host", ""), token):
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", b"The address needs its token: http://.../?token=...\n")
            return
        nonce = secrets.token_urlsafe(12)
        match asked.path:
            case "/":
                self._answer(HTTPStatus.OK, "text/html; charset=utf-8", self.monitor.page(nonce), nonce)
            case "/status.json":
                text = json.dumps(_finite(self.monitor.figures()))
                self._answer(HTTPStatus.OK, "application/json", text.encode())
            case "/snapshot.png":
                png = self.monitor.snapshot()
                found = HTTPStatus.OK if png else HTTPStatus.NO_CONTENT
                self._answer(found, "image/png", png or b"")
            case _:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"There is /, /status.json and /snapshot.png.\n")

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, status: HTTPStatus, kind: str, body: bytes, nonce: str = "") -> None:
        self.send_response(status)
        policy = f"default-src 'none'; img-src 'self'; connect-src 'self'; style-src 'nonce-{nonce}'"
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": f"{policy}; script-src 'nonce-{nonce}'",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the address would show the token in the terminal."""


@contextlib.contextmanager
def monitoring(watched: Watched, settings: MonitorSettings | None) -> Iterator[Monitor | None]:
    """Serve the page inside the block; None serves none."""
    monitor = None if settings is None else Monitor(watched, settings)
    try:
        yield monitor
    finally:
        if monitor is not None:
            monitor.close()


def _finite(value: Any) -> Any:
    """Turn what JSON does not know (NaN, keys that are enums) into what it does."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value if isinstance(value, str | int | bool | None) else str(value)
