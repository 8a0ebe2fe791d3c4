# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The watch for drift: silent on parts like those of training, plain when light or camera have changed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from PIL import Image
from test_infer import table

from anomalib_ear import Ear
from anomalib_ear.deploy.drift import ALARMS, MIN_GOOD_VALUES, QUANTITIES, SCORE, DriftWatch, measure
from anomalib_ear.deploy.export import describe
from anomalib_ear.deploy.runtime import DeployedModel
from benchmarks.changes import CLEAN, changes
from brightness import brightness_model, inspect, photograph

SIZE = (64, 96)
CHANGES = changes(SIZE)
# What 5 % of standard normal scores exceed.
ALARM = 1.645


@pytest.mark.parametrize("images", [MIN_GOOD_VALUES, 32, 300])
def test_it_is_silent_on_parts_like_those_of_training(images: int) -> None:
    """One false warning in 10 000 parts at most, one in a hundred defective."""
    rng = np.random.default_rng(0)
    warned, runs, parts = 0, 40, 500
    for _ in range(runs):
        watch = DriftWatch({name: rng.normal(size=images).tolist() for name in (SCORE, *QUANTITIES)}, ALARM)
        values = rng.normal(size=(parts, 1 + len(QUANTITIES)))
        values[rng.random(parts) < 0.01, 0] = 9
        warned += any(watch.add(dict(zip((SCORE, *QUANTITIES), row, strict=True))) for row in values.tolist())
    assert warned <= runs * parts / 10_000


def test_it_says_what_has_changed_most() -> None:
    """After the first hundred photographs, in words with both medians."""
    watch = DriftWatch({name: [0.4 + index / 1000 for index in range(40)] for name in ("brightness", "contrast")})
    said = [watch.add({"brightness": 0.3, "contrast": 0.41}) for _ in range(100)]
    assert said == [None] * 99 + ["brightness"]
    assert watch.explain("brightness") == (
        "light or camera have changed since training: the median brightness of the last 100 photographs is 0.3, of "
        "good ones in training 0.42."
    )


@pytest.mark.parametrize(
    ("share", "threshold", "expected", "also"),
    [
        (0.1, 0.5, "", ""),
        (0.2, 0.5, ALARMS, "many parts are defective: 40 of the last 200 photographs are, of 50 good ones in"),
        (0.2, 0.45, ALARMS, "many parts are defective: 56 of the last 200 photographs are, of 50 good ones in"),
        (0.1, 0.3, "", ""),  # rejects 40 % of good parts
        (0.8, 0.5, SCORE, "most parts are defective: the median score of the last 200 photographs is 0.9"),
    ],
)
def test_defective_parts_are_no_drift_unless_many_are(share: float, threshold: float, expected: str, also: str) -> None:
    """Nobody can tell from scores whether it is the parts that are defective, and the warning says so."""
    watch = DriftWatch({SCORE: np.linspace(0, 0.5, 50).tolist()}, threshold)
    parts = np.where(np.arange(200) % 10 < 10 * share, 0.9, np.linspace(0, 0.5, 200))
    assert [watch.add({SCORE: score}) for score in parts.tolist()][-1] == expected
    assert not expected or f"light or camera have changed since training, or {also}" in watch.explain(expected)


@pytest.mark.parametrize("images", [100, 300])
def test_it_speaks_where_false_alarms_double(images: int) -> None:
    """From 8 to 16 %, and nothing but the scores' upper tail moves: mostly within 200 parts, always within 1000."""
    rng = np.random.default_rng(0)
    spoke = []
    for _ in range(40):
        watch = DriftWatch({SCORE: rng.random(images).tolist()}, 1)
        parts = np.where(rng.random(1000) < 0.16, 1.1, rng.random(1000))
        said = [watch.add({SCORE: score}) for score in parts.tolist()]
        assert set(said) <= {None, "", ALARMS}
        spoke.append(said.index(ALARMS) if ALARMS in said else len(said))
    assert sorted(spoke)[20] < 200
    assert max(spoke) < 1000


def test_too_few_good_images_tell_nothing() -> None:
    """Chance would decide."""
    watch = DriftWatch({SCORE: [0.1] * (MIN_GOOD_VALUES - 1)})
    assert not watch.is_on
    assert {watch.add({SCORE: 0.9}) for _ in range(300)} == {None}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda image: 0.8 * image, "brightness"),
        (lambda image: image * np.array([1.05, 1, 0.95])[None, :, None, None], "red"),
        (lambda image: image * np.array([0.95, 1, 1.05])[None, :, None, None], "blue"),
        (lambda image: image / 2 + image.mean() / 2, "contrast"),
        (lambda image: (image + np.roll(image, 1, axis=3)) / 2, "sharpness"),
    ],
)
def test_each_quantity_stands_for_one_change(change: Callable[[np.ndarray], np.ndarray], name: str) -> None:
    """The one that changes is named, and light is none of contrast and sharpness."""
    image = np.random.default_rng(0).uniform(0.3, 0.7, (1, 3, 40, 60))
    before, after = measure(image), measure(change(image))
    if name == "contrast":  # sharpness is of the same grey levels
        assert after[name] < 0.6 * before[name]
        return
    changed = {each for each in before if abs(after[each] / before[each] - 1) > 0.02}
    assert name in changed
    if name == "brightness":
        assert changed == {name}


