# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""EAR: attention, excision, recovery, anomaly map.

Park et al., "Excision and Recovery: Enhancing Surface Anomaly Detection with Attention-based Single Deterministic
Masking" (arXiv 2310.04010). Everything is as in the abstract where it says so; sizes, loss weights, mask share and
calibration are ours.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from anomalib_ear.method.calibration import AnomalyMapGenerator, image_score
from anomalib_ear.method.detail import STRIDE, Detail
from anomalib_ear.method.masking import WITHOUT_ATTENTION, AttentionMasking, NoMasking, RandomMasking
from anomalib_ear.method.padding import pad_to_multiple
from anomalib_ear.method.place_statistics import take_sizes
from anomalib_ear.method.precision import has_bfloat16
from anomalib_ear.method.spaces import DEFAULT, Space, build_space
from anomalib_ear.method.unet import SkipGatedUNet
from anomalib_ear.method.variation import NONE, Variation, draws_of

# Defect-free images that the model keeps, to calibrate itself by when its gates change.
CALIBRATION_IMAGES = 32
# Values of the residuals and details that the anomaly map is calibrated by. One copy of them is kept, in half
# precision: 2 GiB, or 4559 images of 640 x 256 pixels with the default's 176 channels, varied copies counted in. With
# all else calibration was measured to take 0.9 GiB for 250 photographs of that size, 1.1 for 1000 and 2.5 at most.
CALIBRATION_VALUES = 2**30
# Residuals that a calibration takes: where there are few images, each comes in more varied copies. On 93 images of a
# part that lies still the image AUROC was 0.968 with 4 copies of each, 0.980 with 8, 0.985 with 16.
CALIBRATION_RESIDUALS = 1500
MAX_COPIES = 16
# Images that a calibration compares at a time. The tensors of more are so large that the operating system clears new
# memory for each of them, which takes as long as part of the arithmetic.
COMPARED_AT_ONCE = 2
# By how much a resize may leave [0, 1].
ROUNDING = 1e-3


class Prediction(NamedTuple):
    """What the model says of images.

    Attributes:
        pred_score: ``(N,)`` in [0, 1).
        anomaly_map: ``(N, 1, H, W)`` in [0, 1).
    """

    pred_score: Tensor
    anomaly_map: Tensor


class Recovery(NamedTuple):
    """What a recovery yields, all at the padded size and the space's resolution ``h`` × ``w``.

    Attributes:
        target: Standardised features, ``(N, D, h, w)``.
        mask: ``(N, 1, h, w)``, 1 = excised; the first one, where several random masks compose a recovery.
        recovered: Standardised recovery, ``(N, D, h, w)``; in training with every skip on, else by the gates.
        gated: In training a second recovery of the same image, with some skips off; else ``None``.
    """

    target: Tensor
    mask: Tensor
    recovered: Tensor
    gated: Tensor | None = None


