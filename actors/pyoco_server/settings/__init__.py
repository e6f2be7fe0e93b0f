"""The settings, from the environment and a ``.env`` file; what there is stands in `declarations`."""

from __future__ import annotations

from pyoco_server.settings.declarations import Settings
from pyoco_server.settings.environment import SettingRow, SettingsError, check_variable, describe

__all__ = ["SettingRow", "Settings", "SettingsError", "check_variable", "describe"]
