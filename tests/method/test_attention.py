# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""SpatialAttention: what it fires on, what it must not depend on, and its weights file."""

from pathlib import Path

import openvino
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional

from anomalib_ear.method.attention import BUNDLED_WEIGHTS, SpatialAttention, digest, load_attention, read_weights

AUROC_BOUND = 0.93  # measured 0.98 to 0.99, see the model card
ROUNDING = 1e-4  # single precision, after the scaling by the image's mean response
BATCH_TOLERANCE = 1e-5  # convolutions of a batch may be summed in another order than those of one image


@pytest.fixture(scope="module")
def attention() -> SpatialAttention:
    """Return the attention that comes with the package."""
    return load_attention()


@pytest.fixture
def altered(tmp_path: Path) -> Path:
    """Return a copy of the bundled weights with one bit of a tensor changed."""
    content = bytearray(BUNDLED_WEIGHTS.read_bytes())
    content[-100] ^= 1
    file = tmp_path / "altered.safetensors"
    file.write_bytes(content)
    return file


def stroke_canvas(seed: int, *, polarity: int, contrast: float = 0.25, noise: float = 0.05) -> tuple[Tensor, Tensor]:
    """Return a noisy canvas ``(1, 1, 200, 320)`` with six bent strokes, and where they are."""
    random = torch.Generator().manual_seed(seed)
    strokes = torch.zeros(1, 1, 200, 320)
    bend = torch.linspace(0, 1.5 * torch.pi, 80)
    for _ in range(6):
        top, left = (torch.randint(15, high, (1,), generator=random) for high in (165, 285))
        strokes[..., (top + 10 + 9 * bend.sin()).long(), (left + 10 + 9 * bend.cos()).long()] = 1
    strokes = functional.max_pool2d(strokes, 3, 1, 1)
    canvas = 0.5 + noise * torch.randn(strokes.shape, generator=random) + polarity * contrast * strokes
    return canvas.clamp(0, 1), strokes > 0


@pytest.mark.parametrize("polarity", [1, -1], ids=["bright", "dark"])
@pytest.mark.parametrize("seed", [0, 1])
def test_fires_on_strokes(attention: SpatialAttention, polarity: int, seed: int) -> None:
    """Bent strokes on a large noisy canvas are attended more than the noise."""
    canvas, strokes = stroke_canvas(seed, polarity=polarity)
    assert roc_auc_score(strokes.flatten(), attention(canvas).flatten()) > AUROC_BOUND


def test_uses_the_whole_range(attention: SpatialAttention) -> None:
    """Strokes stand out at one or two of the scales, and noise at none."""
    canvas, strokes = stroke_canvas(0, polarity=1)
    result = attention(canvas)
    assert result[strokes].quantile(0.9) > 0.3
    assert result[~strokes].median() < 0.05


def test_map_is_not_shifted() -> None:
    """With symmetric weights, the map of a centred cross is symmetric: no layer moves it."""
    attention = SpatialAttention()
    for parameter in attention.parameters():
        torch.nn.init.constant_(parameter, 0.01)
    attention.filters.data[..., 2:4, 2:4] = 1
    canvas = torch.full((1, 1, 256, 256), 0.5)  # so that the coarsest scale sees the cross away from the border
    canvas[..., 120:136, 96:160] = canvas[..., 96:160, 120:136] = 1.0
    result = attention(canvas)
    assert result.std() > 0.01
    torch.testing.assert_close(result, result.flip(2, 3), rtol=0, atol=ROUNDING)


def test_coarse_scales_see_broad_defects() -> None:
    """A blotch of 60 pixels is attended over its whole area by five scales, and only along its border by one."""
    y, x = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    blotch = ((y - 128) ** 2 + (x - 128) ** 2).sqrt() < 30
    noise = 0.03 * torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    canvas = (0.5 + noise + 0.2 * blotch)[None, None]
    five, one = load_attention(), SpatialAttention(scales=1).requires_grad_(requires_grad=False)
    one.load_state_dict(five.state_dict())
    single, several = (roc_auc_score(blotch.flatten(), attention(canvas).flatten()) for attention in (one, five))
    assert several > single + 0.05


@pytest.mark.parametrize("size", [(8, 8), (16, 16), (17, 19), (63, 130), (101, 16)], ids=str)
@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
def test_map_has_the_images_size(attention: SpatialAttention, size: tuple[int, int], channels: int) -> None:
    """Any size from 8 pixels upwards gives a map of that size in [0, 1]."""
    result = attention(torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(0)))
    assert result.shape == (2, 1, *size)
    assert result.min() >= 0
    assert result.max() <= 1


def test_grey_equals_equal_colours(attention: SpatialAttention) -> None:
    """A grey image gives the map of the same image with three equal channels."""
    canvas, _ = stroke_canvas(0, polarity=1)
    torch.testing.assert_close(attention(canvas.expand(-1, 3, -1, -1)), attention(canvas), rtol=0, atol=ROUNDING)


def test_polarity_drops_out(attention: SpatialAttention) -> None:
    """An image and its negative give the same map."""
    canvas, _ = stroke_canvas(0, polarity=1)
    torch.testing.assert_close(attention(1 - canvas), attention(canvas), rtol=0, atol=ROUNDING)


