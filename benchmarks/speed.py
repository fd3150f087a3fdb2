"""How long it takes: quantizing from the command line, `--help`, and inference; ours and the peers in turn (A B C A B C ...).

    python -m benchmarks.speed [--runs N] [--nets NET ...] [--json FILE]

    end to end   a fresh process for each run, imports included: seconds and peak resident memory of the process
    inference    milliseconds for one call of an onnxruntime session in its defaults, 2 threads, batch 1 and 16, once the threads of the session before it rest
    figures      medians over the runs; a ratio is ours (or a peer's) against the first row of its table
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from examples.make_samples import write_samples
from examples.trained import NETS, THREADS, Net, session

from . import peers
from .accuracy import DEFAULT_NETS

QUANTIZED_NET = "mobilenetv2_mnist"
BATCHES = (1, 16)
CALLS = 20
#: Seconds a session runs before its calls count, and then counts at the least. Idle threads of the session before it take the cores for some 30 ms.
STEADY = 0.1
LAUNCHER = Path(__file__).with_name("launch.py")

Command = Sequence[str]


@dataclass(frozen=True)
class Timing:
    """Medians of one contender: seconds, megabytes (nan where they are not measured), and its first contender's share of the seconds."""

    task: str
    name: str
    seconds: float
    ratio: float
    megabytes: float = float("nan")


def our_script() -> str:
    """The installed `quantizeml` of this environment."""
    script = shutil.which("quantizeml", path=Path(sys.executable).parent) or shutil.which("quantizeml")
    return script or sys.exit("The script `quantizeml` is not installed in this environment.")


def quantizers(net: Net, scratch: Path) -> Mapping[str, Command]:
    """The command of each contender that quantizes a network with 1024 samples in its defaults."""
    samples = write_samples(net, scratch / f"{net.name}.npz")
    out = {name: scratch / f"{net.name}_{name}.onnx" for name in ("ours", "onnxruntime", "reference")}
    commands = {
        "ours": [our_script(), "quantize", "-m", str(net.path), "-sa", str(samples), "-s", str(out["ours"])],
        "onnxruntime": [sys.executable, "-m", "benchmarks.peers", str(net.path), str(samples), str(out["onnxruntime"])],
    }
    if script := peers.reference_script():
        flags = peers.REFERENCE_FLAGS.get(net.name, ())
        commands["reference"] = peers.reference_command(script, net.path, samples, out["reference"], flags)
    return commands


def helps() -> Mapping[str, Command]:
    """`--help` of ours and of the reference, and what an empty Python costs."""
    commands = {"ours": [our_script(), "--help"], "empty Python": [sys.executable, "-c", "pass"]}
    if script := peers.reference_script():
        commands["reference"] = [str(script), "--help"]
    return commands


def time_commands(task: str, commands: Mapping[str, Command], runs: int) -> list[Timing]:
    """Medians of `runs` rounds, in each of which every command runs once."""
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            measured[name].append(_launch(name, command))
    seconds = {name: median(one["seconds"] for one in found) for name, found in measured.items()}
    first = next(iter(seconds.values()))
    return [Timing(task, name, seconds[name], seconds[name] / first, median(one["megabytes"] for one in found))
            for name, found in measured.items()]


def _launch(name: str, command: Command) -> dict[str, float]:
    environment = peers.reference_environment() if name == "reference" else None
    done = subprocess.run([sys.executable, "-S", str(LAUNCHER), *command], env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    if found["code"]:
        sys.exit(f"{name}: exit code {found['code']} of: {' '.join(command)}")
    return found


def inference(net: Net, models: Mapping[str, Path], rounds: int) -> list[Timing]:
    """Milliseconds of one call for each batch size: the median over `rounds` of the median of a burst of calls, the models in turn."""
    x, _ = net.test()
    opened = {name: session(path) for name, path in models.items()}
    return [timing for batch in BATCHES for timing in _timings(f"{net.name}, batch {batch}", in_turn(opened, x[:batch], rounds))]


def _timings(task: str, seconds: Mapping[str, float]) -> list[Timing]:
    return [Timing(task, name, value, value / seconds["float"]) for name, value in seconds.items()]


def in_turn(opened: Mapping[str, Any], x: np.ndarray, rounds: int, calls: int = CALLS) -> dict[str, float]:
    """Seconds of a call of each session."""
    bursts: dict[str, list[float]] = {name: [] for name in opened}
    for _ in range(rounds + 1):  # the first round warms up
        for name, one in opened.items():
            bursts[name].append(burst(one, x, calls))
    return {name: median(found[1:]) for name, found in bursts.items()}


def burst(opened: Any, x: np.ndarray, calls: int = CALLS) -> float:
    """Seconds of a call: the median of at least `calls`, after others that do not count."""
    entry = opened.get_inputs()[0]
    feed = {entry.name: x.astype(np.uint8) if entry.type == "tensor(uint8)" else x}
    _calls(opened, feed, 1)
    return median(_calls(opened, feed, calls))


def _calls(opened: Any, feed: Mapping[str, np.ndarray], least: int) -> list[float]:
    """Seconds of each call, in STEADY seconds."""
    found, end = [], time.perf_counter() + STEADY
    while len(found) < least or time.perf_counter() < end:
        found.append(_call(opened, feed))
    return found


def _call(opened: Any, feed: Mapping[str, np.ndarray]) -> float:
    start = time.perf_counter()
    opened.run(None, feed)
    return time.perf_counter() - start


def table(title: str, timings: Sequence[Timing], scale: float, unit: str) -> Table:
    made = Table(title=title)
    made.add_column("task", no_wrap=True)
    made.add_column("contender")
    for name in (unit, "ratio", "peak MB"):
        made.add_column(name, justify="right")
    for timing, after in zip(timings, (*timings[1:], None), strict=True):
        memory = "" if np.isnan(timing.megabytes) else f"{timing.megabytes:.0f}"
        made.add_row(timing.task, timing.name, f"{timing.seconds * scale:.2f}", f"{timing.ratio:.2f}", memory,
                     end_section=after is None or after.task != timing.task)
    return made


def measure(runs: int, nets: Sequence[str], scratch: Path) -> tuple[list[Timing], list[Timing]]:
    """Timings of commands, and of inference with the files that the commands wrote."""
    commands = time_commands(f"quantize {QUANTIZED_NET}", quantizers(NETS[QUANTIZED_NET], scratch), runs)
    commands += time_commands("--help", helps(), runs)
    calls = []
    for net in (NETS[name] for name in nets):
        made = quantizers(net, scratch)
        for name, command in made.items():
            _launch(name, command)
        files = {"float": net.path} | {name: scratch / f"{net.name}_{name}.onnx" for name in made}
        calls += inference(net, files, runs)
    return commands, calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--nets", nargs="*", choices=NETS, default=DEFAULT_NETS, help="networks to run inference with")
    parser.add_argument("--json", type=Path, help="also write the timings to this file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        commands, calls = measure(args.runs, args.nets, Path(scratch))
    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=120)
    console.print(table("From the command line", commands, 1, "seconds"))
    console.print(table(f"Inference in onnxruntime, {THREADS} threads", calls, 1e3, "ms"))
    if args.json:
        args.json.write_text(json.dumps({"runs": args.runs, "timings": [asdict(one) for one in (*commands, *calls)]}, indent=1))


if __name__ == "__main__":
    main()
