# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Write the committed results into the README's tables.

python benchmarks/readme.py
"""

import re
from pathlib import Path

import results
import throughput

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = {
    "KolektorSDD": "kolektor",
    "KolektorByPart, three folds counted as seeds": "kolektor_by_part",
    "MagneticTileByTile": "magnetic_tile_by_tile",
    "MagneticTile": "magnetic_tile",
    "SurfaceDemo": "surface_demo",
}
SECTION = re.compile(r"(?<=<!-- benchmarks/readme\.py -->\n).*?(?=<!-- end -->)", re.DOTALL)
METRICS = {"image AUROC": "image_AUROC", "pixel AUROC": "pixel_AUROC", "AUPRO": "pixel_AUPRO"}


def section() -> str:
    """Lay out one table per data set, the best image AUROC first, and one of speed."""
    parts = []
    for dataset, name in RESULTS.items():
        path = ROOT / "benchmarks" / "results" / f"{name}.jsonl"
        columns = [results.Column(title, results.metric(name)) for title, name in METRICS.items()]
        header, *body = results.table(results.read(path), columns)
        body.sort(key=lambda line: line[2], reverse=True)
        parts.append(f"**{dataset}**\n\n{results.markdown([header, *body])}\n")
    speed = throughput.table(results.read_list(ROOT / "benchmarks" / "results" / "speed.json"))
    parts.append(f"**Speed at 640 × 256**\n\n{results.markdown(speed)}\n")
    return "\n" + "\n".join(parts) + "\n"


def updated(text: str) -> str:
    """Replace the README's section."""
    return SECTION.sub(lambda _: section(), text)


if __name__ == "__main__":
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8")