class EarModel(nn.Module):
    """Excise what the attention marks, recover it, and score the difference.

    In training mode the result is a :class:`Recovery`, in evaluation mode a :class:`Prediction`.

    Args:
        space: What is recovered; maps an image to standardised features and their attention.
        masking: Excises the features; maps them and their attention to a list of excisions.
        unet: Recovers the features; takes the mask as one more input channel.
        variation: Varies the images of training and calibration.

    Attributes:
        stride: Images are padded to multiples of this, in pixels.
        position: Side in pixels of the square that one position of the residual stands for.
        calibration_images: ``(K, C, H, W)``, uint8, some of the training images. They travel in the checkpoint, so that
            a change of gates is followed by a calibration that needs no data set.
        calibrated_gates: Gates that the anomaly map is calibrated for, bool, one per skip.
        is_calibration_current: Whether the anomaly map was not calibrated for other weights: ``False`` from a training
            step, or :meth:`forget`, until the next calibration.
    """

    calibration_images: Tensor
    calibrated_gates: Tensor

    def __init__(
        self,
        *,
        space: Space,
        masking: AttentionMasking | RandomMasking | NoMasking,
        unet: SkipGatedUNet,
        variation: Variation,
    ) -> None:
        super().__init__()
        self.space = space
        self.masking = masking
        self.unet = unet
        self.variation = variation
        self.detail = Detail()
        self.anomaly_map = AnomalyMapGenerator(space.residual_dimensions)
        self.position = space.stride * space.residual_stride
        positions = math.lcm(unet.stride, masking.stride, space.residual_stride)
        self.stride = math.lcm(space.multiple, space.stride * positions, STRIDE)
        self.register_buffer("calibration_images", torch.empty(0, space.channels, 1, 1, dtype=torch.uint8))
        self.register_buffer("calibrated_gates", torch.tensor(unet.gates))
        self.is_calibration_current = True
        self.register_load_state_dict_post_hook(_recalibrate)  # type: ignore[no-untyped-call]

    def forward(self, image: Tensor) -> Prediction | Recovery:
        """Recover an image and, in evaluation mode, score it.

        Args:
            image: Image of shape ``(N, C, H, W)``, values in [0, 1], ``H`` and ``W`` at least the network's stride.

        Returns:
            In training mode a :class:`Recovery`. In evaluation mode a :class:`Prediction` with ``anomaly_map``
            ``(N, 1, H, W)`` and ``pred_score`` ``(N,)``, both in [0, 1).

        Raises:
            ValueError: If the image has another number of channels, is smaller than the stride, has values that are
                not in [0, 1], or, in evaluation mode, another size than in training.
        """
        exporting = torch.compiler.is_exporting()
        if not exporting:
            self.check(image)
        if self.training:
            self.is_calibration_current = False
            varied = self.variation(image)
            self.detail(pad_to_multiple(varied, self.stride))  # learns its mean and variance
            return self.recover(varied)[0]
        # In float32 like the exported model, whatever the trainer's precision.
        with nullcontext() if exporting else torch.autocast(image.device.type, enabled=False):
            return self.score(*self.compare(image), (image.shape[-2], image.shape[-1]))

    def check(self, image: Tensor) -> None:
        """Raise a ``ValueError`` that says what is wrong with an image, if anything is."""
        channels, height, width = image.shape[-3:]
        if image.ndim != 4 or channels != self.space.channels:  # N, C, H, W
            msg = f"image must have shape (N, {self.space.channels}, H, W), got {tuple(image.shape)}."
            raise ValueError(msg)
        smallest = self.space.stride * self.unet.stride  # pixels per position, positions
        if min(height, width) < smallest:
            msg = (
                f"image must be at least {smallest} x {smallest} pixels for this space and a U-Net of "
                f"{len(self.unet.encoder)} levels, got {height} x {width}. Resize it."
            )
            raise ValueError(msg)
        trained = tuple(self.calibration_images.shape[-2:])
        if not self.training and len(self.calibration_images) and (height, width) != trained:
            msg = (
                f"image has {height} x {width} pixels (height x width), and the model was trained on {trained[0]} x "
                f"{trained[1]}: its statistics of places hold for that size only. Resize it."
            )
            raise ValueError(msg)
        if self.training and len(image) * self._padded_pixels(height, width) == smallest**2:  # batch norm needs two
            msg = (
                f"a batch of one image of {height} x {width} pixels cannot be trained on: give a larger image_size, or "
                "a train_batch_size that leaves no single image."
            )
            raise ValueError(msg)
        block = self.space.stride * (getattr(self.masking, "mosaic_size", None) or 1)
        if block > min(height, width):
            msg = f"mosaic blocks of {block} pixels are larger than the image, {height} x {width}: lower mosaic_size."
            raise ValueError(msg)
        if not image.isfinite().all():
            bad = (~image.isfinite()).flatten(1).any(dim=1).nonzero().flatten().tolist()
            msg = f"image must be finite, got NaN or infinity in image(s) {bad} of the batch."
            raise ValueError(msg)
        least, most = (float(value) for value in image.aminmax())
        if least < -ROUNDING or most > 1 + ROUNDING:
            msg = (
                f"image must lie in [0, 1], got {least:.4g} to {most:.4g}: leave Normalize and the like out of the "
                "pre-processor. Ear standardises images itself."
            )
            raise ValueError(msg)

    def compare(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Compare image and recovery.

        Args:
            image: Image of shape ``(N, C, H, W)``, values in [0, 1].

        Returns:
            Of the image padded to the stride: the residual ``(N, K, h, w)`` of its recovery, and the detail
            ``(N, 12, h', w')`` that sharpens the map.
        """
        residuals = [self.space.residual(recovery.target, recovery.recovered) for recovery in self.recover(image)]
        residual = residuals[0] if len(residuals) == 1 else torch.stack(residuals).mean(dim=0)
        return residual, self.detail(pad_to_multiple(image, self.stride))

    def score(self, residual: Tensor, detail: Tensor, size: tuple[int, int]) -> Prediction:
        """Score an image by what :meth:`compare` returns of it.

        Args:
            residual: Residual of shape ``(N, K, h, w)``.
            detail: Detail of shape ``(N, 12, h', w')``.
            size: Height and width in pixels of the image before it was padded.

        Returns:
            ``anomaly_map`` ``(N, 1, *size)`` and ``pred_score`` ``(N,)``, both in [0, 1).
        """
        anomaly_map = self.anomaly_map(residual, detail)[..., : size[0], : size[1]]
        return Prediction(anomaly_map=anomaly_map, pred_score=image_score(anomaly_map))

    def recover(self, image: Tensor) -> list[Recovery]:
        """Excise and recover, at the size padded to the stride.

        Args:
            image: Image of shape ``(N, C, H, W)``, values in [0, 1].

        Returns:
            One recovery; with random masks in evaluation mode one for each size of cells.
        """
        target, attention = self.space(pad_to_multiple(image, self.stride))
        recoveries = []
        for excision in self.masking(target, attention):
            decoded = [self._decode(torch.cat(parts, dim=1)) for parts in zip(*excision, strict=True)]
            recovered, *gated = (excision.compose(parts) for parts in zip(*decoded, strict=True))
            recoveries.append(Recovery(target, excision.masks[0], recovered, *gated))
        return recoveries

    def _decode(self, x: Tensor) -> tuple[Tensor, ...]:
        """Recover an obscured image; in training also with some skips off."""
        if not self.training:
            return (self.unet(x),)
        # bfloat16 takes a training step to 0.5 of its time with AMX, to 0.6 with AVX-512 BF16; inference stays in
        # float32.
        with torch.autocast(x.device.type, torch.bfloat16, enabled=has_bfloat16(x.device.type)):
            levels = self.unet.encode(x.float())  # the host's bf16-mixed makes bfloat16 of them on any CPU
            closed = torch.rand(len(self.unet.gates)) < 0.5
            closed[0] = True  # the shallowest is the one that leaks, and every skip on is what the first decoding has
            recovered = self.unet.decode(levels, (True,) * len(closed))
            gated = self.unet.decode(levels, (~closed).tolist())
        return recovered.float(), gated.float()

    def keep_for_calibration(self, image: Tensor) -> None:
        """Keep defect-free images until there are enough to calibrate by.

        Args:
            image: Images of shape ``(N, C, H, W)``, values in [0, 1].
        """
        kept = self.calibration_images
        wanted = image[: CALIBRATION_IMAGES - len(kept)]
        if len(kept) == 0:
            kept = kept.new_empty(0, *image.shape[1:])
        if len(wanted) and wanted.shape[1:] == kept.shape[1:]:
            self.calibration_images = torch.cat([kept, (wanted.detach() * 255).round().to(torch.uint8)])

    def calibration_indices(self, count: int) -> list[int]:
        """Choose which of ``count`` training images to calibrate by: evenly spaced ones where all are too many."""
        least = 2 if self.variation.is_on else 1  # no image without a varied copy, however many there are
        wanted = max(min(count, self._calibration_limit() // least), 1)
        return [int(index) for index in torch.linspace(0, count - 1, wanted)]

    def calibration_copies(self, count: int) -> int:
        """Return how often each of ``count`` images is calibrated by: as it is, and in varied copies."""
        if not self.variation.is_on or not count:
            return 1
        wanted = min(max(round(CALIBRATION_RESIDUALS / count), 2), MAX_COPIES)
        return max(min(wanted, self._calibration_limit() // count), 2)

    def _calibration_limit(self) -> int:
        """Return the largest number of images, varied copies among them, that a calibration holds."""
        pixels = self._padded_pixels(*self.calibration_images.shape[-2:])
        residual = self.space.residual_dimensions * pixels // self.position**2
        detail = self.detail.dimensions * pixels // STRIDE**2
        return CALIBRATION_VALUES // (residual + detail)

    def _padded_pixels(self, height: int, width: int) -> int:
        """Return how many pixels an image has once it is padded to the stride."""
        return math.prod(-(-side // self.stride) * self.stride for side in (height, width))

    def vary(self, images: Iterable[Tensor], copies: int) -> Iterator[Tensor]:
        """Yield what to calibrate by: each image as it is, and then its varied copies, the same each time.

        Args:
            images: Batches ``(N, C, H, W)``, values in [0, 1].
            copies: How often each image comes.

        Yields:
            Batches ``(N, C, H, W)``, in which copies of one image follow each other.
        """
        number = 0
        for batch in images:
            every = []
            for image in batch.split(1):
                with draws_of(number):
                    every += [image, self.variation(image.expand(copies - 1, -1, -1, -1))]
                number += 1
            yield from torch.cat(every).split(len(batch))

    def forget(self) -> None:
        """Forget the training images that were kept and their statistics; the weights stay."""
        self.calibration_images = self.calibration_images.new_empty(0, self.space.channels, 1, 1)
        for module in (self.space, self.detail):
            module.standardise.reset_running_stats()
        self.is_calibration_current = False

    @torch.inference_mode(mode=False)  # the host validates in it, and what is made in it can never be written to
    @torch.no_grad()
    def calibrate(self, images: Iterable[Tensor] | None = None, copies: int | None = None) -> Tensor:
        """Calibrate the anomaly map for the present weights and gates; restores the mode of the model.

        Args:
            images: Batches ``(N, C, H, W)`` of defect-free images of one size, values in [0, 1]. Defaults to those
                that were kept.
            copies: How often each is calibrated by: once as it is, else varied. Defaults to what suits the number of
                images that were kept.

        Returns:
            Scores of the images, see :meth:`AnomalyMapGenerator.fit`.

        Raises:
            ValueError: If a residual is not finite.
        """
        copies = self.calibration_copies(len(self.calibration_images)) if copies is None else copies
        if images is None:
            images = (image[None].float() / 255 for image in self.calibration_images)
        training = self.training
        self.eval()
        parts = (part for batch in images for part in batch.split(COMPARED_AT_ONCE))
        evidence = map(self.compare, self.vary(parts, copies))
        try:
            scores = self.anomaly_map.fit(evidence, copies)
        finally:
            self.train(training)
        if len(scores):
            self.calibrated_gates = torch.tensor(self.unet.gates, device=self.calibrated_gates.device)
            self.is_calibration_current = True
        return scores

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:  # noqa: ANN401
        take_sizes(self, ("calibration_images",), state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)
        self.is_calibration_current = True


def _recalibrate(model: EarModel, _: object) -> None:
    """Calibrate anew if the statistics that were loaded are those of other gates than the model has."""
    if tuple(model.calibrated_gates.tolist()) != model.unet.gates:
        model.calibrate()


def build_model(
    space: str = DEFAULT,
    *,
    backbone_scale: float = 0.75,
    masking: str = "mnist",
    excised_share: float = 0.1,
    mosaic_size: int | None = None,
    channels: Sequence[int] | None = None,
    variation: bool | Mapping[str, float] = True,
) -> EarModel:
    """Build a model with random weights; the arguments are those of :class:`~anomalib_ear.Ear`.

    Raises:
        ValueError: If an argument is outside its range.
    """
    built = build_space(space, backbone_scale)
    masks: AttentionMasking | RandomMasking | NoMasking
    if masking in WITHOUT_ATTENTION:
        masks = WITHOUT_ATTENTION[masking]()
    else:
        masks = AttentionMasking(excised_share=excised_share, dilation=built.dilation, mosaic_size=mosaic_size)
        built.use_attention(masking)
    sizes = built.unet_channels if channels is None else channels
    unet = SkipGatedUNet(built.dimensions + 1, built.dimensions, sizes, patch_size=built.patch_size)
    return EarModel(
        space=built,
        masking=masks,
        unet=unet.to(memory_format=torch.channels_last),
        variation=Variation(**(NONE if variation is False else {} if variation is True else variation)),
    )
