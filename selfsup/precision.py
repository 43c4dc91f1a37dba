"""The device and the number format that compute fastest on the hardware at hand."""

from __future__ import annotations

import torch


def best_precision(accelerator: str) -> str:
    """Lightning's name for it: "bf16-mixed" where the hardware has bfloat16 instructions, else "32-true".

    Args:
        accelerator: "cpu", "gpu" or "auto", as for the Trainer.
    """
    if accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available()):
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if accelerator not in ("cpu", "auto"):
        return "32-true"
    # A CPU without these instructions emulates bfloat16 and is slower for it.
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    native = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return "bf16-mixed" if native else "32-true"


def best_device() -> torch.device:
    """A GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
