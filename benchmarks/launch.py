"""Wall time and peak memory of one command: `python benchmarks/launch.py COMMAND ...` prints `{"seconds", "megabytes", "code"}` as JSON.

Standard library only, and a process of its own: a child's `ru_maxrss` is never less than that of the process it was forked from, so a
launcher that had imported numpy or onnxruntime would measure itself.
"""

from __future__ import annotations

import json
import os
import sys
import time


def launch(command: list[str]) -> dict[str, float]:
    """Runs a command with its output thrown away and waits for it."""
    start = time.perf_counter()
    child = os.posix_spawnp(command[0], command, os.environ, file_actions=[
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0), (os.POSIX_SPAWN_DUP2, 1, 2)])
    _, status, usage = os.wait4(child, 0)
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return {"seconds": time.perf_counter() - start, "megabytes": usage.ru_maxrss / unit, "code": os.waitstatus_to_exitcode(status)}


if __name__ == "__main__":
    print(json.dumps(launch(sys.argv[1:])))
