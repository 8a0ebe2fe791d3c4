# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The method, without anomalib and Lightning: attention, masking, recovery, calibration."""
