"""What this machine is and what it is fast at: device, number format, memory. Asked here and nowhere else."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from bothways.errors import InputError

FloatFormat = Literal["fp32", "bf16"]
"""In what matrices are multiplied in training."""
NumberFormat = Literal["fp32", "bf16", "int8"]
"""In what they are when a trained model is used."""

PRECISION_VARIABLE = "BOTHWAYS_PRECISION"
"""Environment variable that says which number format is fast here, fp32 or bf16, in place of what the processor says.
"""

BF16_CAPABILITIES = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")
"""What PyTorch calls the bf16 instructions of x86 and ARM processors."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGE = 1 << 30


def default_device() -> torch.device:
    """The accelerator, if there is one; else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fast_in_bf16(device: torch.device) -> bool:
    """Whether the machine multiplies bf16 numbers faster than fp32 ones: any CUDA device that has them, a CPU with
    AMX (about ten times), AVX-512 BF16 (two to four times) or ARM's bf16 instructions.

    A CPU without such instructions does it in software, 10 to 40 times slower than fp32 (docs/decisions.md). The
    environment variable `BOTHWAYS_PRECISION` overrules what the processor tells.
    """
    told = os.environ.get(PRECISION_VARIABLE, "")
    if told not in ("", "fp32", "bf16"):
        raise InputError(
            f"The environment variable {PRECISION_VARIABLE} is {told!r}; set it to fp32 or bf16, or unset it."
        )
    if told:
        return told == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if device.type != "cpu":
        return False
    has: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(has.get(name) for name in BF16_CAPABILITIES)


def fast_precision(device: torch.device) -> FloatFormat:
    """The number format in which the machine multiplies matrices fastest."""
    return "bf16" if fast_in_bf16(device) else "fp32"


def resolve(precision: str | None, device: torch.device) -> torch.dtype:
    """The type of a number format; None is the fastest. Raises InputError if there is no such format."""
    if precision == "int8":
        raise InputError("A model is used in int8, not trained in it; choose fp32 or bf16, or leave it out.")
    if precision not in (None, "fp32", "bf16"):
        raise InputError(f"There is no precision {precision!r}; choose fp32 or bf16, or leave it out.")
    return torch.bfloat16 if (precision or fast_precision(device)) == "bf16" else torch.float32


def number_format(precision: str | None, device: torch.device, *, int8_agrees: bool = False) -> NumberFormat:
    """In what a trained model multiplies matrices; None is the fastest, int8 only if it says the same (`int8_agrees`).

    Raises InputError if there is no such format, or the machine does not have it.
    """
    if precision == "int8":
        if device.type != "cpu":
            raise InputError(f"int8 is for processors, and this model runs on {device}; choose bf16, or leave it out.")
        if not int8_bits():
            raise InputError("This processor does not multiply integers exactly; choose fp32, or leave it out.")
        return "int8"
    if precision is None and int8_agrees and fast_in_int8(device):
        return "int8"
    if precision not in (None, "fp32", "bf16"):
        raise InputError(f"There is no precision {precision!r}; choose fp32, bf16 or int8, or leave it out.")
    return "bf16" if resolve(precision, device) == torch.bfloat16 else "fp32"


def fast_in_int8(device: torch.device) -> bool:
    """Whether a CPU that is not fast in bf16 multiplies integers of 8 bits: about twice as fast as fp32 on the whole,
    where 7 bits (AVX2) gain less (docs/log.md). The environment variable `BOTHWAYS_PRECISION` overrules it."""
    told = bool(os.environ.get(PRECISION_VARIABLE))
    return device.type == "cpu" and not told and not fast_in_bf16(device) and int8_bits() == 8


@cache
def int8_bits() -> int:
    """How many bits activations may have so that their products with 8-bit weights are exact: 8, 7, or 0 for none.

    Found by trying. Processors without VNNI instructions add two products of 8 bits in 16, which is not enough for two
    of the largest; for 7 bits it is.
    """
    return next((bits for bits in (8, 7) if multiplies_exactly((1 << bits) - 1)), 0)


def multiplies_exactly(largest: int) -> bool:
    """Whether products of the `largest` activation and the largest weight, either sign, are summed without error."""
    weight = torch.full((32, 64), 127, dtype=torch.int8)
    weight[1::2] = -127
    ones, zeros = torch.ones(32), torch.zeros(32, dtype=torch.int32)
    try:
        packed = torch.ops.onednn.qlinear_prepack(weight, None)
        for rows in (1, 16):
            given = torch.full((rows, 64), largest, dtype=torch.uint8)
            found = torch.ops.onednn.qlinear_pointwise(
                given, 1.0, 0, packed, ones, zeros, None, 1.0, 0, torch.float32, "none", [], ""
            )
            if not torch.equal(found, (given.double() @ weight.double().t()).float()):
                return False
    except (RuntimeError, AttributeError):  # built without oneDNN
        return False
    return True


def tokens_at_once(device: torch.device) -> int:
    """Most tokens in one forward pass of training: what keeps the device busy and fits into its memory."""
    return 65_536 if device.type == "cuda" else 8192


def autocast(dtype: torch.dtype, device: torch.device) -> AbstractContextManager:
    """A context in which matrix products and attention run in `dtype`; weights and sums stay in fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


