# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The robustness benchmark: a row end to end, the threshold, the page, and the parts that move."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from test_run import BLOTS, PADIM, command

from anomalib_ear.data import KolektorByPart
from benchmarks import lost, plan, robustness, robustness_job, robustness_page, still_bracket, store, tables
from benchmarks.changes import CLEAN, changes
from benchmarks.job import build_data, load_data
from benchmarks.metrics import at_threshold, threshold
from benchmarks.recrop import recrop
from conftest import SHARED_DATA

# Photographs whose numbers end alike show one part.
OF_PARTS = BLOTS | {"held_out_by": r"\d$", "proxy": False}


def test_a_row_end_to_end(
    surfaces: Path,
    backbone: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It has every change, counted on the same images; a second run finds it there."""
    (tmp_path / "blots.yaml").write_text(yaml.safe_dump(OF_PARTS))
    (tmp_path / "photographs").symlink_to(surfaces)
    done = command("robustness", "--datasets", "[blots.yaml]", "--models", "[PaDiM, Ear]", cwd=tmp_path, **backbone)
    assert done.returncode == 0, done.stdout + done.stderr
    output = tmp_path / "results" / "robustness" / "robustness.jsonl"
    rival, ear = store.read(output)
    for made in (rival, ear):
        assert set(made) == set(store.FIELDS)
        metrics = made["metrics"]
        for counted in (metrics["changes"], metrics.get("own", metrics["changes"])):
            assert list(counted) == list(changes((64, 128)))
            for said in counted.values():
                assert 0 <= said["image_AUROC"] <= 1
                assert [said["false_alarms"][1], said["found"][1] + metrics["left_out"]] == [4, 6]
        assert metrics["held_out"] == 3
        assert "held-out good images, fewer than 19" in metrics["warning"]
    assert "own" in ear["metrics"]
    assert set(ear["metrics"]["exported_difference"]) == set(changes((64, 128)))
    assert 0 < max(ear["metrics"]["exported_difference"].values()) < 1e-4
    assert "own" not in rival["metrics"]
    monkeypatch.chdir(tmp_path)
    assert robustness.robustness(["blots.yaml"], [PADIM], output=output) == 0
    assert "Trained 0 rows, 0 failed, 1 were there." in capsys.readouterr().out
    with pytest.raises(SystemExit, match="'blur' is not one of 'unchanged'"):
        lost.lost([output.parent / "Blots-Ear-0"], ["blur"])
    for others in ([], [output.parent / "Blots-PaDiM-0"]):
        with pytest.raises(SystemExit, match="rows of Ear"):
            lost.lost(others)
    lost.lost([output.parent / "Blots-Ear-0"])
    lines = {name: cells(printed, name)[0] for printed in [capsys.readouterr().out] for name in changes((64, 128))}
    for name, line in lines.items():
        own, shown = (
            ear["metrics"]["own"][name],
            dict(zip(("rejected", "border", "all"), map(float, line), strict=False)),
        )
        assert shown["all"] == pytest.approx(own["image_AUROC"], abs=6e-4)
        assert shown["rejected"] == pytest.approx(own["false_alarms"][0] / own["false_alarms"][1], abs=6e-4)
        assert 0 <= shown["border"] <= shown["rejected"]


def test_held_out_images_in_place_of_test_images(
    surfaces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No test image is scored; the tables have what each change does to good images and to drawn defects."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "blots.yaml").write_text(yaml.safe_dump(OF_PARTS))
    (tmp_path / "photographs").symlink_to(surfaces)
    data = plan.Dataset(**OF_PARTS)  # type: ignore[arg-type]
    job = robustness.wanted(plan.job("Ear", plan.models()["Ear"], data, 0), data, held_out=True)
    made = robustness_job.run(job | {"folder": str(tmp_path / "row")})
    assert not {"changes", "own", "left_out"} & set(made["metrics"])
    alarms = made["metrics"]["held_out_alarms"]
    assert list(alarms) == list(changes((64, 128)))
    assert alarms[CLEAN] == [0, 3]  # the highest of three is the threshold
    assert {of for _, of in alarms.values()} == {3}
    store.append(Path("results/held_out/robustness.jsonl"), made)  # not where rows of test images are
    robustness.robustness(["blots.yaml"], ["Ear"], held_out=True)
    printed = capsys.readouterr().out
    assert "Trained 0 rows, 0 failed, 1 were there." in printed
    for name, (above, of) in alarms.items():
        shown = re.findall(rf"{re.escape(name)} +([\d.]+)", printed)
        assert shown == [f"{above / of:.3f}", f"{made['metrics']['drawn'][name]:.3f}"]


def test_where_a_map_is_highest() -> None:
    """A peak nearer to an edge than a tenth of the side lies at the border."""
    for place, expected in (((0, 50), True), ((9, 50), True), ((10, 50), False), ((50, 21), False), ((50, 199), True)):
        anomaly_map = torch.zeros(100, 200)
        anomaly_map[place] = 1
        assert lost.at_border(anomaly_map) == expected


def test_brackets_lie_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are at one place, the data set reads them, some are held out, and a folder that is there stays as it is."""
    monkeypatch.setattr(still_bracket, "COUNT", 30)
    still_bracket.draw(tmp_path / "still")
    pictures = np.array([Image.open(file) for file in (tmp_path / "still" / "good").iterdir()]).astype(int)
    yellow = np.argwhere(pictures[..., 0] > pictures[..., 2] + 20)  # of 30 pictures: which, and where
    assert (np.ptp([yellow[yellow[:, 0] == i, 1:].mean(axis=0) for i in range(30)], axis=0) < 2).all()
    data = plan.datasets()["still_bracket"]
    job = robustness.wanted(plan.job("Ear", plan.models()["Ear"], data, 0), data, held_out=True)
    module = robustness_job.framed(load_data(job | {"root": str(tmp_path / "still")}), data.held_out_by)
    assert [len(part) for part in parts(module).values()] == [20, 4, 6]
    with pytest.raises(SystemExit, match="exists"):
        still_bracket.draw(tmp_path / "still")


def test_parts_are_held_out_whole(surfaces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is trained on, held out and tested are different images, and no part is trained on and held out."""
    monkeypatch.chdir(surfaces.parent)
    own = OF_PARTS | {"arguments": OF_PARTS["arguments"] | {"root": str(surfaces)}}  # type: ignore[operator]
    data = plan.Dataset(**own)
    job = robustness.wanted(plan.job(PADIM, plan.models()[PADIM], data, 0), data)
    module = robustness_job.framed(build_data(job), data.held_out_by)
    kept = {name: [Path(path).stem for path in part.samples.image_path] for name, part in parts(module).items()}
    assert sorted(kept["train"] + kept["val"]) == sorted(set(kept["train"] + kept["val"]))
    assert not set(kept["train"] + kept["val"]) & set(kept["test"])
    assert len(kept["train"] + kept["val"]) == 16
    held_out, trained_on = ({name[-1] for name in kept[part]} for part in ("val", "train"))
    assert len(held_out) == 2  # a fifth of ten
    assert not held_out & trained_on
    module.setup("fit")
    assert [Path(path).stem for path in module.val_data.samples.image_path] == kept["val"]
    assert module.train_data[0].image.shape[-2:] == (62, 92)  # 88 % of 70 × 104


def parts(module: Any) -> dict[str, Any]:  # noqa: ANN401  # anomalib's datamodules are typed in part
    """Return a datamodule's data sets."""
    return {"train": module.train_data, "val": module.val_data, "test": module.test_data}


def test_there_is_no_threshold_without_good_images() -> None:
    """The error says what is missing."""
    with pytest.raises(ValueError, match="held out"):
        threshold(torch.empty(0))


def test_counts_against_a_threshold() -> None:
    """A score at the threshold is no alarm."""
    scores, labels = torch.tensor([1.0, 2.0, 3.0, 2.5, 4.0]).double(), torch.tensor([0, 0, 0, 1, 1]).bool()
    assert at_threshold(scores, labels, 2.0) == {
        "image_AUROC": pytest.approx(5 / 6), "false_alarms": [1, 3], "found": [2, 2],
    }  # fmt: skip


def row(model: str, dataset: str, seed: int, alarms: int) -> store.Row:
    """Return a row with ``alarms`` of 20 good images under every change, and one of 20 under none."""
    said = {name: {"image_AUROC": 0.9, "false_alarms": [alarms, 20], "found": [7, 10]} for name in changes((1, 1))}
    said[CLEAN] = {"image_AUROC": 0.95, "false_alarms": [1, 20], "found": [9, 10]}
    job = plan.job(model, plan.models()[model], plan.Dataset(dataset, "Folder", (64, 64)), seed)
    return store.finish(job, store.environment(), {"changes": said, "held_out": 30, "threshold": 1.0, "left_out": 0})


def cells(text: str, name: str) -> list[list[str]]:
    """Return the lines of all tables that begin with a name."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [line[1:] for line in lines if line[0] == name]


def test_the_page_has_the_rows_numbers(tmp_path: Path) -> None:
    """Seeds are averaged; the first table has the mean and the worst over all data sets, the others all that counts."""
    path = tmp_path / "robustness.jsonl"
    for made in (row("Ear", "A", 0, 2), row("Ear", "A", 1, 4), row("Ear", "B", 0, 9), row(PADIM, "A", 0, 10)):
        store.append(path, made)
    text = tables.page(path)
    assert cells(text, "change") == [["Ear"], ["Ear", PADIM], ["Ear"]]  # PaDiM was not run on all
    assert cells(text, "10 % darker") == [
        ["30% (45%)"],
        ["15% · 70% · 0.900", "50% · 70% · 0.900"],
        ["45% · 70% · 0.900"],
    ]
    assert cells(text, CLEAN)[1] == ["5% · 90% · 0.950"] * 2
    store.append(path, row(PADIM, "B", 0, 20))
    assert cells(tables.page(path), "10 % darker")[0] == ["30% (45%)", "75% (100%)"]
    which = f"seeds: 0, 1 of Ear; 0 of {PADIM}."
    for named in ("python -m", "anomalib 2", "20 good and 10 defective", which, store.read(path)[0]["machine"]):
        assert named in text
    robustness_page.picture(tables.frame(store.read(path)), tmp_path / "picture.png")
    assert min(Image.open(tmp_path / "picture.png").size) > 800
    last = row("Ear", "A", 0, 2)
    last["metrics"]["own"] = row("Ear", "A", 0, 8)["metrics"]["changes"]
    last["metrics"]["exported_difference"] = {CLEAN: 1e-6, "10 % darker": 3e-6}
    assert "exported" not in tables.page(path)
    store.append(path, last)
    text = tables.page(path)
    assert "differ from torch's by at most 3e-06" in text
    assert cells(text, "change")[1] == ["Ear", "Ear, own threshold", PADIM]
    assert cells(text, "10 % darker")[1] == ["15% · 70% · 0.900", "40% · 70% · 0.900", "50% · 70% · 0.900"]


def test_no_rows_no_table(tmp_path: Path) -> None:
    """A page without rows is not an error."""
    assert "|" not in tables.page(tmp_path / "robustness.jsonl")


@pytest.mark.parametrize("parts", tables.PARTS)
def test_settings_by_data_set(parts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings by data set, mean and spread over seeds; what is missing is a dash."""
    monkeypatch.setattr(store, "RESULTS", tmp_path)
    assert tables.table(parts) == ""
    first, second = tables.PARTS[parts].values()
    for model, dataset, seed, auroc in (
        ("Ear", second, 0, 0.8),
        ("Ear", second, 1, 0.9),
        ("Ear, no skips", first, 0, 0.7),
    ):
        made = row(model, dataset, seed, 0) | {"metrics": {"image_AUROC": auroc}}
        store.append(tmp_path / "detection.jsonl", made)
    text = tables.table(parts)
    assert cells(text, "Ear") == [["–", "0.850 ± 0.071"]]
    assert cells(text, "Ear, no skips") == [["0.700", "–"]]


@pytest.fixture
def kolektor(tmp_path: Path) -> Path:
    """Return four parts in KolektorSDD's layout, of which the first two are the same; the last has a defect."""
    rng = np.random.default_rng(0)
    for part in (1, 2, 3, 4):
        folder = tmp_path / "kolektor" / f"kos{part:02}"
        folder.mkdir(parents=True)
        image = rng.integers(0, 255, (50, 20), dtype=np.uint8) if part != 2 else image  # noqa: F821
        Image.fromarray(image).save(folder / "Part0.jpg")
        mask = np.zeros((50, 20), np.uint8)
        mask[24:26] = 255 * (part == 4)
        Image.fromarray(mask).save(folder / "Part0_label.bmp")
    return tmp_path / "kolektor"


def test_parts_are_cropped_at_places_of_their_own(kolektor: Path, tmp_path: Path) -> None:
    """80 % of each side, mask along, the same every time; what was identical stays so."""
    recrop(kolektor, tmp_path / "moving")
    recrop(kolektor, tmp_path / "again")
    places = []
    for file in sorted(kolektor.glob("*/*.jpg")):
        made = tmp_path / "moving" / file.relative_to(kolektor)
        assert made.read_bytes() == (tmp_path / "again" / file.relative_to(kolektor)).read_bytes()
        crop, whole = (np.array(Image.open(path)).astype(int) for path in (made, file))
        assert crop.shape == (40, 16)
        errors = {(y, x): np.abs(whole[y : y + 40, x : x + 16] - crop).mean() for y in range(11) for x in range(5)}
        places.append(min(errors, key=lambda place: errors[place]))
        assert errors[places[-1]] < 2
    assert places[0] == places[1]
    assert len(set(places)) == 3
    mask = np.array(Image.open(tmp_path / "moving" / "kos04" / "Part0_label.bmp"))
    assert np.flatnonzero(mask.all(axis=1)).tolist() == [24 - places[3][0], 25 - places[3][0]]
    with pytest.raises(SystemExit, match="exists"):
        recrop(kolektor, kolektor)
    with pytest.raises(SystemExit, match="no photographs"):
        recrop(tmp_path, tmp_path / "new")


@pytest.mark.skipif(not (SHARED_DATA / "kolektor").exists(), reason="KolektorSDD's licence keeps it out of the project")
def test_kolektor_that_moves_is_split_by_part(tmp_path: Path) -> None:
    """Its datamodule reads it, and parts that are the same are on one side."""
    recrop(SHARED_DATA / "kolektor", tmp_path / "moving")
    sides = []
    for fold in range(3):
        module = KolektorByPart(root=tmp_path / "moving", fold=fold, num_workers=0)
        module.setup("fit")
        sides.append(set(module.test_data.samples["item"]))
        assert module.test_data.has_anomalous
    assert sum(map(len, sides)) == 50
    for twins in ({"kos01", "kos26"}, {"kos27", "kos34"}):
        assert any(twins <= side for side in sides)
