# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Kolektor Surface-Defect Dataset 2.

Description:
    Colour photographs of a produced item, about 230 x 630 pixels, with hand-drawn masks of scratches, spots and other
    surface imperfections: https://www.vicos.si/resources/kolektorsdd2/

License:
    The data set is released under the Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International License
    (CC BY-NC-SA 4.0): https://creativecommons.org/licenses/by-nc-sa/4.0/

Reference:
    Božič, Jakob, Domen Tabernik, and Danijel Skočaj. "Mixed supervision for surface-defect detection: From weakly to
    fully supervised learning." Computers in Industry 129 (2021): 103459.
"""

import logging
import re
from pathlib import Path

from anomalib.data import AnomalibDataset
from anomalib.data.errors import MisMatchError
from anomalib.data.utils import DownloadInfo, LabelName, Split, TestSplitMode, ValSplitMode
from anomalib.utils.path import resolve_dataset_root
from pandas import DataFrame
from PIL import Image
from torchvision.transforms.v2 import Transform

from anomalib_ear.data.download import download_archive, is_missing
from anomalib_ear.data.splits import check_val_split_ratio
from anomalib_ear.data.thin_defects import ThinDefects, keep_thin_defects
from anomalib_ear.images import read_size
from anomalib_ear.masks import read_mask

logger = logging.getLogger(__name__)

DOWNLOAD_INFO = DownloadInfo(
    name="kolektor_sdd2",
    url="https://go.vicos.si/kolektorsdd2",
    # MD5, as two independent public loaders state it; the data set's authors publish none.
    hashsum="1ed0f628122776ace4965afa30dfe316",
    filename="KolektorSDD2.zip",
)
# Images of the official data set, and how many of them are defective, by folder.
OFFICIAL_COUNTS = {"train": (2331, 246), "test": (1004, 110)}

_IMAGE_NAME = re.compile(r"\d+\.png")
_MASK_NAME = re.compile(r"\d+_GT\.png")


class KolektorSDD2Dataset(AnomalibDataset):
    """Kolektor Surface-Defect Dataset 2, images read as RGB in [0, 1], masks as 0 and 1.

    Args:
        root: Path to the root of the dataset. ``None`` is anomalib's folder for data sets.
            Defaults to ``None``.
        augmentations: Augmentations of image and mask. Defaults to ``None``.
        split: ``"train"`` for the normal training images, ``"val"`` for the defective training
            images, ``"test"`` for all test images, ``None`` for everything. Defaults to ``None``.

    Raises:
        FileNotFoundError: If a folder, an image or a mask is missing.
        MisMatchError: If an image and its mask differ in size.
        OSError: If a file cannot be read.

    Example:
        >>> from anomalib_ear.data import KolektorSDD2Dataset
        >>> dataset = KolektorSDD2Dataset(root="./datasets/kolektor_sdd2", split="train")  # doctest: +SKIP
    """

    def __init__(
        self,
        root: Path | str | None = None,
        augmentations: Transform | None = None,
        split: str | Split | None = None,
    ) -> None:
        super().__init__(augmentations=keep_thin_defects(augmentations))
        self.root = resolve_dataset_root(root, "kolektor_sdd2")
        self.split = split
        self.samples = make_kolektor_sdd2_dataset(self.root, split)


def make_kolektor_sdd2_dataset(root: str | Path, split: str | Split | None = None) -> DataFrame:
    """List the samples of KolektorSDD2, from every image and mask that is there.

    The files are expected as the official archive has them, ``train/N.png`` with mask ``train/N_GT.png``, and
    ``test/`` likewise; other files are left out with a warning. An image is defective if its mask has a pixel above 0.
    The checksums within the PNG files are verified, so a damaged file is found before training.

    Args:
        root: Path to the dataset root directory.
        split: Split to keep, see :class:`KolektorSDD2Dataset`. Defaults to ``None``.

    Returns:
        Columns ``path``, ``split``, ``label`` (``"Good"`` or ``"Bad"``), ``image_path``, ``mask_path`` and
        ``label_index`` (0 or 1), sorted by image path; ``attrs["task"]`` is set.

    Raises:
        FileNotFoundError: If a folder, an image or a mask is missing.
        MisMatchError: If an image and its mask differ in size.
        OSError: If a file cannot be read.
    """
    root, split = Path(root), None if split is None else Split(split)
    folders = ["test"] if split is Split.TEST else ["train"] if split is not None else ["train", "test"]
    rows = []
    for folder in folders:
        for image, mask in _pairs(root / folder):
            label = _label(image, mask)
            part = Split.TEST if folder == "test" else Split.VAL if label == LabelName.ABNORMAL else Split.TRAIN
            name = "Bad" if label == LabelName.ABNORMAL else "Good"
            rows.append((str(root), part.value, name, str(image), str(mask), int(label)))
    samples = DataFrame(rows, columns=["path", "split", "label", "image_path", "mask_path", "label_index"])
    if split is not None:
        samples = samples[samples.split == split.value]
    samples = samples.sort_values(by="image_path", ignore_index=True)
    samples.attrs["task"] = "segmentation"  # last: operations above would lose it
    return samples


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    """List the images of a folder with their masks."""
    if not folder.is_dir():
        msg = (
            f"'{folder}' is missing: the root of KolektorSDD2 has the folders train and test. Choose another root "
            "(--data.root), or one that does not exist yet to have the data set downloaded there."
        )
        raise FileNotFoundError(msg)
    names = {path.name for path in folder.iterdir()}
    images = sorted(filter(_IMAGE_NAME.fullmatch, names))
    masks = set(filter(_MASK_NAME.fullmatch, names))
    if strays := sorted(names - masks - set(images)):
        logger.warning("Left out of KolektorSDD2, for they are neither N.png nor N_GT.png: %s in '%s'", strays, folder)
    if not images:
        msg = f"found no image N.png of KolektorSDD2 in '{folder}'"
        raise FileNotFoundError(msg)
    expected = {f"{Path(image).stem}_GT.png" for image in images}
    if missing := sorted(expected - masks):
        msg = f"mask '{folder / missing[0]}' is missing{_and_more(missing)}"
        raise FileNotFoundError(msg)
    if missing := sorted(mask.replace("_GT", "") for mask in masks - expected):
        msg = f"image '{folder / missing[0]}' is missing, but its mask is there{_and_more(missing)}"
        raise FileNotFoundError(msg)
    return [(folder / image, folder / f"{Path(image).stem}_GT.png") for image in images]


def _and_more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more in that folder)" if len(names) > 1 else ""


def _label(image_path: Path, mask_path: Path) -> LabelName:
    """Check that image and mask can be read and fit, and return what the mask says."""
    height, width = read_size(image_path)
    try:
        with Image.open(image_path) as image:
            image.verify()
    except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError for a PNG file that is damaged inside
        msg = f"cannot read '{image_path}': {error}"
        raise OSError(msg) from error
    mask = read_mask(mask_path)
    if mask.shape != (height, width):
        msg = f"mask '{mask_path}' has {mask.shape[1]} x {mask.shape[0]} pixels, its image {width} x {height}"
        raise MisMatchError(msg)
    return LabelName.ABNORMAL if mask.any() else LabelName.NORMAL


def count_samples(root: Path) -> dict[str, tuple[int, int]]:
    """Count images and defective images by folder, as in ``OFFICIAL_COUNTS``; raises as the dataset does."""
    samples = make_kolektor_sdd2_dataset(root)
    is_test = samples.split == Split.TEST.value
    parts = {"train": samples[~is_test], "test": samples[is_test]}
    return {folder: (len(part), int(part.label_index.sum())) for folder, part in parts.items()}


def check_official(root: Path) -> None:
    """Raise ``ValueError`` unless a folder has the counts of the official data set."""
    if (counts := count_samples(root)) != OFFICIAL_COUNTS:
        msg = f"this is not the whole KolektorSDD2 data set: {_difference(counts)}"
        raise ValueError(msg)


def _difference(counts: dict[str, tuple[int, int]]) -> str:
    return "; ".join(
        f"{folder} has {counts[folder][0]} images, {counts[folder][1]} of them defective, instead of {images} and {bad}"
        for folder, (images, bad) in OFFICIAL_COUNTS.items()
        if counts[folder] != (images, bad)
    )


class KolektorSDD2(ThinDefects):
    """Kolektor Surface-Defect Dataset 2 DataModule, with the official split.

    Training images are the 2085 normal ones of ``train/``, less those held out for validation; test images are all 1004
    of ``test/``. The 246 defective images of ``train/`` serve validation and are never trained on.

    Images are about 230 x 630 pixels and vary by a few. Give the model 704 x 256 (height x width): that keeps the
    aspect ratio within 1 %, loses nothing of the resolution, and is a multiple of 64, so that Ear pads nothing. At any
    size, no defect is lost when masks are resized.

    Args:
        root: Path to the root of the dataset; it is downloaded there if the folder does not exist
            or is empty. Defaults to ``"./datasets/kolektor_sdd2"``.
        train_batch_size: Training batch size.
            Defaults to ``32``.
        eval_batch_size: Validation and test batch size.
            Defaults to ``32``.
        num_workers: Number of workers.
            Defaults to ``8``.
        train_augmentations: Augmentations to apply to the training images
            Defaults to ``None``.
        val_augmentations: Augmentations to apply to the validation images.
            Defaults to ``None``.
        test_augmentations: Augmentations to apply to the test images.
            Defaults to ``None``.
        augmentations: General augmentations to apply if stage-specific
            augmentations are not provided.
        test_split_mode: Setting that determines how the testing
            subset is obtained.
            Defaults to ``TestSplitMode.FROM_DIR``.
        test_split_ratio: Fraction of images from the train set that will
            be reserved for testing, where the mode needs it.
            Defaults to ``0.2``.
        val_split_mode: Setting that determines how the validation subset is obtained.
            ``"from_train"`` takes the defective training images and a held-out share of the normal ones. The other
            modes are anomalib's; ``"same_as_test"`` tunes thresholds on test images.
            Defaults to ``ValSplitMode.FROM_TRAIN``.
        val_split_ratio: Fraction of normal training images (of test images with ``"from_test"``) that will be
            reserved for validation.
            Defaults to ``0.1``.
        seed: Seed of random splits. ``None`` counts as 0, for without a seed each process would
            split in its own way, and a test after training would see other images.
            Defaults to ``0``.
        checksum: MD5 of the archive to download. The default is what two independent public loaders
            state; it was not verified against the authors' own word. ``None`` skips the check.

    Raises:
        ValueError: If ``val_split_mode`` is ``"from_dir"``, for there is no folder for validation, or
            ``val_split_ratio`` is not between 0 and 1.

    Example:
        >>> from anomalib_ear.data import KolektorSDD2
        >>> datamodule = KolektorSDD2(root="./datasets/kolektor_sdd2")
        >>> datamodule.prepare_data()  # doctest: +SKIP
        >>> datamodule.setup()  # doctest: +SKIP
        >>> len(datamodule.test_data)  # doctest: +SKIP
        1004
    """

    def __init__(
        self,
        root: Path | str | None = "./datasets/kolektor_sdd2",
        train_batch_size: int = 32,
        eval_batch_size: int = 32,
        num_workers: int = 8,
        train_augmentations: Transform | None = None,
        val_augmentations: Transform | None = None,
        test_augmentations: Transform | None = None,
        augmentations: Transform | None = None,
        test_split_mode: TestSplitMode | str = TestSplitMode.FROM_DIR,
        test_split_ratio: float = 0.2,
        val_split_mode: ValSplitMode | str = ValSplitMode.FROM_TRAIN,
        val_split_ratio: float = 0.1,
        seed: int | None = 0,
        checksum: str | None = DOWNLOAD_INFO.hashsum,
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
            seed=seed or 0,
        )
        self.root = resolve_dataset_root(root, "kolektor_sdd2")
        self.checksum = checksum
        if self.val_split_mode == ValSplitMode.FROM_DIR:
            msg = "val_split_mode 'from_dir' is impossible: KolektorSDD2 has no validation folder; use 'from_train'"
            raise ValueError(msg)
        if self.val_split_mode == ValSplitMode.SAME_AS_TEST:
            logger.warning(
                "val_split_mode same_as_test tunes thresholds and normalisation on the test images: the test figures "
                "flatter the model. The default, from_train, does not."
            )

    def prepare_data(self) -> None:
        """Download the official archive, check it and unpack it, if the root does not exist or is empty.

        The root then holds what the archive holds::

            kolektor_sdd2
            ├── test
            │   ├── 20000.png
            │   ├── 20000_GT.png
            │   └── ...
            └── train
                └── ...

        A root with other counts than the official ones is used with a warning.

        Raises:
            OSError: If the archive cannot be downloaded or written, or a file cannot be read.
            ValueError: If the archive is not the expected one.
            FileNotFoundError: If the root has images without masks, masks without images, or lacks a folder.
            MisMatchError: If an image and its mask differ in size.
        """
        if is_missing(self.root):
            download_archive(DOWNLOAD_INFO.url, self.root, checksum=self.checksum, check=check_official)
            return
        logger.info("Found the dataset.")
        if (counts := count_samples(self.root)) != OFFICIAL_COUNTS:
            logger.warning(
                "'%s' is not the whole KolektorSDD2 data set: %s. Figures on it compare with no others.",
                self.root,
                _difference(counts),
            )

    def _setup(self, _stage: str | None = None) -> None:
        self.train_data = KolektorSDD2Dataset(root=self.root, split=Split.TRAIN)
        self.test_data = KolektorSDD2Dataset(root=self.root, split=Split.TEST)

    def _create_val_split(self) -> None:
        super()._create_val_split()
        if self.val_split_mode == ValSplitMode.FROM_TRAIN:
            self.val_data += KolektorSDD2Dataset(root=self.root, split=Split.VAL)
