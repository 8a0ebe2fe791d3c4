# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0
"""Command line: ``python -m anomalib_ear.pretraining``."""

from pathlib import Path

import torch
from jsonargparse import ActionYesNo, ArgumentParser
from jsonargparse.typing import NonNegativeInt, PositiveInt

from anomalib_ear import __version__
from anomalib_ear.attention import write_weights
from anomalib_ear.pretraining.training import accuracy, load_mnist, mnist_checksum, train


def pretrain(
    root: Path = Path("datasets"),
    output: Path = Path("mnist_attention.safetensors"),
    *,
    download: bool = False,
    epochs: PositiveInt = 2,
    seed: NonNegativeInt = 0,
    device: str = "cpu",
    batch_size: PositiveInt = 64,
) -> float:
    """Train the spatial attention on MNIST and write its weights.

    Args:
        root: Folder that holds, or will hold, MNIST in torchvision's layout (root/MNIST/raw).
        output: File to write, in safetensors format.
        download: Fetch and unpack MNIST under root where it is missing.
        epochs: Times that each training digit is shown.
        seed: Fixes weights, order and canvases; same seed, versions, threads and device give the same file.
        device: Torch device to train on.
        batch_size: Digits per step.

    Returns:
        Share of the test digits that are named rightly.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    digits, labels = load_mnist(root, train=True, download=download)
    test_digits, test_labels = load_mnist(root, train=False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = train(digits, labels, epochs=epochs, batch_size=batch_size, device=torch.device(device))
    share = accuracy(model, test_digits, test_labels)
    metadata = {
        "test_accuracy": f"{share:.4f}",
        "seed": str(seed),
        "epochs": str(epochs),
        "command": f"python -m anomalib_ear.pretraining --epochs {epochs} --seed {seed} --device {device}"
        f" --batch_size {batch_size}",
        "mnist_sha256": mnist_checksum(root),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "anomalib_ear": __version__,
    }
    write_weights(model.state_dict(), output, metadata)
    return share


def main(args: list[str] | None = None) -> None:
    """Parse the command line, train, and print the test accuracy."""
    parser = ArgumentParser(prog="python -m anomalib_ear.pretraining", description="Pre-train the attention on MNIST.")
    parser.add_function_arguments(pretrain, skip={"download"})
    parser.add_argument("--download", action=ActionYesNo, default=False, help="Fetch MNIST under root where missing.")
    options = parser.parse_args(args)
    try:
        share = pretrain(**vars(options))
    except FileNotFoundError as error:
        parser.error(str(error))
    print(f"test accuracy {share:.4f}; weights in {options.output}")


if __name__ == "__main__":
    main()
