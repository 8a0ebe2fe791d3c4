# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What may be run: ``models.yaml`` and ``datasets/*.yaml``, and what becomes of one of each."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.store import Row, command, fingerprint

FOLDER = Path(__file__).parent


@dataclass
class Model:
    """An entry of ``models.yaml``, which explains its fields."""

    class_: str
    arguments: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    on_request: str | None = None


@dataclass
class Dataset:
    """A file of ``datasets``."""

    label: str  # name in tables
    datamodule: str  # class of anomalib's, or of ours
    image_size: tuple[int, int]  # height and width in pixels, to which every model resizes
    arguments: dict[str, Any] = field(default_factory=dict)  # the datamodule's
    trainer: dict[str, Any] = field(default_factory=dict)  # settings of Lightning's trainer
    per_class: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)  # `arguments`, `trainer` of a model
    seed_is: str | None = None  # argument of the datamodule that a row's seed sets, in place of the model's seed
    proxy: bool = False  # whether to report metrics on the validation images too, as proxy_*
    # Where the datamodule's validation images show parts that are trained on: a pattern of the part in an image's name.
    # robustness.py then holds out parts.
    held_out_by: str | None = None


def models() -> dict[str, Model]:
    """Read the models by label."""
    entries = yaml.safe_load((FOLDER / "models.yaml").read_text(encoding="utf-8"))
    return {label: Model(class_=entry.pop("class"), **entry) for label, entry in entries.items()}


def datasets(own: Iterable[str] = ()) -> dict[str, Dataset]:
    """Read the data sets by the names of their files, and files of one's own by their paths."""
    paths = {path.stem: path for path in sorted(FOLDER.glob("datasets/*.yaml"))} | {name: Path(name) for name in own}
    return {name: Dataset(**yaml.safe_load(path.read_text(encoding="utf-8"))) for name, path in paths.items()}


def job(label: str, model: Model, data: Dataset, seed: int, trainer: dict[str, Any] | None = None) -> Row:
    """Return the fields of a row that are known before it is made; ``arguments`` holds all that it asks for."""
    own = data.per_class.get(model.class_, {})
    arguments = {
        "class": model.class_,
        "model": model.arguments | own.get("arguments", {}),
        "trainer": data.trainer | own.get("trainer", {}) | model.trainer | (trainer or {}),
        "datamodule": data.datamodule,
        "data": data.arguments | ({data.seed_is: seed} if data.seed_is else {}),
        "image_size": data.image_size,
        "seed": 0 if data.seed_is else seed,
        "proxy": data.proxy,
    }
    row = {"model": label, "dataset": data.label, "seed": seed, "command": command(), "arguments": arguments}
    row["fingerprint"] = fingerprint(model.class_, data.datamodule)
    return dict(json.loads(json.dumps(row)))  # as a row that was read, so that they compare


def why_run(wanted: Row, rows: Iterable[Row], *, again: bool = False) -> str | None:
    """Say why a job is run, ``None`` if its row is there."""
    found = [row for row in rows if all(row[name] == wanted[name] for name in ("model", "dataset", "seed"))]
    if not found or "error" in found[-1]:
        return "failed before" if found else "no row"
    changed = [name for name, value in wanted["arguments"].items() if found[-1]["arguments"].get(name) != value]
    if changed:
        return f"other arguments: {', '.join(changed)}"
    if found[-1]["fingerprint"] != wanted["fingerprint"]:
        return "made by another version of the method"
    return "--again" if again else None
