# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Score photographs with an exported model, on the line.

    python -m anomalib_ear.infer --model model.xml --input FOLDER --output FOLDER

Imports neither torch nor anomalib.
"""

import errno
import math
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event
from typing import Literal, cast

import jsonargparse
from tqdm import tqdm

from anomalib_ear.deploy.command import INTERRUPTED, check_output, fail, run_command, say, say_found
from anomalib_ear.deploy.drift import SCORE, DriftWatch
from anomalib_ear.deploy.line import Line, Scores
from anomalib_ear.deploy.model_file import digest
from anomalib_ear.deploy.photographs import Found, as_one_line, as_text, find, root_of
from anomalib_ear.deploy.pictures import CannotWriteError
from anomalib_ear.deploy.runtime import DeployedModel, Label
from anomalib_ear.deploy.scores import COLUMNS, LINE_COLUMNS, ScoreTable, as_row
from anomalib_ear.deploy.sizes import DOUBTFUL
from anomalib_ear.deploy.threads import in_order
from anomalib_ear.deploy.watching import Arrival, Seen, Watch


def infer(
    model: Path,
    input: str,  # noqa: A002  the option's name
    output: str,
    threshold: float | None = None,
    precision: Literal["f32", "bf16", "f16"] | None = None,
    hint: Literal["latency", "throughput"] = "throughput",
    heat_maps: bool = True,
    anomaly_maps: bool = False,
    resume: bool = False,
    watch: bool = False,
) -> int:
    """Score photographs with an exported model.

    Args:
        model: OpenVINO model (.xml, with its .bin beside it).
        input: Folder, which is searched with its subfolders, file, or pattern in quotes.
        output: Folder for scores.csv, heat_maps/ and anomaly_maps/. In a path of scores.csv each byte that is not UTF-8
            stands as // and two hexadecimal digits.
        threshold: Score above which a part is defective. Defaults to the trained threshold, which is 0.5, unless the
            model was exported with another sensitivity or without normalisation.
        precision: Precision of the arithmetic. Defaults to the one that scores and thresholds were made with.
        hint: Whether each photograph (latency) or all together (throughput) shall be done soon.
        heat_maps: Whether to write pictures, on one scale for all.
        anomaly_maps: Whether to write normalised maps as 16-bit PNGs, 65535 for 1.
        resume: Whether to go on with a table of scores. A photograph is skipped if its path and its content are those
            of a row; the row of one that changed is replaced.
        watch: Whether to score also what appears in the folder later, until SIGTERM or Ctrl-C. Goes on with a table
            as resume does.

    Returns:
        Exit status: 0, 1 if a photograph could not be scored, or 130 after Ctrl-C.
    """
    check_output(output)
    folder = Path(output)
    if watch and not (input and Path(input).is_dir()):
        msg = f"--watch true watches a folder, and --input {input!r} is none: give one that exists."
        raise NotADirectoryError(msg)
    with _stopping(on=watch) as stop:
        deployed = DeployedModel(model, hint, precision, threshold)
        found = None if watch else find(input)
        line = Line(deployed, folder, heat_maps=heat_maps, anomaly_maps=anomaly_maps)
        searched = as_text(root_of(input).resolve())
        run = {"model": digest(model), "threshold": deployed.threshold, "precision": precision, "input": searched}
        with closing(ScoreTable(folder, run, resume=resume or watch)) as table:
            inspection, again = _Inspection(line, table), "the same command" if watch else "--resume true"
            try:
                if found is None:
                    inspection.watch(Path(input), stop)
                else:
                    inspection.score(found, resume=resume)
            except KeyboardInterrupt:
                stop.interrupted = True
                say(f"Interrupted; {again} goes on.", sys.stderr)
            except (OSError, sqlite3.Error) as error:
                reason = str(error).rstrip(".")
                msg = f"{reason}. {table.path} has the scores until then; once that is mended, {again} goes on."
                raise OSError(msg) from error
    inspection.tell()
    return INTERRUPTED if stop.interrupted else int(inspection.num_failed > 0)


class _Stop(Event):
    """Ends a watch.

    Attributes:
        interrupted: Whether Ctrl-C was pressed.
    """

    interrupted = False


@contextmanager
def _stopping(*, on: bool) -> Iterator[_Stop]:
    """Let SIGTERM and Ctrl-C end a watch: what is begun is finished. The second time they do as they always do."""
    stop = _Stop()
    signals = (signal.SIGTERM, signal.SIGINT) if on else ()

    def end(number: int, frame: object) -> None:
        del frame
        stop.interrupted |= number == signal.SIGINT
        stop.set()
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    before = {each: signal.signal(each, end) for each in signals}
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


class _Inspection:
    """Rows of a table, and what happened on the way.

    Attributes:
        num_failed: How many photographs could not be scored.
    """

    def __init__(self, line: Line, table: ScoreTable) -> None:
        self.line, self.table = line, table
        self.num_failed = 0
        self._counts: Counter[Label] = Counter()
        self._failures: list[str] = []
        self._tried_again: set[Path] = set()
        self._drift = DriftWatch(line.model.good, line.model.threshold)
        self._is_drift_said = False
        self._num_doubtful = self._num_kept_doubtful = 0
        self._doubted: set[str] = set()
        if line.model.own_threshold != 0.5:
            say(f"The model was exported with another threshold than 0.5: {line.model.own_threshold:.4g}.")
        elif math.isnan(line.model.trained_threshold):
            say("The model notes no threshold: its scores are taken as normalised, with the trained threshold at 0.5.")
        if not self._drift.is_on:
            say("No watch for drift: the model does not note what good photographs are like, or knows too few.")
        elif self._drift.not_compared:
            names = ", ".join(self._drift.not_compared)
            say(f"The watch for drift does not compare {names}: the model notes too little of good photographs.")

    def score(self, found: Found, *, resume: bool) -> None:
        """Score photographs, without those that have scores if the table goes on."""
        say_found(found)
        self._failures += found.unreachable
        files = self._to_do(found.files) if resume else found.files
        self.num_failed = len(self._failures)
        with closing(self.line.run(files)) as results:
            for name, result in tqdm(results, total=len(files), unit="image"):
                if isinstance(result, Exception):
                    self._failures.append(_not_scored(files[name], result))
                    self.num_failed = len(self._failures)
                    if not _may_pass(result):
                        self.line.remove_pictures(name)  # they show what the photograph was in an earlier table
                else:
                    self._append(result)

    def watch(self, folder: Path, stop: Event) -> None:
        """Score the photographs of a folder, those that are there and those that appear, until the event is set."""
        digests = ((row[0], row[COLUMNS.index("sha256")]) for row in self.table.rows())
        with closing(Seen(digests)) as seen:
            watch = Watch(folder, seen, stop, lambda text: say(text, sys.stderr))
            say(f"Watching {folder}; Ctrl-C or SIGTERM ends it. Scores: {self.table.path}")
            try:
                with closing(in_order(self.line.look, watch, self.line.model.num_threads)) as results:
                    for result in results:
                        if isinstance(result, tuple):
                            self._take(watch, *result)
            finally:
                self.num_failed = seen.failed

    def _take(self, watch: Watch, arrival: Arrival, result: Scores | Exception | None) -> None:
        """Bring the table up to what was found of a photograph."""
        if isinstance(result, CannotWriteError):
            raise result
        is_told = arrival.file in self._tried_again
        self._tried_again.discard(arrival.file)
        if result is None:  # its row still holds
            watch.done(arrival, arrival.digest)
        elif isinstance(result, Scores):
            if arrival.digest is not None:
                self.table.drop({as_text(arrival.name)})
            self._append(result)
            watch.done(arrival, result.digest)
        elif _may_pass(result):  # its row stays: nobody knows that it has changed
            self._tried_again.add(arrival.file)
            if not is_told:  # once, however often it is tried
                _not_scored(arrival.file, result)
            watch.done(arrival, arrival.digest, failed=True, again=True)
        elif isinstance(result, FileNotFoundError):  # its row stays too
            _not_scored(arrival.file, result)
            watch.done(arrival, arrival.digest, failed=True)
        else:
            _not_scored(arrival.file, result)
            self.line.remove_pictures(arrival.name)
            if arrival.digest is not None:
                self.table.drop({as_text(arrival.name)})
            watch.done(arrival, None, failed=True)

    def _to_do(self, files: dict[Path, Path]) -> dict[Path, Path]:
        """Drop outdated rows from the table, and return the files without a score.

        The row and the pictures of one that cannot be read stay: nobody knows that it has changed.
        """
        names = {as_text(name): name for name in files}
        rows = {row[0]: row for row in self.table.rows()}
        digests = {text: row[COLUMNS.index("sha256")] for text, row in rows.items()}
        scored = {names[text]: digest for text, digest in digests.items() if text in names}
        changed = self.line.changed(files, scored)
        again = [name for name, error in changed.items() if error is None]
        for name in again:
            self.line.remove_pictures(name)
        self.table.drop({as_text(name) for name in again})
        self._failures += [_not_scored(files[name], error) for name, error in changed.items() if error is not None]
        kept = [rows[as_text(name)] for name in scored.keys() - changed.keys()]
        self._counts.update(cast("Label", row[COLUMNS.index("label")]) for row in kept)
        self._num_kept_doubtful = sum(bool(row[LINE_COLUMNS.index("doubt")]) for row in kept)
        skipped, others = len(scored) - len(changed), len(digests) - len(scored)
        say(f"Resumed: {skipped} skipped, scored before; {len(again)} scored again, changed or without pictures.")
        if others:
            say(f"{self.table.path} has {others} more photographs, which are not in the input: their rows stay.")
        if len(changed) > len(again):
            say(f"{len(changed) - len(again)} cannot be read now: their rows stay.")
        return {name: file for name, file in files.items() if name not in scored or name in again}

    def _append(self, scores: Scores) -> None:
        """Append a row."""
        part = scores.prediction
        self._counts[part.label] += 1
        changed = None if scores.light is None else self._drift.add({SCORE: part.score} | scores.light)
        if changed and not self._is_drift_said:
            self._is_drift_said = True
            tqdm.write(f"drift: {self._drift.explain(changed)}", file=sys.stderr)
        drift = "" if changed is None else changed or "no"
        if part.doubt is not None:
            self._num_doubtful += 1
            kind = "size" if scores.light is None else "light"
            if kind not in self._doubted:  # that of one kind must not hide that the lamp is off
                self._doubted.add(kind)
                tqdm.write(f"doubt: {as_one_line(scores.path)}: {part.doubt}.", file=sys.stderr)
        row = as_row(scores.path, part.raw_score, part.score, part.label, scores.digest)
        self.table.append((*row, drift, part.doubt or ""))

    def tell(self) -> None:
        """Say how it went."""
        good, defective = self._counts["good"], self._counts["defective"]
        say(f"{good} good, {defective} defective, {self.num_failed} not scored. Scores: {self.table.path}")
        if num_doubtful := self._num_doubtful + self._num_kept_doubtful:
            say(f"{num_doubtful} {DOUBTFUL}")
        if self.line.heat_maps and self._counts:
            say(f"Pictures: {self.line.output / 'heat_maps'}")
        for text in self._failures:
            say(f"  {text}", sys.stderr)


def _may_pass(error: Exception) -> bool:
    """Return whether the system failed, and not the photograph: a drive does not answer, or memory is short."""
    # Errors of the system have a number, those of what a file holds do not.
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno not in {None, errno.ENOENT})


def _not_scored(file: Path, error: Exception) -> str:
    """Say that a photograph has no score; returns its path and the reason."""
    text = f"{file}: {' '.join((str(error) or repr(error)).split())}"
    tqdm.write(f"not scored: {as_one_line(text)}", file=sys.stderr)
    return text


def main(arguments: list[str] | None = None) -> int:
    """Run the command, with errors as one line."""
    try:
        return run_command(infer, arguments)
    except (OSError, ValueError, jsonargparse.ArgumentError) as error:
        return fail(str(error))
