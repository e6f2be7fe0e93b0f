"""Tasks that leave something behind, and one that looks around; untyped, as most users' are."""

# mypy: ignore-errors
# ruff: noqa: B003, PTH102, PTH104, PTH110, PTH115, PTH123, PTH208, PTH211, SIM105, SIM115

import asyncio
import ctypes
import decimal
import faulthandler
import gc
import importlib
import io
import locale
import logging
import logging.config
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lasting
from lasting import *  # noqa: F403

LIBC = ctypes.CDLL(None)
KEPT = []
SECRET = "what the misdeed knows"


def canary():
    """Print three ways, and return what a run can see of its process."""
    print("canary")
    os.write(2, b"canary, bare\n")
    subprocess.run(["sh", "-c", "echo canary, a process; ulimit -n"], check=True)
    start = time.monotonic()
    time.sleep(0.002)
    with tempfile.TemporaryFile() as file:
        mode = os.fstat(file.fileno()).st_mode
    made = Path("made")
    made.touch()
    return {
        "slept": time.monotonic() - start >= 0.002,
        "environ": {n: v for n, v in sorted(os.environ.items()) if n != "PYOCO_RUN_ID"},
        "inherited": sorted(
            line.partition("=")[0]
            for line in subprocess.run(
                ["env"], check=True, capture_output=True, text=True
            ).stdout.splitlines()
        ),
        "cwd": Path.cwd().name,
        "modes": [oct(mode), oct(made.stat().st_mode)],
        "limits": {
            name: resource.getrlimit(number)
            for name, number in sorted(vars(resource).items())
            if name.startswith("RLIMIT_")
        },
        "threads": len(os.listdir("/proc/self/task")),
        "descriptors": sorted(
            os.readlink(f"/proc/self/fd/{fd}").partition(":")[0].replace(str(os.getpid()), "self")
            for fd in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{fd}")
        ),
        "path": sys.path,
        "finders": len(sys.meta_path),
        "handlers": [repr(signal.getsignal(number)) for number in range(1, 32)],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "timers": [signal.getitimer(which)[0] for which in (0, 1, 2)],
        "locale": locale.setlocale(locale.LC_ALL),
        "timeout": socket.getdefaulttimeout(),
        "logging": [repr(logging.root.handlers), logging.root.level, logging.root.manager.disable],
        "loggers": [repr(logging.getLogger(name).handlers) for name in ("ours", "theirs")],
        "filters": len(warnings.filters),
        "zone": [time.tzname, time.localtime(0)[:5]],
        "json": repr(importlib.import_module("json")),
        "recursion": sys.getrecursionlimit(),
        "collects": gc.isenabled(),
        "decimal": str(decimal.Decimal(1) / 3),
        "streams": [type(s).__name__ for s in (sys.stdout, sys.stderr, sys.__stdout__)],
        "closed": [sys.stdout.closed, sys.stderr.closed, sys.stdin.closed],
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "processors": len(os.sched_getaffinity(0)),
        "stdin": sys.stdin.read(),
        "traced": sys.gettrace() is None and sys.getprofile() is None,
        "pending": sys.getswitchinterval(),
        "children": Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text(),
        **lasting.what_lasts(),
    }


def count():
    return 1


def save_and_return_much(ctx):
    ctx.save_artifact("note", "text")
    return "x" * 50_000_000


def use_streams():
    sys.stdout.reconfigure(line_buffering=True)
    assert sys.stdout.line_buffering
    assert sys.stdout.encoding == "utf-8"
    print("é")
    print("to stdout", file=sys.__stdout__)
    print("to stderr", file=sys.__stderr__)
    sys.stdout.buffer.write(b"bytes\n")
    sys.stdout.writelines(["li", "nes\n"])
    io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", write_through=True).write("in latin\n")


# Threads ------------------------------------------------------------------------------------------


def leave_a_thread():
    def talk():
        while True:
            print(SECRET)
            os.write(2, SECRET.encode())
            time.sleep(0.001)

    threading.Thread(target=talk, daemon=True).start()


