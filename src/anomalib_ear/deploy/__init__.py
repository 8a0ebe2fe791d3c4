# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""From a trained model to the line: ``export`` and ``int8`` know torch, ``runtime`` and ``infer`` do not."""
