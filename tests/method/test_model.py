# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""EarModel: the parts together, on small random images."""

import pytest
import torch

from anomalib_ear.method import model as torch_model
from anomalib_ear.method.masking import NoMasking, RandomMasking
from anomalib_ear.method.model import CALIBRATION_IMAGES, EarModel, Prediction, Recovery, build_model
from anomalib_ear.method.spaces import FeatureSpace, PixelSpace
from anomalib_ear.method.unet import SkipGatedUNet
from anomalib_ear.method.variation import NONE, Variation
from models import build, images

BATCH_TOLERANCE = 1e-5  # convolutions of a batch may be summed in another order than those of one image


def trained(size: tuple[int, int] = (48, 80)) -> EarModel:
    """Return a model that has seen and kept some images, in evaluation mode."""
    model = build()
    model(images(4, size))
    model.keep_for_calibration(images(4, size))
    model.calibrate()
    return model.eval()


@pytest.fixture
def model() -> EarModel:
    """Return such a model."""
    return trained()


@pytest.mark.parametrize("size", [(48, 80), (33, 57), (8, 8), (101, 16)], ids=str)
@pytest.mark.parametrize("count", [1, 3])
def test_maps_have_the_images_size(size: tuple[int, int], count: int) -> None:
    """Any size from the stride upwards gives a finite map of that size and one score per image, all in [0, 1]."""
    output = trained(size)(images(count, size))
    assert isinstance(output, Prediction)
    assert output.anomaly_map.shape == (count, 1, *size)
    assert output.pred_score.shape == (count,)
    assert output.anomaly_map.isfinite().all()
    assert output.anomaly_map.min() >= 0
    assert output.anomaly_map.max() < 1


def test_training_mode_returns_the_recovery(model: EarModel) -> None:
    """What the loss needs comes back in training mode, as float32."""
    recovery = model.train()(images(2))
    assert isinstance(recovery, Recovery)
    assert recovery.recovered.shape == recovery.target.shape
    assert recovery.recovered.dtype == torch.float32


def test_training_also_recovers_with_skips_off(model: EarModel) -> None:
    """The network learns to do without the shallowest skip: its second recovery does not use it."""
    recovery = model.train()(images(2))
    assert recovery.gated is not None
    assert not torch.equal(recovery.gated, recovery.recovered)
    recovery.gated.sum().backward()
    weights = model.unet.decoder[0].convs[0].weight
    assert weights.grad[:, model.unet.decoder[0].deep_channels :].abs().sum() == 0


def test_same_image_same_map(model: EarModel) -> None:
    """Two runs on one image agree bit for bit."""
    image = images(1)
    assert torch.equal(model(image).anomaly_map, model(image).anomaly_map)


def test_an_image_scores_alone_as_in_a_batch(model: EarModel) -> None:
    """The other images of a batch have no say."""
    batch = images(5)
    alone = torch.cat([model(image).anomaly_map for image in batch.split(1)])
    torch.testing.assert_close(model(batch).anomaly_map, alone, atol=BATCH_TOLERANCE, rtol=0)


@pytest.mark.parametrize("contrast", [1.0, 0.03], ids=["vivid", "faint"])
def test_faint_surfaces_score_as_vivid_ones(contrast: float) -> None:
    """The map depends on a defect's contrast relative to its surface, not on the surface's own."""
    model = build(masked=False)
    batch = images(8, contrast=contrast)
    for _ in range(5):
        model(batch)
    model.keep_for_calibration(batch)
    model.calibrate()
    reference = build(masked=False)
    vivid = images(8)
    for _ in range(5):
        reference(vivid)
    reference.keep_for_calibration(vivid)
    reference.calibrate()
    assert (model.eval()(batch).anomaly_map - reference.eval()(vivid).anomaly_map).abs().mean() < 0.05


def test_attention_and_mask_do_not_learn(model: EarModel) -> None:
    """Only the U-Net has parameters to train."""
    model.train()(images(2)).recovered.sum().backward()
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None} == {"unet"}


