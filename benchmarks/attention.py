# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What the attentions see: how well they rank defective pixels, how much of a defect each mask rule excises, and time.

    python benchmarks/attention.py --kolektor FOLDER --magnetic_tile FOLDER --weights LABEL=FILE ...

Nothing is trained on these data sets. Each further file of weights is a row; its metadata holds the command that made
it. DINO's rows need its weights in a Hugging Face cache: without them there is only its time, with random weights.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from job import environment
from kornia.filters import gaussian_blur2d
from matplotlib import pyplot as plt
from PIL import Image
from skimage.filters import threshold_otsu
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own idiom
from torchvision.transforms.v2.functional import pil_to_tensor, resize

from anomalib_ear.attention import (
    BUNDLED_WEIGHTS,
    SpatialAttention,
    build_attention,
    load_attention,
    read_weights,
    to_grey,
)
from anomalib_ear.data.surface_demo import CATEGORIES, draw
from anomalib_ear.data.surfaces import DEFECTS
from anomalib_ear.masking import attention_mask

TILE_CLASSES = ("blowhole", "break", "crack", "fray", "uneven")
KOLEKTOR_SIZES = ((640, 256), (320, 128))
TILE_SIZE = (256, 256)
TIMED_SIZE = (640, 256)
# The demo images that settings may be chosen by: other ones than `make demo` draws.
DEMO_SEED, DEMO_IMAGES = 5, 10
SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
SIGMAS = (0.0, 0.674, 1.2, 2.0, 3.0)

Group = list[tuple[Tensor, Tensor]]  # of images (1, C, H, W) in [0, 1] and their defects (H, W) bool


class Quality(NamedTuple):
    """How an attention ranks the pixels of defective images.

    Attributes:
        pooled: AUROC over the pixels of all images.
        per_image: AUROC within an image, mean over images.
    """

    pooled: float
    per_image: float


