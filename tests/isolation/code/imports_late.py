"""Imports an extension module in a task, and makes a native thread as many of them do."""

# mypy: allow-untyped-defs, allow-untyped-calls

import ctypes
import importlib


def work():
    importlib.import_module("_zoneinfo")
    libc = ctypes.CDLL(None)
    thread = ctypes.c_ulong()
    pause = ctypes.cast(libc.pause, ctypes.c_void_p)
    assert libc.pthread_create(ctypes.byref(thread), None, pause, None) == 0
