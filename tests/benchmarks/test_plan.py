# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What may be run: every row can be, and a row is made again when anything changed that decides it."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from benchmarks import job, plan, store
from benchmarks.ear import PACKAGE
from conftest import use

ROWS = {
    json.dumps([row["arguments"]["class"], row["arguments"]["model"], row["arguments"]["image_size"]]): row
    | {"root": "."}
    for data in plan.datasets().values()
    for label, model in plan.models().items()
    for row in [plan.job(label, model, data, 1)]
}


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: f"{row['dataset']}-{row['model']}")
def test_every_row_builds(
    row: store.Row, backbone: dict[str, str], surfaces: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Arguments are the constructor's, there is a gate for each skip, and images of the data set's size fit."""
    use(backbone, monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "surface_demo").symlink_to(surfaces)  # Draem's textures
    model = job.build_model(row)
    size = tuple(row["arguments"]["image_size"])
    assert model.pre_processor.transform(torch.rand(3, 300, 500)).shape == (3, *size), "no part of an image is cut off"
    if "skip_gates" in row["arguments"]["model"]:
        assert len(row["arguments"]["model"]["skip_gates"]) == len(model.model.unet.gates)
    if row["arguments"]["class"] in ("Ear", "Fre"):
        with torch.no_grad():
            model.model.train()(torch.rand(1, 3, *size))


@pytest.mark.parametrize("name", plan.datasets())
def test_every_data_set_builds(name: str) -> None:
    """Its datamodule takes its arguments, the one that a row's seed sets among them."""
    data = plan.datasets()[name]
    row = plan.job("Ear", plan.models()["Ear"], data, 2)
    assert job.build_data(row | {"root": "."}).train_batch_size > 0
    if data.seed_is:
        assert row["arguments"]["data"][data.seed_is] == 2
        assert row["arguments"]["seed"] == 0


class TestWhyRun:
    """A row is made when it is missing or was made otherwise."""

    @pytest.fixture
    def wanted(self) -> store.Row:
        """Return a row to be made."""
        return plan.job("Ear", plan.models()["Ear"], plan.datasets()["kolektor"], 0)

    def test_there(self, wanted: store.Row) -> None:
        """It is not made again unless that is asked for."""
        assert plan.why_run(wanted, []) == "no row"
        assert plan.why_run(wanted, [wanted]) is None
        assert plan.why_run(wanted, [wanted], again=True)

    def test_changed(self, wanted: store.Row) -> None:
        """A row is made again for another argument of model, trainer or data set, another method, or a failure."""
        other = wanted["arguments"] | {"trainer": {"max_epochs": 3}}
        assert plan.why_run(wanted, [wanted | {"arguments": other}]) == "other arguments: trainer"
        assert "another version" in str(plan.why_run(wanted, [wanted | {"fingerprint": "unknown"}]))
        assert plan.why_run(wanted, [wanted, wanted | {"error": "no memory"}]) == "failed before"


class TestFingerprint:
    """What decides a result beside its arguments."""

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        """Return a copy of the package."""
        return Path(shutil.copytree(PACKAGE, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__")))

    @pytest.mark.parametrize(
        ("constant", "other"),
        [
            ("SIGMAS = 3.0", "SIGMAS = 2.5"),
            ("PRIOR = 2", "PRIOR = 3"),
            ("SCORE_POWER = 64", "SCORE_POWER = 16"),
            ("FALSE_ALARMS = 0.05", "FALSE_ALARMS = 0.01"),
        ],
    )
    def test_changes_with_a_constant(self, source: Path, constant: str, other: str) -> None:
        """A constant of the method changes the fingerprint of Ear's rows, and of no rival's."""
        before = {name: store.fingerprint(name, source=source) for name in ("Ear", "Padim")}
        (file,) = [file for file in source.rglob("*.py") if f"\n{constant}\n" in file.read_text()]
        file.write_text(file.read_text().replace(f"\n{constant}\n", f"\n{other}\n"))
        assert store.fingerprint("Ear", source=source) != before["Ear"]
        assert store.fingerprint("Padim", source=source) == before["Padim"]

    def test_changes_with_what_measures(self, source: Path) -> None:
        """What reads photographs or measures maps changes every model's."""
        before = {name: store.fingerprint(name, source=source) for name in ("Ear", "Padim")}
        for file in (source / "host" / "metrics.py", source / "data" / "reading.py"):
            file.write_text(file.read_text() + "\nANOTHER = 1\n")
            after = {name: store.fingerprint(name, source=source) for name in before}
            assert all(after[name] != before[name] for name in before)
            before = after

    def test_outlives_a_comment(self, source: Path) -> None:
        """Words change no result."""
        before = store.fingerprint("Ear", source=source)
        for file in source.rglob("*.py"):
            file.write_text('"""Other words."""\n# and a comment\n' + file.read_text().partition('"""\n')[2])
        assert store.fingerprint("Ear", source=source) == before

    def test_changes_with_a_split(self, source: Path) -> None:
        """A data set's code changes the fingerprint of every model's rows on it."""
        before = {name: store.fingerprint("Padim", name, source) for name in ("KolektorByPart", "Folder")}
        file = source / "data" / "kolektor_by_part.py"
        file.write_text(file.read_text().replace("FOLDS = 3", "FOLDS = 4"))
        assert store.fingerprint("Padim", "KolektorByPart", source) != before["KolektorByPart"]
        assert store.fingerprint("Padim", "Folder", source) == before["Folder"]
