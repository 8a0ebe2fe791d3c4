# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Rows of the store as a frame of pandas."""

import json
import statistics
from collections.abc import Sequence

import pandas as pd

from benchmarks.store import Row

KEPT = ("model", "dataset", "seed", "machine", "date", "versions", "command")  # fields of a row


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Return a line for each row: its metrics, and what tables tell rows apart by."""
    lines = []
    for row in rows:
        asked = {name: value for name, value in row["arguments"].items() if name != "seed"}
        if isinstance(asked.get("data"), dict):  # a fold stands for a seed
            asked["data"] = {name: value for name, value in asked["data"].items() if name != "fold"}
        lines.append(row["metrics"] | {name: row[name] for name in KEPT} | {
            "version": json.dumps([row["fingerprint"], asked], sort_keys=True),  # rows of one version are averaged
            "place": f"{row['machine']}, {row['threads']} thread{'' if row['threads'] == 1 else 's'}",
            "size": " × ".join(map(str, asked.get("image_size", ["?"]))),
            "precision": asked.get("precision", "f32"),
            "rate": statistics.median(row["metrics"].get("throughput", [0])),
        })  # fmt: skip
    return pd.DataFrame(lines)


def last_versions(data: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows of each model's last version."""
    return data[data["version"] == data.groupby(["machine", "dataset", "model"])["version"].transform("last")]


def busiest_machine(data: pd.DataFrame) -> str:
    """Return the machine on which most models have rows, counted for each data set."""
    return str(data.drop_duplicates(["machine", "dataset", "model"])["machine"].mode()[0])
