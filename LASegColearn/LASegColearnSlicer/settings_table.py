"""The panel's table of all settings."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from typing import Any

import qt

from LASegColearnLib.settings import Settings, preset, setting_text

# These have widgets of their own.
_NOT_IN_TABLE = ("preset", "method", "minutes", "iterations")


class SettingsTable:
    """Shows a preset's settings, which the user can change.

    Parameters
    ----------
    table
        A QTableWidget with two columns.
    presetName
        Returns the name of the chosen preset.
    onChanged
        Called when the user has changed a setting.
    """

    def __init__(self, table: Any, presetName: Callable[[], str], onChanged: Callable[[], None]) -> None:
        self._table = table
        self._presetName = presetName
        self._onChanged = onChanged
        self._isFilling = False
        table.verticalHeader().setVisible(False)
        table.horizontalHeader().setStretchLastSection(True)
        table.connect("cellChanged(int,int)", lambda row, column: self._cellChanged())

    def show(self, kept: str) -> None:
        """Show the preset's settings with the changes from :meth:`kept`, unless they are for another preset."""
        values, texts = settingTexts(self._presetName()), settingHelp()
        changedPreset, changed = _readKept(kept)
        if changedPreset == self._presetName():
            values |= {key: text for key, text in changed.items() if key in values}
        self._isFilling = True
        self._table.setRowCount(len(values))
        for row, (name, value) in enumerate(values.items()):
            item = qt.QTableWidgetItem(name)
            item.setToolTip(texts.get(name, ""))
            item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
            self._table.setItem(row, 0, item)
            self._table.setItem(row, 1, qt.QTableWidgetItem(value))
        self._isFilling = False

    def changed(self) -> dict[str, str]:
        """The settings that differ from the preset's."""
        values, table = settingTexts(self._presetName()), self._table
        shown = {table.item(row, 0).text(): table.item(row, 1).text() for row in range(table.rowCount)}
        return {name: text for name, text in shown.items() if text.strip() != values.get(name)}

    def kept(self) -> str:
        """The changes and their preset, as a text to store in the scene."""
        return json.dumps({"preset": self._presetName(), "changed": self.changed()})

    def _cellChanged(self) -> None:
        if not self._isFilling:
            self._onChanged()


def settingTexts(name: str) -> dict[str, str]:
    """The settings of a preset as text, as the user would type them."""
    values = preset(name).to_dict()
    return {key: setting_text(value) for key, value in values.items() if key not in _NOT_IN_TABLE}


def settingHelp() -> dict[str, str]:
    """What each setting does, from the documentation of the engine's settings."""
    texts: dict[str, str] = {}
    # getdoc removes the common indentation, which Python 3.13 does by itself.
    documentation = inspect.getdoc(Settings) or ""
    for names, text in re.findall(r"^(\w[\w, ]*)\n((?:    .*\n?)+)", documentation, re.MULTILINE):
        texts |= {name.strip(): " ".join(text.split()) for name in names.split(",")}
    return texts


def _readKept(text: str) -> tuple[str, dict[str, str]]:
    """The preset and its changes; empty if the scene has none, or those of an incompatible version."""
    try:
        kept = json.loads(text)
        return kept["preset"], {key: value for key, value in kept["changed"].items() if isinstance(value, str)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", {}
