# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What a checkpoint was trained with, against what a model is built with that loads it."""

import json
from collections.abc import Collection, Mapping
from inspect import Parameter
from pathlib import Path
from typing import Any

import torch
from anomalib.pre_processing.utils.spec import spec_to_transform, transform_to_spec
from torch import Tensor, nn
from torchvision.transforms.v2 import Transform

from anomalib_ear.deploy.pre_processing import steps
from anomalib_ear.method.masking import WITHOUT_ATTENTION

# What a trained model may be asked to change; all else was settled by training and comes from the checkpoint.
CHANGEABLE = frozenset({"skip_gates", "learning_rate", "seed", "max_epochs"})
PROCESSORS = ("pre_processor", "post_processor")
# Arguments that weights depend on, and that no name or shape of theirs tells.
_UNSEEN = ("space", "backbone_scale", "masking", "excised_share", "mosaic_size")
# Keys in a checkpoint, of a post-processor's class, and of all arguments: ``load_from_checkpoint`` writes those that it
# is given over the hyperparameters.
_KIND, _ARGUMENTS = "anomalib_ear_post_processor", "anomalib_ear_arguments"


def given_arguments(arguments: Mapping[str, Any], parameters: Mapping[str, Parameter]) -> set[str]:
    """Return the names of arguments that differ from their defaults.

    Args:
        arguments: All of the constructor's, by name.
        parameters: The constructor's, which have the defaults.
    """
    return {name for name, each in parameters.items() if plain(arguments[name]) != plain(each.default)}


def plain(value: object) -> object:
    """Make equal what is spelled otherwise: tuples and lists, paths and text."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple | list) else value


def note(post_processor: nn.Module | None, checkpoint: dict[str, Any]) -> None:
    """Note in a checkpoint the arguments, and of which class the post-processor is."""
    checkpoint[_ARGUMENTS] = {name: plain(value) for name, value in checkpoint["hyper_parameters"].items()}
    if post_processor is not None:
        checkpoint[_KIND] = _kind(post_processor)


def trained_arguments(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters of the model that a checkpoint was made from."""
    noted: dict[str, Any] = checkpoint.get(_ARGUMENTS, checkpoint["hyper_parameters"])
    return noted


def refuse_other(
    given: Collection[str], arguments: Mapping[str, Any], processors: Mapping[str, Any], checkpoint: Mapping[str, Any]
) -> None:
    """Refuse a checkpoint that was trained with other arguments than a model was given.

    Args:
        given: Names of the arguments that were given to the model.
        arguments: The model's hyperparameters, by name.
        processors: The model's pre-processor and post-processor, by name; ``None`` for one that is off.
        checkpoint: The checkpoint.

    Raises:
        ValueError: If one differs; names it, and both values.
    """
    # An image size is that of the pre-processor, in whatever way it was asked for.
    asked = {("pre_processor" if name == "image_size" else name): name for name in given}
    own = {**arguments, **_describe(processors)}
    trained = {**trained_arguments(checkpoint), **_trained(checkpoint)}
    for name, argument in asked.items():
        known = name not in CHANGEABLE and name in own and name in trained
        if known and plain(own[name]) != plain(trained[name]):
            msg = (
                f"the checkpoint was trained with {name}={trained[name]}, but {own[name]} was given. Leave {argument} "
                "out, or train again."
            )
            raise ValueError(msg)


def refuse_other_processors(processors: Mapping[str, Any], checkpoint: Mapping[str, Any]) -> None:
    """Refuse processors that a checkpoint does not turn into its own: they are callbacks of the trainer already.

    Args:
        processors: As of ``refuse_other``.
        checkpoint: The checkpoint.

    Raises:
        ValueError: If one was off in training, or of another class; says what to give.
    """
    kind = checkpoint.get(_KIND)
    if kind is not None and processors["post_processor"] is not None and _kind(processors["post_processor"]) != kind:
        msg = f"the checkpoint was trained with another post_processor: give --model.post_processor {kind}."
        raise ValueError(msg)
    for name in PROCESSORS:
        if processors[name] is not None and _is_off(name, checkpoint):
            msg = f"the checkpoint was trained without a {name}: give --model.{name} false."
            raise ValueError(msg)


def describe_weights(arguments: Mapping[str, Any]) -> Tensor:
    """Return the arguments that weights depend on and do not show.

    Args:
        arguments: The model's hyperparameters, by name.

    Returns:
        JSON, as a tensor of bytes: other tools expect nothing but tensors in a state.
    """
    return torch.tensor(list(json.dumps(_unseen(arguments)).encode()), dtype=torch.uint8)


def refuse_other_weights(arguments: Mapping[str, Any], described: Tensor) -> None:
    """Refuse weights that were trained with other arguments than a model was built with.

    Args:
        arguments: The model's hyperparameters, by name.
        described: What ``describe_weights`` returned of those that the weights were trained with.

    Raises:
        ValueError: If one differs; names it, and both values.
    """
    trained = json.loads(bytes(described.tolist()))
    for name, own in _unseen(arguments).items():
        if trained[name] != own:
            msg = f"these weights were trained with {name}={trained[name]}, but this model has {own}: build it so."
            raise ValueError(msg)


def _unseen(arguments: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: plain(arguments[name]) for name in _UNSEEN}
    if found["masking"] not in WITHOUT_ATTENTION:
        found["masking"] = "attention"  # whose weights show which
    return found


def _trained(checkpoint: Mapping[str, Any]) -> dict[str, str | None]:
    """Describe the processors of a checkpoint; those that it does not note are missing."""
    found: dict[str, str | None] = {name: None for name in PROCESSORS if _is_off(name, checkpoint)}
    resize, threshold = (checkpoint.get(f"anomalib_{name}_config") for name in PROCESSORS)
    if resize is not None:
        found["pre_processor"] = _text(spec_to_transform(resize.get("transform")))
    if threshold is not None:
        found["post_processor"] = str(threshold)
    return found


def _describe(processors: Mapping[str, Any]) -> dict[str, str | None]:
    """Describe a model's processors as ``_trained`` does."""
    found: dict[str, str | None] = {name: None for name, each in processors.items() if each is None}
    if hasattr(processors["pre_processor"], "transform"):
        # Through a checkpoint's spelling, which writes an interpolation otherwise.
        found["pre_processor"] = _text(spec_to_transform(transform_to_spec(processors["pre_processor"].transform)))
    if hasattr(processors["post_processor"], "checkpoint_config"):
        found["post_processor"] = str(processors["post_processor"].checkpoint_config())
    return found


def _text(transform: Transform | None) -> str:
    return ", ".join(map(str, steps(transform)))


def _is_off(name: str, checkpoint: Mapping[str, Any]) -> bool:
    return not (checkpoint.get("anomalib_components_enabled") or {}).get(name, True)


def _kind(processor: object) -> str:
    return f"{type(processor).__module__}.{type(processor).__qualname__}"
