# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""A file is replaced as a whole or stays as it is."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from anomalib_ear.deploy.files import replace


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    """By the file that cannot be written, which stays as it is; nothing lies beside it."""
    file = tmp_path / "scores.csv"
    file.write_bytes(b"old")
    (tmp_path / "scores.csv.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match=f"No space left on device: '{file}'"):
        replace(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("damaged"), OSError("no number")], ids=repr)
def test_what_ends_it_midway_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    """Also what is no error of the system; it is raised as it is."""

    def parts() -> Iterator[bytes]:
        yield b"new"
        raise error

    with pytest.raises(type(error)) as raised:
        replace(tmp_path / "scores.csv", parts())
    assert raised.value is error
    assert str(error) in {"", "damaged", "no number"}
    assert not list(tmp_path.iterdir())


def test_the_content_is_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that loses power leaves the old file or the new one."""
    synced = []
    monkeypatch.setattr(
        os, "fsync", lambda file: synced.append((os.fstat(file).st_size, (tmp_path / "scores.csv").exists()))
    )
    replace(tmp_path / "scores.csv", b"content")
    assert synced == [(7, False)]
    assert (tmp_path / "scores.csv").read_bytes() == b"content"
