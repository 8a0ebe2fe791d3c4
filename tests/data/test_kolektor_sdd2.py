# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Tests of KolektorSDD2: layout, split, download, and training through the command, all on generated files."""

import contextlib
import functools
import hashlib
import http.server
import os
import resource
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import AnomalibDataModule, get_datamodule
from anomalib.data.errors import MisMatchError
from PIL import Image
from torchvision.transforms.v2 import Resize

from anomalib_ear.data import KolektorSDD2, KolektorSDD2Dataset, download, kolektor_sdd2
from anomalib_ear.data.download import download_archive
from conftest import REPOSITORY, cli

SIZES = [(96, 35), (95, 36), (97, 35)]  # height, width: they vary by a pixel, as the real ones do


def write_sample(folder: Path, number: int, *, defective: bool) -> None:
    """Write one grained picture and its mask, with a scratch of one pixel's width if it is defective."""
    rng = np.random.default_rng(number)
    height, width = SIZES[number % len(SIZES)]
    image = rng.normal(120, 12, (height, width, 3))
    mask = np.zeros((height, width), np.uint8)
    if defective:
        mask[20:60, rng.integers(4, width - 4)] = 255
        image[mask > 0] = 220
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    Image.fromarray(mask).save(folder / f"{number}_GT.png")


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """KolektorSDD2 in small: 20 normal and 4 defective training images, 6 and 3 test images, and strays."""
    root = tmp_path_factory.mktemp("ksdd2") / "kolektor_sdd2"
    for number in range(24):
        write_sample(root / "train", 10000 + number, defective=number % 6 == 1)
    for number in range(9):
        write_sample(root / "test", 20000 + number, defective=number % 3 == 0)
    shutil.copy(root / "train/10001.png", root / "train/10001 (copy).png")
    (root / "train/.DS_Store").write_bytes(b"x")
    (root / "test/Thumbs.db").write_bytes(b"x")
    return root


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    """A copy of the small data set that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "kolektor_sdd2"))


def set_up(root: Path, **arguments: object) -> KolektorSDD2:
    """Datamodule that is ready, with small batches and all images of one size."""
    defaults = {"train_batch_size": 4, "eval_batch_size": 4, "num_workers": 0, "augmentations": Resize((64, 32))}
    datamodule = KolektorSDD2(root=root, **(defaults | arguments))
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


def numbers(dataset: KolektorSDD2Dataset) -> set[int]:
    """Numbers of the images in a dataset."""
    return {int(Path(path).stem) for path in dataset.samples.image_path}


class TestLayout:
    """What is read, what is left out, and what is refused."""

    def test_labels_come_from_the_masks(self, original: Path) -> None:
        """Every numbered image is there, defective where its mask is not black."""
        samples = KolektorSDD2Dataset(original).samples
        assert samples.split.value_counts().to_dict() == {"train": 20, "val": 4, "test": 9}
        defective = samples[samples.label_index == 1]
        assert {int(Path(path).stem) for path in defective.image_path} == {
            10001, 10007, 10013, 10019, 20000, 20003, 20006,
        }  # fmt: skip
        assert set(defective.label) == {"Bad"}
        assert samples.attrs["task"] == "segmentation"

    def test_strays_are_left_out_with_a_warning(self, original: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A copy with another name is not counted, and is named."""
        assert len(KolektorSDD2Dataset(original, split="train")) == 20
        assert "10001 (copy).png" in caplog.text

    DEFECTS = pytest.mark.parametrize(
        ("damage", "error", "message"),
        [
            (lambda root: shutil.rmtree(root / "test"), FileNotFoundError, r"test' is missing"),
            (lambda root: [path.unlink() for path in (root / "test").iterdir()], FileNotFoundError, r"no image.*test'"),
            (lambda root: (root / "train/10002_GT.png").unlink(), FileNotFoundError, r"mask '.*10002_GT.png' is miss"),
            (lambda root: (root / "test/20004.png").unlink(), FileNotFoundError, r"image '.*20004.png' is missing"),
            (lambda root: Image.new("L", (35, 95)).save(root / "train/10003_GT.png"), MisMatchError, r"10003_GT.png"),
            (lambda root: (root / "test/20001.png").write_bytes(b"no image"), OSError, r"cannot read '.*20001.png'"),
            (lambda root: os.truncate(root / "train/10004.png", 3000), OSError, r"cannot read '.*10004.png'"),
            (lambda root: os.truncate(root / "test/20003_GT.png", 60), OSError, r"cannot read '.*20003_GT.png'"),
        ],
        ids=["folder", "empty folder", "mask", "image", "sizes", "no image", "cut image", "cut mask"],
    )

    @DEFECTS
    def test_damaged_data_set_is_refused(
        self, root: Path, damage: Callable[[Path], object], error: type[Exception], message: str
    ) -> None:
        """The error names the file, before anything is trained."""
        damage(root)
        with pytest.raises(error, match=message):
            KolektorSDD2(root=root).prepare_data()

    @DEFECTS
    def test_command_refuses_damaged_data_set(
        self, root: Path, damage: Callable[[Path], object], error: type[Exception], message: str
    ) -> None:
        """The stock command refuses the damaged data set too."""
        damage(root)
        arguments = ["train", "--model", "Ear", "--data", "KolektorSDD2", "--data.root", str(root)]
        with pytest.raises(error, match=message):
            AnomalibCLI(args=[*arguments, "--default_root_dir", str(root / "results"), "--trainer.accelerator", "cpu"])

    def test_file_that_breaks_during_training_is_named(self, root: Path) -> None:
        """An image that can no longer be read is named."""
        dataset = KolektorSDD2Dataset(root, split="train")
        os.truncate(root / "train/10000.png", 3000)
        with pytest.raises(OSError, match=r"10000\.png"):
            dataset[0]

    def test_other_counts_than_the_official_ones_are_said(
        self, original: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A part of the data set is used, and a warning tells the difference."""
        KolektorSDD2(root=original).prepare_data()
        assert "train has 24 images, 4 of them defective, instead of 2331 and 246" in caplog.text
        assert "test has 9 images, 3 of them defective, instead of 1004 and 110" in caplog.text

    def test_official_counts_pass(self, original: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """2331 and 1004 images with 246 and 110 defective ones are taken without a word, one less is not."""
        sources = {"train": (10000, 10001), "test": (20001, 20000)}  # a normal and a defective one
        for folder, (count, bad) in {"train": (2331, 246), "test": (1004, 110)}.items():
            (tmp_path / folder).mkdir()
            for number in range(count):
                source = sources[folder][number < bad]
                for end in (".png", "_GT.png"):
                    os.link(original / folder / f"{source}{end}", tmp_path / folder / f"{number}{end}")
        KolektorSDD2(root=tmp_path).prepare_data()
        assert not caplog.text
        for end in (".png", "_GT.png"):
            (tmp_path / "test" / f"0{end}").unlink()
        with pytest.raises(ValueError, match="test has 1003 images, 109 of them defective, instead of 1004 and 110"):
            kolektor_sdd2.check_official(tmp_path)


class TestSplit:
    """Which images are trained on, validated on and tested."""

    def test_default_validates_on_training_images_that_are_not_trained_on(self, original: Path) -> None:
        """All defective training images and a tenth of the normal ones validate; test is the test folder."""
        datamodule = set_up(original)
        train, val, test = (numbers(getattr(datamodule, f"{name}_data")) for name in ("train", "val", "test"))
        assert train | val == set(range(10000, 10024))
        assert not train & val
        assert {10001, 10007, 10013, 10019} < val
        assert len(val) == 4 + 2
        assert test == set(range(20000, 20009))
        assert not datamodule.train_data.has_anomalous

    @pytest.mark.parametrize("seed", [0, None], ids=["default", "none"])
    def test_every_process_splits_alike(self, original: Path, seed: int | None) -> None:
        """The split depends on nothing that differs between processes."""
        splits = []
        for state in (1, 2):
            torch.manual_seed(state)
            np.random.seed(state)  # noqa: NPY002  the legacy state is what pandas draws from
            splits.append(numbers(set_up(original, seed=seed).val_data))
        assert splits[0] == splits[1]

    def test_other_seed_holds_out_other_images(self, original: Path) -> None:
        """The seed decides which images are held out."""
        assert numbers(set_up(original, seed=0).val_data) != numbers(set_up(original, seed=1).val_data)

    def test_same_as_test_warns(self, original: Path, caplog: pytest.LogCaptureFixture) -> None:
        """The mode is there, with a warning."""
        datamodule = set_up(original, val_split_mode="same_as_test")
        assert "same_as_test tunes thresholds" in caplog.text
        assert numbers(datamodule.val_data) == numbers(datamodule.test_data)

    @pytest.mark.parametrize(("mode", "counts"), [("from_test", (20, 4, 5)), ("synthetic", (18, 2, 9))])
    def test_other_modes(self, original: Path, mode: str, counts: tuple[int, int, int]) -> None:
        """The modes of anomalib work, and train on normal images only."""
        datamodule = set_up(original, val_split_mode=mode, val_split_ratio=0.5 if mode == "from_test" else 0.1)
        assert tuple(len(getattr(datamodule, f"{name}_data")) for name in ("train", "val", "test")) == counts
        assert not datamodule.train_data.has_anomalous

    def test_no_validation(self, original: Path) -> None:
        """Mode none leaves no validation set."""
        assert not hasattr(set_up(original, val_split_mode="none"), "val_data")

    def test_validation_folder_does_not_exist(self) -> None:
        """Mode from_dir says so."""
        with pytest.raises(ValueError, match="no validation folder"):
            KolektorSDD2(val_split_mode="from_dir")


class TestInAnomalib:
    """What anomalib's own checks for datamodules ask."""

    @pytest.mark.parametrize("subset", ["train", "val", "test"])
    def test_batch_has_keys_and_shapes(self, original: Path, subset: str) -> None:
        """A batch has images, labels and masks of the evaluation size."""
        batch = next(iter(getattr(set_up(original), f"{subset}_dataloader")()))
        assert batch.image.shape == (4, 3, 64, 32)
        assert batch.gt_label.shape == (4,)
        assert batch.gt_mask.shape == (4, 64, 32)
        assert len(batch.image_path) == len(batch.mask_path) == 4

    def test_scratch_survives_in_every_batch(self, original: Path) -> None:
        """A defective image has a defective pixel after the resize, which the stock resize takes from some."""
        datamodule = set_up(original)
        for batch in [*datamodule.val_dataloader(), *datamodule.test_dataloader()]:
            torch.testing.assert_close(batch.gt_mask.flatten(1).any(1), batch.gt_label.bool())
        dataset = KolektorSDD2Dataset(original, augmentations=Resize((64, 16)))
        assert all(item.gt_mask.any() == item.gt_label for item in dataset)
        dataset.augmentations = Resize((64, 16))
        assert not all(item.gt_mask.any() == item.gt_label for item in dataset)

    def test_splits_do_not_overlap(self, original: Path) -> None:
        """With from_test no image is both in validation and in test."""
        datamodule = set_up(original, val_split_mode="from_test")
        assert not numbers(datamodule.val_data) & numbers(datamodule.test_data)

    @pytest.mark.parametrize("name", ["KolektorSDD2", "anomalib.data.KolektorSDD2"])
    def test_from_config(self, original: Path, tmp_path: Path, name: str) -> None:
        """A configuration file gives the datamodule, and its values can be overridden."""
        config = tmp_path / "data.yaml"
        config.write_text(f"class_path: {name}\ninit_args:\n  root: {original}\n  seed: 3\n")
        datamodule = AnomalibDataModule.from_config(config, **{"data.train_batch_size": 5})
        assert isinstance(datamodule, KolektorSDD2)
        assert (datamodule.train_batch_size, datamodule.seed) == (5, 3)

    def test_get_datamodule(self, original: Path) -> None:
        """It is found by its short name."""
        config = {"data": {"class_path": "KolektorSDD2", "init_args": {"root": str(original)}}}
        assert isinstance(get_datamodule(config), KolektorSDD2)


class Server(NamedTuple):
    """A web server on this machine.

    Attributes:
        url: Its address.
        folder: What it serves.
    """

    url: str
    folder: Path


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files; those named ``cut`` end in the middle, and those named ``stalled`` go on after three seconds."""

    def copyfile(self, source: object, outputfile: object) -> None:
        content = source.read()
        half = len(content) // 2
        outputfile.write(content[:half])
        if "stalled" in self.path:
            time.sleep(3)
        if "cut" not in self.path:
            outputfile.write(content[half:])

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Return a local web server."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(_Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield Server(f"http://127.0.0.1:{httpd.server_port}", folder)
        httpd.shutdown()


def pack(folder: Path, archive: Path, top: str = "") -> str:
    """Write a folder into a zip archive, below a top folder if wanted, and return its MD5."""
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, Path(top) / path.relative_to(folder))
    return hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()


def unchecked(_folder: Path) -> None:
    """Accept any content."""


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Let no file grow beyond 64 KiB, which fails as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestDownload:
    """Either the whole data set is in place, or nothing is."""

    @pytest.mark.parametrize("top", ["", "KolektorSDD2"], ids=["flat", "in a folder"])
    def test_first_use_downloads(
        self, original: Path, tmp_path: Path, server: Server, top: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An archive of the right checksum and counts is unpacked, whether it has a top folder or not."""
        checksum = pack(original, server.folder / "a.zip", top)
        monkeypatch.setattr(kolektor_sdd2.DOWNLOAD_INFO, "url", f"{server.url}/a.zip")
        monkeypatch.setattr(kolektor_sdd2, "OFFICIAL_COUNTS", {"train": (24, 4), "test": (9, 3)})
        root = tmp_path / "new" / "data"
        datamodule = KolektorSDD2(root=root, checksum=checksum)
        datamodule.prepare_data()
        datamodule.setup()
        assert len(datamodule.test_data) == 9
        assert [path.name for path in root.parent.iterdir()] == ["data"]

    def test_an_empty_folder_is_filled(
        self, original: Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also behind a link. It stays the same, for a mount point can be neither removed nor renamed."""
        checksum = pack(original, server.folder / "a.zip", "KolektorSDD2")
        monkeypatch.setattr(kolektor_sdd2.DOWNLOAD_INFO, "url", f"{server.url}/a.zip")
        monkeypatch.setattr(kolektor_sdd2, "OFFICIAL_COUNTS", {"train": (24, 4), "test": (9, 3)})
        mounted = tmp_path / "mounted"
        (mounted / ".mounted.killed.partial").mkdir(parents=True)  # of a download that was killed
        (tmp_path / "data").symlink_to(mounted)
        before = mounted.stat()
        KolektorSDD2(root=tmp_path / "data", checksum=checksum).prepare_data()
        assert len(KolektorSDD2Dataset(tmp_path / "data", split="test")) == 9
        assert os.path.samestat(mounted.stat(), before)
        assert sorted(path.name for path in mounted.iterdir()) == [".mounted.killed.partial", "test", "train"]

    def test_a_folder_that_was_filled_meanwhile_is_left_alone(self, tmp_path: Path, server: Server) -> None:
        """What somebody else put there stays. Ours was prepared in it, for it may be a disk of its own."""
        with zipfile.ZipFile(server.folder / "a.zip", "w") as file:
            file.writestr("train/1.png", b"ours")
        folder = tmp_path / "data"
        folder.mkdir()

        def check(content: Path) -> None:
            assert folder in content.parents
            (folder / "mine.png").touch()

        with pytest.raises(OSError, match="data' is no longer empty"):
            download_archive(f"{server.url}/a.zip", folder, checksum=None, check=check)
        assert [path.name for path in folder.iterdir()] == ["mine.png"]

    def test_a_link_to_a_folder_that_is_not_there_is_followed(self, tmp_path: Path, server: Server) -> None:
        """The link stays."""
        with zipfile.ZipFile(server.folder / "a.zip", "w") as file:
            file.writestr("train/1.png", b"x")
        (tmp_path / "data").symlink_to("disk/data")
        download_archive(f"{server.url}/a.zip", tmp_path / "data", checksum=None, check=unchecked)
        assert (tmp_path / "disk" / "data" / "1.png").is_file()
        assert [path.name for path in (tmp_path / "disk").iterdir()] == ["data"]

    def test_whole_archive_of_other_data_is_refused(
        self, original: Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An archive without the official counts is refused, even where its checksum is not looked at."""
        pack(original, server.folder / "a.zip")
        monkeypatch.setattr(kolektor_sdd2.DOWNLOAD_INFO, "url", f"{server.url}/a.zip")
        with pytest.raises(ValueError, match="train has 24 images, 4 of them defective, instead of 2331 and 246"):
            KolektorSDD2(root=tmp_path / "data", checksum=None).prepare_data()
        assert not (tmp_path / "data").exists()

    def test_default_checksum_refuses_other_bytes(
        self, original: Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without an argument, the archive must be the published one."""
        pack(original, server.folder / "a.zip")
        monkeypatch.setattr(kolektor_sdd2.DOWNLOAD_INFO, "url", f"{server.url}/a.zip")
        with pytest.raises(ValueError, match=r"1ed0f628122776ace4965afa30dfe316.*--data\.checksum"):
            KolektorSDD2(root=tmp_path / "data").prepare_data()

    @pytest.mark.parametrize(
        ("name", "checksum", "error", "message"),
        [
            ("cut.zip", None, OSError, r"ended after \d+ of \d+ bytes"),
            ("stalled.zip", None, OSError, "timed out"),
            ("a.zip", "0" * 32, ValueError, "not the archive expected"),
            ("no.zip", None, ValueError, "not a whole zip archive"),
            ("flipped.zip", None, ValueError, "not a whole zip archive"),
            ("absent.zip", None, OSError, "404"),
        ],
    )
    def test_bad_download_leaves_nothing(
        self, original: Path, tmp_path: Path, server: Server, name: str, checksum: str | None,
        error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        """Cut off, stalled, of other content, no archive, damaged, or not there: one error, and no folder."""
        monkeypatch.setattr(download, "TIMEOUT", 1)
        pack(original, server.folder / "a.zip")
        whole = (server.folder / "a.zip").read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 3] ^= 255
        served = {"cut": whole, "stalled": whole, "no": b"<html>", "flipped": bytes(flipped)}
        for other, content in served.items():
            (server.folder / f"{other}.zip").write_bytes(content)
        with pytest.raises(error, match=message):
            download_archive(f"{server.url}/{name}", tmp_path / "x/data", checksum=checksum, check=unchecked)
        assert not list((tmp_path / "x").iterdir())

    def test_no_space(self, original: Path, tmp_path: Path, server: Server) -> None:
        """If the archive cannot be written, the error names the folder and the way out, and nothing is left."""
        pack(original, server.folder / "a.zip")
        with full_disk(), pytest.raises(OSError, match=r"could not download .* to '.*data'.*--data\.root"):
            download_archive(f"{server.url}/a.zip", tmp_path / "x/data", checksum=None, check=unchecked)
        assert not list((tmp_path / "x").iterdir())

    @pytest.mark.parametrize("member", ["../evil.png", "/evil.png", "train/../../evil.png"])
    def test_member_that_leaves_the_folder_is_refused(self, tmp_path: Path, server: Server, member: str) -> None:
        """Nothing of such an archive is written."""
        with zipfile.ZipFile(server.folder / "a.zip", "w") as file:
            file.writestr("train/1.png", b"x")
            file.writestr(member, b"x")
        with pytest.raises(ValueError, match=rf"refused: its member '{member}'"):
            download_archive(f"{server.url}/a.zip", tmp_path / "x/data", checksum=None, check=unchecked)
        assert not list((tmp_path / "x").iterdir())

    def test_other_scheme_is_refused(self, tmp_path: Path) -> None:
        """An address that is a file of this machine is refused."""
        with pytest.raises(ValueError, match="http"):
            download_archive("file:///a.zip", tmp_path / "data", checksum=None, check=unchecked)

    def test_data_set_that_is_there_is_not_downloaded_again(
        self, original: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A folder with files in it is used as it is."""
        monkeypatch.setattr(kolektor_sdd2.DOWNLOAD_INFO, "url", "http://127.0.0.1:1/none.zip")
        KolektorSDD2(root=original).prepare_data()


MODELS = {
    "Ear": ["--config", str(REPOSITORY / "configs" / "kolektor_sdd2.yaml"), "--model.image_size", "[64,64]",
            "--model.channels", "[4,8,8]"],
    "Padim": ["--data", "KolektorSDD2", "--model.pre_trained", "false", "--model.backbone", "resnet18",
              "--model.layers", "[layer1]", "--model.n_features", "10"],
}  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_command(original: Path, tmp_path: Path, model: str) -> None:
    """The command trains, tests and predicts, with strays in the folder, and names them; Ear by its configuration."""
    data = ["--data.root", str(original), "--data.num_workers", "0"]
    data += ["--data.train_batch_size", "4", "--data.eval_batch_size", "4"]
    once = ["--trainer.accelerator", "cpu", "--model", model, *MODELS[model]]
    done = cli("train", *once, *data, "--trainer.max_epochs", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pixel_AUROC" in done.stdout
    assert "10001 (copy).png" in done.stdout + done.stderr
    checkpoint = next(tmp_path.rglob("model.ckpt")).resolve()
    for command in ("test", "predict"):
        (tmp_path / command).mkdir()
        done = cli(command, *once, *data, "--ckpt_path", checkpoint, cwd=tmp_path / command)
        assert done.returncode == 0, done.stderr
        assert len(list((tmp_path / command).rglob("2000*.png"))) == 9
