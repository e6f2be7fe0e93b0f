"""What an actor was sent before it crashed: recorded, written down, and replayed in a test."""

from pyoco_server.crash_reports.message_log import LoggedMessage, MessageLog, Recorder, replay
from pyoco_server.crash_reports.message_text import NotReplayable

__all__ = ["LoggedMessage", "MessageLog", "NotReplayable", "Recorder", "replay"]
