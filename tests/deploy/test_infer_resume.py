# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""A resumed run: each photograph has the score of what it is now, once, and none is skipped that has no score."""

import csv
import json
import os
import resource
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from anomalib_ear.deploy import line
from anomalib_ear.deploy.photographs import as_text
from anomalib_ear.deploy.scores import LINE_COLUMNS, ScoreTable
from brightness import brightness_model, inspect, photograph, scored
from conftest import REPOSITORY

RESUME = ("--resume", "true")
# Names as bytes, as POSIX has them, and as the table has them.
NAMES = {
    b"latin\xe4.png": "latin//e4.png",
    b"\xff\xfe/\xe4.png": "//ff//fe///e4.png",
    "umlaut ä.png".encode(): "umlaut ä.png",
    b"new\nline.png": "new\nline.png",
    b"carriage\rreturn.png": "carriage\rreturn.png",
    b"both\r\n.png": "both\r\n.png",
    b"form\x0cfeed\x0b\x1c.png": "form\x0cfeed\x0b\x1c.png",
    "line\u2028paragraph\u2029next\u0085.png".encode(): "line\u2028paragraph\u2029next\u0085.png",
    b'comma, "quotes" and \'.png': 'comma, "quotes" and \'.png',
    b"  spaces .png": "  spaces .png",
    b"back\\slash//e4.png": "back\\slash/e4.png",
    b"x" * 246 + b".png": "x" * 246 + ".png",
    b"x" * 247 + b"y.png": "x" * 247 + "y.png",
    "ä".encode() * 125 + b".png": "ä" * 125 + ".png",
    b"\xe4" * 250 + b".png": "//e4" * 250 + ".png",
    b"case.png": "case.png",
    b"Case.PNG": "Case.PNG",
    b"case.jpg": "case.jpg",
    b"case.tif": "case.tif",
    b"case_jpg.png": "case_jpg.png",
    b"case_jpg_png.png": "case_jpg_png.png",
    b"case_heat.png": "case_heat.png",
    b"case_heat.jpg/case.png": "case_heat.jpg/case.png",
    b"case_PNG.png": "case_PNG.png",
    b"jpg.png": "jpg.png",
    b"case.png.jpg/case.png": "case.png.jpg/case.png",
    b"...dots..png": "...dots..png",
    b"-option.png": "-option.png",
    b"=formula.png": "=formula.png",
    b"%25 #1.png": "%25 #1.png",
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a model whose score is the brightness."""
    return brightness_model(tmp_path)


@pytest.fixture
def begun(model: Path, tmp_path: Path) -> Path:
    """Return the output of a run over two dark photographs."""
    photograph(tmp_path / "a" / "1.png", 10)
    photograph(tmp_path / "a" / "deep" / "2.png", 20)
    assert inspect(model, tmp_path / "a", tmp_path / "out") == 0
    return tmp_path / "out"


def test_another_folder_is_refused(
    model: Path, begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A camera may begin its names anew: the photographs there are others."""
    photograph(tmp_path / "b" / "1.png", 210)
    assert inspect(model, tmp_path / "b", begun, *RESUME) == 2
    assert "were begun with another input" in capsys.readouterr().err
    assert scored(begun) == {"1.png": 10, "deep/2.png": 20}


def test_what_is_not_in_the_input_keeps_its_row(
    model: Path, begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run says so."""
    (tmp_path / "a" / "deep" / "2.png").unlink()
    photograph(tmp_path / "a" / "3.png", 30)
    assert inspect(model, tmp_path / "a", begun, *RESUME) == 0
    assert scored(begun) == {"1.png": 10, "deep/2.png": 20, "3.png": 30}
    said = capsys.readouterr().out
    assert "1 skipped" in said
    assert "1 more photographs, which are not in the input" in said


@pytest.mark.parametrize(("heat_maps", "is_resumed"), [("true", True), ("false", True), ("false", False)])
def test_a_replaced_photograph_is_scored_again(
    model: Path, begun: Path, tmp_path: Path, heat_maps: str, is_resumed: bool
) -> None:
    """Content decides: name, size and time are the same here. No picture of the old one lies beside the new score."""
    file = tmp_path / "a" / "1.png"
    before = file.stat()
    photograph(file, 210)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    if not is_resumed:
        (begun / "scores.csv").unlink()
    assert inspect(model, tmp_path / "a", begun, "--heat_maps", heat_maps, *RESUME) == 0
    assert scored(begun) == {"1.png": 210, "deep/2.png": 20}
    picture = begun / "heat_maps" / "1_heat.jpg"
    assert Image.open(picture).getpixel((200, 100))[0] > 200 if heat_maps == "true" else not picture.exists()
    assert (begun / "heat_maps" / "deep" / "2_heat.jpg").exists() == is_resumed  # of what is the same it stays


def test_what_is_the_same_is_skipped(
    model: Path, begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A photograph stays the same if it is touched, or if another path leads to its folder."""
    (tmp_path / "a" / "1.png").touch()
    (tmp_path / "link").symlink_to("a")
    before = (begun / "scores.csv").read_bytes()
    capsys.readouterr()
    assert inspect(model, tmp_path / "link", begun, *RESUME) == 0
    said = capsys.readouterr().out
    assert "2 skipped" in said
    assert "2 good, 0 defective, 0 not scored" in said  # as many as the folder has
    assert (begun / "scores.csv").read_bytes() == before


@pytest.mark.parametrize("heat_maps", ["true", "false"])
def test_a_photograph_that_was_replaced_by_a_broken_one_has_no_score(
    model: Path, begun: Path, tmp_path: Path, heat_maps: str
) -> None:
    """Its row goes, and so does the picture of the old photograph."""
    (tmp_path / "a" / "1.png").write_bytes(b"torn")
    assert inspect(model, tmp_path / "a", begun, "--heat_maps", heat_maps, *RESUME) == 1
    assert scored(begun) == {"deep/2.png": 20}
    assert not (begun / "heat_maps" / "1_heat.jpg").exists()


@pytest.mark.parametrize(("what", "rows"), [("sha256", {"1.png": 10}), ("read_image", {})])
def test_a_photograph_that_memory_is_short_for_is_named(
    model: Path, begun: Path, tmp_path: Path, what: str, rows: dict[str, float], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """It costs no other one its score, and its own only if it is known to have changed."""
    photograph(tmp_path / "a" / "1.png", 210)
    original = getattr(line, what)

    def short(file: Path) -> object:
        if file.name == "1.png":
            raise MemoryError
        return original(file)

    monkeypatch.setattr(line, what, short)
    assert inspect(model, tmp_path / "a", begun, *RESUME) == 1
    said = capsys.readouterr()
    assert "1 not scored" in said.out
    assert f"{tmp_path / 'a' / '1.png'}: MemoryError" in said.err
    assert scored(begun) == rows | {"deep/2.png": 20}


def test_rows_of_a_drive_that_is_away_stay(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With their pictures, and are named; when it is back they are skipped."""
    photograph(tmp_path / "drive" / "1.png", 10)
    photograph(tmp_path / "a" / "2.png", 20)
    (tmp_path / "a" / "1.png").symlink_to(tmp_path / "drive" / "1.png")
    assert inspect(model, tmp_path / "a", tmp_path / "out") == 0
    (tmp_path / "drive").rename(tmp_path / "away")
    assert inspect(model, tmp_path / "a", tmp_path / "out", *RESUME) == 1
    said = capsys.readouterr()
    assert f"{tmp_path / 'a' / '1.png'}: " in said.err
    assert "1 skipped, scored before; 0 scored again" in said.out
    assert "1 cannot be read now: their rows stay" in said.out
    assert "1 good, 0 defective, 1 not scored" in said.out
    assert scored(tmp_path / "out") == {"1.png": 10, "2.png": 20}
    assert (tmp_path / "out" / "heat_maps" / "1_heat.jpg").exists()
    (tmp_path / "away").rename(tmp_path / "drive")
    assert inspect(model, tmp_path / "a", tmp_path / "out", *RESUME) == 0
    assert "2 skipped" in capsys.readouterr().out


def test_pictures_that_are_missing_are_written(model: Path, begun: Path, tmp_path: Path) -> None:
    """They are missing if the interrupted run wrote none, or if somebody deleted one."""
    (begun / "heat_maps" / "1_heat.jpg").unlink()
    assert inspect(model, tmp_path / "a", begun, *RESUME) == 0
    assert (begun / "heat_maps" / "1_heat.jpg").exists()
    assert inspect(model, tmp_path / "a", begun, *RESUME, "--anomaly_maps", "true") == 0
    assert (begun / "anomaly_maps" / "deep" / "2.png").exists()
    assert scored(begun) == {"1.png": 10, "deep/2.png": 20}


@pytest.mark.parametrize("name", NAMES, ids=[f"{ascii(name)[:20]}-{index}" for index, name in enumerate(NAMES)])
def test_every_name_is_scored_once(
    model: Path, tmp_path: Path, name: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """Has its pictures, stands in the table as it is or as the documentation says, and is skipped later."""
    photograph(os.fsencode(tmp_path / "in") + b"/" + name, 77)
    photograph(tmp_path / "in" / "case.png", 50)
    run = (model, tmp_path / "in", tmp_path / "out", "--anomaly_maps", "true")
    assert inspect(*run) == 0
    expected = {"case.png": 50} | ({NAMES[name]: 77} if name != b"case.png" else {})
    assert scored(tmp_path / "out") == expected
    for kind in ("heat_maps", "anomaly_maps"):
        written = [path for path in (tmp_path / "out" / kind).rglob("*") if path.is_file()]
        assert len(written) == len(expected)
        assert not [path for path in written if path.suffix == ".part"]
    capsys.readouterr()
    assert inspect(*run, *RESUME) == 0
    assert f"{len(expected)} skipped" in capsys.readouterr().out
    assert scored(tmp_path / "out") == expected


def test_all_names_at_once_on_a_terminal_without_letters(model: Path, tmp_path: Path) -> None:
    """Scored or broken, with the C locale and ASCII output; every message is one line."""
    for level, name in enumerate(NAMES):
        photograph(os.fsencode(tmp_path / "in") + b"/" + name, level)
        broken = os.fsencode(tmp_path / "in" / "broken") + b"/" + name
        os.makedirs(os.path.dirname(broken), exist_ok=True)  # noqa: PTH103, PTH120  of bytes
        Path(os.fsdecode(broken)).write_bytes(b"torn")
    command = [sys.executable, "-m", "anomalib_ear.infer", "--model", model, "--input", tmp_path / "in"]
    done = subprocess.run(
        [*command, "--output", tmp_path / "out"],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY / "src"),
            "LC_ALL": "C",
            "PYTHONIOENCODING": "ascii",
        },
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert scored(tmp_path / "out") == {text: level for level, text in enumerate(NAMES.values())}
    assert f"{len(NAMES)} not scored" in done.stdout.decode("ascii")
    named = [line for line in done.stderr.decode("ascii").split("\n") if line.startswith("  ")]
    assert len(named) == len(NAMES)
    assert sum(rb"latin\udce4.png" in line.encode() for line in named) == 1


def test_the_text_of_a_path_names_it_alone() -> None:
    """No two names have one text, even if a name looks like another one's text."""
    paths = [
        Path(os.fsdecode(name)) for name in (b"\xe4.png", rb"\xe4.png", rb"\udce4.png", b"e4.png", "ä.png".encode())
    ]
    assert [as_text(path) for path in paths] == ["//e4.png", r"\xe4.png", r"\udce4.png", "e4.png", "ä.png"]


@pytest.mark.parametrize("torn", [b"3.pn", b'"new\nli', b'"new\nline.png",0.1,0.1,good,12ab', b"\xc3", b"\0\0\0"])
def test_a_torn_row_is_scored_again(model: Path, begun: Path, tmp_path: Path, torn: bytes) -> None:
    """A machine that loses power leaves such a row, also within a name of two lines."""
    photograph(tmp_path / "a" / "new\nline.png", 30)
    with (begun / "scores.csv").open("ab") as file:
        file.write(torn)
    assert inspect(model, tmp_path / "a", begun, *RESUME) == 0
    assert scored(begun) == {"1.png": 10, "deep/2.png": 20, "new\nline.png": 30}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("scores.csv", b"path,raw_score,normalised_score,label\n1.png,,0.1,good\n", "maybe of another version"),
        ("scores.csv", b"", "damaged"),
        ("scores.csv", b"path,raw_score,normalised_score,label,sha256,drift,doubt\n\xff,,0.1,good,12,,\n", "damaged"),
        ("scores.json", b"{", "does not say how"),
        ("scores.json", None, "does not say how"),
    ],
)
def test_a_table_that_cannot_go_on_is_refused(
    model: Path, begun: Path, tmp_path: Path, name: str, content: bytes | None, message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """One line names the table, which stays as it is."""
    if content is None:
        (begun / name).unlink()
    else:
        (begun / name).write_bytes(content)
    before = (begun / "scores.csv").read_bytes()
    capsys.readouterr()
    assert inspect(model, tmp_path / "a", begun, *RESUME) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {begun / name}")
    assert message in line
    assert (begun / "scores.csv").read_bytes() == before
    assert not list(begun.glob("*.part"))


def test_two_commands_do_not_write_one_table(
    model: Path, begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second one is refused while the first one runs, and goes on when it has ended."""
    run = json.loads((begun / "scores.json").read_text())
    capsys.readouterr()
    with closing(ScoreTable(begun, run, resume=True)):
        assert inspect(model, tmp_path / "a", begun, *RESUME) == 2
    assert f"another command writes {begun / 'scores.csv'}" in capsys.readouterr().err
    assert inspect(model, tmp_path / "a", begun, *RESUME) == 0
    assert len(scored(begun)) == 2


def test_a_table_that_was_moved_away_is_not_begun_in_its_middle(begun: Path) -> None:
    """It would have no header, and no later run could read it."""
    table = begun / "scores.csv"
    with closing(ScoreTable(begun, json.loads((begun / "scores.json").read_text()), resume=True)) as scores:
        row = tuple(next(scores.rows()))
        table.rename(begun / "moved.csv")
        with pytest.raises(OSError, match=r"scores\.csv was moved away: move it back"):
            scores.append(row)
    assert not table.exists()


@pytest.mark.parametrize("where", [".", "in", "in/deep", "in/deep/linked"])
def test_pictures_of_the_line_are_no_photographs(
    model: Path, tmp_path: Path, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """However the output lies to the input, on a second run and on a resumed one, and when they were copied."""
    photograph(tmp_path / "in" / "1.png", 10)
    photograph(tmp_path / "in" / "deep" / "2.png", 20)
    (tmp_path / "in" / "deep" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    output = tmp_path / where
    options = ("--anomaly_maps", "true")
    assert inspect(model, tmp_path / "in", output, *options) == 0
    shutil.copytree(output / "heat_maps", tmp_path / "in" / "copied")
    (output / "scores.csv").rename(tmp_path / "moved.csv")
    for more in ((), RESUME):
        capsys.readouterr()
        assert inspect(model, tmp_path / "in", output, *options, *more) == 0
        assert scored(output) == {"1.png": 10, "deep/2.png": 20}
        assert " written by this command" in capsys.readouterr().err
    assert inspect(model, output / "heat_maps", tmp_path / "other") == 2
    assert not (tmp_path / "other").exists()


def test_no_photograph_is_written_over(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The output is the input, and a photograph has the name of another one's heat map."""
    mine = tmp_path / "in" / "heat_maps" / "1_heat.jpg"
    photograph(mine, 99)
    photograph(tmp_path / "in" / "1.png", 10)
    before = mine.read_bytes()
    assert inspect(model, tmp_path / "in", tmp_path / "in") == 2
    assert f"error: cannot write {mine}: another file is there" in capsys.readouterr().err
    assert mine.read_bytes() == before


@pytest.mark.parametrize(("heat_maps", "limit", "full"), [("true", 400, "heat_maps/"), ("false", 700, "scores.csv")])
def test_a_full_disk_is_one_error_and_the_table_stays_whole(
    model: Path, tmp_path: Path, heat_maps: str, limit: int, full: str
) -> None:
    """Whether it is full for a picture or for a row; later the run goes on."""
    for level in range(40):
        photograph(tmp_path / "in" / f"{level:02}.png", level)
    command = [sys.executable, "-m", "anomalib_ear.infer", "--model", model, "--input", tmp_path / "in"]
    done = subprocess.run(
        [*command, "--output", tmp_path / "out", "--heat_maps", heat_maps],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY)),
    )  # fmt: skip
    assert done.returncode == 2
    assert sum("error: " in line for line in done.stderr.splitlines()) == 1
    last = done.stderr.splitlines()[-1]
    assert f"cannot write {tmp_path / 'out'}/{full}" in last
    assert "File too large" in last
    assert "--resume true" in last
    with (tmp_path / "out" / "scores.csv").open(newline="") as file:
        assert {len(row) for row in csv.reader(file)} == {len(LINE_COLUMNS)}
    assert (tmp_path / "out" / "scores.csv").read_bytes().endswith(b"\n")
    assert not list((tmp_path / "out").rglob("*.part"))
    assert len(scored(tmp_path / "out")) < 40
    assert inspect(model, tmp_path / "in", tmp_path / "out", "--heat_maps", heat_maps, *RESUME) == 0
    assert scored(tmp_path / "out") == {f"{level:02}.png": level for level in range(40)}
