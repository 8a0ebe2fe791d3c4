# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Pictures: each step of the method, at the image's own proportions."""

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch
from test_torch_model import build, images

from anomalib_ear.host.visualizer import PANEL_SIZE, draw

TITLES = ["Image", "Ground truth", "Excised", "Recovered", "Anomaly map", "Prediction"]


def batch(*, masks: bool = True) -> ImageBatch:
    """Return two portrait images with predictions: the left third is anomalous."""
    anomaly_map = torch.zeros(2, 1, 96, 48)
    anomaly_map[..., :16] = 0.9
    return ImageBatch(
        image=images(2, (96, 48)),
        gt_mask=torch.zeros(2, 96, 48, dtype=torch.bool) if masks else None,
        anomaly_map=anomaly_map,
        pred_mask=anomaly_map > 0.5,
    )


def test_one_panel_per_step() -> None:
    """Every image has the six panels, in the order of the method."""
    assert [list(panels) for panels in draw(build().eval(), batch())] == [TITLES, TITLES]


def test_panels_keep_the_proportions() -> None:
    """A portrait image stays portrait."""
    sizes = {panel.size for panels in draw(build().eval(), batch()) for panel in panels.values()}
    assert sizes == {(PANEL_SIZE // 2, PANEL_SIZE)}


def test_no_ground_truth_no_panel() -> None:
    """Images of unknown label, as in ``anomalib predict``, have one panel less."""
    assert "Ground truth" not in draw(build().eval(), batch(masks=False))[0]


@pytest.mark.parametrize("level", [0.1, 0.9])
def test_the_heat_map_s_scale_is_fixed(level: float) -> None:
    """A map that is low everywhere looks low: colours are not stretched per image."""
    shown = batch()
    shown.anomaly_map = torch.full((2, 1, 96, 48), level)
    panel = np.asarray(draw(build().eval(), shown)[0]["Anomaly map"])[PANEL_SIZE // 2 :]
    red, blue = panel[..., 0].mean(), panel[..., 2].mean()
    assert (red > blue) == (level > 0.5)
