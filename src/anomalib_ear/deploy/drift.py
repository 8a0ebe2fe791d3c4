# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Tell from the last photographs that light, camera or place have changed since training.

A model that is trained with variation hardly scores differently in another light, so the photographs themselves are
looked at too, and alarms are counted. Quantities of the last photographs are compared with those of good training
images by how often one of the former exceeds one of the latter, which Mann and Whitney's rank sum counts ("On a test of
whether one of two random variables is stochastically larger than the other", 1947). It depends on no distribution and
no unit. A single photograph is doubted if it is as dark as with the lamp off, or as bright as without an aperture.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomalib_ear.deploy.threshold import FALSE_ALARMS

# What is compared beside the score; see ``measure``.
QUANTITIES = ("brightness", "red", "blue", "contrast", "sharpness", "row", "column")
SCORE, ALARMS = "score", "alarms"
# An exported model notes them by the quantity's name with this prefix.
GOOD = "good_"
# Photographs that are compared: the last ones, and how many there must be.
WINDOW, ENOUGH_PHOTOGRAPHS = 200, 100
# Values of good images that there must be.
MIN_GOOD_VALUES = 20
# By how much the share of pairs in which the later one is larger may differ from a half: wide, because good parts that
# are made later are never quite those of training.
BOUND = 0.25
# How many more of the last photographs, as a share, may lie above it. Where 8 % of good parts do, one window of a
# thousand has as many by chance.
MORE_ALARMS = 0.09
# Factor by which one photograph may be darker than the darkest good one that is known, or nearer to white than the
# brightest. Up to it scores hardly change. Beyond it fewer defects are found, then all parts are rejected, and some
# features have a black frame called good.
_FACTOR = 2


def measure(image: NDArray[np.floating[Any]]) -> dict[str, float]:
    """Measure light, focus and place of an image.

    Args:
        image: ``(1, 3, H, W)`` in [0, 1], red, green, blue. It is rounded to 8 bits, because those of training are.

    Returns:
        Brightness, the mean grey level in [0, 1]; red and blue, their shares of all light; contrast, the standard
        deviation of the grey levels as a share of their mean; sharpness, their mean absolute Laplacian likewise; row
        and column, the centre of all light as a share of height and width.
    """
    colours = np.round(image[0] * 255) / 255
    red, green, blue = (float(band.mean()) for band in colours)
    grey = colours.mean(axis=0, dtype=np.float32)
    light = max(red + green + blue, 1e-6)
    inner = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    laplacian = float(np.abs(4 * inner - around).mean()) if inner.size else 0.0
    row, column = (
        float((np.arange(len(sums)) + 0.5) @ sums) / (grey.size * light / 3 * len(sums))
        for sums in (grey.sum(axis=1), grey.sum(axis=0))
    )
    values = (light / 3, red / light, blue / light, 3 * float(grey.std()) / light, 3 * laplacian / light, row, column)
    # To five digits: equal colours of a grey photograph must stay equal.
    return {name: float(f"{value:.4e}") for name, value in zip(QUANTITIES, values, strict=True)}


def doubt_of_light(image: NDArray[np.floating[Any]], good: Sequence[float]) -> str | None:
    """Say why the score of an image may mean little: no good one that is known is nearly as dark, or as bright.

    Args:
        image: As :func:`measure` takes it.
        good: Brightness of good images of training, of those that the model notes.

    Returns:
        ``None`` if there is such a one, or if nothing is known of them.
    """
    if not good:
        return None
    brightness, darkest, brightest = float(image.mean()), min(good), max(good)
    if brightness * _FACTOR >= darkest and (1 - brightness) * _FACTOR >= 1 - brightest:
        return None
    return (
        f"the mean of its grey levels is {brightness:.3g} of white, of {len(good)} good ones in training "
        f"{darkest:.3g} to {brightest:.3g}. Look at lamp and lens; its score may mean little"
    )


class DriftWatch:
    """Compare the last photographs with those of training.

    Args:
        good: Values of good images by the quantity's name, as the model notes them. Quantities of fewer than
            ``MIN_GOOD_VALUES`` are not compared.
        threshold: Score above which a part is defective.

    Attributes:
        is_on: Whether any is compared.
        not_compared: Names of those that are not.
    """

    def __init__(self, good: Mapping[str, Sequence[float]], threshold: float = 0.5) -> None:
        self._good = {name: sorted(values) for name, values in good.items() if len(values) >= MIN_GOOD_VALUES}
        self._last = {name: deque[float](maxlen=WINDOW) for name in self._good}
        self._threshold = threshold
        self.is_on = bool(self._good)
        self.not_compared = [name for name in (SCORE, *QUANTITIES) if name not in self._good]

    def add(self, values: Mapping[str, float]) -> str | None:
        """Take the next photograph.

        Args:
            values: Its score and what :func:`measure` returns of it.

        Returns:
            The quantity that has changed most, the score only if no other has, ``ALARMS`` only if the score has not
            either; empty if none has, ``None`` if that cannot be told yet.
        """
        for name, last in self._last.items():
            last.append(values[name])
        if not self.is_on or len(next(iter(self._last.values()))) < ENOUGH_PHOTOGRAPHS:
            return None
        deviations = {name: abs(self._exceeding(name) - 0.5) for name in self._last}
        changed = [name for name, deviation in deviations.items() if deviation > BOUND]
        # Score and alarms follow the others, and say less.
        many = ALARMS if self._has_many_alarms() else ""
        return max(changed, key=lambda name: (name != SCORE, deviations[name]), default=many)

    def explain(self, name: str) -> str:
        """Say what has changed."""
        last, good = (values[SCORE if name == ALARMS else name] for values in (self._last, self._good))
        also = {SCORE: ", or most parts are defective", ALARMS: ", or many parts are defective"}.get(name, "")
        if name == ALARMS:
            found = f"{self._alarms(last)} of the last {len(last)} photographs are, "
            found += f"of {len(good)} good ones in training {self._alarms(good)}"
        else:
            found = f"the median {name} of the last {len(last)} photographs is {median(last):.3g}, of good ones in "
            found += f"training {median(good):.3g}"
        return f"light or camera have changed since training{also}: {found}."

    def _alarms(self, scores: Iterable[float]) -> int:
        """Count the scores above the threshold."""
        return sum(score > self._threshold for score in scores)

    def _has_many_alarms(self) -> bool:
        """Return whether many more parts are defective than chance makes of good ones."""
        if SCORE not in self._good:
            return False
        good = self._good[SCORE]
        share = max(self._alarms(good) / len(good), FALSE_ALARMS) + MORE_ALARMS
        return self._alarms(self._last[SCORE]) > share * WINDOW  # with fewer photographs chance would do more

    def _exceeding(self, name: str) -> float:
        """Return the share of pairs in which the later one is larger; equal ones count half."""
        good, last = self._good[name], self._last[name]
        ranks = sum(bisect_left(good, value) + bisect_right(good, value) for value in last)
        return ranks / (2 * len(good) * len(last))
