# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Score a folder of photographs with an exported model.

python docs/inspect_parts.py model.xml FOLDER
"""

import sys
from pathlib import Path

import numpy as np
from anomalib.deploy import OpenVINOInferencer
from PIL import Image

model, folder = map(Path, sys.argv[1:])
# f32 on every CPU: left to itself OpenVINO takes bfloat16 where there is AMX, and scores drift between machines.
inferencer = OpenVINOInferencer(model, device="CPU", config={"INFERENCE_PRECISION_HINT": "f32"})
for path in sorted(folder.iterdir()):
    prediction = inferencer.predict(np.asarray(Image.open(path).convert("RGB")))
    print(f"{path}  {prediction.pred_score.item():.3f}  {'defective' if prediction.pred_label.item() else 'good'}")
