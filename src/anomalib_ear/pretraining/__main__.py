# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0
"""Command line: ``python -m anomalib_ear.pretraining``."""

import math
import shlex
from collections.abc import Iterable
from pathlib import Path

import torch
from jsonargparse import ActionYesNo, ArgumentParser
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from anomalib_ear import __version__
from anomalib_ear.method.attention import write_weights
from anomalib_ear.pretraining.canvas import MIN_CANVAS, Background, CanvasSettings
from anomalib_ear.pretraining.training import accuracy, load_mnist, mnist_checksum, train

_DEFAULTS = CanvasSettings()


def pretrain(
    root: Path = Path("datasets"),
    output: Path = Path("mnist_attention.safetensors"),
    *,
    download: bool = False,
    canvas: PositiveInt = _DEFAULTS.size,
    digits: PositiveInt = _DEFAULTS.digits,
    scale: tuple[PositiveFloat, PositiveFloat] = _DEFAULTS.scale,
    contrast: tuple[PositiveFloat, PositiveFloat] = _DEFAULTS.contrast,
    noise: NonNegativeFloat = _DEFAULTS.noise,
    background: Background = _DEFAULTS.background,
    steps: PositiveInt = 7500,
    seed: NonNegativeInt = 0,
    device: str = "cpu",
    batch_size: PositiveInt = 16,
) -> float:
    """Train the spatial attention on MNIST and write its weights.

    Args:
        root: Folder that holds, or will hold, MNIST in torchvision's layout (root/MNIST/raw).
        output: File to write, in safetensors format: NAME.safetensors.
        download: Fetch and unpack MNIST under root where it is missing.
        canvas: Height and width of a canvas in pixels, a multiple of 16, at least 96.
        digits: Times that a digit is on its canvas, at most.
        scale: Smallest and largest magnification of a digit of 28 pixels; strokes are about 3 pixels wide.
        contrast: Smallest and largest difference in brightness between digit and surface, of a range of 1.
        noise: Largest standard deviation of the surface's texture, of a range of 1.
        background: Noise of varied grain and direction, or the surfaces of the demo data.
        steps: Steps of the optimizer; half as many more train the classifier alone.
        seed: Fixes weights, order and canvases; same seed, versions, threads and device give the same file.
        device: Torch device to train on.
        batch_size: Canvases per step, at least 2.

    Returns:
        Share of the test digits that are named rightly.

    Raises:
        ValueError: If the canvas is smaller than 96 pixels, or not a multiple of 16; if a number is outside its range,
            or the larger end of a range is first; if torch has no such device here; or if the output has another
            suffix, or is a folder.
        FileNotFoundError: If MNIST is not under root.
        OSError: If the output cannot be written, which is tried before the training.
    """
    if canvas < MIN_CANVAS or canvas % 16:  # the coarsest of five scales halves it four times
        msg = f"canvas must be a multiple of 16, at least {MIN_CANVAS} pixels, got {canvas}."
        raise ValueError(msg)
    for name, (smallest, largest) in {"scale": scale, "contrast": contrast}.items():
        if smallest > largest:
            msg = f"{name} must have the smaller number first, got [{smallest}, {largest}]."
            raise ValueError(msg)
    # Smaller, a digit's strokes are no pixel wide; larger, it does not fit on its canvas.
    _check_between("scale", scale, 1 / 3, canvas / 28)
    _check_between("contrast", contrast, 0, 1)
    _check_between("noise", (noise,), 0, 1)
    _check_between("batch_size", (batch_size,), 2, math.inf)  # the normalisation needs two
    _check_between("seed", (seed,), 0, 2**63 - 1)
    _check_device(device)
    settings = CanvasSettings(canvas, digits, scale, contrast, noise, background)
    partial = _prepare(output)
    train_digits, labels = load_mnist(root, train=True, download=download)
    test_digits, test_labels = load_mnist(root, train=False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = train(
            train_digits, labels, settings=settings, steps=steps, batch_size=batch_size, device=torch.device(device)
        )
    share = accuracy(model, test_digits, test_labels, canvas)
    settings_given = {
        "canvas": canvas,
        "digits": digits,
        "scale": list(settings.scale),
        "contrast": list(settings.contrast),
        "noise": noise,
        "background": background,
        "steps": steps,
        "seed": seed,
        "device": device,
        "batch_size": batch_size,
    }
    words = [word for name, value in settings_given.items() for word in (f"--{name}", str(value).replace(" ", ""))]
    metadata = {
        "test_accuracy": f"{share:.4f}",
        "seed": str(seed),
        "steps": str(steps),
        "command": shlex.join(["python", "-m", "anomalib_ear.pretraining", *words]),
        "mnist_sha256": mnist_checksum(root),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "anomalib_ear": __version__,
    }
    try:
        write_weights(model.state_dict(), partial, metadata)
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    return share


def _check_between(name: str, values: Iterable[float], lowest: float, highest: float) -> None:
    if not all(lowest <= value <= highest for value in values):
        said = f"at least {lowest:.3g}" if math.isinf(highest) else f"from {lowest:.3g} to {highest:.3g}"
        msg = f"{name} must be {said}, got {', '.join(map(str, values))}."
        raise ValueError(msg)


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # as torch without CUDA has it
        msg = f"device must be one that torch can use here, got {device!r} ({str(error).splitlines()[0]})."
        raise ValueError(msg) from error


def _prepare(output: Path) -> Path:
    """Refuse an output that could not be written, or not be used, after the training.

    Returns:
        Where it is written, to be renamed when it is whole.

    Raises:
        OSError: If there is no permission or space; names the file.
        ValueError: If it has another suffix, or is a folder.
    """
    if output.suffix != ".safetensors" or output.is_dir():
        msg = f"output must be a file NAME.safetensors, got {str(output)!r}{', a folder' if output.is_dir() else ''}."
        raise ValueError(msg)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f"{output.name}.part")
    partial.touch()
    partial.unlink()
    return partial


def main(args: list[str] | None = None) -> None:
    """Parse the command line, train, and print the test accuracy."""
    parser = ArgumentParser(prog="python -m anomalib_ear.pretraining", description="Pre-train the attention on MNIST.")
    parser.add_function_arguments(pretrain, skip={"download"})
    parser.add_argument("--download", action=ActionYesNo, default=False, help="Fetch MNIST under root where missing.")
    options = parser.parse_args(args)
    try:
        share = pretrain(**vars(options))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f"test accuracy {share:.4f}; weights in {options.output}")


if __name__ == "__main__":
    main()
