# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""anomalib's readers, replaced by those of :mod:`anomalib_ear.images` and ``masks`` wherever anomalib looks them up.

anomalib 2.7 reads 16 bits as white, ignores EXIF orientations, takes the first of several pages, and does not name a
file that it cannot read. Most users train on ``Folder``, predict from a path, and deploy with the stock inferencers:
readers in our own datamodules would let training and line differ. They are replaced for every model of the process,
since otherwise a comparison between models would compare readers. What anomalib reads rightly stays as it is, to the
last bit.
"""

import inspect
import logging
import mmap
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import torch
from anomalib.data.datasets.image import folder as host_folder
from anomalib.data.errors import MisMatchError
from anomalib.data.utils import image as host_image
from anomalib.data.utils.path import resolve_path
from numpy.typing import NDArray
from pandas import DataFrame
from torch import Tensor
from torchvision.tv_tensors import Image, Mask

from anomalib_ear import images, masks
from anomalib_ear.deploy.photographs import doubts

logger = logging.getLogger(__name__)

# Arguments of a ``Folder`` and what is in these folders.
_FOLDERS = {
    "normal_dir": "good photographs",
    "abnormal_dir": "defective photographs",
    "normal_test_dir": "good photographs for the test",
    "mask_dir": "masks of the defective photographs",
}
# A byte per note; forked workers share it, else each of them would repeat what was said.
_said = mmap.mmap(-1, len(images.NOTES))


def read_image(path: str | Path, as_tensor: bool = False) -> Tensor | NDArray[np.float64]:
    """Read a photograph, see :func:`anomalib_ear.images.read_image`.

    Args:
        path: File.
        as_tensor: Whether to return a tensor.

    Returns:
        RGB in [0, 1]: ``(3, H, W)`` float32 as a tensor, else ``(H, W, 3)`` float64.

    Raises:
        OSError: If the file cannot be read; names it.
        ValueError: If what it holds is not one photograph of known range; names it.
    """
    pixels, notes = images.read_photograph(path)
    for note in notes:
        _say_once(path, note)
    colours = np.repeat(pixels[..., None], 3, axis=-1) if pixels.ndim == 2 else pixels
    if as_tensor:  # in memory (H, W, 3), as the host's, which decides how a resize rounds
        tensor: Tensor = Image(torch.from_numpy(images.to_unit(colours)).permute(2, 0, 1))
        return tensor
    white = 1 if pixels.dtype == np.float32 else np.iinfo(pixels.dtype).max
    return np.asarray(colours / np.float64(white))


def read_mask(path: str | Path, as_tensor: bool = False) -> Tensor | NDArray[np.uint8]:
    """Read a mask, see :func:`anomalib_ear.masks.read_mask`.

    Args:
        path: File.
        as_tensor: Whether to return a tensor.

    Returns:
        ``(H, W)`` uint8, 0 where normal; where defective 1 as a tensor, else 1 to 255.

    Raises:
        OSError: If the file cannot be read; names it.
        ValueError: If its shape cannot be told; names it.
    """
    mask = masks.read_mask(path)
    if not as_tensor:
        return mask
    tensor: Tensor = Mask(torch.from_numpy(mask > 0), dtype=torch.uint8)
    return tensor


def _say_once(path: str | Path, note: str) -> None:
    index = images.NOTES.index(note)
    if not _said[index]:
        _said[index] = 1
        logger.warning("'%s' %s. Others like it are not mentioned.", path, note)


def get_image_filenames_from_dir(path: str | Path) -> list[Path]:
    """List the photographs of a folder as the host does, and say what it leaves out."""
    files: list[Path] = _host_get_image_filenames_from_dir(path)
    for text in doubts(Path(path)):
        logger.warning("%s", text)
    return files


def make_folder_dataset(*args: Any, **kwargs: Any) -> DataFrame:  # noqa: ANN401  the host's
    """List the samples of a ``Folder`` as the host does; if masks and photographs do not pair, say which.

    Raises:
        FileNotFoundError: If there is no such folder, a defective photograph has no mask, or a mask no photograph;
            names it.
        MisMatchError: If they are paired wrongly; names a pair.
    """
    given = inspect.signature(_host_make_folder_dataset).bind(*args, **kwargs).arguments
    for name, content in _FOLDERS.items():
        for folder in _folders(given, name):
            if not folder.is_dir():
                remedy = "" if name == "normal_dir" else f", or set it to null (--data.{name} null) if you have none"
                msg = f"{name}: there is no folder '{folder}'. Name the one with {content}{remedy}."
                raise FileNotFoundError(msg)
    try:
        samples = _host_make_folder_dataset(*args, **kwargs)
    except (ValueError, MisMatchError) as error:
        photographs, masks = _files(given, "abnormal_dir"), _files(given, "mask_dir")
        if photographs and masks:
            _explain_pairs(photographs, masks, error)
        raise
    _check_folders(samples, given)
    return samples


def _check_folders(samples: DataFrame, given: Mapping[str, Any]) -> None:
    """Refuse a mask of another folder: the host pairs in the order of all paths, and names may occur in each folder.

    Raises:
        MisMatchError: If of several photographs with one name one would get the mask of another, or if one is its own.
    """
    if "mask_path" not in samples:
        return
    masked = samples[samples.mask_path.astype(bool)]
    pairs = list(zip(masked.image_path.map(Path), masked.mask_path.map(Path), strict=True))
    count = Counter(photograph.stem for photograph, _ in pairs)
    folders = [_folders(given, name) for name in ("abnormal_dir", "mask_dir")]
    side_by_side = list(zip(*folders, strict=True)) if len(folders[0]) == len(folders[1]) else []
    for photograph, mask in pairs:
        if photograph.resolve() == mask.resolve():
            msg = f"'{photograph}' would be its own mask: put masks into a folder of their own, and name it mask_dir."
            raise MisMatchError(msg)
        is_sibling = photograph.parent.name == mask.parent.name or any(
            photograph.parent.relative_to(one) == mask.parent.relative_to(other)
            for one, other in side_by_side
            if one in photograph.parents and other in mask.parents
        )
        if count[photograph.stem] > 1 and not is_sibling:
            msg = (
                f"'{photograph}' would get mask '{mask}', of another folder: several photographs have this name, and "
                "all are paired in the order of their paths. Name each folder of masks like its photographs'."
            )
            raise MisMatchError(msg)


def _files(given: Mapping[str, Any], name: str) -> list[Path]:
    """List the files of a ``Folder``'s argument as the host does."""
    suffixes = {suffix.lower() for suffix in given.get("extensions") or images.SUFFIXES}
    files = (file for folder in _folders(given, name) for file in folder.rglob("*"))
    return sorted(file for file in files if file.suffix.lower() in suffixes and file.is_file())


