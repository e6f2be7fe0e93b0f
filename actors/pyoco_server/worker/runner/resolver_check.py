"""Looks at the start of a worker whether its flow resolver can be loaded, in a process that ends again.

The worker itself never imports user code: that would be held in its memory, stale, for as long as it lives.
"""

from __future__ import annotations

import os
import subprocess
import sys

from pyoco_server.worker.runner.environment import inherited
from pyoco_server.worker.runner.resolver import FlowResolverError, load_flow_resolver

_LONGEST_SECONDS = 60.0


def check_flow_resolver(spec: str) -> None:
    """Load a flow resolver once, elsewhere. Blocks for as long as its imports take, at most a minute.

    Raises:
        FlowResolverError: It cannot be loaded.
    """
    try:
        done = subprocess.run(  # noqa: S603 - what the operator named is what a worker is to execute
            [sys.executable, "-m", __name__, spec],
            env=inherited(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LONGEST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return  # slow is not wrong: runs will show
    if done.returncode != 0:
        raise FlowResolverError(
            done.stderr.strip().rpartition("\n")[2] or f"ended with {done.returncode}"
        )


def main() -> None:
    """Load the resolver that the command line names; the last line of stderr says what is wrong."""
    try:
        load_flow_resolver(sys.argv[1])
    except FlowResolverError as error:
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    main()
