# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Checks of how datamodules split."""


def check_val_split_ratio(ratio: float) -> None:
    """Refuse a share of the images for validation that anomalib takes for another one: 0 for a half.

    Raises:
        ValueError: If it is not in (0, 1).
    """
    if not 0 < ratio < 1:
        msg = f"val_split_ratio must be above 0 and below 1, got {ratio}: for no validation give val_split_mode 'none'."
        raise ValueError(msg)
