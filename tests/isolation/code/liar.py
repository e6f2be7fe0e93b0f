"""Task code that speaks to the worker as its child does; untyped, as most users' is."""

# mypy: ignore-errors

import gc
import os
import time

from pyoco_server.worker.runner.pipe import EventPipe


def say(message, then="wait"):
    """Tell the worker something of this run, and do not come to an end of it."""
    pipe = next(each for each in gc.get_objects() if type(each) is EventPipe)
    pipe.send({"type": "finished", "run_id": os.environ["PYOCO_RUN_ID"], **message})
    if then == "exit":
        os._exit(1)
    time.sleep(600)
