# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What is found and what is left out, with a word."""

import os
from pathlib import Path

import pytest

from anomalib_ear.deploy.photographs import find
from brightness import brightness_model, inspect, photograph, scored


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with three photographs."""
    for name in ("1.png", "a/2.JPG", "a/deep/3.tif"):
        photograph(tmp_path / "in" / name, 10)
    return tmp_path / "in"


def names(source: Path | str) -> list[str]:
    """Find photographs."""
    return [name.as_posix() for name in find(str(source)).files]


def test_links_are_followed_and_each_real_folder_is_searched_once(folder: Path, tmp_path: Path) -> None:
    """Links may lead into the folder, out of it, to a file, and in a circle."""
    photograph(tmp_path / "far" / "4.png", 10)
    (tmp_path / "far" / "circle").symlink_to(tmp_path)
    targets = {"0": "a", "far": tmp_path / "far", "far2": tmp_path / "far", "self": ".", "5.png": "1.png"}
    for link, target in targets.items():
        (folder / link).symlink_to(target)
    assert names(folder) == ["1.png", "5.png", "a/2.JPG", "a/deep/3.tif", "far/4.png"]
    left_out = find(str(folder)).left_out
    for link in ("0", "far/circle", "far2", "self"):
        assert sum(text.startswith(f"{folder / link} leads to a folder") for text in left_out) == 1
    assert names(f"{folder}/**") == names(folder)


def test_files_that_are_no_photographs_are_counted_and_do_not_fail(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Documents, and images that `anomalib predict` does not take either."""
    for name in ("report.pdf", "data.h5", "more.H5", "moving.gif", "old.jp2", "README"):
        (folder / name).write_bytes(b"GIF89a")
    assert inspect(brightness_model(tmp_path), folder, tmp_path / "out") == 0
    assert sorted(scored(tmp_path / "out")) == names(folder)
    said = capsys.readouterr()
    assert "left out: no photographs: 1 .gif, 2 .h5, 1 .jp2, 1 .pdf, 1 without suffix" in said.err
    assert "0 not scored" in said.out


@pytest.mark.parametrize("name", ["1_GT.png", "1.bmp", "masks/1.png"])
def test_photographs_that_seem_to_be_masks_are_said(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are scored: a name proves nothing."""
    photograph(tmp_path / "in" / "1.jpg", 10)
    model = brightness_model(tmp_path)
    inspect(model, tmp_path / "in", tmp_path / "before")
    assert "masks" not in capsys.readouterr().err
    photograph(tmp_path / "in" / name, 10)
    assert inspect(model, tmp_path / "in", tmp_path / "out") == 0
    assert f"1 files like {name} are taken for photographs: are they masks?" in capsys.readouterr().err
    assert name in scored(tmp_path / "out")


@pytest.mark.parametrize("source", ["in/report.pdf", "in/*.pdf", "in/a/*.png", "in/nothing.png", "", "in/empty"])
def test_no_photograph_is_one_error(
    folder: Path, source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what was there and what would be right, before there is an output."""
    monkeypatch.chdir(folder.parent)
    (folder / "report.pdf").touch()
    (folder / "empty").mkdir()
    assert inspect(brightness_model(folder.parent), source, Path("out")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: no photographs at '{source}': give a folder, a file (.bmp, ")
    assert (".pdf" in line.split("quotes.")[1]) == ("pdf" in source)
    assert not Path("out").exists()


def test_what_cannot_be_reached_is_named_and_the_run_fails(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Broken links, circles of links, pipes, and a path that is too long."""
    (folder / "gone").symlink_to("nowhere")
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "circle").symlink_to("circle")
    os.mkfifo(folder / "pipe.png")
    assert inspect(brightness_model(tmp_path), folder, tmp_path / "out") == 1
    assert sorted(scored(tmp_path / "out")) == ["1.png", "a/2.JPG", "a/deep/3.tif"]
    said = capsys.readouterr()
    assert "4 not scored" in said.out
    for name in ("gone", "gone.png", "circle", "pipe.png"):
        assert str(folder / name) in said.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
@pytest.mark.parametrize("source", ["in", "in/**/*.*", "in/*/*/*"])
def test_a_folder_that_may_not_be_read_is_named(folder: Path, source: str) -> None:
    """Whether all is searched or a pattern."""
    photograph(folder / "b" / "c" / "4.png", 10)
    (folder / "a").chmod(0)
    try:
        found = find(str(folder.parent / source))
    finally:
        (folder / "a").chmod(0o700)
    assert [text for text in found.unreachable if text.startswith(f"{folder / 'a'} ")]


def test_a_patterns_paths_do_not_depend_on_what_it_finds(folder: Path) -> None:
    """They begin behind the part without wildcards; folders that it matches are named."""
    assert names(f"{folder}/*/*/*.tif") == ["a/deep/3.tif"]
    assert names(f"{folder}/**/*.[tj]*") == names(f"{folder}/**/**/*.[tjTJ]*")[1:] == ["a/deep/3.tif"]
    assert names(f"{folder}/*") == ["1.png"]
    assert find(f"{folder}/*").left_out == [f"{folder / 'a'} is a folder, which a pattern with ** searches"]


def test_a_folder_may_have_wildcards_in_its_name(tmp_path: Path) -> None:
    """A path that exists is no pattern."""
    photograph(tmp_path / "in [1]" / "a*b?.png", 10)
    assert names(tmp_path / "in [1]") == names(tmp_path / "in [1]" / "a*b?.png") == ["a*b?.png"]