@pytest.mark.parametrize("axis", [0, 1])
def test_a_camera_that_has_moved_is_seen(axis: int) -> None:
    """Though the parts do not lie still: their place is drawn within a tenth of the side, and the shift is as large."""
    rng = np.random.default_rng(0)
    place = np.ogrid[:100, :100]

    def part(shift: float) -> dict[str, float]:
        centre = 50 + rng.uniform(-10, 10, 2) + shift * (np.arange(2) == axis)
        disc = sum((each - middle) ** 2 for each, middle in zip(place, centre, strict=True)) < 20**2
        return measure(np.broadcast_to(0.2 + 0.5 * disc, (1, 3, 100, 100)))

    good = [part(0) for _ in range(32)]
    watches = [DriftWatch({name: [each[name] for each in good] for name in QUANTITIES}) for _ in range(2)]
    assert {watches[0].add(part(0)) for _ in range(200)} == {None, ""}
    assert [watches[1].add(part(10)) for _ in range(100)][-1] == ("row", "column")[axis]


def surfaces(count: int, seed: int) -> torch.Tensor:
    """Draw photographs of a lit surface whose light varies a little, ``(count, 3, 80, 120)`` in grey levels."""
    generator = torch.Generator().manual_seed(seed)
    columns = torch.linspace(0, 40, 120).sin().expand(80, 120)
    light = (0.5 + 0.2 * columns) * (1 + 0.03 * torch.randn(count, 1, 1, 1, generator=generator))
    return ((light + 0.01 * torch.randn(count, 3, 80, 120, generator=generator)) * 255).clamp(0, 255)


def write(images: torch.Tensor, folder: Path, change: str = CLEAN) -> Path:
    """Write photographs, changed as the benchmark of robustness does it."""
    folder.mkdir()
    for index, image in enumerate(images.round().byte()):
        pixels = CHANGES[change](image, index).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{index:03}.bmp")
    return folder


