# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The archive: scores as the line's, each photograph once, whatever is killed. On a real Ray of this machine."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import pytest
from PIL import Image, ImageFile

from anomalib_ear.deploy.model_file import digest
from brightness import brightness_model, inspect, photograph, scored
from conftest import REPOSITORY

pytest.importorskip("ray.data", reason="needs anomalib-ear[ray]")
import pyarrow as pa
from pyarrow import fs, parquet
from ray.exceptions import RayError

from anomalib_ear.deploy import archive, bulk
from anomalib_ear.deploy.archive import Archive
from anomalib_ear.deploy.bulk import Scorer, _row, main

# Large photographs: enough that both workers are busy for some seconds.
MANY = 320
LOCAL = (
    "import ray; print(ray.init('local', num_cpus=4, logging_level=40).address_info['address'], flush=True); input()"
)


class Cluster(NamedTuple):
    """A Ray cluster of this machine.

    Attributes:
        address: Where it answers.
        session: Which of the machine's processes are its own.
    """

    address: str
    session: int


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment of all processes: a home of their own, and workers that need not wait for other tests."""
    home = str(tmp_path_factory.mktemp("home"))
    ours = {"PYTHONPATH": str(REPOSITORY / "src"), "HOME": home, "RAY_worker_niceness": "0"}
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return os.environ | ours | secret | {"RAY_USAGE_STATS_ENABLED": "0"}


@pytest.fixture(scope="module")
def cluster(environment: dict[str, str]) -> Iterator[Cluster]:
    """Return a Ray cluster of two cores for models, which ends with the tests."""
    process = subprocess.Popen(
        [sys.executable, "-c", LOCAL],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        yield Cluster(process.stdout.readline().strip(), process.pid)
        process.stdin.close()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a model whose score is the brightness, and whose photographs were twice as wide as high."""
    return brightness_model(tmp_path, trained_sizes="2 2 1 1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of photographs of every brightness, under names that not every program can take."""
    names = [b"latin\xe4.png", b"a b#c%20.png", "shift ä/1.png".encode(), b"new\nline.png", b"shift 2/1.png"]
    for level, name in enumerate([*names, *(b"%03d.png" % index for index in range(25))]):
        photograph(os.fsencode(tmp_path / "in #1 %41") + b"/" + name, 8 * level)
    return tmp_path / "in #1 %41"


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Return a folder of photographs that take long enough for a test to kill what scores them."""
    folder = tmp_path / "large"
    folder.mkdir()
    for index in range(MANY):
        if index < 4:
            Image.new("RGB", (1500, 1000), (60 * index,) * 3).save(folder / f"{index}.png")
        else:
            (folder / f"{index}.png").hardlink_to(folder / f"{index % 4}.png")
    return folder


def command(model: Path, source: Path | str, output: Path | str, *options: str) -> list[str]:
    """Return the command line."""
    arguments = ["--model", model, "--input", source, "--output", output, *options]
    return [sys.executable, "-m", "anomalib_ear.bulk", *map(str, arguments)]


def rows(output: Path) -> dict[str, dict[str, Any]]:
    """Read the table: rows by path, each path once."""
    table = parquet.read_table(output / "scores").to_pylist()
    by_path = {row["path"]: row for row in table}
    assert len(by_path) == len(table)
    return by_path


def parts(output: Path) -> int:
    """Count the files of the table."""
    return len(list((output / "done").glob("*[0-9].parquet")))


def wait_for_parts(process: "subprocess.Popen[str]", output: Path, count: int) -> None:
    """Wait until a run has written as many files."""
    while parts(output) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def worker(cluster: Cluster) -> int:
    """Return the process of one of a cluster's models."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            is_model = (process / "cmdline").read_bytes().startswith(b"ray::MapWorker(MapBatches(Scorer))")
            if is_model and os.getsid(int(process.name)) == cluster.session:
                return int(process.name)
    pytest.fail("no worker")


def check_once(output: Path) -> None:
    """Each of the large photographs has one row, with its score."""
    table = rows(output)
    assert len(table) == MANY
    for name, row in table.items():
        assert round(row["normalised_score"] * 255) == 60 * (int(Path(name).stem) % 4)


def start(run: list[str], environment: dict[str, str]) -> "subprocess.Popen[str]":
    """Start a command."""
    return subprocess.Popen(run, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(run: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command."""
    return subprocess.run(run, env=environment, capture_output=True, text=True, check=False, timeout=300)


def test_scores_are_the_lines(model: Path, folder: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Of the same photographs, under the same names, on a Ray that the command starts; again it has nothing to do.

    Both doubt the one that lies on its side.
    """
    Image.new("L", (10, 20), 100).save(folder / "turned.png")
    assert inspect(model, folder, tmp_path / "line") == 0
    run = command(model, folder, tmp_path / "out %41#2")
    for said in ("", "Resumed: 31 of 31 photographs have a row."):
        done = finish(run, environment)
        assert done.returncode == 0, done.stderr
        table = rows(tmp_path / "out %41#2")
        assert {name: round(row["normalised_score"] * 255) for name, row in table.items()} == scored(tmp_path / "line")
        assert f"{sum(row['label'] == 'good' for row in table.values())} good" in done.stdout
        assert said in done.stdout
        assert [name for name, row in table.items() if row["doubt"] is not None] == ["turned.png"]
        assert "1 of another shape or light than in training" in done.stdout
        assert "rror" not in done.stderr
    note = json.loads((tmp_path / "out %41#2" / "run.json").read_text())
    assert note["threshold"] == 0.5
    assert len(note["model"]) == 64


def test_a_killed_worker_costs_no_photograph(
    model: Path, large: Path, cluster: Cluster, environment: dict[str, str], tmp_path: Path
) -> None:
    """Another one scores what it had."""
    run = command(model, large, tmp_path / "out", "--address", cluster.address)
    with start(run, environment) as process:
        wait_for_parts(process, tmp_path / "out", 1)
        os.kill(worker(cluster), signal.SIGKILL)
        assert parts(tmp_path / "out") < 12
        _, complaint = process.communicate()
    assert process.returncode == 0, complaint
    check_once(tmp_path / "out")


def test_a_killed_run_goes_on(
    model: Path, large: Path, cluster: Cluster, environment: dict[str, str], tmp_path: Path
) -> None:
    """By the same command; what it wrote until then stays as it was."""
    run = command(model, large, tmp_path / "out", "--address", cluster.address)
    with start(run, environment) as process:
        wait_for_parts(process, tmp_path / "out", 2)
        process.kill()
    before = {path.name: path.read_bytes() for path in (tmp_path / "out" / "done").glob("*[0-9].parquet")}
    assert 2 <= len(before) < 16
    done = finish(run, environment)
    assert done.returncode == 0, done.stderr
    assert "Resumed: " in done.stdout
    for name, data in before.items():
        assert (tmp_path / "out" / "done" / name).read_bytes() == data
    check_once(tmp_path / "out")


def test_a_photograph_that_cannot_be_read_is_a_row(
    model: Path, folder: Path, cluster: Cluster, environment: dict[str, str], tmp_path: Path
) -> None:
    """With its error; once it is mended it has a further row, and the others are not scored again."""
    (folder / "torn.png").write_bytes(b"torn")
    (folder / "gone.png").symlink_to("nowhere")
    run = command(model, folder, tmp_path / "out", "--address", cluster.address)
    done = finish(run, environment)
    assert done.returncode == 1
    assert "2 not scored" in done.stdout
    table = rows(tmp_path / "out")
    assert "torn.png" in table["torn.png"]["error"]
    assert "gone.png" in table["gone.png"]["error"]
    assert [row["path"] for row in table.values() if row["label"] is None] == ["gone.png", "torn.png"]
    photograph(folder / "torn.png", 200)
    (folder / "gone.png").unlink()
    done = finish(run, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Resumed: 30 of 31" in done.stdout
    assert parquet.read_table(tmp_path / "out" / "scores").num_rows == 33


def test_a_drive_that_does_not_answer_leaves_no_row(
    model: Path, folder: Path, cluster: Cluster, environment: dict[str, str], tmp_path: Path
) -> None:
    """Its photographs are scored by the same command once it answers, though none of them has changed."""
    (folder / "away.png").symlink_to("/proc/self/mem")  # whose first byte is an input/output error
    run = command(model, folder, tmp_path / "out", "--address", cluster.address)
    done = finish(run, environment)
    assert done.returncode == 2
    assert "away.png" in done.stderr
    assert "Once that is mended, the same command goes on." in done.stderr
    (folder / "away.png").unlink()
    photograph(folder / "away.png", 200)
    done = finish(run, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(rows(tmp_path / "out")) == 31


def test_a_uri_is_read_too(
    model: Path, folder: Path, cluster: Cluster, environment: dict[str, str], tmp_path: Path
) -> None:
    """Of any file system that pyarrow knows; output as well."""
    run = command(model, folder.as_uri(), (tmp_path / "out").as_uri(), "--address", cluster.address)
    done = finish(run, environment)
    assert done.returncode == 0, done.stderr
    table = rows(tmp_path / "out")
    assert len(table) == 30
    assert round(table["shift ä/1.png"]["normalised_score"] * 255) == 16
    assert round(table["latin//e4.png"]["normalised_score"] * 255) == 0


@pytest.fixture
def cluttered(folder: Path) -> Path:
    """Return the folder with what is no photograph, or none that can be reached."""
    (folder / "up").symlink_to("..")
    (folder / "gone").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.png")
    for name in ("moving.gif", "a.txt", "README"):
        (folder / name).touch()
    return folder


def test_a_uri_of_this_machine_is_listed_as_its_folder(cluttered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same photographs, once each, and the same words about all else."""
    seen = []
    for source in (str(cluttered), cluttered.as_uri()):
        searched = Archive(source)
        seen.append((list(searched.photographs()), searched.unreachable, capsys.readouterr().err))
    photographs, unreachable, said = seen[1]
    assert seen[0] == seen[1]
    assert len(photographs) == 30
    assert len(unreachable) == 2
    for words in ("no photographs: 1 .gif, 1 .txt, 1 without suffix", "up leads", "pipe.png is neither", "gone cannot"):
        assert words in said


def test_a_remote_folder_says_what_it_leaves_out(
    cluttered: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no file, other suffixes, and names that pyarrow cannot list."""
    (cluttered / "up").unlink()
    (cluttered / "empty").mkdir()
    remote = fs.SubTreeFileSystem(str(cluttered.parent), fs.LocalFileSystem())
    monkeypatch.setattr(archive, "file_system", lambda source: (remote, source))
    with pytest.raises(ValueError, match=f"{cluttered.name} has a name that is not UTF-8"):
        list(Archive(cluttered.name).photographs())
    (cluttered / os.fsdecode(b"latin\xe4.png")).unlink()
    searched = Archive(cluttered.name)
    assert len(list(searched.photographs())) == 29
    assert searched.unreachable == [f"{cluttered.name}/pipe.png is neither file nor folder"]
    said = capsys.readouterr().err
    assert "left out: no photographs: 1 .gif, 1 .txt, 1 without suffix" in said
    assert "not searched: in #1 %41/pipe.png" in said
    with pytest.raises(FileNotFoundError, match=r"no photographs .* in .*/empty"):
        list(Archive(f"{cluttered.name}/empty").photographs())


def test_a_uri_that_is_not_utf_8_is_named() -> None:
    """Instead of the byte alone."""
    with pytest.raises(ValueError, match=r"file:///l%e4 is not UTF-8"):
        Archive("file:///l%e4")


def test_lack_of_memory_is_no_fault_of_a_photograph(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives no row, which would keep the photograph from being scored later."""
    photograph(tmp_path / "in" / "1.png", 10)
    paths = pa.table({"path": ["1.png"]})
    scorer = Scorer(str(model.parent), str(tmp_path / "in"), 0.5, None)
    assert scorer(paths)["label"].to_pylist() == ["good"]

    def load(_: ImageFile.ImageFile) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(MemoryError, match=r"memory to read .*1\.png"):
        scorer(paths)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "MemoryError()"),
        (pa.lib.ArrowMemoryError("malloc of 8 bytes failed"), "malloc of 8 bytes failed"),
        (TimeoutError(110, "Connection timed out", "1.png"), "[Errno 110] Connection timed out: '1.png'"),
    ],
)
def test_the_error_of_a_worker_is_told(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And not how often Ray tried, whatever the error's type."""

    def fail_in_a_worker(*_: object) -> int:
        try:
            _row(error)
        except (OSError, MemoryError):
            msg = traceback.format_exc() + "\nray.exceptions.UserCodeException: UDF failed.\nTo change attempts, ..."
            raise RayError(msg) from None
        return 0

    monkeypatch.setattr(bulk, "run_command", fail_in_a_worker)
    assert main([]) == 2
    assert capsys.readouterr().err == f"error: {line}. Once that is mended, the same command goes on.\n"


class Store(BaseHTTPRequestHandler):
    """As much of S3 as reading one photograph takes.

    Attributes:
        status: What it answers who reads it.
        content: The photograph.
    """

    status, content = 200, b""

    def do_HEAD(self) -> None:
        """Say that the photograph is there."""
        self.answer(200 if self.path.endswith(".png") else 404, self.content, send=False)

    def do_GET(self) -> None:
        """List the photograph, or give it."""
        listing = (
            f"<ListBucketResult><KeyCount>1</KeyCount><IsTruncated>false</IsTruncated><Contents><Key>a/1.png</Key><Size>"
            f"{len(self.content)}</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents></ListBucketResult>"
        )
        self.answer(*((200, listing.encode()) if "list-type" in self.path else (self.status, self.content)))

    def answer(self, status: int, body: bytes, *, send: bool = True) -> None:
        """Send an answer, or its header alone."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if send:
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def test_a_store_that_does_not_answer_is_no_fault_of_a_photograph(tmp_path: Path) -> None:
    """The error names the photograph, and has the number by which it gets no row; later it is read."""
    photograph(tmp_path / "1.png", 100)
    Store.content = (tmp_path / "1.png").read_bytes()
    with ThreadingHTTPServer(("127.0.0.1", 0), Store) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        place = f"endpoint_override=127.0.0.1:{server.server_port}&scheme=http&region=x"
        archive = Archive(f"s3://key:secret@bucket/a?{place}")
        (entry,) = archive.photographs()
        Store.status = 503
        with pytest.raises(OSError, match=r"cannot fetch '1\.png'") as raised, archive.file(entry.path, tmp_path):
            pass
        with pytest.raises(OSError, match=r"cannot fetch '1\.png'"):
            _row(raised.value)
        Store.status = 200
        with archive.file(entry.path, tmp_path) as file:
            assert file.read_bytes() == Store.content
        server.shutdown()


@pytest.fixture
def begun(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the options of a run that was begun in this folder, on a cluster that does not answer."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:3")
    photograph(tmp_path / "in" / "1.png", 10)
    note = {"model": digest(model), "input": str(tmp_path / "in"), "threshold": 0.5, "precision": None}
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text(json.dumps(note))
    for folder in ("empty", "other"):
        (tmp_path / folder).mkdir()
    brightness_model(tmp_path / "other", divisor=2)
    return {"--model": "model.xml", "--input": "in", "--output": "out", "--address": "127.0.0.1:2"}


def files(folder: Path) -> dict[Path, bytes]:
    """Read all files in a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--model": "nowhere.xml"}, "no file nowhere.xml"),
        ({"--input": "nowhere"}, "/nowhere is no folder"),
        ({"--input": ""}, "--input is empty: give a folder"),
        ({"--input": "what://nowhere"}, "what"),
        ({"--output": "model.xml"}, "--output model.xml is a file"),
        ({"--threshold": "1.5"}, "threshold must lie in [0, 1], got 1.5"),
        ({"--threshold": "0.7"}, "begun with another threshold"),
        ({"--model": "other/model.xml"}, "begun with another model"),
        ({"--address": "127.0.0.1:1"}, "no Ray cluster answers at 127.0.0.1:1"),
        ({"--address": "somewhere"}, "--address must be local, auto or HOST:PORT"),
        ({"--address": "auto"}, "no Ray cluster answers at 127.0.0.1:3"),
    ],
)
def test_an_error_is_one_line_and_nothing_is_lost(
    begun: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, str], message: str
) -> None:
    """It says what is wrong, before a cluster is asked for anything."""
    before = files(tmp_path)
    assert main([part for option in (begun | change).items() for part in option]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert files(tmp_path) == before


def test_an_archive_without_photographs_is_one_line_too(
    begun: dict[str, str], tmp_path: Path, cluster: Cluster, environment: dict[str, str]
) -> None:
    """A cluster answers, and nothing else is printed."""
    before = files(tmp_path)
    options = begun | {"--input": "empty", "--output": "out2", "--address": cluster.address}
    model, source, output, address = options.values()
    done = finish(command(model, source, output, "--address", address), environment)
    assert done.returncode == 2
    (line,) = (said for said in done.stderr.splitlines() if "Set ray log level" not in said)
    assert line.startswith("error: ")
    assert "no photographs" in line
    assert files(tmp_path) == before


def test_without_ray_it_says_what_to_install(environment: dict[str, str]) -> None:
    """Instead of a traceback."""
    hidden = "import runpy, sys; sys.modules['ray'] = None; runpy.run_module('anomalib_ear.bulk', run_name='__main__')"
    done = finish([sys.executable, "-c", hidden], environment)
    assert (done.returncode, done.stderr) == (2, "error: no module ray: pip install 'ray[data]'.\n")


def test_an_output_that_fails_is_one_line_and_the_run_goes_on(
    model: Path, large: Path, cluster: Cluster, environment: dict[str, str], tmp_path: Path
) -> None:
    """Once it can be written again; what was written until then counts."""
    output = tmp_path / "out"
    run = command(model, large, output, "--address", cluster.address)
    with start(run, environment) as process:
        wait_for_parts(process, output, 1)
        (output / "scores").rename(output / "elsewhere")  # where nothing can be written any more
        (output / "scores").touch()
        _, complaint = process.communicate()
    assert process.returncode == 2
    assert [line for line in complaint.splitlines() if line.startswith("error: ")]
    assert "the same command goes on" in complaint
    (output / "scores").unlink()
    (output / "elsewhere").rename(output / "scores")
    done = finish(run, environment)
    assert done.returncode == 0, done.stderr
    check_once(output)
