# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Pictures of each step of EAR: image, ground truth, excised region, recovery, anomaly map, prediction."""

from __future__ import annotations

import itertools
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from anomalib.post_processing import PostProcessor
from anomalib.utils.path import generate_output_filename
from anomalib.visualization import ImageVisualizer
from anomalib.visualization.image.functional import (
    add_text_to_image,
    create_image_grid,
    visualize_anomaly_map,
    visualize_mask,
)
from PIL import Image
from torch.nn import functional as F
from torchvision.transforms.v2.functional import to_pil_image

from anomalib_ear.deploy.pictures import captioned, defects, draw_outline

if TYPE_CHECKING:
    from anomalib.data import ImageBatch
    from lightning.pytorch import LightningModule, Trainer
    from torch import Tensor

    from anomalib_ear.method.model import EarModel

logger = logging.getLogger(__name__)

# Length in pixels of a panel's longer side.
PANEL_SIZE = 256
TITLE_SIZE = 13


class EarVisualizer(ImageVisualizer):
    """Write one picture per test or predicted image, its panels side by side, framed and captioned by its label.

    The anomaly map has one fixed scale for all images, so that good parts stay dark. A picture is named after its image
    and the image's folder, as in anomalib. Where another picture of the run has that name, more folders are added.

    Args:
        output_dir: Folder for the pictures. Defaults to ``images`` in the run's folder.
    """

    def __init__(self, output_dir: str | Path | None = None) -> None:
        super().__init__(output_dir=output_dir)
        self._written: dict[Path, Path] = {}  # the image of each picture of this run
        self._has_said = False

    def on_test_start(self, *args: Any) -> None:  # noqa: ANN401  # Lightning's
        """Begin a run."""
        super().on_test_start(*args)
        self._written.clear()

    def on_predict_start(self, *args: Any) -> None:  # noqa: ANN401  # Lightning's
        """Begin a run."""
        super().on_predict_start(*args)
        self._written.clear()

    def on_test_batch_end(  # type: ignore[override]  # as in anomalib, whose steps return batches
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: ImageBatch,
        batch: ImageBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the pictures of a batch."""
        del outputs, batch_idx, dataloader_idx
        if batch.image_path is None:
            if not self._has_said:
                logger.warning("No pictures: the images come without image_path.")
            self._has_said = True
            return
        output_dir = Path(self.output_dir or Path(trainer.default_root_dir) / "images")
        datamodule = getattr(trainer, "datamodule", None)
        pictures = draw(cast("EarModel", pl_module.model), batch, pl_module.post_processor)
        for index, (path, panels) in enumerate(zip(batch.image_path, pictures, strict=True)):
            picture = create_image_grid(list(panels.values()), nrow=len(panels))
            picture = with_verdict(picture, batch, index, pl_module.post_processor)
            filename = generate_output_filename(
                input_path=path,
                output_path=output_dir,
                dataset_name=getattr(datamodule, "name", None),
                category=getattr(datamodule, "category", None),
            )
            file = self._reserve(filename, Path(path), output_dir)
            try:
                picture.save(file)
            except OSError as error:  # that of a full disk names no file
                msg = f"cannot write {file}: {error.strerror or error}."
                raise OSError(msg) from error

    def _reserve(self, picture: Path, image: Path, output_dir: Path) -> Path:
        """Return a name for the picture of an image that no other image of the run has.

        Args:
            picture: The host's name.
            image: Path of the image.
            output_dir: Folder of the pictures.
        """
        image = Path(os.path.abspath(image))  # noqa: PTH100  # without following links, which may be the only difference
        names = image.parts[1:]
        candidates = itertools.chain(
            (output_dir.joinpath(*names[-count:]) for count in range(2, len(names) + 1)),
            (output_dir / f"{image.stem}_{number}{image.suffix}" for number in itertools.count(2)),
        )
        while self._written.setdefault(picture, image) != image:
            picture = next(candidates)
        picture.parent.mkdir(parents=True, exist_ok=True)
        return picture


@torch.no_grad()
def draw(model: EarModel, batch: ImageBatch, post_processor: object = None) -> list[dict[str, Image.Image]]:
    """Draw the panels of each image of a batch.

    Args:
        model: The trained model in evaluation mode.
        batch: Images with their post-processed predictions.
        post_processor: anomalib's, which gave the labels.

    Returns:
        For each image its panels by title, all of one size.
    """
    images, maps = cast("Tensor", batch.image), cast("Tensor", batch.anomaly_map)
    height, width = images.shape[-2:]
    recovery = model.recover(images)[0]
    # At the padded size, from positions to pixels.
    mask, recovered = (
        F.interpolate(panel, scale_factor=model.space.stride, mode="nearest")[..., :height, :width]
        for panel in (recovery.mask, model.space.to_image(recovery.recovered))
    )
    threshold = thresholds(post_processor)
    pictures = []
    for index, image in enumerate(images):
        photo = to_pil_image(image).convert("RGB")
        panels = {"Image": photo}
        if batch.gt_mask is not None:
            panels["Ground truth"] = visualize_mask(batch.gt_mask[index], mode="binary")
        panels["Excised"] = to_pil_image(image * (1 - mask[index]))
        panels["Recovered"] = to_pil_image(recovered[index])
        panels["Anomaly map"] = visualize_anomaly_map(maps[index].squeeze(0), colormap=True)
        if batch.pred_label is not None and batch.pred_score is not None:
            pixels = np.array(photo)
            if batch.pred_label[index]:
                anomaly_map, score = maps[index].squeeze(0).float().cpu().numpy(), float(batch.pred_score[index])
                draw_outline(pixels, defects(anomaly_map, photo.size, score, threshold["image"], threshold["pixel"]))
            panels["Prediction"] = Image.fromarray(pixels)
        pictures.append({title: titled(panel, title) for title, panel in panels.items()})
    return pictures


def with_verdict(picture: Image.Image, batch: ImageBatch, index: int, post_processor: object) -> Image.Image:
    """Say on a picture what the post-processor makes of its image: score, threshold and label.

    Args:
        picture: The picture.
        batch: Images with their post-processed predictions.
        index: Of the image in the batch.
        post_processor: anomalib's, which gave the labels; without one, or with its thresholds off, there are none.
    """
    if not isinstance(post_processor, PostProcessor) or batch.pred_label is None or batch.pred_score is None:
        return picture
    is_defective = bool(batch.pred_label[index])
    threshold = thresholds(post_processor)["image"]
    return captioned(picture, float(batch.pred_score[index]), threshold, is_defective=is_defective)


def thresholds(post_processor: object) -> dict[str, float]:
    """Return the thresholds that a post-processor labels by, as ``"image"`` and ``"pixel"``; 0.5 without one."""
    if not isinstance(post_processor, PostProcessor):
        return {"image": 0.5, "pixel": 0.5}
    # The host labels by these whether or not it normalises.
    return {
        "image": float(post_processor.normalized_image_threshold),
        "pixel": float(post_processor.normalized_pixel_threshold),
    }


def titled(panel: Image.Image, title: str) -> Image.Image:
    """Scale a panel to its place and write its title on it."""
    scale = PANEL_SIZE / max(panel.size)
    panel = panel.convert("RGB").resize((round(panel.width * scale), round(panel.height * scale)))
    return add_text_to_image(panel, title, size=TITLE_SIZE)
