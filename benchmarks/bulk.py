# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What Ray Data costs: ``anomalib_ear.bulk`` against ``anomalib_ear.infer``, on this machine.

    python -m benchmarks.bulk --model model.xml --count 20000

Both score the same photographs, links to a few hundred drawn ones, and write no pictures. Every second the proportional
memory of the command and all that it started is noted.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonargparse
import numpy as np
from PIL import Image

from benchmarks import store

DRAWN = 300
SIZE = (1024, 1280)  # height, width
COMMANDS: dict[str, list[str]] = {"infer": ["--heat_maps", "false"], "bulk": ["--address", "local"]}
# Workers of Ray compute at the lowest priority; as the line does it, they compete with nobody here.
ENVIRONMENT = os.environ | {"RAY_worker_niceness": "0"}


def draw(folder: Path, count: int) -> None:
    """Write grained photographs as JPEG, and link to them until there are ``count``."""
    folder.mkdir()
    for index in range(count):
        path = folder / f"{index:08}.jpg"
        if index < DRAWN:
            grain = np.random.default_rng(index).normal(140, 6, (*SIZE, 1))
            Image.fromarray(np.repeat(grain.astype(np.uint8), 3, axis=2)).save(path, quality=90)
        else:
            path.hardlink_to(folder / f"{index % DRAWN:08}.jpg")


def memory(session: int) -> float:
    """Return the proportional memory in MB of all processes of a session: what several share counts once."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if os.getsid(int(process.name)) == session:
                lines = (process / "smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1000


def measure(name: str, model: Path, folder: Path, output: Path) -> dict[str, Any]:
    """Run a command; returns its seconds, and memory in MB in each tenth of its time."""
    arguments = ["--model", model, "--input", folder, "--output", output, *COMMANDS[name]]
    command = [sys.executable, "-m", f"anomalib_ear.{name}", *map(str, arguments)]
    samples: list[float] = []
    began = time.monotonic()
    process = subprocess.Popen(  # noqa: S603  our own
        command, env=ENVIRONMENT, stderr=subprocess.DEVNULL, start_new_session=True
    )
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(1):
            samples.append(memory(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    seconds = time.monotonic() - began
    ended.set()
    watcher.join()
    if status:
        msg = f"{name} ended with {status}."
        raise RuntimeError(msg)
    tenths = [round(float(part.mean())) for part in np.array_split(np.array(samples), 10) if len(part)]
    return {"seconds": round(seconds, 1), "memory_mb": tenths}


def main(
    model: Path, count: int = 20_000, repeats: int = 1, output: Path = Path("results/benchmark/bulk.jsonl")
) -> None:
    """Measure both commands in turn.

    Args:
        model: Exported model (.xml).
        count: Number of photographs.
        repeats: How often each command runs.
        output: File of the rows, to which they are added.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "photographs")
        draw(folder, count)
        shared = {"dataset": "drawn JPEG", "seed": None, "command": store.command(), "arguments": {"count": count}}
        for repeat in range(repeats):
            seconds = {}
            for name in COMMANDS:
                measured = measure(name, model, folder, Path(temporary, f"{name}{repeat}"))
                seconds[name] = measured["seconds"]
                measured["images_per_second"] = round(count / seconds[name], 2)
                job = {"model": name, "fingerprint": store.fingerprint("Ear")} | shared
                store.append(output, store.finish(job, store.environment(), measured))
                print(name, measured, flush=True)
            print(f"overhead: {seconds['bulk'] / seconds['infer'] - 1:.1%}", flush=True)


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
