# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Results: files of JSON, one row to a line, all of one format.

A row has ``model``, ``dataset`` and ``seed`` (``None`` where there is none), ``machine`` and ``threads``, ``versions``,
``date``, ``command``, ``fingerprint``, ``arguments`` (what was asked for) and ``metrics`` (what was measured; none
beside an ``error``). ``"unknown"`` stands where a row is older than a field.
"""

import ast
import fcntl
import hashlib
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterable
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.ear import COMMON, METHOD, PACKAGE

Row = dict[str, Any]
ABSOLUTE = re.compile(r"(?<![^\s'\"{:=,\[])/(?:[^\s/'\"{},\]]+/)*")  # the folders of an absolute path
FIELDS = (
    "model", "dataset", "seed", "machine", "threads", "versions", "date", "command", "fingerprint", "arguments",
    "metrics",
)  # fmt: skip
RESULTS = Path(__file__).with_name("results")
PACKAGES = ("anomalib", "lightning", "openvino", "timm", "torch", "torchvision")


def append(path: Path, row: Row) -> None:
    """Append a row as one line, in place of a line that a killed run left unfinished; another process waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # until it is closed
        stream.truncate(path.read_bytes().rfind(b"\n") + 1)
        stream.write(json.dumps(row).encode() + b"\n")


def read(path: Path) -> list[Row]:
    """Read every whole line; raises a ``ValueError`` if one of them is not JSON."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    rows: list[Row] = []
    try:
        for line in text[: text.rfind("\n") + 1].splitlines():
            rows += [json.loads(line)]
    except json.JSONDecodeError as error:
        msg = f"{path}, line {len(rows) + 1} is not JSON: {error}. Remove it and run again."
        raise ValueError(msg) from error
    return rows


def newest(rows: Iterable[Row]) -> list[Row]:
    """Keep the last of the rows that have model, data set, seed and machine in common, in the order of these."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = row["dataset"], row["model"], row["seed"], row["machine"]
        found.pop(key, None)  # else the row made anew would have the place of the old one
        found[key] = row
    return list(found.values())


def folder_name(row: Row) -> str:
    """Return the name of a row's folder."""
    name = "-".join(str(row[field]) for field in ("dataset", "model", "seed"))
    return "".join(char if char.isalnum() or char in "-._" else "_" for char in name)


def finish(job: Row, environment: Row, metrics: Row, **arguments: Any) -> Row:  # noqa: ANN401
    """Return the row of a job: what was asked for, with further arguments, where and when, and what was measured."""
    asked = {"arguments": job["arguments"] | arguments, "metrics": metrics}
    return {name: job[name] for name in FIELDS if name in job} | environment | asked


def environment(device: torch.device | None = None) -> Row:
    """Return the fields that say where and when a row is made; the device is where a model was trained."""
    cpu, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    kind = ""
    if info.exists():
        text = info.read_text()
        cpu = next((line.split(":")[1].strip() for line in text.splitlines() if "model name" in line), cpu)
        # Processors of one name may differ in it, and Ear trains in float32 where there is no bfloat16.
        kind = "AMX" if "amx_bf16" in text else "" if "avx512_bf16" in text else "no bfloat16"
    gpu = torch.cuda.get_device_name(device) if device is not None and device.type == "cuda" else ""
    return {
        "machine": ", ".join(filter(None, [cpu, f"{os.cpu_count()} cores", kind, gpu])),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def command() -> str:
    """Return the command line of this process, with the last names alone of absolute paths: ``…/kolektor``."""
    line = shlex.join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]])
    return ABSOLUTE.sub("…/", line)


def together(commands: Iterable[str]) -> list[str]:
    """Return the different commands, those as one that differ in one list alone: of seeds, then of counts or models."""
    merged = list(dict.fromkeys(commands))
    for option in ("seeds", "counts", "models"):
        given = re.compile(rf"(?<=--{option} ')\[.*?\](?=')")
        values: dict[tuple[str, ...], Row] = {}  # by what stands before and after the list
        for line in merged:
            listed = [value for found in given.findall(line) for value in yaml.safe_load(found)]
            values.setdefault(tuple(given.split(line)), {}).update(dict.fromkeys(listed))
        merged = [json.dumps([*listed]).join(around) for around, listed in values.items()]
    return merged


def fingerprint(model: str, datamodule: str | None = None, source: Path = PACKAGE) -> str:
    """Hash what decides a result beside the arguments, so that a changed constant or formula gives another hash.

    That is anomalib's version, and of the package's folder ``source`` the code that reads photographs and measures
    maps, for Ear the method's, and for its data sets theirs. Comments and docstrings do not count.
    """
    files = [file for pattern in (*COMMON, *(METHOD if model == "Ear" else ())) for file in source.glob(pattern)]
    own_data = list(source.glob("data/*.py"))
    if datamodule and any(f"class {datamodule}(" in file.read_text() for file in own_data):
        files += own_data
    digest = hashlib.sha256(version("anomalib").encode())
    for file in sorted({*files}):
        digest.update(code(file.read_text()).encode() if file.suffix == ".py" else file.read_bytes())
    return digest.hexdigest()[:12]


def code(text: str) -> str:
    """Return what Python makes of a source, without docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            del node.body[0]
    return ast.dump(tree)