def compiles_each_shape(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether matrix products are done by code made for one shape, which takes longer to make than to run, so that few
    shapes are fast: oneDNN, which multiplies bf16 on a CPU, works so (docs/decisions.md)."""
    return device.type == "cpu" and dtype == torch.bfloat16


@cache
def openmp() -> ctypes.CDLL | None:
    """The OpenMP library by which PyTorch shares out operations over threads; None if it is not found."""
    folder = Path(torch.__file__).parent / "lib"
    found = sorted(path for name in ("libgomp*", "libiomp*", "libomp*") for path in folder.glob(name))
    return ctypes.CDLL(str(found[0])) if found else None


def use_one_thread() -> None:
    """Have the operations of the calling thread use this thread alone; those of others stay as they are.

    `torch.set_num_threads` would change them for the whole process.
    """
    torch.get_num_threads()  # which sets the number of a new thread, so that it is not set after this
    library = openmp()
    assert library is not None, "ask `cores` first"
    library.omp_set_num_threads(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the block the operations of the calling thread use this thread alone.

    For many small operations in a row: two threads are no faster there, and where other work keeps one of them waiting
    each operation waits, too, which made the training of an LSTM 20 times slower (docs/log.md).
    """
    threads, library = torch.get_num_threads(), openmp()
    if library is None:
        yield
        return
    library.omp_set_num_threads(1)
    try:
        yield
    finally:
        library.omp_set_num_threads(threads)


def cores() -> int:
    """How many operations can run side by side, a thread each; 1 if it cannot be arranged."""
    return torch.get_num_threads() if openmp() is not None else 1


@cache
def core_pool() -> ThreadPoolExecutor:
    """A thread for each core, each of which works alone.

    Several pieces of work, a core each, are faster than one after the other on all cores, whose threads meet after
    every operation (docs/decisions.md).
    """
    return ThreadPoolExecutor(cores(), thread_name_prefix="core", initializer=use_one_thread)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=core_pool.cache_clear)  # a fork has none of the threads


@cache
def keep_freed_memory() -> bool:
    """Have glibc keep and reuse freed memory of any size instead of handing it back to the kernel each time.

    Large tensors would otherwise be new pages, zeroed by the kernel, on every operation; in a virtual machine that is
    dear (measured in docs/decisions.md). It is a setting of the whole process, the same as starting it with
    MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_. Returns whether it took effect; elsewhere than glibc it does
    nothing.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGE) and mallopt(M_TRIM_THRESHOLD, LARGE))


def processor_name() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return names[0] if names else platform.processor() or platform.machine()


def described() -> dict[str, str]:
    """What was found on this machine and what is chosen for it, by name."""
    device = default_device()
    told = os.environ.get(PRECISION_VARIABLE)
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    bf16 = [name for name in BF16_CAPABILITIES if capabilities.get(name)]
    return {
        "processor": f"{processor_name()}, {os.cpu_count()} cores",
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16 instructions": ", ".join(bf16) or "none",
        "int8": f"activations of {int8_bits()} bits" if int8_bits() else "not exact",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "number format": fast_precision(device) + (f" (as {PRECISION_VARIABLE} says)" if told else ""),
        "threads": str(torch.get_num_threads()),
        "freed memory": "kept" if keep_freed_memory() else "left to the system",
    }
