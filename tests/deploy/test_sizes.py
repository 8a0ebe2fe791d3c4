# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""A photograph of another shape than those of training, or a smaller one, is scored, and said."""

import csv
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomalib_ear.deploy.runtime import DeployedModel
from anomalib_ear.deploy.sizes import TrainedSizes, doubt
from brightness import brightness_model, inspect


@pytest.mark.parametrize(
    ("size", "ratios", "is_other"),
    [
        ((100, 200), (2.0, 2.0), False),
        ((1000, 2000), (2.0, 2.0), False),  # the size is not the shape
        ((100, 218), (2.0, 2.0), False),
        ((100, 222), (2.0, 2.0), True),
        ((100, 180), (2.0, 2.0), True),
        ((200, 100), (2.0, 2.0), True),
        ((100, 150), (1.0, 2.0), False),
        ((100, 90), (1.0, 2.0), True),
    ],
)
def test_a_shape_is_another_beyond_a_tenth(size: tuple[int, int], ratios: tuple[float, float], is_other: bool) -> None:
    """Wider than the widest or narrower than the narrowest of training."""
    assert (doubt(size, TrainedSizes(*ratios, 1, 1)) is not None) == is_other


@pytest.mark.parametrize(
    ("size", "is_small"), [((90, 190), True), ((91, 182), False), ((100, 181), True), ((900, 1900), False)]
)
def test_a_photograph_is_small_below_a_tenth(size: tuple[int, int], is_small: bool) -> None:
    """Of height and width either counts."""
    said = doubt(size, TrainedSizes(1, 3, 100, 200))
    assert (said is not None) == is_small
    assert said is None or said.startswith(
        f"{size[0]} x {size[1]} pixels (height x width) are fewer than the model was"
    )


def test_the_least_size_is_what_the_network_sees_of_the_smallest() -> None:
    """A photograph that is enlarged has no more detail than it has, a large one what is left of it."""
    assert TrainedSizes.of([(640, 960), (320, 960), (1000, 1000)], (64, 96)) == (1, 3, 64, 96)
    assert TrainedSizes.of([(640, 960), (32, 128), (1000, 1000)], (64, 96)) == (1, 4, 32, 96)


def test_the_line_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first by name, all by number, each in its row; the others' rows are as ever."""
    for name, size in (("1.png", (40, 20)), ("2.png", (20, 40)), ("3.png", (81, 40)), ("4.png", (30, 15))):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.new("L", size, 90).save(tmp_path / "in" / name)
    assert inspect(brightness_model(tmp_path, trained_sizes="2 2 20 40"), tmp_path / "in", tmp_path / "out") == 0
    with (tmp_path / "out" / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["doubt"]) for row in rows] == [False, True, False, True]
    assert {row["drift"] for row in rows} == {""}
    said = capsys.readouterr()
    assert "2 of another shape or light than in training" in said.out
    lines = [line for line in said.err.splitlines() if "doubt: " in line]
    assert len(lines) == 1
    assert "doubt: 2.png: 40 x 20 pixels (height x width) are another shape than in training" in lines[0]
    assert "0.5 times as wide as high, there 2." in lines[0]


def test_a_program_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Once by a warning, and by each prediction."""
    model = DeployedModel(brightness_model(tmp_path, trained_sizes="1 2 20 20"))
    with caplog.at_level(logging.WARNING):
        doubts = [model.predict(np.zeros(size, np.uint8)).doubt for size in ((20, 40), (40, 20), (20, 30), (50, 20))]
    assert [doubt is not None for doubt in doubts] == [False, True, False, True]
    assert doubts[3].startswith("50 x 20 pixels (height x width) are another shape than in training")
    assert len(caplog.records) == 1


def test_a_model_that_does_not_note_it_doubts_nothing(tmp_path: Path) -> None:
    """One of another program, or of an earlier version."""
    assert DeployedModel(brightness_model(tmp_path)).predict(np.zeros((20, 90), np.uint8)).doubt is None
