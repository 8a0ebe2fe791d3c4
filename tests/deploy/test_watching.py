# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""A watched folder: each photograph is scored once, as it is when it is whole, whatever happens to the command."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Event, Timer

import numpy as np
import pytest

from anomalib_ear.deploy import line
from anomalib_ear.deploy import watching as watching_module
from anomalib_ear.deploy.watching import Seen, Watch
from anomalib_ear.images import read_image
from brightness import brightness_model, inspect, photograph, scored
from conftest import REPOSITORY

# Of the one who writes: name and brightness of each photograph, some in subfolders that appear, every tenth in two
# pieces with a pause; of a tenth of those the pause is longer than the command waits.
COUNT = 500
WRITER = f"""
import io, random, sys, time
from pathlib import Path
from PIL import Image
rng, folder = random.Random(0), Path(sys.argv[1])
for index in range({COUNT}):
    file = folder / (f"shift {{index // 50}}" if index % 3 else ".") / f"{{index:03}}.png"
    file.parent.mkdir(exist_ok=True)
    data = io.BytesIO()
    Image.new("L", (20, 10), index % 256).save(data, "png", compress_level=0)
    with file.open("wb") as written:
        written.write(data.getvalue()[:100])
        if index % 10 == 0:
            written.flush()
            time.sleep(1.4 if index % 100 == 0 else 0.1)
        written.write(data.getvalue()[100:])
    if rng.random() < 0.2:
        time.sleep(rng.random() * 0.2)
"""

# Prints the most bytes that Python's objects took while all photographs of a folder were seen.
MEASURED = """
import sys, tracemalloc
from pathlib import Path
from threading import Event
from anomalib_ear.deploy.watching import Seen, Watch
watch, left = Watch(Path(sys.argv[1]), Seen([]), Event(), print), int(sys.argv[2])
tracemalloc.start()
for arrival in watch:
    if arrival is not None:
        left -= 1
        watch.done(arrival, "digest")
    if not left:
        watch.stop.set()
print(tracemalloc.get_traced_memory()[1])
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a model whose score is the brightness."""
    return brightness_model(tmp_path)


class Command:
    """The command, watching a folder in another process."""

    def __init__(self, model: Path, source: Path, output: Path, *options: str) -> None:
        self.output = output
        arguments = ["--model", model, "--input", source, "--output", output, "--watch", "true", *options]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "anomalib_ear.infer", *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, condition: Callable[[], bool], seconds: float = 40) -> None:
        """Wait until something holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end, f"only {len(self.rows())} rows"
            time.sleep(0.05)

    def rows(self) -> list[str]:
        """Return the rows that the table has by now."""
        table = self.output / "scores.csv"
        return table.read_text().splitlines()[1:] if table.exists() else []

    def end(self, how: signal.Signals) -> tuple[int, str, str]:
        """End it; returns its status and what it said."""
        self.process.send_signal(how)
        said = self.process.communicate(timeout=30)
        return self.process.returncode, *said


@pytest.fixture
def watching(model: Path, tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Return what starts the command on the folder `in`."""
    started: list[Command] = []

    def start(*options: str) -> Command:
        (tmp_path / "in").mkdir(exist_ok=True)
        started.append(Command(model, tmp_path / "in", tmp_path / "out", *options))
        return started[-1]

    yield start
    for command in started:
        command.process.kill()
        command.process.communicate()


