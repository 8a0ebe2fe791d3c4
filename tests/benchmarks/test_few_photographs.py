# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Models with few photographs: a row end to end, the draws, and the table."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from test_robustness import cells
from test_run import BLOTS, command

from benchmarks import photographs, photographs_job, plan, store, tables


def test_a_row_end_to_end(
    surfaces: Path,
    backbone: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has shares for each draw; what is asked for beyond the photographs that there are fails and says why."""
    own = BLOTS | {"arguments": BLOTS["arguments"] | {"root": str(surfaces)}}  # type: ignore[operator]
    path = tmp_path / "blots.yaml"
    path.write_text(yaml.safe_dump(own))
    arguments = ["--datasets", f"['{path}']", "--counts", "[10, 20]", "--seeds", "[1]", "--trainer.max_epochs", "1"]
    done = command("photographs", *arguments, cwd=tmp_path, **backbone)
    assert done.returncode == 1, done.stdout + done.stderr
    output = tmp_path / "results" / "photographs" / "photographs.jsonl"
    failed, made = store.read(output)
    assert "of 20 good photographs none is left unseen by a training with 20" in failed["error"]
    assert set(made) == set(store.FIELDS)
    metrics = made["metrics"]
    assert [metrics[name] for name in ("photographs", "unseen", "defective")] == [10, 10, 6]
    assert metrics["epochs"] == [1] * photographs.DRAWS
    for name in ("rejected", "rejected_by_held_out_alone", "found", "image_AUROC"):
        assert len(metrics[name]) == photographs.DRAWS
        assert all(0 <= share <= 1 for share in metrics[name])
    assert max(metrics["found"]) > 0
    for name, value in backbone.items():
        monkeypatch.setenv(name, value)
    models = ["Ear", "PatchCore, a tenth"]
    assert photographs.photographs([str(path)], models, [10], [1], trainer={"max_epochs": 1}, output=output) == 0
    assert "Made 1 rows, 0 failed, 1 were there." in capsys.readouterr().out
    rival = store.read(output)[-1]
    assert rival["model"] == "PatchCore, a tenth, 10 photographs"
    assert rival["arguments"]["trainer"]["max_epochs"] == 1
    assert made["arguments"]["trainer"]["check_val_every_n_epoch"] == 1000
    assert max(rival["metrics"]["image_AUROC"]) > 0.5


@pytest.mark.parametrize(("count", "held_out"), [(5, 1), (20, 2), (250, 25)])
def test_a_draw_has_each_photograph_once(count: int, held_out: int) -> None:
    """Another draw has others, a larger one contains it, and the unseen ones are the same where there are enough."""
    good = np.arange(1000, 1952)
    train, validation, unseen = photographs_job.draw(good, count, 3)
    assert (len(train), len(validation), len(unseen)) == (count - held_out, held_out, photographs_job.UNSEEN)
    assert len({*train, *validation, *unseen}) == count + photographs_job.UNSEEN
    assert {*train, *validation, *unseen} <= set(good)
    assert train.tolist() == sorted(train)
    other, larger = photographs_job.draw(good, count, 4), photographs_job.draw(good, count + 10, 3)
    assert {*train, *validation} != {*other[0], *other[1]}
    assert {*train, *validation} < {*larger[0], *larger[1]}
    assert set(unseen) == set(larger[2])


def row(dataset: str, count: int, seed: int, rejected: list[float], model: str = "Ear", **more: object) -> store.Row:
    """Return a row with these shares of good parts rejected, twice as many by the former rule, and 70 % found."""
    data = plan.Dataset(dataset, "Folder", (64, 64))
    job = photographs.wanted(plan.job(model, plan.models()[model], data, seed), count)
    said = {"rejected": rejected, "rejected_by_held_out_alone": [2 * share for share in rejected], "found": [0.7, 0.7]}
    said |= {"photographs": count, "unseen": 90 + seed, "defective": 50} | more
    return store.finish(job, store.environment(), said)


def test_the_table_has_all_draws(tmp_path: Path) -> None:
    """Draws of all seeds count alike; what a data set does not have is a dash; no rows make no table."""
    path = tmp_path / "photographs.jsonl"
    assert "|" not in tables.page(path)
    for made in (
        row("B", 100, 0, [0.5, 0.5]), row("B", 20, 0, [0.0, 0.2]), row("A", 20, 0, [0.0, 0.1]),
        row("A", 20, 1, [0.1, 0.2]), row("A", 20, 0, [0.0, 0.0]),
    ):  # fmt: skip
        store.append(path, made)
    text = tables.page(path)
    titles = ["good parts rejected", "by held-out images alone", "defective found"]
    assert cells(text, "good photographs") == [[f"{dataset}: {title}" for dataset in "AB" for title in titles]]
    found = "70.0% ± 0.0%"
    assert cells(text, "20") == [["7.5% ± 9.6%", "15.0% ± 19.1%", found, "10.0% ± 14.1%", "20.0% ± 28.3%", found]]
    assert cells(text, "100") == [["–", "–", "–", "50.0% ± 0.0%", "100.0% ± 0.0%", found]]
    assert "over 2 to 4 draws" in text
    assert "A 90 to 91 good and 50 defective, B 90 good" in text


def test_rivals_are_compared_by_image_auroc(tmp_path: Path) -> None:
    """Beside Ear, whose rule the table before has alone, on the draws that have it; they validate as they do."""
    path = tmp_path / "photographs.jsonl"
    for model, seed, areas in (("Ear", 0, [0.8, 0.9]), ("PatchCore, a tenth", 0, [0.7, 0.7]), ("Ear", 1, None)):
        store.append(path, row("A", 20, seed, [0.0, 0.0], model, **({"image_AUROC": areas} if areas else {})))
    text = tables.page(path)
    assert cells(text, "good photographs")[1] == ["A: Ear", "A: PatchCore, a tenth"]
    assert cells(text, "20")[1] == ["0.850 ± 0.071", "0.700 ± 0.000"]
    assert "A: PatchCore, a tenth: good parts" not in text
    intervals = [made["arguments"]["trainer"].get("check_val_every_n_epoch") for made in store.read(path)]
    assert intervals == [1000, None, 1000]
