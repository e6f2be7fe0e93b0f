"""Runs where pyoco-server 0.5.1 is installed: calls its programs with command lines that come as JSON lines.

Starting a process for each would cost a second and more every time.
"""

import contextlib
import importlib
import io
import json
import sys
import traceback


def call(module: str, argv: list[str]) -> dict[str, object]:
    """What the program's entry point would do to a shell."""
    out, err = io.StringIO(), io.StringIO()
    sys.argv = [module, *argv]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = importlib.import_module(module).main(argv)
        except SystemExit as leaving:
            code = leaving.code
        except Exception:  # noqa: BLE001 - an uncaught exception ends a process with 1
            traceback.print_exc()
            code = 1
    return {"code": code or 0, "out": out.getvalue(), "err": err.getvalue()}


for line in sys.stdin:
    answer = json.dumps(call(**json.loads(line)))
    print(answer, flush=True)
