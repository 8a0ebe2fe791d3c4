# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""An exported model in a program of one's own, without torch and without anomalib.

    model = DeployedModel("model.xml")
    part = model.predict("part.png")
    print(part.label, part.score, part.anomaly_map.shape)

Any number of threads may use one model.
"""

from anomalib_ear.deploy.runtime import DeployedModel, Label, Photograph, Prediction

__all__ = ["DeployedModel", "Label", "Photograph", "Prediction"]