def test_each_is_scored_once_though_the_command_is_killed(watching: Callable[..., Command], tmp_path: Path) -> None:
    """Another process writes at uneven speed while the command is killed twice and started again by the same line."""
    (tmp_path / "in").mkdir()
    photograph(tmp_path / "in" / "early.png", 7)
    killed: list[list[str]] = []
    with subprocess.Popen([sys.executable, "-c", WRITER, tmp_path / "in"]) as writer:
        for least in (COUNT // 5, COUNT // 2):
            command = watching()
            command.wait_for(lambda least=least, command=command: len(command.rows()) > least)
            command.end(signal.SIGKILL)
            killed.append(command.rows()[:-1])  # of which the last may be torn
        command = watching()
        command.wait_for(lambda: len(command.rows()) > COUNT)
        assert writer.wait() == 0
    time.sleep(1.5)  # in which one that is scored twice would get its second row
    status, said, errors = command.end(signal.SIGTERM)
    assert status == 0, errors
    assert "0 not scored" in said
    names = {f"shift {index // 50}/{index:03}.png" if index % 3 else f"{index:03}.png" for index in range(COUNT)}
    rows = scored(tmp_path / "out")  # which has each path once
    assert rows == {name: int(name[-7:-4]) % 256 for name in names} | {"early.png": 7}
    for before in killed:  # rows of photographs that were scored again would have moved to the end
        assert command.rows()[: len(before)] == before
    assert len(list((tmp_path / "out" / "heat_maps").rglob("*.jpg"))) == COUNT + 1


def test_files_change_while_they_are_watched(watching: Callable[..., Command], tmp_path: Path) -> None:
    """A row is of what a photograph is now; pipes, broken links and the command's own output do no harm."""
    folder = tmp_path / "in"
    for level, name in enumerate(("replaced.png", "touched.png", "deleted.png", "deep/linked.png", "times.bmp")):
        photograph(folder / name, level)
    (folder / "again").symlink_to("deep")
    (folder / "broken.png").symlink_to("nowhere.png")
    (folder / "torn.png").write_bytes((folder / "touched.png").read_bytes()[:200])
    (folder / "notes.txt").write_text("no photograph")
    os.mkfifo(folder / "pipe.png")
    (tmp_path / "out").symlink_to("in/out")  # the output is in the input
    (folder / "out").mkdir()
    command = watching("--anomaly_maps", "true")
    command.wait_for(lambda: len(command.rows()) == 5)
    photograph(folder / "replaced.png", 210)
    photograph(tmp_path / "times.bmp", 214)
    shutil.copystat(folder / "times.bmp", tmp_path / "times.bmp")
    (tmp_path / "times.bmp").replace(folder / "times.bmp")  # of the same size and time of modification
    photograph(folder / "torn.png", 211)
    photograph(folder / "again" / "late.png", 212)
    (folder / "new" / "deeper").mkdir(parents=True)
    photograph(folder / "new" / "deeper" / "moved.png", 213)
    (folder / "touched.png").touch()
    (folder / "deleted.png").unlink()
    expected = {"replaced.png": 210, "touched.png": 1, "deleted.png": 2, "deep/linked.png": 3, "torn.png": 211}
    expected |= {"deep/late.png": 212, "new/deeper/moved.png": 213, "times.bmp": 214}
    command.wait_for(lambda: scored(tmp_path / "out") == expected)
    time.sleep(1.5)
    status, said, errors = command.end(signal.SIGTERM)
    assert scored(tmp_path / "out") == expected
    assert status == 1
    assert "1 not scored" in said  # the broken link
    for text in (f"{folder}/torn.png: ", f"{folder}/broken.png: ", "pipe.png is neither file nor folder", ".txt files"):
        assert errors.count(text) == 1, errors
    command = watching("--anomaly_maps", "true")
    (folder / "broken.png").unlink()
    photograph(folder / "broken.png", 5)
    command.wait_for(lambda: "broken.png" in scored(tmp_path / "out"))
    status, said, errors = command.end(signal.SIGINT)
    assert status == 130, errors
    assert "1 good, 0 defective, 0 not scored" in said
    assert scored(tmp_path / "out") == expected | {"broken.png": 5}


def test_a_folder_that_vanishes_is_one_error(watching: Callable[..., Command], tmp_path: Path) -> None:
    """Nothing is lost: when it is back, the same command goes on."""
    photograph(tmp_path / "in" / "1.png", 1)
    command = watching()
    command.wait_for(lambda: len(command.rows()) == 1)
    (tmp_path / "in").rename(tmp_path / "away")
    _, errors = command.process.communicate(timeout=30)
    (error,) = errors.splitlines()
    assert command.process.returncode == 2
    assert error.startswith(f"error: the folder {tmp_path / 'in'} is no longer there.")
    assert "the same command goes on" in error
    photograph(tmp_path / "away" / "2.png", 2)
    (tmp_path / "away").rename(tmp_path / "in")
    command = watching()
    command.wait_for(lambda: scored(tmp_path / "out") == {"1.png": 1, "2.png": 2})
    assert command.end(signal.SIGTERM)[0] == 0


@pytest.mark.parametrize("source", ["nowhere", "in/1.png", "in/*.png", ""])
def test_only_a_folder_is_watched(
    model: Path, tmp_path: Path, source: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says what would be right, before anything is written."""
    monkeypatch.chdir(tmp_path)
    photograph(Path("in", "1.png"), 1)
    assert inspect(model, source, tmp_path / "out", "--watch", "true") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --watch true watches a folder")
    assert repr(source) in line
    assert not (tmp_path / "out").exists()


def test_a_row_stays_while_its_photograph_cannot_be_reached(watching: Callable[..., Command], tmp_path: Path) -> None:
    """Nobody knows that it has changed. It is named once, however often it is tried."""
    file = tmp_path / "in" / "1.png"
    photograph(file, 1)
    command = watching()
    command.wait_for(lambda: len(command.rows()) == 1)
    command.end(signal.SIGTERM)
    rows = command.rows()
    file.unlink()
    file.symlink_to("/proc/self/mem")  # whose first byte is an input/output error
    photograph(tmp_path / "in" / "2.png", 2)
    command = watching()
    command.wait_for(lambda: len(command.rows()) == 2)
    time.sleep(12)  # in which the folder is searched again
    status, said, errors = command.end(signal.SIGTERM)
    assert command.rows()[:1] == rows
    assert (tmp_path / "out" / "heat_maps" / "1_heat.jpg").exists()
    assert status == 1
    assert "1 not scored" in said
    assert errors.count(f"{file}: ") == 1, errors


def test_short_memory_is_not_the_photographs_fault(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of one that was replaced row and picture stay until it can be read. It is named once."""
    for name in ("SETTLED", "_SEARCH_EVERY"):
        monkeypatch.setattr(watching_module, name, 0.1)
    photograph(tmp_path / "in" / "1.png", 10)
    run = (model, tmp_path / "in", tmp_path / "out")
    assert inspect(*run) == 0
    photograph(tmp_path / "in" / "1.png", 210)
    kept = []

    def read(path: Path) -> np.ndarray:
        kept.append((scored(tmp_path / "out"), (tmp_path / "out" / "heat_maps" / "1_heat.jpg").exists()))
        if len(kept) < 3:
            raise MemoryError
        os.kill(os.getpid(), signal.SIGTERM)  # what is begun is finished
        return read_image(path)

    monkeypatch.setattr(line, "read_image", read)
    limit = Timer(20, os.kill, (os.getpid(), signal.SIGTERM))
    limit.start()
    assert inspect(*run, "--watch", "true") == 0
    limit.cancel()
    assert kept == [({"1.png": 10}, True)] * 3
    assert scored(tmp_path / "out") == {"1.png": 210}
    assert capsys.readouterr().err.count("1.png: MemoryError") == 1


def test_what_may_pass_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drive that does not answer changes no file, so a photograph of it comes again; a damaged one does not."""
    monkeypatch.setattr(watching_module, "_SEARCH_EVERY", 0.1)
    photograph(tmp_path / "away.png", 1)
    photograph(tmp_path / "damaged.png", 2)
    stop, end = Event(), time.monotonic() + 40
    with closing(Seen([])) as seen:
        came: list[str] = []
        watch = Watch(tmp_path, seen, stop, print)
        for arrival in watch:
            assert time.monotonic() < end, came
            if arrival is not None:
                came.append(arrival.name.name)
                watch.done(arrival, None, failed=True, again=arrival.name.name == "away.png")
            if came.count("away.png") == 3:
                stop.set()
        assert came.count("damaged.png") == 1
        assert seen.failed == 2


def test_memory_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    """Names of photographs that were looked at are not kept in memory.

    In a process of its own: what is counted is all that a process takes, and pytest's has more to do.
    """
    peaks = []
    for count in (1000, 3000):
        folder = tmp_path / str(count)
        photograph(folder / "0" / "0.png", 1)
        for index in range(1, count):
            file = folder / str(index // 500) / f"{index}.png"
            file.parent.mkdir(exist_ok=True)
            file.hardlink_to(folder / "0" / "0.png")
        command = [sys.executable, "-c", MEASURED, str(folder), str(count)]
        peaks.append(int(subprocess.check_output(command, text=True, timeout=60)))
    assert peaks[1] - peaks[0] < 100 * 2000  # bytes of 2000 more; a path has more than 100


def test_names_of_unfinished_copies_do_not_fill_the_screen(tmp_path: Path) -> None:
    """A program that copies may give each of its files a name of another ending, until it is whole."""
    (tmp_path / "in").mkdir()
    for number in range(50):
        (tmp_path / "in" / f".1.png.{number}").touch()
    photograph(tmp_path / "in" / "1.png", 7)
    said: list[str] = []
    stop = Event()
    with closing(Seen([])) as seen:
        watch = Watch(tmp_path / "in", seen, stop, said.append)
        for arrival in watch:
            if arrival is not None:
                watch.done(arrival, "digest")
                stop.set()
    assert sum("which are no photographs" in text for text in said) == 11
    assert sum("further kinds of files" in text for text in said) == 1
