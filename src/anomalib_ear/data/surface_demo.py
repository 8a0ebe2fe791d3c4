# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""SurfaceDemo: a small procedural data set of surfaces and a part, written as PNG files on first use.

Layout of MVTec AD plus a ``val`` split with images of its own, so that thresholds never come from test images:
``<category>/{train,val,test}/{good,scratch,...}/000.png`` and
``<category>/ground_truth/{val,test}/<defect>/000_mask.png``. A manifest beside the images records what wrote them.
"""

import hashlib
import json
import logging
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from anomalib.data import AnomalibDataModule, AnomalibDataset
from anomalib.data.utils import LabelName, Split, TestSplitMode, ValSplitMode
from anomalib.utils.path import resolve_dataset_root
from numpy.typing import NDArray
from pandas import DataFrame, Series
from PIL import Image
from torchvision.transforms.v2 import Transform
from tqdm import tqdm

from anomalib_ear.data import parts, surfaces
from anomalib_ear.data.download import PARTIAL, is_missing, preparation, put_in_place
from anomalib_ear.data.splits import check_val_split_ratio

logger = logging.getLogger(__name__)

PART = "bracket"
CATEGORIES = (*surfaces.TEXTURES, PART)
SPLITS = ("train", "val", "test")


def _counts(defects: Collection[str]) -> Mapping[str, Mapping[str, int]]:
    """Share 20 defective validation images and 60 test images among the kinds of defects."""
    return {
        "train": {"good": 120},
        "val": {"good": 20, **dict.fromkeys(defects, 20 // len(defects))},
        "test": {"good": 40, **dict.fromkeys(defects, 60 // len(defects))},
    }


COUNTS: Mapping[str, Mapping[str, Mapping[str, int]]] = {
    **dict.fromkeys(surfaces.TEXTURES, _counts(surfaces.DEFECTS)),
    PART: _counts(parts.DEFECTS),
}
GENERATOR_VERSION = 1  # raise it whenever the same seed would give other images
MANIFEST = "manifest.json"


def _check_category(category: str) -> None:
    if category not in CATEGORIES:
        msg = f"category must be one of {list(CATEGORIES)}, got {category!r}"
        raise ValueError(msg)


def _check_seed(seed: int) -> None:
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        msg = f"seed must be a whole number of 0 or more, got {seed!r}"
        raise ValueError(msg)


def draw(
    category: str,
    split: str,
    label: str,
    index: int,
    *,
    seed: int,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw one image of the data set, independent of all others.

    Args:
        category: One of ``CATEGORIES``.
        split: ``"train"``, ``"val"`` or ``"test"``.
        label: ``"good"`` or a kind of defect.
        index: Number of the image within its folder.
        seed: Seed of the data set, 0 or more.

    Returns:
        tuple[NDArray[np.uint8], NDArray[np.bool_]]: Image ``(256, 256)`` if grey or ``(256, 256, 3)`` if RGB, and mask
        ``(256, 256)``, true where the part is defective.
    """
    name = f"{category}/{split}/{label}/{index:03d}"
    rng = np.random.default_rng([seed, GENERATOR_VERSION, *name.encode()])
    defect = None if label == "good" else label
    return parts.render(rng, defect=defect) if category == PART else surfaces.render(category, rng, defect=defect)


def _write_images(folder: Path, category: str, seed: int) -> None:
    """Write all images and masks of a category."""
    counts = COUNTS[category]
    plan = [(split, label, i) for split, labels in counts.items() for label, n in labels.items() for i in range(n)]
    for split, label, index in tqdm(plan, desc=f"Generating SurfaceDemo {category}", unit="image"):
        image, mask = draw(category, split, label, index, seed=seed)
        path = folder / split / label / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Noise is hard to pack: the default level would take 2-3 times as long for files 12 % smaller.
        Image.fromarray(image).save(path, compress_level=2)
        if label != "good":
            mask_path = folder / "ground_truth" / split / label / f"{index:03d}_mask.png"
            mask_path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask.astype(np.uint8) * 255).save(mask_path)


def _manifest(folder: Path, category: str, seed: int) -> dict[str, object]:
    """Describe what should be in a category's folder, with a checksum of the PNG files that are there."""
    digest = hashlib.sha256()
    names = [path.relative_to(folder) for path in folder.rglob("*.png")]
    # Without those of a run that is under way, or was killed.
    for name in sorted(name.as_posix() for name in names if not name.parts[0].endswith(PARTIAL)):
        digest.update(name.encode() + b"\0" + (folder / name).read_bytes())
    counts = {split: dict(labels) for split, labels in COUNTS[category].items()}
    return {
        "generator_version": GENERATOR_VERSION,
        "category": category,
        "seed": seed,
        "counts": counts,
        "sha256": digest.hexdigest(),
    }


