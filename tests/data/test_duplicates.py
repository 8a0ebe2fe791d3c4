# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Tests of the report of images that occur more than once."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from anomalib_ear.data.duplicates import images_below, report
from anomalib_ear.data.duplicates.__main__ import main
from conftest import REPOSITORY, SHARED_DATA


def write(root: Path, **files: str) -> None:
    """Write files below a folder; ``__`` in a name stands for ``/``, ``_0`` for the suffix ``.png``."""
    for name, content in files.items():
        path = root / name.replace("__", "/").replace("_0", ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def test_command_reports_an_image_in_two_splits(tmp_path: Path) -> None:
    """Checksum, files and folders are printed, and the exit status is 1."""
    write(tmp_path, train__a_0="same", test__b_0="same", test__c_0="other")
    command = [sys.executable, "-m", "anomalib_ear.data.duplicates", tmp_path]
    done = subprocess.run(command, cwd=REPOSITORY / "src", capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "  test/b.png\n  train/a.png\n  in 2 folders: test, train\n" in done.stdout
    assert "3 image files, 1 images in more than one of them, 1 of these in more than one folder\n" in done.stdout
    assert not done.stderr


def test_image_twice_in_a_folder_is_told_apart(tmp_path: Path) -> None:
    """It is reported, but not as lying in several folders."""
    write(tmp_path, train__a_0="same", train__b_0="same", test__c_0="other")
    text, count = report(images_below(tmp_path).files)
    assert count == 1
    assert "in one folder\n" in text
    assert "0 of these in more than one folder" in text


def test_masks_and_other_files_are_not_compared(tmp_path: Path) -> None:
    """Empty masks are all alike, and notes are no images."""
    write(tmp_path, train__a_0="1", train__a_GT_0="m", test__b_0="2", test__b_GT_0="m", ground_truth__a_0="m")
    for folder in ("train", "test"):
        (tmp_path / folder / "notes.txt").write_text("same")
        (tmp_path / folder / "c.jpg").write_text(folder)
        (tmp_path / folder / "c.bmp").write_text("m")
    text, count = report(images_below(tmp_path).files)
    assert count == 0
    assert text.startswith("4 image files, 0 images")


def test_clean_data_set_exits_with_0(tmp_path: Path) -> None:
    """A data set without duplicates is a success."""
    write(tmp_path, train__a_0="1", test__b_0="2")
    assert main([str(tmp_path)]) == 0


def test_folders_behind_links_are_searched_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A link that leads to what is searched already makes no duplicates, and is named, as other files are."""
    write(tmp_path / "far", a_0="same")
    write(tmp_path / "in", train__b_0="same", notes="")
    for link, target in {"linked": "../far", "again": "train", "up": ".."}.items():
        (tmp_path / "in" / link).symlink_to(target)
    assert main([str(tmp_path / "in")]) == 1
    said = capsys.readouterr()
    assert "  linked/a.png\n  train/b.png\n  in 2 folders: linked, train\n2 image files" in said.out
    assert "again leads to a folder" in said.err
    assert "up leads to a folder" in said.err
    assert "no photographs: 1 without suffix" in said.err


@pytest.mark.parametrize("kind", ["broken link", "broken image", "unreadable folder"])
def test_what_cannot_be_reached_is_named_and_exits_with_2(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody may take the rest for the whole; the rest is reported."""
    write(tmp_path, a_0="1", b_0="2", lost__c_0="3")
    lost = tmp_path / {"broken link": "gone", "broken image": "gone.png", "unreadable folder": "lost"}[kind]
    if kind == "unreadable folder":
        listdir = os.listdir

        def refuse(folder: Path) -> list[str]:  # root may read every folder
            if folder == lost:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
            return listdir(folder)

        monkeypatch.setattr(os, "listdir", refuse)
    else:
        lost.symlink_to("nowhere")
    assert main([str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert f"not searched: {lost} cannot be" in said.err
    assert "image files, 0 images in more than one" in said.out


@pytest.mark.parametrize(("name", "reason"), [("none", "is not a folder"), ("", "found no image")])
def test_root_that_cannot_be_examined_exits_with_2(
    tmp_path: Path, name: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing folder and one without images are errors that name it."""
    assert main([str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / name) in error
    assert reason in error


@pytest.mark.skipif(not (SHARED_DATA / "kolektor").is_dir(), reason="KolektorSDD's licence keeps it out of the project")
def test_kolektor_has_two_pairs_of_twins() -> None:
    """The twins kos01 and kos26, kos27 and kos34 are found, and nothing else."""
    text, count = report(images_below(SHARED_DATA / "kolektor").files)
    assert count == 16
    assert text.count("in 2 folders: kos01, kos26") == text.count("in 2 folders: kos27, kos34") == 8