def as_training_sees(images: torch.Tensor, folder: Path) -> torch.Tensor:
    """Return photographs as training gets them."""
    files = sorted(write(images, folder).iterdir())
    pixels = [
        torch.from_numpy(np.array(Image.open(file).resize(SIZE[::-1], Image.Resampling.BILINEAR))) for file in files
    ]
    return torch.stack(pixels).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Ear:
    """Return Ear, calibrated but hardly trained, with the threshold of good images."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("good")
    ear = Ear(image_size=SIZE, channels=[4, 8], visualizer=False)
    ear.model.space.load_pretrained()
    good = as_training_sees(surfaces(40, 0), folder / "training")
    ear.model.train()(good[:8])
    ear.model.keep_for_calibration(good)
    ear.post_processor.take_training_scores(ear.model.calibrate())
    ear.eval()
    threshold = ear.post_processor._image_threshold_metric
    with torch.no_grad():
        threshold.preds.append(ear.model(as_training_sees(surfaces(10, 1), folder / "validation")).pred_score)
    threshold.target.append(torch.zeros(10, dtype=torch.bool))
    ear.post_processor._image_threshold.copy_(threshold.compute())
    ear.post_processor._pixel_threshold.fill_(0.5)
    return ear


@pytest.fixture(scope="module")
def exported(trained: Ear, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return its export."""
    return trained.to_openvino(tmp_path_factory.mktemp("exported"))


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (CLEAN, set()),
        ("10 % darker", {"brightness"}),
        ("20 % brighter", {"brightness"}),
        ("5 % redder", {"red", "blue"}),
        ("5 % bluer", {"red", "blue"}),
        ("noise, σ 5", {"sharpness", SCORE}),
        ("blur, σ 2", {"sharpness", "contrast", SCORE}),
    ],
)
def test_the_line_says_once_what_has_changed(
    change: str, names: set[str], exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Silent on new photographs that are like those of training; the table has it from the hundredth on."""
    folder = write(surfaces(130, 2), tmp_path / "in", change)
    assert inspect(exported, folder, tmp_path / "out", "--heat_maps", "false") == 0
    assert capsys.readouterr().err.count("drift: light or camera have changed") == bool(names)
    column = [row["drift"] for row in table(tmp_path / "out")]
    assert column[:99] == [""] * 99
    assert set(column[99:]) <= (names or {"no"})


def test_an_export_holds_what_good_parts_are_like(trained: Ear, exported: Path) -> None:
    """Scores of validation and training images, also after the model was saved and loaded; light of training's."""
    state = trained.state_dict()
    loaded = Ear(image_size=SIZE, channels=[4, 8], visualizer=False).eval()
    loaded.load_state_dict(state)
    expected = trained.post_processor.good_scores
    trained_on = len(trained.post_processor._image_threshold_metric.training_scores)
    assert len(expected) == trained_on + 10
    torch.testing.assert_close(loaded.post_processor.good_scores, expected)
    noted = describe(loaded.post_processor, loaded.model.calibration_images)
    information = openvino.Core().read_model(exported)
    scores = [float(score) for score in information.get_rt_info(["anomalib_ear", "good_score"]).astype(str).split()]
    assert scores == pytest.approx(expected.sort().values.tolist(), abs=1e-5)
    kept = [measure(image[None].numpy() / 255) for image in trained.model.calibration_images]
    for name in QUANTITIES:
        values = information.get_rt_info(["anomalib_ear", f"good_{name}"]).astype(str)
        assert values == noted[f"good_{name}"]
        found = sorted(float(value) for value in values.split())
        assert found == pytest.approx(sorted(each[name] for each in kept), rel=1e-4)
    older = {name: value for name, value in state.items() if not name.endswith("good_scores")}
    loaded.load_state_dict(older)  # of an earlier version
    assert len(loaded.post_processor.good_scores) == trained_on


def test_a_photograph_that_was_kept_twice_counts_once(trained: Ear) -> None:
    """Of few photographs some are kept again in later epochs; the watch asks for twenty different ones."""
    kept = trained.model.calibration_images[:5]
    noted = describe(trained.post_processor, torch.cat([kept, kept, kept, kept, kept]))
    assert len(noted["good_brightness"].split()) == 5


@pytest.mark.parametrize(
    ("level", "is_doubted"), [(0, True), (44, True), (46, False), (90, False), (208, False), (211, True), (255, True)]
)
def test_one_photograph_as_of_a_lamp_that_is_off_is_doubted(
    level: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, is_doubted: bool
) -> None:
    """Half as bright as the darkest good one, or half as far from white as the brightest; it still tells of drift."""
    for number in range(100):
        photograph(tmp_path / "in" / f"{number:03}.png", level)
    known = " ".join(f"{0.35 + 0.01 * (7 * number % 30):.2f}" for number in range(1, 31))
    model = brightness_model(tmp_path, good_brightness=known)
    assert (DeployedModel(model).predict(np.full((10, 20), level, np.uint8)).doubt is not None) == is_doubted
    assert inspect(model, tmp_path / "in", tmp_path / "out", "--heat_maps", "false") == 0
    rows, said = table(tmp_path / "out"), capsys.readouterr()
    assert [bool(row["doubt"]) for row in rows] == [is_doubted] * 100
    assert rows[-1]["drift"] == "brightness"
    doubt = (
        f"doubt: 000.png: the mean of its grey levels is {level / 255:.3g} of white, of 30 good ones in training 0.35"
    )
    assert said.err.count(doubt) == is_doubted
    assert ("100 of another shape or light than in training" in said.out) == is_doubted


def test_a_doubt_of_shape_does_not_hide_one_of_light(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first of each is said, and a photograph may have both; one that is dark in part is another matter."""
    half = np.repeat(np.uint8([[0], [200]]), 10, axis=0) * np.ones((1, 40), np.uint8)
    pictures = [half, half.T, half // 8, half.T // 8, half // 9]
    (tmp_path / "in").mkdir()
    for number, levels in enumerate(pictures):
        Image.fromarray(levels).save(tmp_path / "in" / f"{number}.png")
    model = brightness_model(tmp_path, trained_sizes="2 2 20 40", good_brightness="0.5 0.3 0.4")
    assert inspect(model, tmp_path / "in", tmp_path / "out", "--heat_maps", "false") == 0
    said = [line.partition("doubt: ")[2][:5] for line in capsys.readouterr().err.splitlines() if "doubt: " in line]
    assert said == ["1.png", "2.png"]
    reasons = [row["doubt"] for row in table(tmp_path / "out")]
    assert [("another shape" in reason, "grey levels" in reason) for reason in reasons] == [
        (False, False), (True, False), (False, True), (True, True), (False, True)
    ]  # fmt: skip


def test_a_model_that_does_not_know_says_so_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Such as those of anomalib's other methods; the column is empty."""
    photograph(tmp_path / "in" / "1.png", 1)
    assert inspect(brightness_model(tmp_path), tmp_path / "in", tmp_path / "out") == 0
    assert capsys.readouterr().out.count("No watch for drift") == 1
    assert table(tmp_path / "out")[0]["drift"] == ""


def test_what_is_not_compared_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model may know enough scores of good photographs and too little of their light."""
    photograph(tmp_path / "in" / "1.png", 1)
    model = brightness_model(tmp_path, good_score=" ".join(f"0.{number}" for number in range(10, 40)))
    assert inspect(model, tmp_path / "in", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert said.count("The watch for drift does not compare brightness, red, blue") == 1
    assert "No watch for drift" not in said