def leave_a_waiting_thread():
    threading.Thread(target=threading.Event().wait).start()


def leave_a_timer_thread():
    threading.Timer(0.05, print, [SECRET]).start()


def leave_an_executor():
    executor = ThreadPoolExecutor()
    KEPT.append(executor)
    executor.submit(time.sleep, 0.01)


def leave_an_event_loop():
    loop = asyncio.new_event_loop()
    KEPT.append(loop)
    threading.Thread(target=loop.run_forever, daemon=True).start()


# Processes ----------------------------------------------------------------------------------------

TALK = f"while :; do echo {SECRET}; sleep 0.01; done"


def leave_a_process():
    KEPT.append(subprocess.Popen(["sh", "-c", TALK]))


def leave_a_process_of_its_own_session():
    KEPT.append(subprocess.Popen(["sh", "-c", TALK], start_new_session=True))


def leave_a_daemon():
    subprocess.run(["sh", "-c", f"(setsid sh -c '{TALK}' &) &"], check=True)


def leave_a_daemon_without_environment():
    subprocess.run(["env", "-i", "setsid", "-f", "sleep", "600"], check=True)


def leave_a_stopped_process():
    os.kill(subprocess.Popen(["sleep", "600"]).pid, signal.SIGSTOP)


def leave_a_deaf_process():
    KEPT.append(subprocess.Popen(["sh", "-c", "trap '' TERM INT HUP; sleep 600; sleep 600"]))


def leave_a_zombie():
    KEPT.append(subprocess.Popen(["true"]))
    time.sleep(0.02)


def leave_a_pool():
    KEPT.append(multiprocessing.get_context("fork").Pool(2))


def leave_a_multiprocessing_process():
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=[600])
    process.start()


def leave_a_forkserver():
    process = multiprocessing.get_context("forkserver").Process(target=int)
    process.start()
    process.join()


def return_from_a_fork():
    if os.fork() == 0:
        return


def raise_from_a_fork():
    if os.fork() == 0:
        raise ValueError(SECRET)


def return_from_a_bare_fork():
    if LIBC.fork() == 0:
        with open("other", "w"), open("another", "w"):
            return


# Descriptors --------------------------------------------------------------------------------------


def leave_a_file():
    KEPT.append(open("left", "w"))


def leave_a_socket():
    KEPT.append(socket.socketpair())


def leave_a_bare_descriptor():
    os.dup(2)


def leave_a_file_in_a_cycle():
    cycle = [open("left", "w")]
    cycle.append(cycle)


def close_stdin():
    os.close(0)


def close_stderr():
    os.close(2)


def turn_stdout_elsewhere():
    with open("elsewhere", "w") as file:
        os.dup2(file.fileno(), 1)


# Limits, modes, places ----------------------------------------------------------------------------


def lower_files():
    resource.setrlimit(resource.RLIMIT_NOFILE, (8, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def lower_files_for_good():
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))


def lower_file_size():
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def change_umask():
    os.umask(0o777)


def change_directory():
    os.chdir("/")


def remove_directory():
    subprocess.run(["rm", "-rf", str(Path.cwd())], check=True)


def change_environment():
    os.environ["LEFT"] = SECRET
    os.environ.pop("PATH", None)


def change_environment_of_c():
    os.putenv("LEFT", SECRET)
    LIBC.setenv(b"PATH", b"/nowhere", 1)


def change_zone():
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()


def be_nice():
    os.nice(5)


def use_one_processor():
    os.sched_setaffinity(0, {0})


# Signals ------------------------------------------------------------------------------------------


def set_an_alarm():
    signal.alarm(1)


def set_a_timer():
    signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)


def handle_signals():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, lambda *_: print(SECRET))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def block_signals():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def dump_on_a_signal():
    faulthandler.register(signal.SIGUSR1)


# The interpreter ----------------------------------------------------------------------------------