def test_no_masking_excises_nothing() -> None:
    """Without attention the network sees the image itself."""
    model = build(masked=False)
    assert model(images(2)).mask.sum() == 0


def test_changed_gates_are_calibrated(model: EarModel) -> None:
    """After a change of gates a defect-free image scores as it did before: the bound has moved along."""
    before = model(images(4)).anomaly_map.mean()
    bound = model.anomaly_map.residual.mean.clone()
    model.unet.gates = (False, False)
    model.calibrate()
    assert not torch.allclose(model.anomaly_map.residual.mean, bound)
    assert abs(model(images(4)).anomaly_map.mean() - before) < 0.05


def test_state_is_restored_with_its_calibration(model: EarModel) -> None:
    """A fresh model that loads the state gives the same map, bit for bit."""
    fresh = build().eval()
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(images(1)).anomaly_map, model(images(1)).anomaly_map)


def test_other_gates_than_the_state_s_are_calibrated_on_loading(model: EarModel) -> None:
    """Gates set before loading get the calibration that they would have got on the trained model."""
    fresh = build().eval()
    fresh.unet.gates = (False, True)
    fresh.load_state_dict(model.state_dict())
    model.unet.gates = (False, True)
    model.calibrate()
    assert torch.equal(fresh(images(1)).anomaly_map, model(images(1)).anomaly_map)


def test_keeps_a_bounded_number_of_images(model: EarModel) -> None:
    """However long training is, the checkpoint holds a fixed number of images."""
    for _ in range(20):
        model.keep_for_calibration(images(8))
    assert len(model.calibration_images) == CALIBRATION_IMAGES


@pytest.mark.parametrize(
    ("image", "named"),
    [
        (torch.rand(1, 1, 48, 80), "3, H, W"),
        (torch.rand(1, 4, 48, 80), "3, H, W"),
        (torch.rand(3, 48, 80), "3, H, W"),
        (torch.rand(1, 3, 7, 80), "at least 8 x 8"),
        (torch.full((1, 3, 48, 80), float("nan")), "finite"),
        (torch.full((1, 3, 48, 80), float("inf")), "finite"),
    ],
    ids=["grey", "four channels", "no batch", "too small", "nan", "infinity"],
)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_bad_images_are_refused(model: EarModel, image: torch.Tensor, named: str, *, training: bool) -> None:
    """One error says what is wrong, in training as in inference."""
    with pytest.raises(ValueError, match=named):
        model.train(training)(image)


@pytest.mark.parametrize(("levels", "least"), [(3, 64), (6, 512)])
def test_the_least_size_is_in_pixels(levels: int, least: int) -> None:
    """The deepest level of the U-Net has a position to look at, each of 16 pixels and more."""
    space = FeatureSpace()
    unet = SkipGatedUNet(space.dimensions + 1, space.dimensions, (2,) * levels)
    model = EarModel(space=space, masking=NoMasking(), unet=unet, variation=Variation(**NONE)).eval()
    assert model(torch.rand(1, 3, least, least)).anomaly_map.isfinite().all()
    with pytest.raises(ValueError, match=f"at least {least} x {least}"):
        model(torch.rand(1, 3, least, least - 1))


class TestRandomMasks:
    """RIAD: recoveries of disjoint masks, put together."""

    @staticmethod
    def riad(*, training: bool = False) -> EarModel:
        """Return a small model with random masks."""
        torch.manual_seed(0)
        unet = SkipGatedUNet(4, 3, (4, 6, 8), patch_size=2)
        return EarModel(space=PixelSpace(), masking=RandomMasking(), unet=unet, variation=Variation(**NONE)).train(
            training
        )

    def test_each_place_is_recovered_by_the_pass_that_excised_it(self) -> None:
        """With a network that returns its input, only what no mask had excised could come through: nothing does."""
        model = self.riad()
        model.unet.forward = lambda x: x[:, :3]
        for recovery in model.recover(images(2, (32, 48))):
            assert recovery.target.abs().min() > 0
            assert recovery.recovered.abs().max() == 0

    @pytest.mark.parametrize(("training", "recoveries"), [(True, 1), (False, 4)])
    def test_evaluation_averages_over_the_sizes_of_cells(self, *, training: bool, recoveries: int) -> None:
        """In training there is one size per batch."""
        assert len(self.riad(training=training).recover(images(1))) == recoveries

    def test_scores_differ_between_runs(self) -> None:
        """Another draw, another score; the attention's mask gives the same score always."""
        model = self.riad().eval()
        assert model(images(1)).pred_score != model(images(1)).pred_score