def _folders(given: Mapping[str, Any], name: str) -> list[Path]:
    """List the folders of a ``Folder``'s argument as the host does."""
    value = given.get(name)
    if value is None:
        return []
    return [resolve_path(folder, given.get("root")) for folder in ([value] if isinstance(value, str | Path) else value)]


def _explain_pairs(photographs: list[Path], masks: list[Path], error: Exception) -> NoReturn:
    """Raise an error that names a photograph without a mask, a mask without a photograph, or a wrong pair."""
    stems = Counter(file.stem for file in photographs)
    # A mask's name may be longer than its photograph's: 001_mask.png. Of 1 and 11 the latter is meant by 11_mask.
    owned = Counter(max((stem for stem in stems if stem in mask.stem), key=len, default="") for mask in masks)
    lonely = [file for file in photographs if owned[file.stem] < stems[file.stem]]
    if lonely:
        expected = masks[0].parent / f"{lonely[0].stem}{masks[0].suffix}"
        others = f"; {len(lonely) - 1} more have none either" if len(lonely) > 1 else ""
        msg = f"no mask for '{lonely[0]}': expected '{expected}'{others}. Add it, or leave mask_dir out."
        raise FileNotFoundError(msg) from error
    for mask in masks:
        if not any(stem in mask.stem for stem in stems):
            msg = f"no defective photograph for mask '{mask}': name masks like their photographs, in abnormal_dir."
            raise FileNotFoundError(msg) from error
    for photograph, mask in zip(photographs, masks, strict=False):
        if photograph.stem not in mask.stem:
            msg = (
                f"'{photograph}' would get mask '{mask}', for both are paired in the order of their names: give each "
                "mask its photograph's name."
            )
            raise MisMatchError(msg) from error
    msg = f"{len(photographs)} defective photographs, but {len(masks)} masks: give each photograph one of its name."
    raise MisMatchError(msg) from error


_host_get_image_filenames_from_dir = host_image.get_image_filenames_from_dir
_host_make_folder_dataset = host_folder.make_folder_dataset
_REPLACEMENTS = {
    host_image.read_image: read_image,
    host_image.read_mask: read_mask,
    host_image.get_image_filenames_from_dir: get_image_filenames_from_dir,
    host_folder.make_folder_dataset: make_folder_dataset,
}


def replace_readers() -> None:
    """Put our readers in place of anomalib's in all of its modules that are loaded; later ones import them from there.

    May be called at any time, which is what a spawned worker does when it imports ``anomalib.data``.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith("anomalib.") and isinstance(module, ModuleType):
            for host, ours in _REPLACEMENTS.items():
                if vars(module).get(host.__name__) is host:
                    setattr(module, host.__name__, ours)