def read(image: Path, mask: Path, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Read an image and its defect; no defect is lost by resizing."""
    pixels = pil_to_tensor(Image.open(image).convert("RGB")).float() / 255
    defect = pil_to_tensor(Image.open(mask).convert("L")) > 0
    small = F.adaptive_max_pool2d(defect.float(), size)[0] > 0
    return resize(pixels, list(size), antialias=True)[None].clamp(0, 1), small


def kolektor(root: Path, size: tuple[int, int]) -> Group:
    """Read the defective images of KolektorSDD."""
    pairs = [(label.with_name(label.name.replace("_label.bmp", ".jpg")), label) for label in root.glob("*/*_label.bmp")]
    return [pair for pair in (read(*paths, size) for paths in sorted(pairs)) if pair[1].any()]


def tiles(root: Path, name: str) -> Group:
    """Read the images of a class of magnetic tiles, but those whose mask is empty."""
    pairs = [(image, root / "masks" / name / f"{image.stem}.png") for image in sorted((root / name).iterdir())]
    return [pair for pair in (read(*paths, TILE_SIZE) for paths in pairs) if pair[1].any()]


def demo() -> Group:
    """Draw defects of every kind on the demo data's surfaces."""
    drawn = []
    for category in CATEGORIES:
        for defect in DEFECTS:
            for index in range(DEMO_IMAGES):
                image, mask = draw(category, "test", defect, index, seed=DEMO_SEED)
                pixels = torch.from_numpy(np.atleast_3d(image)).permute(2, 0, 1)[None].float() / 255
                drawn.append((pixels, torch.from_numpy(mask) > 0))
    return drawn


class DifferencesOfGaussians(nn.Module):
    """What can be had without learning: differences of blurred images at four scales, each relative to its mean."""

    def forward(self, image: Tensor) -> Tensor:
        """Return ``(B, 1, H, W)`` for ``(B, C, H, W)``."""
        grey, total = to_grey(image), torch.zeros(())
        for sigma in (1.0, 2.0, 4.0, 8.0):
            difference = (blur(grey, sigma) - blur(grey, 3 * sigma)).abs()
            total = total + blur(difference, 2 * sigma) / difference.mean()
        return total


def blur(image: Tensor, sigma: float) -> Tensor:
    """Blur by a Gaussian cut off at two deviations, one axis after the other."""
    return gaussian_blur2d(image, int(4 * sigma) | 1, (sigma, sigma))


@torch.inference_mode()
def attend(attention: nn.Module, group: Group) -> list[tuple[Tensor, Tensor]]:
    """Return attention ``(H, W)`` and defect of each image."""
    return [(attention(image)[0, 0], defect) for image, defect in group]


def quality(attended: list[tuple[Tensor, Tensor]]) -> Quality:
    """Rank every second row and column."""
    maps = [(attention[::2, ::2].flatten(), defect[::2, ::2].flatten()) for attention, defect in attended]
    maps = [(attention, defect) for attention, defect in maps if defect.any()]
    pooled = roc_auc_score(torch.cat([defect for _, defect in maps]), torch.cat([attention for attention, _ in maps]))
    return Quality(pooled, statistics.mean(roc_auc_score(defect, attention) for attention, defect in maps))


def excise(attended: list[tuple[Tensor, Tensor]], rule: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    """Return the shares of the image and of the defect that a mask rule excises, means over images."""
    image, defective = [], []
    for attention, defect in attended:
        mask = rule(attention)
        image.append(mask.float().mean().item())
        defective.append(mask[defect].float().mean().item())
    return statistics.mean(image), statistics.mean(defective)


def rules() -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """Yield the mask rules: a share of the pixels, mean plus deviations (CLAP: 0.674), Otsu's threshold."""
    for share in SHARES:
        yield f"highest {share:.0%}", lambda a, share=share: attention_mask(a[None, None], share)[0, 0] > 0
    for k in SIGMAS:
        yield f"mean + {k:g} σ", lambda a, k=k: a > a.mean() + k * a.std()
    yield "Otsu", lambda a: a > threshold_otsu(a.numpy())


@torch.inference_mode()
def seconds_per_image(attention: nn.Module) -> float:
    """Return the least time of several for one image of ``TIMED_SIZE``, in torch, one thread."""
    image = torch.rand(1, 3, *TIMED_SIZE)
    attention(image)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        attention(image)
        times.append(time.perf_counter() - start)
    return min(times)


def attentions(weights: dict[str, str], others: list[str]) -> Iterator[tuple[str, nn.Module, bool]]:
    """Yield label, attention and whether it is trained: the bundled one, files, others."""
    for scales in (1, 2, 3, 4):
        fewer = SpatialAttention(scales=scales)
        fewer.load_state_dict(load_attention("mnist").state_dict())
        yield f"mnist, {scales} scale{'s' * (scales > 1)}", fewer.eval(), True
    yield "mnist", load_attention("mnist"), True
    for label, file in weights.items():
        yield label, load_attention(file), True
    yield "differences of Gaussians", DifferencesOfGaussians(), True
    for name in others:
        is_trained, attention = with_weights(name)
        yield name, attention, is_trained


def with_weights(name: str) -> tuple[bool, nn.Module]:
    """Load an attention; where its weights are missing, say so and take random ones."""
    try:
        return True, load_attention(name)
    except FileNotFoundError as error:
        print(error)
        return False, build_attention(name).eval()


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kolektor", type=Path, required=True, help="root of KolektorSDD")
    parser.add_argument("--magnetic_tile", type=Path, required=True, help="root of the magnetic tiles")
    parser.add_argument(
        "--weights", nargs="*", default=[], metavar="LABEL=FILE", help="further weights of the attention"
    )
    parser.add_argument("--others", nargs="*", default=["dino", "dino8"], help="attentions beside the bundled one")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "attention.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    groups = {"demo": demo()}
    groups |= {f"KolektorSDD {h} × {w}": kolektor(args.kolektor, (h, w)) for h, w in KOLEKTOR_SIZES}
    groups |= {name: tiles(args.magnetic_tile, name) for name in TILE_CLASSES}
    weights = dict(item.split("=", 1) for item in args.weights)
    lines, seen = [], {}
    for label, attention, is_trained in attentions(weights, args.others):
        cells = [f"{1000 * seconds_per_image(attention):.0f}"]
        if is_trained:
            seen = {name: attend(attention, group) for name, group in groups.items()}
            found = {name: quality(attended) for name, attended in seen.items()}
            mean = Quality(*(statistics.mean(found[name][kind] for name in TILE_CLASSES) for kind in (0, 1)))
            cells += [f"{value.pooled:.3f} / {value.per_image:.3f}" for value in (*found.values(), mean)]
        else:
            cells += ["–"] * (len(groups) + 1)
        lines.append(f"| {label} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
        if label == "mnist":
            default = seen
    plot(default, args.output.with_name("attention_coverage.png"))
    commands = [f"- {label}: `{read_weights(Path(file))[1]['command']}`" for label, file in weights.items()]
    args.output.write_text(report(list(groups), lines, commands, masks(default)), encoding="utf-8")


def masks(attended: dict[str, list[tuple[Tensor, Tensor]]]) -> list[str]:
    """Return a table's lines: what each rule excises of images and defects."""
    lines = []
    for label, rule in rules():
        shares = [excise(some, rule) for some in attended.values()]
        lines.append(f"| {label} | {' | '.join(f'{image:.0%} / {defect:.0%}' for image, defect in shares)} |")
    return lines


def plot(attended: dict[str, list[tuple[Tensor, Tensor]]], path: Path) -> None:
    """Draw the share of the defects' pixels that is excised against the share of the image that is."""
    figure, axes = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    shares = np.linspace(0, 1, 51)[1:-1]
    for name, some in attended.items():
        covered = [
            statistics.mean((a[defect] > a.quantile(1 - share)).float().mean().item() for a, defect in some)
            for share in shares
        ]
        axes.plot([0, *shares, 1], [0, *covered, 1], label=name)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--", label="chance")
    axes.set(xlabel="share of the image excised", ylabel="share of the defect excised", xlim=(0, 1), ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def report(names: list[str], rows: list[str], commands: list[str], rule_rows: list[str]) -> str:
    """Return the Markdown page."""
    header = " | ".join([*names, "mean of tile classes"])
    height, width = TIMED_SIZE
    machine = f"torch {torch.__version__}, float32, {environment()['machine']}"
    (tile_height, tile_width), newline = TILE_SIZE, "\n"
    named = f"{float(read_weights(BUNDLED_WEIGHTS)[1]['test_accuracy']):.1%}"
    return f"""# Attention

AUROC of the attention against the pixels of defects, pooled over the defective images / mean of each image's own.
Nothing was trained on any of these images. Settings were chosen by the demo data's, which are generated (seed
{DEMO_SEED}, {DEMO_IMAGES} images per kind of defect and surface), with the other columns in view. Magnetic tiles are
resized to {tile_height} × {tile_width}. "mnist" comes with the package and names {named} of MNIST's test digits.

| attention | ms | {header} |
|{"---|" * (len(names) + 3)}
{newline.join(rows)}

ms: one image of {height} × {width}, the least of five runs, in {machine}.
A dash: its weights were not on this machine, and its time is that with random ones.

{newline.join(commands)}

## Mask rules

Share of the image / of the defect's pixels that the bundled attention excises, before dilation, means over the
defective images.

| rule | {" | ".join(names)} |
|{"---|" * (len(names) + 1)}
{newline.join(rule_rows)}

![Share of the defect excised against share of the image excised](attention_coverage.png)
"""


if __name__ == "__main__":
    main()
