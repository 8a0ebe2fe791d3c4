# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Results: files of JSON, one row to a line, all of one format.

A row has ``model``, ``dataset`` and ``seed`` (``None`` where there is none), ``machine`` and ``threads``, ``versions``,
``date``, ``command``, ``fingerprint``, ``arguments`` (what was asked for) and ``metrics`` (what was measured), or
``error`` in place of the latter. ``"unknown"`` stands where a row is older than a field.
"""

import ast
import hashlib
import json
import os
import platform
import shlex
import sys
from collections.abc import Iterable
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.ear import METHOD, PACKAGE

Row = dict[str, Any]
FIELDS = (
    "model", "dataset", "seed", "machine", "threads", "versions", "date", "command", "fingerprint", "arguments",
    "metrics",
)  # fmt: skip
RESULTS = Path(__file__).with_name("results")
PACKAGES = ("anomalib", "lightning", "openvino", "timm", "torch", "torchvision")
CPU = torch.device("cpu")


def append(path: Path, row: Row) -> None:
    """Append a row as one line, in place of a line that a killed run left unfinished."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as stream:
        if stream.tell():
            text = path.read_text(encoding="utf-8")
            if not text.endswith("\n"):
                stream.truncate(len(text[: text.rfind("\n") + 1].encode()))
        stream.write(json.dumps(row) + "\n")


def read(path: Path) -> list[Row]:
    """Read every whole line.

    Raises:
        ValueError: If one but the last is not JSON.
    """
    rows = []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    for number, line in enumerate(lines, start=1):
        if line.endswith("\n"):
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                msg = f"{path}, line {number} is not JSON: {error}. Remove it and run again."
                raise ValueError(msg) from error
    return rows


def newest(rows: Iterable[Row]) -> list[Row]:
    """Keep the last of the rows that have model, data set, seed and machine in common."""
    found = {(row["dataset"], row["model"], row["seed"], row["machine"]): row for row in rows}
    return list(found.values())


def folder_name(row: Row) -> str:
    """Return the name of a row's folder."""
    name = "-".join(str(row[field]) for field in ("dataset", "model", "seed"))
    return "".join(char if char.isalnum() or char in "-._" else "_" for char in name)


def environment(device: torch.device = CPU) -> Row:
    """Return the fields that say where and when a row was made, with the device where that is not the CPU."""
    cpu, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), cpu)
    machine = f"{cpu}, {os.cpu_count()} cores"
    return {
        "machine": f"{machine}, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else machine,
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def command() -> str:
    """Return the command line of this process."""
    module = Path(sys.argv[0]).stem
    return shlex.join(["python", "-m", f"benchmarks.{module}", *sys.argv[1:]])


def fingerprint(model: str, datamodule: str | None = None, source: Path = PACKAGE) -> str:
    """Hash what decides a result beside the arguments: a changed constant or formula gives another one.

    For Ear that is the method's code, for the package's data sets their code, both without comments and docstrings; for
    every model anomalib's version.

    Args:
        model: Name of the model's class.
        datamodule: Name of the datamodule's class.
        source: Folder of the package.
    """
    patterns = METHOD if model == "Ear" else ()
    if datamodule and any(f"class {datamodule}(" in file.read_text() for file in source.glob("data/*.py")):
        patterns = (*patterns, "data/*.py")
    digest = hashlib.sha256(version("anomalib").encode())
    for file in sorted({file for pattern in patterns for file in source.glob(pattern)}):
        digest.update(code(file.read_text()).encode() if file.suffix == ".py" else file.read_bytes())
    return digest.hexdigest()[:12]


def code(text: str) -> str:
    """Return what Python makes of a source, without docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            del node.body[0]
    return ast.dump(tree)
