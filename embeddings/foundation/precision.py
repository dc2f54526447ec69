"""Which processors multiply bfloat16 faster than float32, and in what a training multiplies."""

import torch


def multiplies_bf16() -> bool:
    """Whether this one has instructions for it; without them it is slower, not faster."""
    found = torch.cpu.get_capabilities()
    return any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16", "arm_bf16"))


PRODUCTS = torch.bfloat16 if multiplies_bf16() else torch.float32
"""Of the products of a training and what comes out of each; what they are added to, norms and weights are float32."""
