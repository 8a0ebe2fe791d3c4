# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The method, in torch and timm alone: attention, masking, recovery, calibration."""
