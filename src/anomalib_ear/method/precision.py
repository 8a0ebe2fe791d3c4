# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Where bfloat16 pays in training."""

from functools import cache

import torch


@cache
def has_bfloat16(device_type: str) -> bool:
    """Tell whether a device computes in bfloat16; other CPUs emulate it, which makes them five times slower.

    Args:
        device_type: Type of a torch device, such as ``"cpu"``.
    """
    if device_type != "cpu":
        return True
    if not hasattr(torch.cpu, "get_capabilities"):  # an older torch, which has no public way to ask
        return bool(torch.cpu._is_avx512_bf16_supported())
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
