# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What recovery, excision, gates and their training contribute: every combination, over seeds.

python benchmarks/ablation.py --config configs/ablation/features.yaml --roots.KolektorSDD FOLDER

What a frozen network sees of an image does not change in training, so features are computed once per data set and only
the U-Net is trained for each combination, as Ear trains it. What is in the output is not made again. Writes one
row of JSON per combination and the tables beside it.
"""

import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any, cast

import job
import jsonargparse
import results
import torch
from accuracy import measure
from anomalib.data import AnomalibDataModule
from run import Dataset
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own idiom

from anomalib_ear import Ear
from anomalib_ear.anomaly_map import AnomalyMapGenerator, image_score
from anomalib_ear.attention import load_attention
from anomalib_ear.data.synthetic import SyntheticDefectDataset
from anomalib_ear.lightning_model import one_cycle
from anomalib_ear.masking import Masking
from anomalib_ear.space import FeatureSpace, Space
from anomalib_ear.unet import SkipGatedUNet

# Draws of synthetic defects on the held-out images: one alone leaves the proxy to chance.
DRAWS = 4
METRICS = {"image_AUROC": "image AUROC", "pixel_AUROC": "pixel AUROC", "pixel_AUPRO": "AUPRO"}
INTRODUCTION = """\
Every combination of mask and gates, with all else equal: the same space, the same U-Net, the same calibration by all
training images. *Trained with*: the mask in training; *gates in training*: whether each step decodes a second time with
the shallowest and some other skips off, beside the decoding with all on. *Mask* and *gates* at inference: gates
shallowest first, `|` open, `·` closed. *random*: as large a share excised, by lot. *Oracle*: the true defects excised
(on good images what the attention marks), which nobody has; *second pass*: where the first pass found most. *No
recovery*: the mean of the training images at each place stands for the recovery. *Proxy*: good images held out of
training, half of them with drawn defects, four draws. Marks of thin defects are pooled by maximum, which breaks none
into pieces: AUPRO is higher than in `detection.md`, where they are as anomalib gives them. Mean ± standard deviation
over seeds.
"""


@dataclass
class Split:
    """Images as the U-Net sees them.

    Attributes:
        target: Standardised features, ``(N, D, h, w)``, half precision.
        attention: ``(N, 1, h, w)``.
        truth: Defective pixels, ``(N, H, W)`` bool.
        labels: Whether an image is defective, ``(N,)`` bool.
    """

    target: Tensor
    attention: Tensor
    truth: Tensor
    labels: Tensor


class Excision:
    """Masks of one kind.

    Args:
        masking: Ear's mask rule and hint.
        space: Space of the features.
    """

    def __init__(self, masking: Masking, space: Space) -> None:
        self.masking = masking
        self.cell = max(8 // space.stride, 1)  # random masks excise squares of 8 pixels or one position

    def __call__(self, kind: str, split: Split, part: slice, second: Tensor | None = None) -> Tensor:
        """Return obfuscated features and mask, ``(n, D + 1, h, w)``.

        Args:
            kind: ``"attention"``, ``"random"`` (as large a share, drawn anew at each call), ``"none"``, ``"oracle"``
                (the defects; attention's where there are none) or ``"second pass"``.
            split: Images.
            part: Which of them.
            second: For the second pass what the first found, ``(N, 1, h, w)``.
        """
        target, attention = split.target[part].float(), split.attention[part]
        size = attention.shape[-2:]
        if kind == "none":
            return torch.cat([target, torch.zeros_like(attention)], dim=1)
        if kind == "random":
            noise = torch.rand(len(target), 1, -(-size[0] // self.cell), -(-size[1] // self.cell))
            attention = F.interpolate(noise, scale_factor=self.cell, mode="nearest")[..., : size[0], : size[1]]
        if kind == "second pass" and second is not None:
            attention = second[part]
        obfuscated, mask = self.masking(target, attention)
        if kind == "oracle":
            truth = F.adaptive_max_pool2d(split.truth[part, None].float(), size)
            defective = truth.amax(dim=(1, 2, 3), keepdim=True)
            obfuscated, mask = (
                torch.where(defective > 0, known, marked)
                for known, marked in ((target * (1 - truth), obfuscated), (truth, mask))
            )
        return torch.cat([obfuscated, mask], dim=1)


@torch.no_grad()
def encode(model: Ear, datamodule: AnomalibDataModule) -> dict[str, Split]:
    """Load the frozen networks' weights, standardise by the training images, and encode every split."""
    space = model.model.space
    space.load_pretrained()
    network = cast("nn.Module", model.model.attention)
    network.load_state_dict(load_attention().state_dict())
    proxies = [SyntheticDefectDataset(datamodule.val_data, seed=seed) for seed in range(DRAWS)]
    sources = {"train": [datamodule.train_data], "test": [datamodule.test_data], "proxy": proxies}
    items = {
        name: [
            (model.pre_processor.transform(item.image), item.gt_mask, item.gt_label)
            for dataset in datasets
            for item in map(dataset.__getitem__, range(len(dataset)))
        ]
        for name, datasets in sources.items()
    }
    space.train()
    for start in range(0, len(items["train"]), 8):
        space(torch.stack([image for image, _, _ in items["train"][start : start + 8]]))
    space.eval()
    splits = {}
    for name, images in items.items():
        targets, attentions, truths = [], [], []
        labels = [bool(label) for _, _, label in images]
        for image, mask, label in images:
            if isinstance(space, FeatureSpace):
                target, attention = space.attend(image[None])
            else:
                target, attention = space(image[None]), network(image[None])
            targets.append(target.half())
            attentions.append(F.avg_pool2d(attention, space.stride))
            size = image.shape[-2:]
            truth = torch.zeros(1, *size) if mask is None or not label else mask.float().reshape(1, *mask.shape[-2:])
            truths.append(F.adaptive_max_pool2d(truth, size) > 0)
        splits[name] = Split(torch.cat(targets), torch.cat(attentions), torch.cat(truths), torch.tensor(labels))
    return splits


def train(
    model: Ear, split: Split, excise: Excision, kind: str, seed: int, epochs: int, batch: int, *, gates: bool
) -> SkipGatedUNet:
    """Train a U-Net to recover.

    Args:
        model: Gives space, loss and learning rate.
        split: Defect-free images.
        excise: Masks.
        kind: Which.
        seed: Of weights, order and random masks.
        epochs: Number of epochs.
        batch: Images per step.
        gates: Whether each step decodes a second time with some skips off, as Ear does.
    """
    torch.manual_seed(seed)
    space = model.model.space
    unet = SkipGatedUNet(space.dimensions + 1, space.dimensions, space.unet_channels, patch_size=space.patch_size)
    unet = unet.to(memory_format=torch.channels_last).train()
    optimizer, schedule = one_cycle(unet, model.hparams["learning_rate"], epochs * (len(split.target) // batch))
    for _ in range(epochs):
        for chosen in torch.randperm(len(split.target)).split(batch):
            if len(chosen) < batch:
                continue
            part = Split(split.target[chosen], split.attention[chosen], split.truth[chosen], split.labels[chosen])
            levels = unet.encode(excise(kind, part, slice(None)))
            target = part.target.float()
            loss = space.loss(unet.decode(levels, (True,) * len(unet.gates)), target)
            if gates:
                closed = torch.rand(len(unet.gates)) < 0.5
                closed[0] = True
                loss = loss + space.loss(unet.decode(levels, (~closed).tolist()), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return unet.eval()


@torch.no_grad()
def residuals(
    space: Space, unet: SkipGatedUNet, split: Split, excise: Excision, kind: str, second: Tensor | None = None
) -> Tensor:
    """Return the residuals of all images, ``(N, K, h', w')``, half precision."""
    parts = []
    for start in range(0, len(split.target), 8):
        part = slice(start, start + 8)
        recovered = unet(excise(kind, split, part, second))
        parts.append(space.residual(split.target[part].float(), recovered).half())
    return torch.cat(parts)


@torch.no_grad()
def maps(generator: AnomalyMapGenerator, residual: Tensor, size: tuple[int, int]) -> Tensor:
    """Return anomaly maps, ``(N, 1, *size)``."""
    return torch.cat([generator(part.float(), size) for part in residual.split(8)])


def evaluate(
    space: Space, unet: SkipGatedUNet | None, splits: dict[str, Split], excise: Excision, kind: str
) -> dict[str, dict[str, float]]:
    """Calibrate by the training images and measure the others; ``None`` recovers the mean at each place."""
    size = splits["test"].truth.shape[-2:]
    if unet is None:
        place = splits["train"].target.float().mean(dim=0, keepdim=True)
        found = {name: (split.target.float() - place).half() for name, split in splits.items()}
    elif kind == "second pass":
        first = AnomalyMapGenerator(space.residual_dimensions)
        seen = {name: residuals(space, unet, split, excise, "attention") for name, split in splits.items()}
        first.calibrate(seen["train"])
        shape = splits["train"].attention.shape[-2:]
        found = {
            name: residuals(space, unet, split, excise, kind, maps(first, seen[name], shape))
            for name, split in splits.items()
        }
    else:
        found = {name: residuals(space, unet, split, excise, kind) for name, split in splits.items()}
    generator = AnomalyMapGenerator(space.residual_dimensions)
    generator.calibrate(found["train"])
    return {
        label: measure(image_score(found_maps), splits[name].labels, found_maps, splits[name].truth)
        for name, label in (("test", "metrics"), ("proxy", "proxy"))
        for found_maps in [maps(generator, found[name], size)]
    }


def combinations(gates: int) -> dict[tuple[str, bool], list[tuple[str, tuple[bool, ...]]]]:
    """List what is tried: masks and gates at inference for each mask and kind of training.

    Args:
        gates: Number of skips. Up to two of them are tried in every combination, more only nested, shallowest first.
    """
    every = [tuple(index >= closed for index in range(gates)) for closed in range(gates + 1)]
    if gates == 2:
        every = list(product((True, False), repeat=2))
    default = (False, *[True] * (gates - 1))
    plans: dict[tuple[str, bool], list[tuple[str, tuple[bool, ...]]]] = {}
    for mask, in_training in product(("attention", "none"), (True, False)):
        plans[mask, in_training] = [(mask, setting) for setting in every]
    plans["attention", True] += [(mask, default) for mask in ("none", "random", "oracle", "second pass")]
    plans["random", True] = [("random", default), ("attention", default)]
    return plans


def study(
    label: str, dataset: Dataset, arguments: dict[str, Any], root: Path | None, seed: int, epochs: int
) -> list[dict[str, Any]]:
    """Return the rows of one data set and seed.

    Raises:
        ValueError: If images of this size would have to be padded.
    """
    description = {
        "model": {"model": "Ear", "arguments": arguments, "trainer": {}},
        "dataset": vars(dataset),
        "root": str(root) if root else None,
        "seed": seed,
    }
    model, datamodule = job.build(description)
    ear = model.model
    if any(length % ear.stride for length in dataset.image_size):
        msg = f"{label}: image_size must be multiples of {ear.stride} in this space, got {list(dataset.image_size)}."
        raise ValueError(msg)
    splits = encode(model, datamodule)
    excise = Excision(cast("Masking", ear.masking), ear.space)
    batch = datamodule.train_batch_size
    rows = [{"mask": "no recovery", **evaluate(ear.space, None, splits, excise, "none")}]
    for (trained_mask, in_training), plan in combinations(len(ear.unet.gates)).items():
        start = time.perf_counter()
        unet = train(model, splits["train"], excise, trained_mask, seed, epochs, batch, gates=in_training)
        seconds = time.perf_counter() - start
        for mask, gates in plan:
            unet.gates = gates
            row = {"trained_mask": trained_mask, "gates_in_training": in_training, "mask": mask, "gates": list(gates)}
            rows.append(row | {"seconds": seconds} | evaluate(ear.space, unet, splits, excise, mask))
    constants = {"dataset": label, "arguments": arguments, "image_size": list(dataset.image_size), "epochs": epochs}
    return [constants | {"seed": seed} | row for row in rows]


def run(
    datasets: dict[str, Dataset],
    arguments: dict[str, Any],
    output: Path,
    seeds: list[int],
    epochs: int,
    roots: dict[str, Path] | None = None,
) -> None:
    """Make the rows that are missing and write the tables.

    Args:
        datasets: Data sets, as ``run.py`` takes them.
        arguments: Ear's arguments; masks and gates are varied.
        output: File of the rows; the tables go beside it, with ``.md``.
        seeds: Seeds of the trainings.
        epochs: Epochs of each.
        roots: Folder per data set, where it is not the configuration's.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    for seed, (label, dataset) in product(seeds, datasets.items()):
        if (label, seed) not in {(row["dataset"], row["seed"]) for row in results.read_list(output)}:
            rows = study(label, dataset, arguments, (roots or {}).get(label), seed, epochs)
            results.write_list(output, [*results.read_list(output), *rows])
    output.with_suffix(".md").write_text(text(results.read_list(output)), encoding="utf-8")


def text(rows: list[dict[str, Any]]) -> str:
    """Return the tables."""
    parts = ["<!-- Written by benchmarks/ablation.py; edit nothing here. -->\n", "# Ablation\n", INTRODUCTION]
    for label in dict.fromkeys(row["dataset"] for row in rows):
        chosen = [row for row in rows if row["dataset"] == label]
        groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for row in chosen:
            groups.setdefault(settings(row), []).append(row)
        first = chosen[0]
        seeds = len({row["seed"] for row in chosen})
        size = " × ".join(map(str, first["image_size"]))
        runs = "1 seed" if seeds == 1 else f"{seeds} seeds"
        settings_given = ", ".join(f"{name} {value}" for name, value in first["arguments"].items())
        parts.append(f"## {label}: {settings_given}, {size} pixels, {first['epochs']} epochs, {runs}\n")
        columns = [(source, metric) for source in ("metrics", "proxy") for metric in METRICS]
        header = ["trained with", "gates in training", "mask", "gates", *METRICS.values()]
        table = [[*header, *(f"proxy: {name}" for name in METRICS.values())]]
        averages = []
        for setting, group in groups.items():
            values = [[row[source][metric] for row in group] for source, metric in columns]
            averages.append([mean(value) for value in values])
            table.append([*setting, *(results.mean_and_spread(value, 3) for value in values)])
        parts.append(results.markdown(table) + "\n")
        ranks = [
            spearmanr([average[index + len(METRICS)] for average in averages], [average[index] for average in averages])
            for index in range(len(METRICS))
        ]
        listed = ", ".join(f"{name} {rank.statistic:.2f}" for name, rank in zip(METRICS.values(), ranks, strict=True))
        parts.append(f"Spearman's rank correlation of proxy and test over these {len(groups)} settings: {listed}.\n")
    return "\n".join(parts)


def settings(row: dict[str, Any]) -> tuple[str, str, str, str]:
    """Return what a row shows, in words."""
    if row["mask"] == "no recovery":
        return "–", "–", "no recovery", "–"
    gates = "".join("|" if gate else "·" for gate in row["gates"])
    return row["trained_mask"], "yes" if row["gates_in_training"] else "no", row["mask"], gates


if __name__ == "__main__":
    jsonargparse.auto_cli(run, as_positional=False)
