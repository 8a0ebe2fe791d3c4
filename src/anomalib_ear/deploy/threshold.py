# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What the trained threshold promises, and scores before and after the normalisation by it."""

import math

import numpy as np

# Share of good parts that lie above the trained threshold, by design.
FALSE_ALARMS = 0.05


def raw_score(normalised: float, threshold: float) -> float | None:
    """Undo the normalisation, which divides a score's odds by the threshold's.

    Args:
        normalised: Score in [0, 1).
        threshold: Score before normalisation that became 0.5; NaN if it is not known.

    Returns:
        Score before normalisation, ``None`` without a threshold.
    """
    if math.isnan(threshold):
        return None
    above, below = normalised * threshold, (1 - normalised) * (1 - threshold)
    return above / (above + below)


def check_threshold(threshold: float) -> None:
    """Refuse a threshold that no score can be compared with.

    Raises:
        ValueError: If it is no number in [0, 1].
    """
    is_number = isinstance(threshold, float | int | np.floating | np.integer) and not isinstance(threshold, bool)
    if not (is_number and 0 <= threshold <= 1):
        msg = f"threshold must lie in [0, 1], got {threshold!r}; the number 0.5 is the trained one."
        raise ValueError(msg)
