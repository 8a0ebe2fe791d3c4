# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Pre-trained networks of timm's, from the Hugging Face cache or hub."""

from pathlib import Path
from typing import Any

import timm
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError
from torch import nn

_WEIGHTS = "model.safetensors"


def load_pretrained(name: str, *, fallback: str, **arguments: Any) -> nn.Module:  # noqa: ANN401  # timm's
    """Build a network with weights from safetensors only: timm's other sources may be pickles.

    Args:
        name: Name of the network in timm.
        fallback: Sentence of the error that says what needs no download.
        **arguments: For ``timm.create_model``.

    Raises:
        FileNotFoundError: If the weights are not in the cache and the hub cannot be reached.
        ValueError: If the file of weights does not fit the network.
    """
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
