# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What a run ends with: a table of scores, how many parts are defective, and where everything lies."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from anomalib.visualization import ImageVisualizer
from lightning.pytorch import Callback, Trainer
from torch.distributed import all_gather_object

from anomalib_ear.deploy.files import replace, sha256
from anomalib_ear.deploy.scores import COLUMNS, as_row, encode
from anomalib_ear.deploy.threshold import raw_score
from anomalib_ear.host.post_processing import EarPostProcessor

if TYPE_CHECKING:
    from collections.abc import Sized

    from anomalib.data import ImageBatch
    from torch.utils.data import DataLoader

    from anomalib_ear.host.lightning_model import Ear

logger = logging.getLogger(__name__)


class _Scored(NamedTuple):
    """A row of the table, and whether the part is defective; ``None`` where nobody knows."""

    cells: tuple[str, ...]
    is_defective: bool | None


class ReportCallback(Callback):
    """Write ``scores.csv`` into the folder of a test or prediction, and say where the files of a run are.

    The table has the columns of the line's. A second run in the same folder replaces it, and pictures of the same name;
    pictures of other photographs stay. Both are said.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[_Scored] = []
        self._has_earlier_pictures = False

    def setup(self, trainer: Trainer, pl_module: Ear, stage: str) -> None:  # type: ignore[override]
        """Begin a table."""
        del stage
        self._rows.clear()
        folder = _pictures(trainer, pl_module)
        self._has_earlier_pictures = folder is not None and folder.is_dir() and any(folder.iterdir())

    def on_train_end(self, trainer: Trainer, pl_module: Ear) -> None:  # type: ignore[override]
        """Say so if calibration could not hold all training images."""
        count = len(cast("Sized", cast("DataLoader[Any]", trainer.train_dataloader).dataset))
        held = len(pl_module.model.calibration_indices(count))
        if held < count and trainer.is_global_zero:
            logger.warning(
                "Anomaly map and threshold rest on %d of %d training photographs, evenly spaced: calibration has no "
                "memory for more of this size. Smaller images (--model.image_size) leave room for more of them.",
                held,
                count,
            )

    def on_test_batch_end(  # type: ignore[override]  # as in anomalib, whose steps return batches
        self,
        trainer: Trainer,
        pl_module: Ear,
        outputs: ImageBatch,
        batch: ImageBatch,
        *args: Any,  # noqa: ANN401
    ) -> None:
        """Note the scores of a batch."""
        del trainer, outputs, args
        scores, labels, paths = batch.pred_score, batch.pred_label, batch.image_path
        if scores is None or paths is None:
            return
        threshold = _threshold(pl_module.post_processor)
        for index, (path, score) in enumerate(zip(paths, scores.flatten().tolist(), strict=True)):
            label = "" if labels is None else ("defective" if labels[index] else "good")
            digest = sha256(Path(path)) if Path(path).is_file() else ""  # loaders may name what is no file
            cells = as_row(Path(path), raw_score(score, threshold), score, label, digest)
            self._rows.append(_Scored(cells, None if batch.gt_label is None else bool(batch.gt_label[index])))

    def on_predict_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: Ear,
        outputs: ImageBatch,
        batch: ImageBatch,
        *args: Any,  # noqa: ANN401
    ) -> None:
        """Note the scores of a batch."""
        self.on_test_batch_end(trainer, pl_module, outputs, batch, *args)

    def on_exception(self, trainer: Trainer, pl_module: Ear, exception: BaseException) -> None:  # type: ignore[override]
        """Write the scores until then; of several processes only their common end is certain."""
        del pl_module, exception
        if self._rows and trainer.world_size == 1:
            logger.warning("Scores until then: %s", _write(self._rows, trainer))

    def teardown(self, trainer: Trainer, pl_module: Ear, stage: str) -> None:  # type: ignore[override]
        """Write the table, and say where what is."""
        # The best of a training stands in its checkpoints, too, whatever became of that file.
        trained = getattr(trainer.checkpoint_callback, "best_model_path", "")
        checkpoint = trained if stage == "fit" else trainer.ckpt_path or trained
        said = [f"Checkpoint: {Path(checkpoint).resolve()}"] if checkpoint else []
        rows = _of_all_processes(self._rows, trainer.world_size) if stage in {"test", "predict"} else []
        if rows and trainer.is_global_zero:
            is_replaced = _table(trainer).exists()
            said.append(f"Scores{' (earlier ones were replaced)' if is_replaced else ''}: {_write(rows, trainer)}")
            said[:0] = _labels(rows)
            if (folder := _pictures(trainer, pl_module)) is not None:
                said.append(f"Pictures{' (beside earlier ones)' if self._has_earlier_pictures else ''}: {folder}")
        if said and stage in {"fit", "test", "predict"} and trainer.is_global_zero:
            logger.info("\n".join(said))


def _table(trainer: Trainer) -> Path:
    return Path(trainer.default_root_dir).resolve() / "scores.csv"


def _pictures(trainer: Trainer, model: Ear) -> Path | None:
    """Return the folder of the pictures, if there are any."""
    visualizer = getattr(model, "visualizer", None)
    if not isinstance(visualizer, ImageVisualizer):
        return None
    return Path(visualizer.output_dir or _table(trainer).with_name("images")).resolve()


def _labels(rows: list[_Scored]) -> list[str]:
    """Say how many parts are called what, and how many of them rightly; nothing without labels."""
    counts = Counter((row.is_defective, row.cells[COLUMNS.index("label")]) for row in rows)
    if any(label == "" for _, label in counts):
        return []
    called = {label: sum(counts[truth, label] for truth in (True, False, None)) for label in ("good", "defective")}
    said = [f"{called['good']} good, {called['defective']} defective."]
    outcomes = ((True, "defective parts are found"), (False, "good parts are rejected"))
    of = {truth: counts[truth, "good"] + counts[truth, "defective"] for truth in (True, False)}
    judged = [f"{counts[truth, 'defective']} of {of[truth]} {outcome}" for truth, outcome in outcomes if of[truth]]
    return [*said, f"{', '.join(judged)}."] if judged else said


def _write(rows: list[_Scored], trainer: Trainer) -> Path:
    """Write the table of a run; returns its path."""
    path = _table(trainer)
    path.parent.mkdir(parents=True, exist_ok=True)  # without pictures nobody has made it
    replace(path, encode([COLUMNS, *(row.cells for row in rows)]))
    return path


def _of_all_processes(rows: list[_Scored], world_size: int) -> list[_Scored]:
    """Return the rows of every process, by path where there are several."""
    if world_size == 1:
        return rows
    parts: list[Any] = [None] * world_size
    all_gather_object(parts, rows)
    return sorted(row for part in parts for row in part)


def _threshold(post_processor: object) -> float:
    """Return the threshold by which scores are normalised; NaN if they are not, or not by ours."""
    if isinstance(post_processor, EarPostProcessor) and post_processor.enable_normalization:
        return float(post_processor.image_threshold)
    return float("nan")