def change_import_path():
    sys.path.insert(0, "/nowhere")
    sys.path.pop()


def add_a_finder():
    class Finder:
        @staticmethod
        def find_spec(*_):
            return None

    sys.meta_path.insert(0, Finder)


def replace_a_module():
    sys.modules["json"] = types.ModuleType("json")


def remove_a_module():
    del sys.modules["json"]


def add_a_fake_module():
    sys.modules["numpy"] = types.ModuleType("numpy")


def patch_sleep():
    time.sleep = lambda _seconds: None


def patch_print():
    import builtins

    builtins.print = lambda *_, **__: None


def change_switches():
    sys.setrecursionlimit(300)
    sys.setswitchinterval(1)
    gc.disable()
    decimal.getcontext().prec = 3


def trace():
    sys.settrace(lambda *_: None)
    sys.setprofile(lambda *_: None)


def change_locale():
    locale.setlocale(locale.LC_ALL, "C")


def change_socket_timeout():
    socket.setdefaulttimeout(0.001)


def configure_logging():
    logging.basicConfig(level=logging.DEBUG, format=f"{SECRET} %(message)s")
    logging.getLogger("ours").addHandler(logging.StreamHandler(sys.stdout))
    logging.disable(logging.CRITICAL)


def configure_logging_by_dictionary():
    logging.config.dictConfig({"version": 1, "loggers": {"theirs": {"level": "DEBUG"}}})


def filter_warnings():
    warnings.simplefilter("error")
    logging.captureWarnings(True)


def warn():
    warnings.warn("for each run", stacklevel=1)


def log_warnings():
    logging.basicConfig()
    logging.captureWarnings(True)
    warn()


def make_log_records():
    before = logging.getLogRecordFactory()

    def make(*args, **kwargs):
        record = before(*args, **kwargs)
        record.msg += ", made"
        return record

    logging.setLogRecordFactory(make)
    logging.getLogger("any").warning("a record")


def log_in_its_own_way():
    class Logger(logging.getLoggerClass()):
        def warning(self, message):
            super().warning(f"{message}, so to speak")

    logging.raiseExceptions = False
    logging.setLoggerClass(Logger)
    logging.getLogger(os.environ["PYOCO_RUN_ID"]).warning("words")


# Output -------------------------------------------------------------------------------------------


def print_in_c():
    LIBC.printf(b"of c\n")


def print_half_a_character():
    sys.stdout.buffer.write("é".encode()[:1])
    os.write(1, "é".encode()[:1])


def close_stdout():
    sys.stdout.close()


def detach_stdout():
    sys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding="latin-1")


def replace_stdout():
    sys.stdout = sys.__stdout__ = sys.stderr = io.StringIO()


def reconfigure_stdout():
    sys.stdout.reconfigure(encoding="ascii", errors="strict", line_buffering=False)


def print_without_end():
    print("no end", end="")
    print("nor here", end="", file=sys.stderr)
    os.write(1, b"nor here")


# Memory and ends ----------------------------------------------------------------------------------


def keep_memory():
    KEPT.append(bytearray(b"x") * 300_000_000)


def fail_with_memory():
    big = bytearray(b"x") * 50_000_000
    error = ValueError(SECRET)
    error.big, error.self = big, error
    raise error


def fail():
    raise RuntimeError(SECRET)


def exit_with_words():
    os.write(2, SECRET.encode())
    sys.exit(3)


def say_a_secret():
    os.write(2, SECRET.encode() + b"\n")


def crash_with_words():
    os.write(2, SECRET.encode())
    os._exit(5)


def kill_itself():
    os.kill(os.getpid(), signal.SIGKILL)


def kill_its_guardian():
    os.kill(os.getppid(), signal.SIGKILL)


def go_without_a_word():
    os._exit(0)


# Against the process that executes it and those around it -------------------------------------------


def leave_its_session():
    os.setsid()


def fork_twice():
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            time.sleep(600)
        os._exit(0)
    os.wait()


