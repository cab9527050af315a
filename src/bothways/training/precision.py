"""Which number format to compute in, and how."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

import torch

from bothways.errors import InputError

Precision = Literal["auto", "fp32", "bf16"]


def default_device() -> torch.device:
    """The accelerator, if there is one; else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fast_in_bf16(device: torch.device) -> bool:
    """Whether the machine multiplies bf16 numbers faster than fp32 ones: any CUDA device that has them, a CPU with
    AMX (about ten times) or AVX-512 BF16 (two to four times)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if device.type != "cpu":
        return False
    has: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(has.get("amx_bf16") or has.get("avx512_bf16"))


def resolve(precision: Precision, device: torch.device) -> torch.dtype:
    """`auto` is bf16 where the machine is fast at it; the other two are forced."""
    if precision not in ("auto", "fp32", "bf16"):
        raise InputError(f"There is no precision {precision!r}; choose auto, fp32 or bf16.")
    if precision == "auto":
        precision = "bf16" if fast_in_bf16(device) else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32


def computing_in(dtype: torch.dtype, device: torch.device) -> AbstractContextManager:
    """A context in which matrix products and attention run in `dtype`; weights and sums stay in fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


def computes_by_shape(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether matrix products are done by code made for one shape, which takes longer to make than to run, so that few
    shapes are fast: oneDNN, which multiplies bf16 on a CPU, works so (docs/decisions.md)."""
    return device.type == "cpu" and dtype == torch.bfloat16