def is_complete(folder: Path, category: str, seed: int) -> bool:
    """Say whether a category's folder holds exactly the images that these arguments would generate.

    Returns:
        True if it does, False if the folder does not exist or is empty.

    Raises:
        ValueError: If the folder holds anything else; nothing of it is touched.
    """
    if is_missing(folder):
        return False
    expected = _manifest(folder, category, seed)
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        reason = f"it has no readable {MANIFEST}, so it is not a SurfaceDemo folder or not a whole one"
    else:
        if found == expected:
            return True
        found = found if isinstance(found, dict) else {}
        differing = [key for key in expected if found.get(key) != expected[key]]
        details = [f"{key} is {found.get(key)!r} instead of {expected[key]!r}" for key in differing if key != "sha256"]
        reason = "; ".join(details) or "image files were changed, added or removed since they were written"
    msg = (
        f"'{folder}' is not the SurfaceDemo data set asked for (category {category!r}, seed {seed}): {reason}. "
        "Delete that folder to have it generated again, or choose another root (--data.root)."
    )
    raise ValueError(msg)


def generate_category(root: Path, category: str, seed: int) -> Path:
    """Make sure that a category is on disk, generating it if it is not.

    Images are written into a hidden folder, which is renamed when it is whole.

    Args:
        root: Root of the data set; it is created if needed.
        category: Name of the category.
        seed: Seed of the images, 0 or more.

    Returns:
        Folder of the category.

    Raises:
        OSError: If the images cannot be written below ``root``.
        ValueError: If the folder holds something else; it is left as it is.
    """
    _check_category(category)
    _check_seed(seed)
    folder = root / category
    if is_complete(folder, category, seed):
        logger.info("Found the dataset.")
        return folder
    try:
        with preparation(folder) as partial:
            _write_images(partial, category, seed)
            manifest = json.dumps(_manifest(partial, category, seed), indent=2)
            (partial / MANIFEST).write_text(manifest + "\n", encoding="utf-8")
            # A run beside this one may have finished first; its images are the same.
            if not is_complete(folder, category, seed):
                put_in_place(partial, folder)
    except OSError as error:
        msg = (
            f"cannot write the SurfaceDemo images to '{folder}': {error}. "
            "Choose a root that can be written to (--data.root)."
        )
        raise OSError(msg) from error
    return folder


def make_surface_demo_dataset(folder: Path, split: str | Split | None = None) -> DataFrame:
    """List the samples of a category.

    Args:
        folder: Folder of the category.
        split: Split to keep; ``None`` keeps all.

    Returns:
        Columns ``path``, ``split``, ``label``, ``image_path``, ``label_index`` and ``mask_path`` (``None``
        for good images), sorted by image path; ``attrs["task"]`` is set.

    Raises:
        FileNotFoundError: If the folder has no images.
    """
    splits = SPLITS if split is None else [Split(split).value]
    images = [image for name in splits for image in sorted((folder / name).glob("*/*.png"))]
    if not images:
        msg = f"found no SurfaceDemo images in '{folder}'; SurfaceDemo(...).prepare_data() generates them"
        raise FileNotFoundError(msg)
    samples = DataFrame(
        {
            "path": str(folder),
            "split": [image.parts[-3] for image in images],
            "label": [image.parts[-2] for image in images],
            "image_path": [str(image) for image in images],
        },
    )
    samples["label_index"] = [int(LabelName.NORMAL if good else LabelName.ABNORMAL) for good in samples.label == "good"]
    masks = [folder.joinpath("ground_truth", *image.parts[-3:-1], f"{image.stem}_mask.png") for image in images]
    # Of dtype object, because a column of strings turns None into NaN, which anomalib refuses.
    paths = [None if image.parts[-2] == "good" else str(mask) for image, mask in zip(images, masks, strict=True)]
    samples["mask_path"] = Series(paths, dtype=object)
    samples = samples.sort_values(by="image_path", ignore_index=True)
    samples.attrs["task"] = "segmentation"  # last: operations above would lose it
    return samples


