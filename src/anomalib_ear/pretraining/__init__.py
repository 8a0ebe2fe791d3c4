# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0
"""MNIST pre-training of the attention: ``python -m anomalib_ear.pretraining``."""
