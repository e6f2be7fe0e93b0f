"""Tasks that leave something in Python's library or with the kernel, and one that looks there; untyped."""

# mypy: ignore-errors

import asyncio
import ctypes
import decimal
import gc
import io
import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from pathlib import Path

_LIBC = ctypes.CDLL(None)
_SEEDED = random.Random(7).random()
_FIELDS = ("Name", "Groups", "SigBlk", "SigIgn", "SigCgt", "CapEff", "NoNewPrivs", "THP_enabled")


def what_lasts():
    """Return what a run can see of the library and the kernel."""
    status = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines()
    )
    policy = asyncio.events._event_loop_policy
    return {
        "random": random.random() == _SEEDED,
        "start method": multiprocessing.get_start_method(allow_none=True),
        "loop": policy and [type(policy).__name__, policy._local._set_called],
        "blocks": [*map(os.get_blocking, (0, 1, 2))],
        "temporary": tempfile.gettempdir(),
        "arguments": [list(sys.argv), list(sys.warnoptions)],
        "memory is traced": tracemalloc.is_tracing(),
        "collection": [gc.get_debug(), gc.get_threshold(), len(gc.callbacks)],
        "threads are": [threading.gettrace(), threading.getprofile(), threading.stack_size()],
        "hook": threading.excepthook is threading.__excepthook__,
        "coroutines": [*sys.get_asyncgen_hooks(), sys.get_coroutine_origin_tracking_depth()],
        "status": {name: status.get(name) for name in _FIELDS},
        "prctl": [_LIBC.prctl(option, 0, 0, 0, 0) for option in (3, 30)],
        "oom": Path("/proc/self/oom_score_adj").read_text(),
        "root": Path("/").stat().st_ino,
        "functions": [
            os.getpid.__module__,
            os.path.exists.__module__,
            *(repr(each)[:20] for each in (io.open, json.dumps, random.random, signal.signal)),
            *(repr(each) for each in (socket.socket, subprocess.Popen, threading.Thread)),
        ],
        "decimals": decimal.DefaultContext.prec,
        "table of modules": ctypes.pythonapi.PyImport_GetModuleDict() == id(sys.modules),
    }


ctypes.pythonapi.PyImport_GetModuleDict.restype = ctypes.c_void_p


# Python's library ---------------------------------------------------------------------------------


def seed_random():
    random.seed(7)


def set_a_start_method():
    multiprocessing.set_start_method("spawn")


def take_a_start_method():
    multiprocessing.Queue()


def end_an_event_loop():
    asyncio.run(asyncio.sleep(0))


def leave_a_closed_event_loop():
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.close()


def leave_an_open_event_loop():
    asyncio.set_event_loop(asyncio.new_event_loop())


def set_a_loop_policy():
    class Policy(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self):
            raise NotImplementedError

    asyncio.set_event_loop_policy(Policy())


def turn_temporary_files_elsewhere():
    Path("tmp").mkdir()
    tempfile.tempdir = str(Path("tmp").absolute())


def have_a_temporary_folder():
    Path("tmp").mkdir()
    os.environ["TMPDIR"] = str(Path("tmp").absolute())
    tempfile.tempdir = None
    tempfile.mkdtemp()


def change_arguments():
    sys.argv.append("--verbose")
    sys.warnoptions.append("error")


def trace_memory():
    tracemalloc.start()


def debug_garbage():
    gc.set_debug(gc.DEBUG_UNCOLLECTABLE)


def trace_all_threads():
    threading.settrace(lambda *_: None)
    threading.setprofile(lambda *_: None)


def hook_threads():
    threading.excepthook = lambda *_: None


def hook_coroutines():
    sys.set_asyncgen_hooks(lambda *_: None, lambda *_: None)
    sys.set_coroutine_origin_tracking_depth(5)


def change_default_of_decimal():
    decimal.DefaultContext.prec = 3
    decimal.setcontext(decimal.DefaultContext)


def patch_paths():
    os.path.exists = lambda _: False


def patch_sockets():
    socket.socket = None


def patch_random():
    random.random = lambda: 0.5


def patch_json():
    json.dumps = lambda *_, **__: "{}"


def patch_io():
    io.open = None


def patch_processes():
    subprocess.run = subprocess.Popen = None


def patch_threads():
    threading.Thread = None


def patch_signals():
    signal.signal = None


def replace_the_table_of_modules():
    sys.modules = dict(sys.modules)


# The kernel ---------------------------------------------------------------------------------------


def make_output_not_block():
    os.set_blocking(0, False)
    os.set_blocking(1, False)


def take_no_new_privileges():
    _LIBC.prctl(38, 1, 0, 0, 0)


def be_late():
    _LIBC.prctl(29, 50_000_000, 0, 0, 0)


def be_spared_when_memory_runs_out():
    Path("/proc/self/oom_score_adj").write_text("600")


def be_undumpable():
    _LIBC.prctl(4, 0, 0, 0, 0)


def take_another_name():
    _LIBC.prctl(15, b"another", 0, 0, 0)


def forgo_huge_pages():
    _LIBC.prctl(41, 1, 0, 0, 0)


def change_groups():
    if os.geteuid() == 0:
        os.setgroups([1234])


def change_root():
    if os.geteuid() == 0:
        os.chroot(Path.cwd())


def ignore_a_signal_in_c():
    _LIBC.signal(signal.SIGHUP, ctypes.c_void_p(1))


def ignore_a_realtime_signal():
    signal.signal(signal.SIGRTMIN + 3, signal.SIG_IGN)


def change_zone_in_c():
    _LIBC.setenv(b"TZ", b"Asia/Tokyo", 1)
    _LIBC.tzset()


def look_at_a_zone_in_c():
    os.environ["TZ"] = "Asia/Tokyo"
    _LIBC.tzset()
