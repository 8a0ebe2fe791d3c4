# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Checks of Ear's arguments that the network does not make when it is built."""

import math
from collections.abc import Mapping, Sequence
from inspect import Parameter
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from torchvision.transforms.v2 import Transform

from anomalib_ear.method.masking import WITHOUT_ATTENTION
from anomalib_ear.method.spaces import PIXELS


def check_arguments(arguments: dict[str, Any]) -> None:
    """Check what the network does not check when it is built.

    Args:
        arguments: All of the constructor's, by name.

    Raises:
        TypeError: If an argument is of another kind; names it.
        ValueError: If a number is outside its range; names the argument.
    """
    _check_kinds(arguments)
    size, rate, seed, epochs = (arguments[name] for name in ("image_size", "learning_rate", "seed", "max_epochs"))
    if size is not None and not (
        isinstance(size, Sequence)
        and len(size) == 2  # height and width
        and all(isinstance(side, int) and side >= 1 for side in size)
    ):
        msg = f"image_size must be two positive whole numbers of pixels, height and width, got {size}."
        raise ValueError(msg)
    if not 0 < rate < math.inf:
        msg = f"learning_rate must be above 0, got {rate}."
        raise ValueError(msg)
    if seed is not None and not 0 <= seed < 2**32:
        msg = f"seed must be from 0 to {2**32 - 1}, or null for a new one each time, got {seed}."
        raise ValueError(msg)
    if epochs is not None and epochs < 1:
        msg = f"max_epochs must be 1 or more, got {epochs}."
        raise ValueError(msg)
    if not isinstance(variation := arguments["variation"], bool | Mapping):
        msg = f"variation must be true, false, or strengths by name such as {{'blur': 1}}, got {variation!r}."
        raise TypeError(msg)


def _check_kinds(arguments: dict[str, Any]) -> None:
    """Refuse what is no list, text, number or processor where one is asked for, and fractions for a whole number."""
    for name, processor in (("pre_processor", PreProcessor), ("post_processor", PostProcessor)):
        if not isinstance(value := arguments[name], bool | processor):
            hint = ": wrap it, PreProcessor(...)" if isinstance(value, Transform) else ""
            msg = f"{name} must be true, false or an anomalib {processor.__name__}, got {type(value).__name__}{hint}."
            raise TypeError(msg)
    for name, word in (("channels", "whole numbers"), ("skip_gates", "true and false")):
        if isinstance(value := arguments[name], str) or not isinstance(value, Sequence | None):
            msg = f"{name} must be a list of {word}, or null for the default, got {value!r}."
            raise TypeError(msg)
    for name in ("space", "masking"):
        if not isinstance(arguments[name], str | Path):
            msg = f"{name} must be text, got {arguments[name]!r}."
            raise TypeError(msg)
    whole = {name: arguments[name] for name in ("seed", "max_epochs", "mosaic_size")}
    whole |= {f"channels[{index}]": each for index, each in enumerate(arguments["channels"] or ())}
    real = {name: arguments[name] for name in ("learning_rate", "excised_share", "backbone_scale")}
    for kind, word, values in ((Integral, "whole number", whole), (Real, "number", real)):
        for name, value in values.items():
            if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
                msg = f"{name} must be a {word}, got {value!r}."
                raise TypeError(msg)


def refuse_unused(arguments: dict[str, Any], parameters: Mapping[str, Parameter]) -> None:
    """Refuse arguments that the others leave without effect.

    Args:
        arguments: All of the constructor's, by name.
        parameters: The constructor's, which have the defaults.

    Raises:
        ValueError: If one differs from its default and would be ignored.
    """
    unused = {}
    if arguments["masking"] in WITHOUT_ATTENTION:
        unused = dict.fromkeys(("excised_share", "mosaic_size"), f"masking={arguments['masking']!r}")
    if arguments["space"] == PIXELS:
        unused["backbone_scale"] = f"space={arguments['space']!r}"
    for name, cause in unused.items():
        if arguments[name] != parameters[name].default:
            msg = f"{name}={arguments[name]!r} has no effect with {cause}: leave it out, or change the latter."
            raise ValueError(msg)
