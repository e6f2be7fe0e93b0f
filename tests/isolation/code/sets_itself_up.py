"""A module that sets its process up when it is imported; untyped, as most users' are."""

# mypy: allow-untyped-defs, allow-untyped-calls
# ruff: noqa: PTH118, PTH120

import logging
import os
import socket
import sys
import threading

logging.basicConfig(level=logging.DEBUG)
sys.path.append(os.path.join(os.path.dirname(__file__), "vendored"))
socket.setdefaulttimeout(10)
threading.Thread(target=threading.Event().wait, daemon=True).start()


def look():
    return [
        logging.getLevelName(logging.root.level),
        len(logging.root.handlers),
        any(path.endswith("vendored") for path in sys.path),
        socket.getdefaulttimeout(),
    ]
