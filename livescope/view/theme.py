"""Colours and type: one palette for the window, the overlay, the charts and the written pictures.

Owns what things look like. Importing it does not import Qt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from livescope.calls import State

if TYPE_CHECKING:
    from qtpy.QtWidgets import QApplication

__all__ = ["DARK", "LIGHT", "STATE_COLOURS", "THEMES", "Theme", "apply_theme"]

STATE_COLOURS: dict[State, str] = {State.LIVE: "#56B4E9", State.DEAD: "#E69F00", State.UNCERTAIN: "#F062B4"}
"""Blue and orange of Okabe and Ito (2008), told apart with every kind of colour vision; the pink is a clearer tone of
their reddish purple, which is dull on a grey picture. Every state has a shape of its own as well."""


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a window, as hex."""

    window: str
    panel: str
    raised: str
    line: str
    text: str
    muted: str
    accent: str
    good: str
    caution: str
    alarm: str
    canvas: str
    states: dict[State, str]
    """States as text and curves on a panel; on the picture they are `STATE_COLOURS`."""


DARK = Theme(
    window="#15181c",
    panel="#1d2126",
    raised="#2a3038",
    line="#363d47",
    text="#e8ebef",
    muted="#98a2ae",
    accent="#56B4E9",
    good="#4fc3a1",
    caution="#f0c04a",
    alarm="#ff6b5e",
    canvas="#0b0d10",
    states=STATE_COLOURS,
)
LIGHT = Theme(
    window="#eef0f3",
    panel="#ffffff",
    raised="#e4e8ed",
    line="#cdd3db",
    text="#1b2026",
    muted="#5c6773",
    accent="#0072B2",
    good="#00795c",
    caution="#8a6100",
    alarm="#c02c1f",
    canvas="#dfe3e8",
    states={State.LIVE: "#0072B2", State.DEAD: "#B36B00", State.UNCERTAIN: "#A8497F"},
)
THEMES = {"dark": DARK, "light": LIGHT}


def apply_theme(app: QApplication, theme: Theme) -> None:
    """Give every widget of the application the colours of a theme.

    An explicit palette with the Fusion style: `QStyleHints.setColorScheme` does nothing on several platforms.
    """
    from qtpy.QtGui import QColor, QPalette

    role = QPalette.ColorRole
    palette = QPalette()
    for roles, colour in (
        ((role.Window,), theme.window),
        ((role.Base, role.AlternateBase, role.ToolTipBase), theme.panel),
        ((role.Button, role.Mid), theme.raised),
        ((role.WindowText, role.Text, role.ButtonText, role.ToolTipText), theme.text),
        ((role.PlaceholderText,), theme.muted),
        ((role.Highlight, role.Link), theme.accent),
        ((role.HighlightedText,), theme.window),
    ):
        for one in roles:
            palette.setColor(one, QColor(colour))
    for one in (role.WindowText, role.Text, role.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, one, QColor(theme.muted))
    if app.property("fusion") is None:  # once: PyQt6 has crashed where a style was replaced under many widgets
        app.setStyle("Fusion")
        app.setProperty("fusion", True)
    app.setPalette(palette)
    app.setStyleSheet(_style_sheet(theme))


def _style_sheet(theme: Theme) -> str:
    return f"""
    QWidget {{ font-size: 13px; }}
    QToolTip {{ background: {theme.panel}; color: {theme.text}; border: 1px solid {theme.line}; padding: 4px; }}
    #bar, #status {{ background: {theme.panel}; }}
    #bar QToolButton {{ padding: 6px 9px; }}
    #bar QPushButton {{ padding: 6px 9px; }}
    #bar {{ border-bottom: 1px solid {theme.line}; }}
    #status {{ border-top: 1px solid {theme.line}; color: {theme.muted}; }}
    #status QLabel {{ color: {theme.muted}; font-size: 12px; }}
    #side, #sideScroll {{ background: {theme.window}; border: none; }}
    #card {{ background: {theme.panel}; border: 1px solid {theme.line}; border-radius: 8px; }}
    #title {{ color: {theme.muted}; font-size: 11px; font-weight: 600; letter-spacing: 1px; }}
    #name, #note {{ color: {theme.muted}; font-size: 12px; }}
    #name[alarm="true"] {{ color: {theme.alarm}; font-weight: 600; }}
    #value {{ font-size: 12px; }}
    #warnings {{ font-size: 12px; color: {theme.caution}; }}
    #value[alarm="true"] {{ color: {theme.alarm}; font-weight: 600; }}
    #value[alarm="caution"] {{ color: {theme.caution}; font-weight: 600; }}
    #big {{ font-size: 34px; font-weight: 600; }}
    #count {{ font-size: 16px; font-weight: 600; }}
    #rate {{ font-size: 17px; font-weight: 600; }}
    #key {{ background: {theme.raised}; border: 1px solid {theme.line}; border-radius: 4px; padding: 1px 6px;
        font-weight: 600; }}
    QToolButton#state {{ background: transparent; border: 1px solid {theme.line}; padding: 0; }}
    QToolButton#state:checked {{ background: {theme.raised}; border-color: {theme.line}; }}
    QToolButton#state:hover {{ border-color: {theme.accent}; }}
    QToolButton::menu-indicator {{ image: none; }}
    QPushButton, QToolButton {{ background: {theme.raised}; border: 1px solid {theme.line}; border-radius: 6px;
        padding: 6px 12px; color: {theme.text}; }}
    QPushButton:hover, QToolButton:hover {{ border-color: {theme.accent}; }}
    QPushButton:pressed, QToolButton:checked {{ background: {theme.line}; }}
    QToolButton:checked {{ border-color: {theme.accent}; }}
    QPushButton:disabled, QToolButton:disabled {{ color: {theme.muted}; }}
    QPushButton[recording="true"] {{ background: {theme.alarm}; color: {theme.window}; border-color: {theme.alarm}; }}
    QProgressBar {{ border: none; background: {theme.raised}; }}
    QProgressBar::chunk {{ background: {theme.caution}; }}
    QPushButton:focus, QToolButton:focus {{ border-color: {theme.accent}; }}
    #banner[level="error"] {{ background: {theme.alarm}; }}
    #banner[level="warning"] {{ background: {theme.caution}; }}
    #banner QLabel {{ color: {theme.window}; font-weight: 600; }}
    #banner QPushButton {{ background: transparent; color: {theme.window}; border: 1px solid {theme.window}; }}
    """
