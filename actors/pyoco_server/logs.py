"""Log lines with the fields of 0.5.1, through structlog."""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from collections.abc import MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from types import FrameType
from typing import Any, TextIO

import msgspec
import structlog
from structlog.processors import CallsiteParameter, CallsiteParameterAdder, TimeStamper
from structlog.typing import EventDict, Processor, WrappedLogger

from pyoco_server.model.errors import ErrorId
from pyoco_server.model.json_text import encode_json
from pyoco_server.settings import Settings

_ENCODER = msgspec.json.Encoder(enc_hook=str)
# What a person looks for in a line that is longer than the screen.
_FIRST = dict.fromkeys(("ts", "level", "service", "message"))


def configure_logging(
    *, service: str, settings: Settings | None = None, stream: TextIO | None = None
) -> None:
    """Send the log lines of this process to ``stream``, one a line.

    Args:
        service: ``pyoco-server:http`` or ``pyoco-server:worker``; a field of each line.
        settings: Level, format (json or text), UTC or local times, tracebacks; from the environment
            when None.
        stream: Where to; standard error when None.
    """
    settings = settings or Settings.from_env()
    stream = stream or sys.stderr
    level = logging.getLevelNamesMapping()[settings.log_level]
    chain: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        TimeStamper(fmt="iso", utc=settings.log_utc, key="ts"),
        CallsiteParameterAdder(
            [
                CallsiteParameter.PATHNAME,
                CallsiteParameter.LINENO,
                CallsiteParameter.FUNC_NAME,
                CallsiteParameter.PROCESS,
                CallsiteParameter.THREAD_NAME,
            ]
        ),
        structlog.contextvars.merge_contextvars,
        _Fields(service, settings),
    ]
    end: list[Processor] = [_to_json]
    if settings.log_format != "json":
        colors = stream is not None and stream.isatty()
        end = [_plain, structlog.dev.ConsoleRenderer(colors=colors, event_key="message")]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *chain],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *end],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
    # Lines of ours do without the standard library, which takes twice as long and adds nothing to them.
    structlog.configure(
        processors=[_OurFields(service, settings), *end],
        logger_factory=partial(_Lines, handler.stream),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )


def stay_quiet() -> None:
    """Where a program has not said what becomes of log lines, send warnings to stderr and drop the rest.

    Any later configuration of structlog, such as `configure_logging`, takes its place.
    """
    if not structlog.is_configured():
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
            logger_factory=partial(_Lines, sys.stderr),
        )


class _Lines:
    """The logger of a module. Like a handler of the standard library, it is silent where it cannot write."""

    def __init__(self, stream: TextIO | None, name: str = "", *_: object) -> None:
        self._stream = stream
        self.name = name

    def msg(self, line: str) -> None:
        """Write a line."""
        if self._stream is None:  # closed before the process began
            return
        with suppress(OSError, ValueError):
            self._stream.write(f"{line}\n")
            self._stream.flush()

    debug = info = warning = error = critical = msg


def _to_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    try:
        return _ENCODER.encode(event).decode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        return encode_json(event).decode()


class _Fields:
    """Names the fields as 0.5.1 does: message, func, thread, msg_id, exc_*; `_FIRST` come first."""

    def __init__(self, service: str, settings: Settings) -> None:
        self._service = service
        self._utc = settings.log_utc
        self._with_traceback = settings.log_include_traceback

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["service"] = self._service
        event["message"] = event.pop("event", "")
        event["level"] = str(event.get("level", "")).upper()
        event["func"] = event.pop("func_name", None)
        event["thread"] = event.pop("thread_name", None)
        self._add_what_failed(event)
        return {**_FIRST, **event}

    def _add_what_failed(self, event: MutableMapping[str, Any]) -> None:
        err_id = event.get("err_id")
        if isinstance(err_id, ErrorId):
            event["err_id"], event["msg_id"] = err_id.value, err_id.msg_id
        self._add_error(event)

    def _add_error(self, event: MutableMapping[str, Any]) -> None:
        info = event.pop("exc_info", None)
        if info is True:
            info = sys.exc_info()
        error = info if isinstance(info, BaseException) else (info[1] if info else None)
        if error is None:
            return
        event["exc_type"] = type(error).__name__
        event["exc_message"] = str(error)
        frames = traceback.extract_tb(error.__traceback__)
        if frames:
            last = frames[-1]
            event["exc_origin"] = {"file": last.filename, "line": last.lineno, "func": last.name}
        if self._with_traceback:
            event["exc_traceback"] = "".join(traceback.format_exception(error))


class _OurFields(_Fields):
    """All of them in one step, for each run logs two lines: structlog's own processors take twice as long."""

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        now = datetime.now(UTC)
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_globals.get("__name__", "").startswith("structlog"):
            frame = frame.f_back
        code = None if frame is None else frame.f_code
        message = event.pop("event", "")
        line: EventDict = {
            **_FIRST,
            **event,
            "ts": f"{(now if self._utc else now.astimezone()).isoformat()[:-6]}{'Z' if self._utc else ''}",
            "level": "ERROR" if method == "exception" else method.upper(),
            "service": self._service,
            "message": message,
            "logger": logger.name,
            "pathname": code and code.co_filename,
            "lineno": frame and frame.f_lineno,
            "func": code and code.co_name,
            "process": os.getpid(),
            "thread": threading.current_thread().name,
        }
        self._add_what_failed(line)
        return structlog.contextvars.merge_contextvars(logger, method, line)


def _plain(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """For people at a terminal: without the fields that only a log search needs."""
    for name in ("service", "pathname", "lineno", "func", "process", "thread", "msg_id"):
        event.pop(name, None)
    event["level"] = event["level"].lower()
    event["timestamp"] = event.pop("ts")
    return event