def adopt_no_orphans():
    LIBC.prctl(36, 0, 0, 0, 0)
    fork_twice()


def change_its_name_and_fate():
    LIBC.prctl(15, b"another name", 0, 0, 0)
    LIBC.prctl(4, 1, 0, 0, 0)


def die_with_a_parent():
    LIBC.prctl(1, signal.SIGKILL, 0, 0, 0)


def be_traced():
    LIBC.ptrace(0, 0, 0, 0)


def trace_its_guardian():
    LIBC.ptrace(16, os.getppid(), 0, 0)


def stop_its_guardian():
    os.kill(os.getppid(), signal.SIGSTOP)


def stop_its_guardian_and_die():
    os.kill(os.getppid(), signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGKILL)


def stop_itself_and_its_guardian():
    print("stopping", flush=True)
    os.kill(os.getppid(), signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGSTOP)


def interrupt_its_guardian():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGALRM):
        os.kill(os.getppid(), number)


def bound_its_guardian():
    resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (3, 3))


def close_everything():
    os.closerange(0, 3)
    os.closerange(4, 256)


def write_into_everything():
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, b"\xff" * 4096)
        except OSError:
            pass


def hang_at_exit():
    import atexit

    atexit.register(time.sleep, 600)
    sys.exit(3)


def exit_in_a_thread():
    thread = threading.Thread(target=sys.exit, args=[3])
    thread.start()
    thread.join()


def dump_later():
    faulthandler.dump_traceback_later(0.3, exit=True)


def disable_faulthandler():
    faulthandler.disable()


def hook_everything():
    sys.excepthook = threading.excepthook = sys.unraisablehook = lambda *_: os._exit(1)
    gc.callbacks.append(lambda *_: None)
    os.register_at_fork(before=int)


def wake_by_descriptor():
    signal.set_wakeup_fd(os.pipe2(os.O_NONBLOCK)[1])


def shrink_stacks():
    threading.stack_size(32768)


def replace_environ():
    os.environ = {"LEFT": SECRET}


def overflow_the_stack():
    sys.setrecursionlimit(10**9)
    nested = []
    for _ in range(10**6):
        nested = [nested]
    repr(nested)


def read_nowhere():
    ctypes.string_at(1)


def abort():
    os.abort()


def print_much_without_end():
    os.write(1, b"x" * 3_000_000)
    sys.stdout.write("y" * 3_000_000)


def fill_its_folder():
    for number in range(2000):
        Path(f"file {number}").write_bytes(b"x" * 1000)
    Path("artifacts/deep").joinpath(*["d"] * 200).mkdir(parents=True)


def nest_folders():
    for _ in range(1500):
        os.mkdir("d")
        os.chdir("d")


def forbid_its_folder():
    inner = Path("inner")
    inner.mkdir()
    (inner / "file").touch()
    inner.chmod(0)
    Path.cwd().chmod(0)


def link_out_of_its_folder():
    os.symlink("/", "root")
    os.symlink("/nowhere", "artifacts/nowhere")
    os.mkfifo("pipe")


def replace_its_folder_by_a_link():
    folder = Path.cwd()
    os.rename(folder, f"{folder}.moved")
    os.symlink(f"{folder}.moved", folder)


def block_all_signals_in_c():
    full = (ctypes.c_ulong * 16)(*[2**64 - 1] * 16)
    LIBC.pthread_sigmask(2, full, None)


def handle_signals_in_c():
    LIBC.signal(signal.SIGTERM, ctypes.c_void_p(1))
    LIBC.signal(signal.SIGUSR2, ctypes.c_void_p(1))


NOT_MISDEEDS = {
    "canary",
    "count",
    "what_lasts",
    "save_and_return_much",
    "stop_itself_and_its_guardian",
    "use_streams",
}
ALL = sorted(
    name
    for name, value in list(vars().items())
    if isinstance(value, types.FunctionType) and name not in NOT_MISDEEDS
)
