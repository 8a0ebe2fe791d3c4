# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Photographs and masks are read in one way, in training and on the line, or refused by name."""

import csv
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import anomalib.data
import cv2
import numpy as np
import pytest
import tifffile
import torch
from anomalib.data import Folder, PredictDataset
from anomalib.data.errors import MisMatchError
from anomalib.engine import Engine
from anomalib.pre_processing import PreProcessor
from PIL import EpsImagePlugin, Image
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.v2 import CenterCrop, Compose, RandomCrop, Resize, Transform

from anomalib_ear import Ear, images
from anomalib_ear.data import SyntheticDefectDataset
from anomalib_ear.deploy.pictures import save
from anomalib_ear.host.checks import check_datamodule
from anomalib_ear.host.sizes import advise_size
from anomalib_ear.masks import read_mask
from conftest import REPOSITORY, SIZE, Run, surface
from scenes import write_exact, write_lossy, write_refused, write_turned


@pytest.fixture(scope="module")
def host() -> ModuleType:
    """Return anomalib's module of readers as anomalib wrote it."""
    spec = importlib.util.find_spec("anomalib.data.utils.image")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """Return a grey defective surface ``(H, W)``, uint8."""
    return np.ascontiguousarray(surface(20, defective=True)[0][..., 0])


@pytest.fixture(scope="module")
def files(scene: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the scene in ``exact`` and ``lossy`` files, and with ``refused`` ones."""
    root = tmp_path_factory.mktemp("files")
    write_exact(root / "exact", scene)
    write_lossy(root / "lossy", scene)
    write_refused(root / "refused", scene)
    return root


class TestPhotographs:
    """How photographs are read."""

    def test_suffixes_are_the_hosts(self) -> None:
        """The line looks at the same files as `predict`."""
        assert set(IMG_EXTENSIONS) == images.SUFFIXES

    def test_ordinary_files_are_the_hosts_to_the_last_bit(self, host: ModuleType, tmp_path: Path) -> None:
        """Files of 8 bits, upright and of one page give anomalib's own values."""
        colour = Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8))
        grey = colour.convert("L")
        colour.convert("P").save(tmp_path / "palette.png")
        colour.convert("P").save(tmp_path / "palette_transparent.png", transparency=bytes(range(256)))
        Image.merge("RGBA", (*colour.split(), grey)).save(tmp_path / "alpha.png")
        Image.merge("LA", (grey, grey)).save(tmp_path / "grey_alpha.png")
        colour.convert("CMYK").save(tmp_path / "cmyk.jpg")
        grey.convert("1").save(tmp_path / "one_bit.png")
        for suffix in (".png", ".jpg", ".bmp", ".tif", ".webp", ".ppm", ".pgm"):
            grey.save(tmp_path / f"grey{suffix}")
            if suffix != ".pgm":
                colour.save(tmp_path / f"colour{suffix}")
        for path in sorted(tmp_path.iterdir()):
            ours, theirs = (module.read_image(path, as_tensor=True) for module in (anomalib.data.utils, host))
            assert torch.equal(ours, theirs), path.name
            assert type(ours) is type(theirs)
            assert ours.stride() == theirs.stride()
            assert np.array_equal(anomalib.data.utils.read_image(path), host.read_image(path)), path.name

    def test_every_kind_of_file_shows_the_scene(self, files: Path, scene: np.ndarray) -> None:
        """Each file is read at its full range and upright, with and without the host in between."""
        for path in sorted((files / "exact").iterdir()):
            expected = np.broadcast_to(scene / 255, (3, *SIZE))
            np.testing.assert_allclose(anomalib.data.utils.read_image(path, as_tensor=True), expected, atol=1e-6)
            np.testing.assert_allclose(anomalib.data.utils.read_image(path).transpose(2, 0, 1), expected, atol=1e-6)
            unit = images.to_unit(images.read_image(path))
            assert unit.dtype == np.float32
            for band in np.moveaxis(np.atleast_3d(unit), -1, 0):
                np.testing.assert_allclose(band, scene / 255, atol=1e-6)
            assert images.read_size(path) == SIZE, path.name
        for path in sorted((files / "lossy").iterdir()):
            assert np.abs(anomalib.data.utils.read_image(path)[..., 0] - scene / 255).mean() < 0.01, path.name
            assert images.read_size(path) == SIZE, path.name

    def test_colours_of_16_bits_keep_every_bit(self, tmp_path: Path) -> None:
        """Pillow by itself takes the upper byte only."""
        pixels = np.random.default_rng(0).integers(0, 2**16, (40, 50, 3)).astype(np.uint16)
        cv2.imwrite(str(tmp_path / "photograph.png"), pixels[..., ::-1])
        alpha = np.full((40, 50, 1), 65535, np.uint16)
        cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([pixels[..., ::-1], alpha]))
        for name, options in {
            "little": {"byteorder": "<"},
            "big": {"byteorder": ">"},
            "zip": {"byteorder": ">", "compression": "zlib", "predictor": True},
            "strips": {"rowsperstrip": 7},
        }.items():
            tifffile.imwrite(tmp_path / f"{name}.tif", pixels, photometric="rgb", **options)
        for path in tmp_path.iterdir():
            assert np.array_equal(images.read_image(path), pixels), path.name

    @pytest.mark.parametrize(
        "options",
        [
            {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib"},
            {"photometric": "rgb", "planarconfig": "separate", "compression": "lzw", "predictor": True},
            {"photometric": "rgb", "planarconfig": "separate"},
            {"photometric": "minisblack", "planarconfig": "separate", "compression": "zlib"},
        ],
    )
    @pytest.mark.parametrize("kind", [np.uint8, np.uint16])
    def test_separate_planes_keep_every_bit_or_are_refused(self, tmp_path: Path, kind: type, options: dict) -> None:
        """Pillow reads the upper byte twice, or the first plane alone, and says nothing."""
        planes = np.random.default_rng(0).integers(0, np.iinfo(kind).max + 1, (3, 40, 50)).astype(kind)
        tifffile.imwrite(tmp_path / "photograph.tif", planes, **options)
        if kind == np.uint8 and options["photometric"] == "rgb":
            assert np.array_equal(images.read_image(tmp_path / "photograph.tif"), np.moveaxis(planes, 0, -1))
            return
        for read in (images.read_image, read_mask):
            with pytest.raises(ValueError, match=r"photograph\.tif"):
                read(tmp_path / "photograph.tif")

    def test_bands_beside_the_colours_cost_none(self, tmp_path: Path) -> None:
        """As an editor's saved selections are."""
        pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 4)).astype(np.uint8)
        tifffile.imwrite(tmp_path / "photograph.tif", pixels, photometric="rgb", extrasamples=["unspecified"])
        assert np.array_equal(images.read_image(tmp_path / "photograph.tif"), pixels[..., :3])

    def test_12_bits_reach_white(self, tmp_path: Path) -> None:
        """The largest of 12 bits is white if the file says that it has 12."""
        bits = 0xFFF000  # two pixels: white, black
        tifffile.imwrite(tmp_path / "photograph.tif", np.zeros((1, 2), np.uint16))
        with Image.open(tmp_path / "photograph.tif") as image:
            offset = image.tag_v2[273][0]
        data = bytearray((tmp_path / "photograph.tif").read_bytes())
        data[offset : offset + 3] = bits.to_bytes(3, "big")
        (tmp_path / "photograph.tif").write_bytes(data)
        with tifffile.TiffFile(tmp_path / "photograph.tif", mode="r+b") as file:
            file.pages[0].tags[258].overwrite(12)
            file.pages[0].tags[279].overwrite(3)
        assert images.read_image(tmp_path / "photograph.tif").tolist() == [[65535, 0]]

    @pytest.mark.parametrize("damage", [b"garbage", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff"])
    def test_damaged_exif_is_no_orientation(self, tmp_path: Path, damage: bytes) -> None:
        """An orientation that cannot be read is ignored, as viewers do."""
        Image.new("L", (5, 4), 9).save(tmp_path / "photograph.png", exif=damage)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of some kinds of damage
            assert images.read_image(tmp_path / "photograph.png").shape == (4, 5)

    def test_files_that_cannot_be_photographs_are_refused_by_name(self, files: Path) -> None:
        """By the reader and by `predict`; names are said once where many files are read."""
        for path in sorted((files / "refused").iterdir()):
            for read in (images.read_image, lambda path: PredictDataset(path)[0]):
                with pytest.raises((OSError, ValueError), match=path.name):
                    read(path)

    def test_lack_of_memory_is_not_the_files_fault(self, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is no damaged photograph, which nobody would read again."""

        def fail(*_: object) -> None:
            raise MemoryError

        monkeypatch.setattr(Image.Image, "convert", fail)
        with pytest.raises(MemoryError, match=r"not enough memory to read '.*colour\.png'"):
            images.read_image(files / "exact" / "colour.png")

    def test_no_program_is_started(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that is PostScript is refused, whatever its name, and not given to Ghostscript."""
        started = tmp_path / "started"
        (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {started}\n")
        (tmp_path / "gs").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # looked for once
        Image.new("RGB", (20, 10)).save(tmp_path / "part.png", "EPS")
        with pytest.raises(OSError, match=r"part\.png.*it is no JPEG, PNG"):
            images.read_image(tmp_path / "part.png")
        assert not started.exists()

    def test_large_images_are_no_bombs(self, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Pillow's limit does not apply, and applies to others as before, also after many threads."""
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        with warnings.catch_warnings(), ThreadPoolExecutor(8) as threads:
            warnings.simplefilter("error")
            list(threads.map(images.read_image, [*(files / "exact").iterdir()]))
            assert Image.MAX_IMAGE_PIXELS == 100
            with pytest.raises(Image.DecompressionBombError):
                Image.open(files / "exact" / "grey.png")

    def test_what_anomalib_would_read_otherwise_is_said_once(self, files: Path) -> None:
        """A process and all its workers print one line per kind."""
        code = """
            import sys, anomalib_ear
            from anomalib.data import PredictDataset
            from torch.utils.data import DataLoader
            for epoch in range(2):
                for item in DataLoader(PredictDataset(sys.argv[1]), num_workers=2, collate_fn=lambda items: items):
                    pass
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), files / "exact"],
            env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src")},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        said = [line for line in done.stderr.splitlines() if "Others like it" in line]
        assert sorted("turned upright" in line for line in said if str(files) in line) == [False, True]
        assert any("full range" in line for line in said)


class TestMasks:
    """How masks are read."""

    @pytest.fixture
    def shape(self) -> np.ndarray:
        """Return a mask ``(H, W)`` of bool."""
        shape = np.zeros(SIZE, bool)
        shape[10:30, 20:60] = True
        return shape

    KINDS: tuple[tuple[str, Callable[[np.ndarray], Image.Image]], ...] = (
        ("grey.png", lambda shape: Image.fromarray(shape.astype(np.uint8) * 255)),
        ("ones.png", lambda shape: Image.fromarray(shape.astype(np.uint8))),
        ("16_bits.png", lambda shape: Image.fromarray(shape.astype(np.uint16))),
        ("1_bit.png", Image.fromarray),
        ("integers.tif", lambda shape: Image.fromarray(shape.astype(np.int32))),
        ("floats.tif", lambda shape: Image.fromarray(shape.astype(np.float32) / 1000)),
        ("dark_blue.png", lambda shape: Image.fromarray(np.dstack([0 * shape, 0 * shape, shape]).astype(np.uint8))),
        ("white_in_alpha.png", lambda shape: rgba(np.full(SIZE, 255), shape)),
        ("black_in_alpha.png", lambda shape: rgba(np.zeros(SIZE), shape)),
        ("on_transparent_white.png", lambda shape: rgba(np.where(shape, 200, 255), shape)),
        ("black_on_transparent_white.png", lambda shape: rgba(np.where(shape, 0, 255), shape)),
        ("white_with_clear_border.png", lambda shape: rgba(shape * 255, np.arange(SIZE[1]) < 90)),
        ("opaque.png", lambda shape: rgba(shape * 255, np.ones(SIZE))),
        ("grey_alpha.png", lambda shape: rgba(np.full(SIZE, 99), shape).convert("LA")),
        ("noisy.jpg", lambda shape: Image.fromarray(shape.astype(np.uint8) * 255)),
    )

    @pytest.mark.parametrize(("name", "draw"), KINDS, ids=[name for name, _ in KINDS])
    def test_every_kind_of_mask_has_its_shape(
        self, name: str, draw: Callable[[np.ndarray], Image.Image], shape: np.ndarray, tmp_path: Path
    ) -> None:
        """Whether in colours or in transparency, and as the host's values where it reads it rightly."""
        draw(shape).save(tmp_path / name, quality=75)
        mask = anomalib.data.utils.read_mask(tmp_path / name, as_tensor=True)
        assert mask.dtype == torch.uint8
        wrong = (mask.numpy() != shape).sum()
        assert wrong <= (50 if name == "noisy.jpg" else 0)
        assert np.array_equal(anomalib.data.utils.read_mask(tmp_path / name) > 0, mask.numpy())

    def test_palettes(self, shape: np.ndarray, tmp_path: Path) -> None:
        """The palette's colours count, and its transparent colour."""
        image = Image.fromarray(shape.astype(np.uint8)).convert("P")
        image.putpalette([0, 0, 0, 1, 0, 0])
        image.save(tmp_path / "dark.png")
        image.putpalette([255, 255, 255, 255, 0, 0])
        image.save(tmp_path / "transparent.png", transparency=0)
        for name in ("dark.png", "transparent.png"):
            assert np.array_equal(anomalib.data.utils.read_mask(tmp_path / name) > 0, shape), name

    def test_ordinary_masks_are_the_hosts(self, host: ModuleType, shape: np.ndarray, tmp_path: Path) -> None:
        """They are the host's to the last bit."""
        colours = np.random.default_rng(0).integers(9, 255, (*SIZE, 3), np.uint8) * shape[..., None]
        Image.fromarray(colours).save(tmp_path / "colour.png")
        Image.fromarray(colours[..., 0]).save(tmp_path / "grey.png")
        for path in tmp_path.iterdir():
            for as_tensor in (False, True):
                ours, theirs = (module.read_mask(path, as_tensor) for module in (anomalib.data.utils, host))
                assert np.array_equal(ours, theirs)
                assert type(ours) is type(theirs)

    def test_a_mask_is_turned_upright(self, shape: np.ndarray, tmp_path: Path) -> None:
        """A mask is turned like its photograph."""
        write_turned(Image.fromarray(shape.astype(np.uint8) * 255), tmp_path / "mask.png", 6)
        assert np.array_equal(anomalib.data.utils.read_mask(tmp_path / "mask.png") > 0, shape)

    def test_unclear_masks_are_refused_by_name(self, shape: np.ndarray, tmp_path: Path) -> None:
        """A mask with two shapes, or without anything black, is refused by name."""
        rgba(shape * 255, np.arange(SIZE[1]) < 40).save(tmp_path / "two_shapes.png")
        Image.fromarray(np.where(shape, 255, 7).astype(np.uint8)).save(tmp_path / "no_black.png")
        Image.fromarray(-shape.astype(np.int32)).save(tmp_path / "negative.tif")
        for path in tmp_path.iterdir():
            with pytest.raises(ValueError, match=path.name):
                anomalib.data.utils.read_mask(path, as_tensor=True)


def rgba(grey: np.ndarray, opaque: np.ndarray) -> Image.Image:
    """Return a picture of greys, opaque where said."""
    alpha = np.broadcast_to(opaque, SIZE) * 255
    return Image.fromarray(np.dstack([grey, grey, grey, alpha]).astype(np.uint8))


class TestChecks:
    """A data set is checked before a training is spent on it."""

    @staticmethod
    def data(root: Path, **options: object) -> Folder:
        """Return the datamodule of a folder with masks."""
        folders = {"normal_dir": "good", "abnormal_dir": "defective", "mask_dir": "masks"} | options
        return Folder("parts", root=root, train_batch_size=2, num_workers=0, val_split_mode="same_as_test", **folders)

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        """Return such a folder, of 4 good and 3 defective photographs."""
        for kind in ("good", "defective", "masks"):
            (tmp_path / kind).mkdir()
        for index in range(7):
            image, mask = surface(index, defective=index >= 4)
            Image.fromarray(image).save(tmp_path / ("defective" if index >= 4 else "good") / f"{index}.png")
            if index >= 4:
                Image.fromarray(mask).save(tmp_path / "masks" / f"{index}.png")
        return tmp_path

    @staticmethod
    def train(data: Folder, root: Path, image_size: tuple[int, int] = (64, 96)) -> None:
        """Train for a step."""
        model = Ear(space="pixels", channels=[4, 8], image_size=image_size, visualizer=False)
        engine = Engine(max_epochs=1, limit_train_batches=1, accelerator="cpu", logger=False, default_root_dir=root)
        engine.fit(model, data)

    @pytest.mark.parametrize("name", ["normal_dir", "abnormal_dir", "normal_test_dir", "mask_dir"])
    def test_a_missing_folder_is_named_with_its_argument(self, root: Path, name: str) -> None:
        """Whoever has no photographs of a kind learns how to say so."""
        folders = {name: "nowhere"} if name == "normal_dir" else {name: ["good", "nowhere"]}
        with pytest.raises(FileNotFoundError, match=rf"{name}: there is no folder '.*/nowhere'") as raised:
            self.data(root, **folders).setup()
        assert (f"(--data.{name} null)" in str(raised.value)) == (name != "normal_dir")

    def test_a_missing_mask_is_named(self, root: Path) -> None:
        """The error names the photograph and the mask that is expected."""
        (root / "masks" / "5.png").unlink()
        with pytest.raises(FileNotFoundError, match=r"defective/5\.png.*masks/5\.png"):
            self.data(root).setup()

    def test_another_photographs_mask_is_no_mask(self, root: Path) -> None:
        """Though the host takes 45's, whose name contains 4's."""
        (root / "masks" / "4.png").rename(root / "masks" / "45.png")
        (root / "defective" / "6.png").rename(root / "defective" / "45.png")
        with pytest.raises((FileNotFoundError, MisMatchError), match=r"defective/4\.png"):
            self.train(self.data(root), root)

    def test_a_mask_without_photograph_is_named(self, root: Path) -> None:
        """The error names the mask that has no photograph."""
        Image.new("L", SIZE[::-1]).save(root / "masks" / "extra.png")
        with pytest.raises(FileNotFoundError, match=r"masks/extra\.png"):
            self.data(root).setup()

    def test_masks_in_another_order_are_named(self, root: Path) -> None:
        """The host pairs in the order of names."""
        for name, prefix in (("4", "c"), ("5", "b"), ("6", "a")):
            (root / "masks" / f"{name}.png").rename(root / "masks" / f"{prefix}_{name}.png")
        with pytest.raises(MisMatchError, match=r"defective/4\.png.*masks/a_6\.png"):
            self.data(root).setup()

    @pytest.mark.parametrize(
        ("masks", "is_right"), [(("crack", "hole"), True), (("1", "2"), True), (("2", "1"), False)], ids=str
    )
    def test_masks_of_kinds_with_the_same_names(self, root: Path, masks: tuple[str, str], is_right: bool) -> None:
        """Each kind has its 4.png; the host pairs in the order of all paths, whatever the order of the folders."""
        for kind, of_masks in zip(("crack", "hole"), masks, strict=True):
            for name, files in ((kind, "defective"), (f"masks/{of_masks}", "masks")):
                (root / name).mkdir()
                shutil.copy(root / files / "4.png", root / name)
        data = self.data(root, abnormal_dir=["crack", "hole"], mask_dir=[f"masks/{name}" for name in masks])
        if is_right:
            data.setup()
        else:
            with pytest.raises(
                MisMatchError, match=r"crack/4\.png' would get mask '.*masks/1/4\.png', of another folder"
            ):
                data.setup()

    def test_a_mask_of_another_size_stops_training(self, root: Path) -> None:
        """The error names the mask and its photograph, and says so if the mask lies on its side."""
        mask = root / "masks" / "5.png"
        Image.open(mask).rotate(90, expand=True).save(mask)
        with pytest.raises(MisMatchError, match=r"masks/5\.png.*70 x 104.*defective/5\.png.*104 x 70.*upright"):
            self.train(self.data(root), root)

    @pytest.mark.parametrize("folder", ["good", "defective", "masks"])
    def test_an_empty_file_stops_training(self, root: Path, folder: str) -> None:
        """An empty file of any split stops training at once."""
        path = sorted((root / folder).iterdir())[0]
        path.write_bytes(b"")
        with pytest.raises(OSError, match=f"{folder}/{path.name}.*empty"):
            self.train(self.data(root), root)

    def test_a_file_of_several_pages_stops_training(self, root: Path) -> None:
        """A test image of several pages stops training too."""
        image = Image.open(root / "defective" / "5.png")
        image.save(root / "defective" / "5.tif", save_all=True, append_images=[image])
        (root / "defective" / "5.png").unlink()
        with pytest.raises(ValueError, match=r"5\.tif.*2 pages"):
            self.train(self.data(root), root)

    def test_truncated_files_are_named_in_training(self, root: Path) -> None:
        """A file with a whole header is named when it is read."""
        for path in (root / "good").iterdir():
            path.write_bytes(path.read_bytes()[:2000])
        with pytest.raises(OSError, match=r"good/\d\.png.*truncated"):
            self.train(self.data(root), root)

    def test_squashed_photographs_are_said(self, root: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
        """The warning names a size that would be right; with that size there is no warning."""
        with caplog.at_level(logging.WARNING):
            self.train(self.data(root), tmp_path, image_size=(128, 128))
        (said,) = [record.getMessage() for record in caplog.records if "squashed" in record.getMessage()]
        assert "70 x 104" in said
        assert "--model.image_size '[128,192]'" in said
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            self.train(self.data(root), tmp_path, image_size=(128, 192))
        assert "squashed" not in caplog.text

    def test_validation_of_another_shape_is_said(
        self, root: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
    ) -> None:
        """The warning names one."""
        for path in (root / "defective").iterdir():
            Image.open(path).crop((0, 0, 70, 70)).save(path)
        with caplog.at_level(logging.WARNING):
            self.train(self.data(root, mask_dir=None), tmp_path, image_size=(128, 192))
        said = [record.getMessage() for record in caplog.records if "another shape" in record.getMessage()]
        assert said
        assert re.match(r"3 of \d photographs, such as '.*defective/\d\.png': 70 x 70 pixels", said[0])

    @pytest.mark.parametrize(
        ("augmentation", "pre_processor"),
        [
            (Resize((64, 64)), True),
            (RandomCrop((64, 64)), True),
            (None, PreProcessor(Compose([Resize((64, 96)), CenterCrop((64, 64))]))),
        ],
        ids=["resized", "cropped", "cropped by the model"],
    )
    def test_photographs_of_one_shape_are_not(
        self, root: Path, caplog: pytest.LogCaptureFixture, augmentation: Transform | None, pre_processor: PreProcessor
    ) -> None:
        """However they are augmented, and where the model does not squash them."""
        model = Ear(space="pixels", channels=[4, 8], pre_processor=pre_processor, visualizer=False)
        engine = Engine(max_epochs=1, limit_train_batches=1, accelerator="cpu", logger=False, default_root_dir=root)
        data = self.data(root, mask_dir=None, train_augmentations=augmentation)
        with caplog.at_level(logging.WARNING):
            engine.fit(model, data)
            engine.test(model, datamodule=data)
            engine.predict(model, data_path=root / "good")
        assert "another shape" not in caplog.text

    @pytest.mark.parametrize("stage", ["augmentations", "val_augmentations", "train_augmentations"])
    def test_augmentations_that_the_line_has_not_are_said(
        self, root: Path, caplog: pytest.LogCaptureFixture, stage: str
    ) -> None:
        """Those of training alone are nobody else's."""
        with caplog.at_level(logging.WARNING):
            self.train(self.data(root, **{stage: CenterCrop((64, 96))}), root)
        assert ("nor what an exported model does" in caplog.text) == (stage != "train_augmentations")

    def test_photographs_of_several_shapes_are_said(
        self, root: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
    ) -> None:
        """The warning names the extremes."""
        Image.open(root / "good" / "1.png").rotate(90, expand=True).save(root / "good" / "1.png")
        with caplog.at_level(logging.WARNING):
            self.train(self.data(root), tmp_path, image_size=(128, 192))
        (said,) = [record.getMessage() for record in caplog.records if "squashed" in record.getMessage()]
        assert said.startswith("Photographs differ in shape, 104 x 70 to 70 x 104 pixels")

    @pytest.mark.parametrize(("bits", "is_dark"), [(8, False), (10, True), (12, True), (14, True), (16, False)])
    def test_dark_photographs_are_said(
        self, root: Path, caplog: pytest.LogCaptureFixture, bits: int, is_dark: bool
    ) -> None:
        """A camera's 10, 12 or 14 bits in files of 16 are; 8 bits in files of 8 are not, nor are all 16."""
        for path in (root / "good").iterdir():
            pixels = np.asarray(Image.open(path).convert("L"))
            Image.fromarray(pixels if bits == 8 else pixels.astype(np.uint16) << (bits - 8)).save(path)
        with caplog.at_level(logging.WARNING):
            self.train(self.data(root), root)
        said = [record.getMessage() for record in caplog.records if "% of white" in record.getMessage()]
        assert len(said) == is_dark
        assert not said or f"'{root}/good/" in said[0]

    @pytest.mark.parametrize("folder", ["good", "defective"])
    @pytest.mark.parametrize("keeps_ratio", [True, False])
    def test_photographs_that_reach_the_network_in_several_sizes_stop_training(
        self, root: Path, folder: str, keeps_ratio: bool
    ) -> None:
        """Before anything is learned: without a resize, or with one that keeps the ratio. The error names two."""
        path = sorted((root / folder).iterdir())[0]
        photograph = Image.open(path)
        photograph.crop((0, 0, 104, 60)).save(path)
        resize = PreProcessor(transform=Resize(64)) if keeps_ratio else False
        model = Ear(space="pixels", channels=[4, 8], pre_processor=resize, visualizer=False)
        engine = Engine(max_epochs=1, accelerator="cpu", logger=False, default_root_dir=root)
        with pytest.raises(ValueError, match=rf"(?=.*{folder}/{path.name}).* would reach the network with"):
            engine.fit(model, self.data(root, mask_dir=None))
        assert engine.trainer.global_step == 0

    def test_unused_masks_are_said(self, root: Path, caplog: pytest.LogCaptureFixture) -> None:
        """The warning names the option that uses them."""
        with caplog.at_level(logging.WARNING):
            self.train(self.data(root, mask_dir=None), root)
        (said,) = [record.getMessage() for record in caplog.records if "not used" in record.getMessage()]
        assert str(root / "masks") in said
        assert "--data.mask_dir masks" in said

    def test_a_copy_of_a_good_photograph_among_the_defective_stops_training(self, root: Path) -> None:
        """The error names both; a copy among its like, and another photograph of as many bytes, stop nothing."""
        shutil.copy(root / "good" / "1.png", root / "good" / "copy.png")
        large = max(path.stat().st_size for path in root.glob("*/*.png"))
        for path in [*root.glob("good/*.png"), *root.glob("defective/*.png")]:
            path.write_bytes(path.read_bytes().ljust(large, b"\0"))
        self.train(self.data(root, mask_dir=None), root)
        shutil.copy(root / "good" / "1.png", root / "defective" / "again.png")
        with pytest.raises(ValueError, match=r"good/1\.png' and '.*defective/again\.png' are one photograph"):
            self.train(self.data(root, mask_dir=None), root)

    @pytest.mark.parametrize("how", ["same folder", "link"])
    def test_a_photograph_that_is_good_and_defective_stops_training(self, root: Path, how: str) -> None:
        """The error names it."""
        (root / "defective" / "linked.png").symlink_to(root / "good" / "1.png")
        folder = {"same folder": "good", "link": "defective"}[how]
        with pytest.raises(ValueError, match=r"(good/\d|linked)\.png' is among the good and among the defective"):
            self.train(self.data(root, abnormal_dir=folder, mask_dir=None), root)

    def test_drawn_defects_on_good_photographs_stop_nothing(self, root: Path) -> None:
        """Their photographs are those of the training."""
        data = self.data(root)
        data.setup()
        data.val_data = SyntheticDefectDataset(data.train_data)
        check_datamodule(data)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda mask: 255 - mask, r"3 of 3 masks mark more than half of the picture.*masks/4\.png.*inverted"),
            (lambda mask: 0 * mask, r"3 masks of defective photographs mark nothing, such as .*masks/4\.png"),
        ],
    )
    def test_strange_masks_are_said(
        self, root: Path, change: Callable[[np.ndarray], np.ndarray], message: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Inverted ones, or ones without a defect; nothing is said of usual ones."""
        with caplog.at_level(logging.WARNING):
            self.train(self.data(root), root)
        assert "masks" not in caplog.text
        for mask in (root / "masks").iterdir():
            Image.fromarray(change(np.asarray(Image.open(mask)))).save(mask)
        with caplog.at_level(logging.WARNING):
            self.train(self.data(root), root)
        assert re.search(message, caplog.text)

    def test_other_files_among_photographs_are_said(self, root: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Photographs of a suffix that is not read, and masks that would be."""
        (root / "good" / "0.png").rename(root / "good" / "0.heic")
        (root / "defective" / "masks").mkdir()
        shutil.copy(root / "masks" / "4.png", root / "defective" / "masks" / "4.png")
        with caplog.at_level(logging.WARNING):
            self.train(self.data(root, mask_dir=None), root)
        assert re.search(r"In '.*good' is left out: no photographs: 1 \.heic\.", caplog.text)
        assert re.search(r"1 files like '.*defective/masks/4\.png' are taken for photographs", caplog.text)

    @pytest.mark.parametrize("name", ["1_mask.png", "1_GT.png", "1_label.bmp", "1.png", "1.PNG"])
    def test_masks_beside_photographs_are_said(self, root: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
        """Some data sets come so; anomalib takes each for one more photograph."""
        Image.open(root / "good" / "1.png").save(root / "good" / "1.jpg")
        (root / "good" / "1.png").unlink()
        PredictDataset(root / "good")
        assert "are they masks" not in caplog.text
        Image.new("L", SIZE[::-1]).save(root / "good" / name)
        PredictDataset(root / "good")
        assert re.search(rf"1 files like '.*good/{name}' are taken for photographs: are they masks\?", caplog.text)

    def test_no_photograph_is_its_own_mask(self, root: Path) -> None:
        """As where both lie in one folder."""
        with pytest.raises(MisMatchError, match=r"defective/4\.png' would be its own mask"):
            self.data(root, mask_dir="defective").setup()

    @pytest.mark.parametrize("command", ["fit", "predict"])
    def test_what_a_host_leaves_out_or_takes_wrongly_is_said(
        self, root: Path, command: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It follows no links to folders, and takes no GIF but the line's pictures; without such nothing is said."""

        def run() -> str:
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                if command == "fit":
                    self.train(self.data(root, mask_dir=None), root)
                else:
                    PredictDataset(root / "good")
            return caplog.text

        assert "left out" not in run()
        (root / "more").mkdir()
        for index in range(2):
            shutil.copy(root / "good" / "1.png", root / "more" / f"more{index}.png")
        (root / "good" / "more").symlink_to(root / "more")
        (root / "others").mkdir()
        shutil.copy(root / "good" / "2.png", root / "others")
        (root / "good" / "masks").symlink_to(root / "others")
        Image.new("L", SIZE[::-1]).save(root / "good" / "moving.gif")
        save(Image.open(root / "good" / "0.png"), root / "good" / "result.png")
        said = run()
        assert re.search(r"In '.*good' is left out: no photographs: 1 \.gif\.", said)
        assert re.search(r"3 files like '.*good/m.*\.png' are left out, for they are behind a link", said)
        assert "are they masks" not in said
        assert re.search(r"1 files like '.*good/result\.png' are taken for photographs: they show results\.", said)

    @pytest.mark.parametrize(
        ("photograph", "advised"),
        [((400, 600), (256, 384)), ((630, 230), (512, 192)), ((100, 1000), (64, 640)), ((480, 640), (192, 256))],
    )
    def test_advised_sizes(self, photograph: tuple[int, int], advised: tuple[int, int]) -> None:
        """Of the photograph's shape, in multiples of 64, of about the area of 256 x 256."""
        assert advise_size(photograph, 256 * 256) == advised


class TestScores:
    """A scene has one score, whatever its file."""

    @pytest.fixture
    def predicted(self, run: Run, files: Path, tmp_path: Path) -> dict[str, float]:
        """Return the scores of `predict`."""
        model = Ear.load_from_checkpoint(run.checkpoint, map_location="cpu", visualizer=False)
        engine = Engine(accelerator="cpu", logger=False, default_root_dir=tmp_path)
        scores = {}
        for folder in ("exact", "lossy"):
            for batch in engine.predict(model, data_path=files / folder):
                scores[f"{folder}/{Path(batch.image_path[0]).name}"] = batch.pred_score.item()
        return scores

    @pytest.fixture
    def inferred(self, run: Run, files: Path, tmp_path: Path) -> dict[str, float]:
        """Return the scores of `infer`, which refuses all that `predict` refuses, by name."""
        exported = Ear.load_from_checkpoint(run.checkpoint, map_location="cpu").to_openvino(tmp_path / "exported")
        done = subprocess.run(
            [sys.executable, "-m", "anomalib_ear.infer", "--model", exported, "--input", files, "--output",
             tmp_path / "out", "--heat_maps", "false"],
            env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1, done.stderr
        for path in (files / "refused").iterdir():
            assert path.name in done.stderr
        with (tmp_path / "out" / "scores.csv").open(newline="", encoding="utf-8") as file:
            return {row["path"]: float(row["normalised_score"]) for row in csv.DictReader(file)}

    @pytest.mark.parametrize("entrance", ["predicted", "inferred"])
    @pytest.mark.parametrize("run", ["pixels"], indirect=True)
    @pytest.mark.usefixtures("run")
    def test_one_score(self, entrance: str, files: Path, request: pytest.FixtureRequest) -> None:
        """Scores agree to 1e-3, those of JPEG to 2e-2."""
        scores = request.getfixturevalue(entrance)
        expected = {f"{folder}/{path.name}" for folder in ("exact", "lossy") for path in (files / folder).iterdir()}
        assert set(scores) == expected
        for name, score in scores.items():
            tolerance = 1e-3 if name.startswith("exact") else 2e-2
            assert score == pytest.approx(scores["exact/grey.png"], abs=tolerance), name


@pytest.mark.parametrize("name", ["mask.webp", "mask.tif"])
def test_noise_around_the_shape_of_a_lossy_mask_is_normal(tmp_path: Path, name: str) -> None:
    """Whatever the format, the shape stays as large as it was drawn, and so does one of faint grey."""
    drawn = np.zeros((96, 128), np.uint8)
    drawn[30:60, 40:90] = 255
    for white in (255, 100):
        picture = Image.fromarray(np.minimum(drawn, white).astype(np.uint8)).convert("RGB")
        picture.save(tmp_path / name, quality=60, **({"compression": "jpeg"} if name.endswith("tif") else {}))
        found = read_mask(tmp_path / name) > 0
        assert abs(found.sum() / (drawn > 0).sum() - 1) < 0.02
