# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Peak memory and time of pixel metrics against the number of images: anomalib's and ours.

    python benchmarks/metrics_memory.py

Each figure comes from a process of its own that feeds generated maps in batches of 8 to one metric and computes it. The
maps and masks are like a test: a ninth of the images has a defect of one to four per cent of the area.
"""

import argparse
import multiprocessing
import os
import platform
import resource
import sys
import time
from pathlib import Path

import anomalib
import anomalib.metrics
import torch
from anomalib.data import ImageBatch

from anomalib_ear import metrics

CASES = {
    "AUROC, anomalib": anomalib.metrics.AUROC,
    "AUROC, ours": metrics.AUROC,
    "AUPRO, anomalib": anomalib.metrics.AUPRO,
    "AUPRO, ours": metrics.AUPRO,
    "F1AdaptiveThreshold, anomalib": anomalib.metrics.F1AdaptiveThreshold,
    "F1AdaptiveThreshold, ours": metrics.F1AdaptiveThreshold,
    "F1Score, anomalib": anomalib.metrics.F1Score,
}
BATCH = 8


def peak_memory() -> float:
    """Highest resident memory of this process so far, in GiB (Linux counts in KiB, macOS in bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**30


def batch(start: int, count: int, size: tuple[int, int]) -> ImageBatch:
    """Generate maps and masks; those of one place in the test set are always the same."""
    generator = torch.Generator().manual_seed(start)
    maps = torch.rand(count, 1, *size, generator=generator) * 0.6
    mask = torch.zeros(count, *size, dtype=torch.bool)
    for index in range(count):
        if (start + index) % 9 == 0:
            mask[index, size[0] // 4 : size[0] // 3, size[1] // 8 : size[1] // 2] = True
    maps[:, 0][mask] += 0.2
    return ImageBatch(image=torch.zeros(count, 3, 1, 1), anomaly_map=maps, pred_mask=maps[:, 0] > 0.5, gt_mask=mask)


def measure(case: str, images: int, size: tuple[int, int]) -> tuple[float, float, float]:
    """Return what a metric adds to the peak memory in GiB, its time in seconds, and its value."""
    torch.set_num_threads(1)
    fields = ["pred_mask" if case.startswith("F1Score") else "anomaly_map", "gt_mask"]
    metric = CASES[case](fields=fields)
    batch(0, BATCH, size)
    before, seconds = peak_memory(), 0.0
    for start in range(0, images, BATCH):
        some = batch(start, min(BATCH, images - start), size)
        begin = time.perf_counter()
        metric.update(some)
        seconds += time.perf_counter() - begin
    begin = time.perf_counter()
    value = float(metric.compute())
    return peak_memory() - before, seconds + time.perf_counter() - begin, value


def table(counts: list[int], size: tuple[int, int]) -> str:
    """Measure every case at every count and lay the figures out as Markdown."""
    lines = [
        f"| metric | {' | '.join(f'{count} images' for count in counts)} | time at {counts[-1]} | value |",
        f"|---|{'---|' * len(counts)}---|---|",
    ]
    for case in CASES:
        figures = []
        for count in counts:
            # A process that runs out of memory is killed, and then the pool would wait for ever.
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                figures.append(pool.apply_async(measure, (case, count, size)).get(timeout=1800))
            print(case, count, figures[-1], flush=True)
        memory = " | ".join(f"{gib:.2f}" for gib, _, _ in figures)
        lines.append(f"| {case} | {memory} | {figures[-1][1]:.0f} s | {figures[-1][2]:.6f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[64, 256, 512, 1004], help="numbers of images")
    parser.add_argument("--size", type=int, nargs=2, default=[608, 224], help="height and width of the maps in pixels")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "metrics_memory.md")
    args = parser.parse_args()
    height, width = args.size
    rows = table(args.images, (height, width))
    text = f"""# Memory of pixel metrics

Peak memory in GiB that one metric adds to the process, on maps of {height} x {width} pixels; the test set of
KolektorSDD2 has 1004 images. Written by `python benchmarks/metrics_memory.py`; anomalib {anomalib.__version__}, torch
{torch.__version__}, one thread, {platform.system()} {platform.machine()}, {os.cpu_count()} cores.

{rows}
"""
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