class TestVariedCalibration:
    """What varied copies change in a model, and what they leave."""

    def test_a_grainy_camera_scores_lower(self) -> None:
        """Good images with more noise than in training stand out less if calibration saw the like."""
        good = images(12, (64, 96))
        grainy = (good + 0.06 * torch.randn(good.shape, generator=torch.Generator().manual_seed(2))).clamp(0, 1)
        scores = []
        for variation in (False, NONE | {"noise": 0.1}):
            torch.manual_seed(0)
            model = build_model(masking="none", channels=(8, 8), variation=variation)
            model.space.load_pretrained()
            model(good)
            model.eval().calibrate(good.split(4), copies=16 if variation else 1)
            scores.append(model(grainy).pred_score.mean())
        assert scores[0] > 0.8
        assert scores[1] < 0.5

    def test_the_first_copy_is_the_image(self) -> None:
        """Copies of an image follow each other; all but the first are varied."""
        model = build()
        model.variation = Variation()
        varied = torch.cat(list(model.vary(images(3).split(2), copies=3)))
        assert torch.equal(varied[::3], images(3))
        assert all(not torch.equal(varied[i], varied[i - i % 3]) for i in range(9) if i % 3)

    def test_copies_are_the_same_each_time(self) -> None:
        """They depend neither on the size of the batches nor on what was drawn before, and draw nothing themselves."""
        model = build()
        model.variation = Variation()
        whole = torch.cat(list(model.vary([images(5)], copies=2)))
        state = torch.random.get_rng_state()
        parts = torch.cat(list(model.vary(images(5).split(2), copies=2)))
        torch.testing.assert_close(parts, whole)
        assert torch.equal(torch.random.get_rng_state(), state)

    @pytest.mark.parametrize(("count", "copies"), [(0, 1), (20, 16), (250, 6), (600, 2), (3000, 2)])
    def test_few_images_come_in_more_copies(self, count: int, copies: int) -> None:
        """Large sets need few copies; without variation there is one of each."""
        model = build()
        assert model.calibration_copies(count) == 1
        model.variation = Variation()
        assert model.calibration_copies(count) == copies

    @pytest.mark.parametrize("count", [10, 60, 100, 1000])
    def test_no_image_is_without_a_varied_copy(self, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where residuals are limited, fewer images are taken, each with a copy: else large sets would be brittle."""
        model = build()
        model.variation = Variation()
        model.keep_for_calibration(images(1))
        values = sum(kind[0].numel() for kind in model.eval().compare(images(1)))
        monkeypatch.setattr(torch_model, "CALIBRATION_VALUES", 100 * values)
        taken = model.calibration_indices(count)
        copies = model.calibration_copies(len(taken))
        assert len(taken) == min(count, 50)
        assert 2 <= copies <= 100 // len(taken)

    def test_images_are_scored_by_the_statistics_of_others(self) -> None:
        """An odd image among the training images scores as it would if it were new."""
        model = build().eval()
        some = images(20)
        some[7] = 1 - some[7].roll(5, dims=-1) * torch.linspace(0.5, 1.5, 80)
        scores = model.calibrate(some.split(4))
        assert scores.shape == (20,)
        others = torch.cat([some[:4], some[8:]])  # without its neighbours, which are left out with it
        model.calibrate(others.split(4))
        assert torch.isclose(scores[7], model(some[7:8]).pred_score[0], atol=1e-4)
        model.calibrate(some.split(4))
        assert scores[7] > model(some[7:8]).pred_score[0]