class SurfaceDemoDataset(AnomalibDataset):
    """One category of SurfaceDemo, images read as RGB in [0, 1] of shape ``(3, 256, 256)``.

    Args:
        root: Root of the data set. ``None`` is anomalib's folder for data sets.
            Defaults to ``None``.
        category: One of ``CATEGORIES``. Defaults to ``"brushed_metal"``.
        augmentations: Augmentations of the images. Defaults to ``None``.
        split: Split, or ``None`` for all. Defaults to ``None``.
    """

    def __init__(
        self,
        root: Path | str | None = None,
        category: str = "brushed_metal",
        augmentations: Transform | None = None,
        split: str | Split | None = None,
    ) -> None:
        super().__init__(augmentations=augmentations)
        _check_category(category)
        self.category = category
        self.split = split
        self.samples = make_surface_demo_dataset(resolve_dataset_root(root, "surface_demo") / category, split)


class SurfaceDemo(AnomalibDataModule):
    """Procedural surfaces and a part with defects, generated on first use without a download.

    Surfaces have scratches, pits, stains and dents. The part, which lies elsewhere in each image, has scratches, dents,
    missing and bent features, and changes of colour alone. Each category has 120 good training images, 20 good and 20
    defective validation images, and 40 good and 60 defective test images of 256x256 pixels, all with illumination that
    drifts.

    Args:
        root: Root of the data set; it is filled if the category is not there.
            Defaults to ``"./datasets/surface_demo"``.
        category: ``"brushed_metal"`` (grey, streaks), ``"cast_iron"`` (grey, grains), ``"woven"`` (colour,
            twill) or ``"bracket"`` (colour, a part at random places and angles). Defaults to ``"brushed_metal"``.
        train_batch_size: Training batch size. Defaults to ``8``.
        eval_batch_size: Validation and test batch size. Defaults to ``8``.
        num_workers: Number of workers that read images. Defaults to ``2``.
        train_augmentations: Augmentations of the training images. Defaults to ``None``.
        val_augmentations: Augmentations of the validation images. Defaults to ``None``.
        test_augmentations: Augmentations of the test images. Defaults to ``None``.
        augmentations: Augmentations where no stage-specific ones are given.
            Defaults to ``None``.
        test_split_mode: How the test set is made. Defaults to ``TestSplitMode.FROM_DIR``.
        test_split_ratio: Share of the training images for testing, where the mode needs it.
            Defaults to ``0.2``.
        val_split_mode: How the validation set is made. Defaults to ``ValSplitMode.FROM_DIR``:
            images of its own, neither from training nor from test.
        val_split_ratio: Share of images for validation, where the mode needs it. Defaults to ``0.5``.
        seed: Seed of the images and of random splits, 0 or more; another seed needs another root.
            Defaults to ``0``.

    Raises:
        ValueError: If ``val_split_ratio`` is not between 0 and 1.

    Example:
        >>> from anomalib_ear.data import SurfaceDemo
        >>> datamodule = SurfaceDemo(category="cast_iron")
        >>> datamodule.prepare_data()  # doctest: +SKIP
        >>> datamodule.setup()  # doctest: +SKIP
    """

    def __init__(
        self,
        root: Path | str | None = "./datasets/surface_demo",
        category: str = "brushed_metal",
        train_batch_size: int = 8,
        eval_batch_size: int = 8,
        num_workers: int = 2,
        train_augmentations: Transform | None = None,
        val_augmentations: Transform | None = None,
        test_augmentations: Transform | None = None,
        augmentations: Transform | None = None,
        test_split_mode: TestSplitMode | str = TestSplitMode.FROM_DIR,
        test_split_ratio: float = 0.2,
        val_split_mode: ValSplitMode | str = ValSplitMode.FROM_DIR,
        val_split_ratio: float = 0.5,
        seed: int = 0,
    ) -> None:
        check_val_split_ratio(val_split_ratio)
        super().__init__(
            train_batch_size=train_batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            train_augmentations=train_augmentations,
            val_augmentations=val_augmentations,
            test_augmentations=test_augmentations,
            augmentations=augmentations,
            test_split_mode=test_split_mode,
            test_split_ratio=test_split_ratio,
            val_split_mode=val_split_mode,
            val_split_ratio=val_split_ratio,
            seed=seed,
        )
        _check_category(category)
        _check_seed(seed)
        self.root = resolve_dataset_root(root, "surface_demo")
        self.category = category
        self._image_seed = seed

    def prepare_data(self) -> None:
        """Generate the category if its folder does not exist or is empty; see :func:`generate_category`."""
        generate_category(self.root, self.category, self._image_seed)

    def _setup(self, _stage: str | None = None) -> None:
        self.train_data = SurfaceDemoDataset(root=self.root, category=self.category, split=Split.TRAIN)
        self.test_data = SurfaceDemoDataset(root=self.root, category=self.category, split=Split.TEST)
        if self.val_split_mode == ValSplitMode.FROM_DIR:
            self.val_data = SurfaceDemoDataset(root=self.root, category=self.category, split=Split.VAL)