def test_uneven_light_drops_out(attention: SpatialAttention) -> None:
    """Light that falls off from left to right hardly changes the map, where strokes stand at 0.3 and more."""
    canvas, _ = stroke_canvas(0, polarity=1)
    result = attention(canvas + torch.linspace(-0.2, 0.2, canvas.shape[-1]))
    assert (result - attention(canvas)).abs().mean() < 0.02


def test_faint_contrast_is_enough(attention: SpatialAttention) -> None:
    """An image with a standard deviation of 0.005 gives nearly the map of the same image at full contrast."""
    canvas, _ = stroke_canvas(0, polarity=1)
    faint = 0.5 + (canvas - canvas.mean()) * 0.005 / canvas.std()
    torch.testing.assert_close(attention(faint), attention(canvas), rtol=0, atol=0.05)


def test_constant_image_attends_nothing_in_particular(attention: SpatialAttention) -> None:
    """Without any contrast the map is finite and the same everywhere."""
    result = attention(torch.full((1, 3, 40, 56), 0.3))
    assert result.max() - result.min() < ROUNDING


def test_batch_equals_single_images(attention: SpatialAttention) -> None:
    """An image has the same map alone and beside one of other brightness and contrast."""
    images = torch.cat([stroke_canvas(0, polarity=1)[0], stroke_canvas(1, polarity=-1)[0] * 0.2])
    single = torch.cat([attention(image[None]) for image in images])
    torch.testing.assert_close(attention(images), single, rtol=0, atol=BATCH_TOLERANCE)


def test_repeats_bit_for_bit(attention: SpatialAttention) -> None:
    """The same image gives the same map twice."""
    canvas, _ = stroke_canvas(0, polarity=1)
    torch.testing.assert_close(attention(canvas), attention(canvas), rtol=0, atol=0)


def test_training_mode_changes_nothing() -> None:
    """A model that is set to training mode keeps its frozen attention as it was."""
    canvas, _ = stroke_canvas(0, polarity=1)
    torch.testing.assert_close(load_attention().train()(canvas), load_attention()(canvas), rtol=0, atol=0)


def test_loaded_attention_is_frozen(attention: SpatialAttention) -> None:
    """No parameter asks for a gradient, and the attention is in evaluation mode."""
    assert not any(parameter.requires_grad for parameter in attention.parameters())
    assert not attention.training


def test_gradient_reaches_the_image(attention: SpatialAttention) -> None:
    """Frozen weights do not cut the gradient to the image."""
    canvas = stroke_canvas(0, polarity=1)[0].requires_grad_()
    attention(canvas).sum().backward()
    assert canvas.grad is not None
    assert canvas.grad.abs().sum() > 0


def test_refuses_other_channel_counts(attention: SpatialAttention) -> None:
    """The error names what was given and what is accepted."""
    with pytest.raises(ValueError, match=r"4 channels.*C = 1 .*or 3"):
        attention(torch.rand(1, 4, 32, 32))


def test_exported_graph_equals_torch(attention: SpatialAttention, tmp_path: Path) -> None:
    """OpenVINO gives torch's map for other counts and sizes than the graph was traced with."""
    axes = {0: torch.export.Dim("count"), 2: torch.export.Dim("height", min=16), 3: torch.export.Dim("width", min=16)}
    example = torch.rand(2, 3, 48, 80)
    file = tmp_path / "attention.onnx"
    torch.onnx.export(
        attention, (example,), file, dynamo=True, opset_version=18, dynamic_shapes={"image": axes}, verbose=False
    )
    compiled = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for size in ((1, 3, 65, 131), (3, 3, 96, 40)):
        image = torch.rand(size, generator=torch.Generator().manual_seed(0))
        exported = torch.from_numpy(compiled(image.numpy())[0])
        torch.testing.assert_close(exported, attention(image), rtol=0, atol=1e-5)


def test_bundled_file_matches_its_digest() -> None:
    """The digest in the bundled file's metadata is that of its tensors."""
    tensors, metadata = read_weights(BUNDLED_WEIGHTS)
    assert metadata["tensors_sha256"] == digest(tensors)


def test_bundled_file_says_where_it_is_from() -> None:
    """Accuracy, seed, steps, data, versions and command line are recorded, and the file is small."""
    _, metadata = read_weights(BUNDLED_WEIGHTS)
    assert float(metadata["test_accuracy"]) >= 0.98
    assert {"seed", "steps", "mnist_sha256", "torch", "anomalib_ear", "command", "threads"} <= metadata.keys()
    assert BUNDLED_WEIGHTS.stat().st_size < 400_000


def test_altered_weights_are_refused(altered: Path) -> None:
    """One changed bit is found, and the error names the file and the remedy."""
    with pytest.raises(ValueError, match=r"altered\.safetensors.*digest.*anomalib_ear\.pretraining"):
        load_attention(altered)


@pytest.mark.parametrize(
    "content", [b"", b"no weights", BUNDLED_WEIGHTS.read_bytes()[:-8]], ids=["empty", "text", "cut"]
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    """A file that safetensors cannot read gives one error with the remedy."""
    file = tmp_path / "weights.safetensors"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"weights\.safetensors.*anomalib_ear\.pretraining"):
        load_attention(file)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    """The error names the file and the command that makes it."""
    with pytest.raises(FileNotFoundError, match=r"gone\.safetensors.*python -m anomalib_ear\.pretraining"):
        load_attention(tmp_path / "gone.safetensors")
