"""Flows whose runs are looked at in the browser, and the code of their tasks."""

from __future__ import annotations

import json

CODE = '''\
"""Tasks that end when a file says so, so that a test sees each state for as long as it wants."""

import struct
import sys
import time
import zlib
from pathlib import Path

HERE = Path(__file__).parent


def read(source):
    print(f"reading {source}")
    return {"rows": 1200, "source": source}


def clean(rows=0):
    time.sleep(0.25)
    print("dropped 3 rows that were no numbers", file=sys.stderr)
    return rows


def count():
    time.sleep(0.4)
    print("1197 rows counted")
    return 1197


def report(title):
    folder = Path("artifacts")
    folder.mkdir(exist_ok=True)
    (folder / "report.txt").write_text(f"{title}: 1197 rows\\n")
    return f"{title}: 1197 rows"


def wait(gate):
    print("waiting for the gate")
    while not (HERE / gate).exists():
        time.sleep(0.02)
    return gate


def fail(text):
    print("about to fail", file=sys.stderr)
    raise ValueError(text)


def say(text):
    print(text)
    return text


def noise():
    for done in (0, 50, 100):
        sys.stderr.write(f"\\r{done}%| step")
        sys.stderr.flush()
        time.sleep(0.02)
    sys.stderr.write("\\n")
    print("\\x1b[1;32mgreen\\x1b[0m, \\x1b[38;5;208morange\\x1b[0m and \\x1b[31mred")
    print("goes on\\x1b[0m, and ends")
    for number in range(20):
        print(f"number {number}")
    print("KeyError: no such day", file=sys.stderr)


def chatter(lines, gate):
    print("KeyError: the first line of all")
    for number in range(1, lines):
        print(f"line {number} " + "word " * (number % 60))
    wait(gate)
    print("the last line of all")


def progress(gate):
    from pyoco_server import report

    report(done=3, total=10, message="files read")
    wait(gate)


def large():
    return list(range(100_000))


def save():
    folder = Path("artifacts")
    folder.mkdir(exist_ok=True)
    (folder / "data.csv").write_text('day,count,note\\n2026-04-01,12,"a, b"\\n2026-04-02,13,"two\\nlines"\\n')
    (folder / "big.json").write_text('{"id": 9007199254740993}')
    (folder / "page.html").write_text("<script>window.owned=1</script>")
    (folder / "pic.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg' onload='window.owned=1'/>")
    (folder / "pic.png").write_bytes(png())
    (folder / "blob.bin").write_bytes(bytes(range(256)))


def png():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 2, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes([0, 0, 0, 255, 255, 0, 0]))
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\\x89PNG\\r\\n\\x1a\\n" + parts
'''

REPORT = """\
version: 1
flow:
  graph: |
    read >> (clean & count) >> report
  defaults:
    source: https://example.org/visits.csv
    title: Visits
tasks:
  read:
    callable: dash_tasks:read
  clean:
    callable: dash_tasks:clean
  count:
    callable: dash_tasks:count
  report:
    callable: dash_tasks:report
"""

LOOPS = """\
version: 1
flow:
  graph: |
    say >> repeat(count=2) { again } >> switch(on=text) { plain: left; bold: right }
  defaults:
    text: plain
tasks:
  say: {callable: "dash_tasks:say"}
  again: {callable: "dash_tasks:say"}
  left: {callable: "dash_tasks:say"}
  right: {callable: "dash_tasks:say"}
"""


def waiting(gate: str) -> str:
    """A run that goes on until the file ``gate`` is there."""
    return (
        "flow:\n  graph: prepare >> wait >> finish\n"
        f"  defaults: {{gate: {gate}, text: ready}}\n"
        "tasks:\n"
        "  prepare: {callable: 'dash_tasks:say'}\n"
        "  wait: {callable: 'dash_tasks:wait'}\n"
        "  finish: {callable: 'dash_tasks:say'}\n"
    )


def failing(text: str, attempts: int = 1) -> str:
    """A run that fails with this text."""
    return (
        "flow:\n  graph: prepare >> fail\n"
        f"  defaults: {{text: {json.dumps(text, ensure_ascii=False)}}}\n"
        "tasks:\n"
        "  prepare: {callable: 'dash_tasks:say'}\n"
        "  fail: {callable: 'dash_tasks:fail'}\n"
        f"runtime: {{max_attempts: {attempts}, retry_backoff_sec: 0.2}}\n"
    )
