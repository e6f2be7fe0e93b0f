"""The ways in which tasks of `code/spawns.py` start processes."""

WAYS = [
    "popen",
    "run",
    "session",
    "daemon",
    "bare_daemon",
    "fork",
    "multiprocessing_task",
    "deaf",
]
