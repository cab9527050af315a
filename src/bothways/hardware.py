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
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch

from bothways.errors import InputError

FloatFormat = Literal["fp32", "bf16"]
"""In what matrices are multiplied in training."""
NumberFormat = Literal["fp32", "bf16", "int16", "int8"]
"""In what they are when a trained model is used."""

PRECISION_VARIABLE = "BOTHWAYS_PRECISION"
"""Environment variable that says which number format is fast here, fp32 or bf16, in place of what the processor says.
"""

BF16_CAPABILITIES = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")
"""What PyTorch calls the bf16 instructions of x86 and ARM processors."""

KERNEL_LAYOUT = 1 + 1000 * (72 + 224)
"""What `layout` of encoder.c has to say: its version, and the size of its structures."""
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
    if precision in ("int8", "int16"):
        raise InputError(f"A model is used in {precision}, not trained in it; choose fp32 or bf16, or leave it out.")
    if precision not in (None, "fp32", "bf16"):
        raise InputError(f"There is no precision {precision!r}; choose fp32 or bf16, or leave it out.")
    return torch.bfloat16 if (precision or fast_precision(device)) == "bf16" else torch.float32


def number_format(
    precision: str | None, device: torch.device, *, integers: bool = False, int8_agrees: bool = False
) -> NumberFormat:
    """In what a trained model multiplies matrices; None is the fastest that gives the same answers.

    `integers`: whether there are kernels for the model (`inference.kernels.fits`). `int8_agrees`: whether the model is
    known to say the same in int8. Raises InputError if there is no such format, or the machine does not have it.
    """
    if precision in ("int8", "int16"):
        if device.type != "cpu":
            raise InputError(
                f"{precision} is for processors, and this model runs on {device}; choose bf16, or leave it out."
            )
        if not integers:
            raise InputError(
                f"There is no {precision} for this processor, installation or shape of model (`bothways info` says "
                f"what there is); choose fp32, or leave it out."
            )
        return "int8" if precision == "int8" else "int16"
    if precision not in (None, "fp32", "bf16"):
        raise InputError(f"There is no precision {precision!r}; choose fp32, bf16, int16 or int8, or leave it out.")
    if precision is None and integers and fast_in_integers(device):
        return "int8" if int8_agrees and int8_bits() == 8 else "int16"
    return "bf16" if resolve(precision, device) == torch.bfloat16 else "fp32"


def fast_in_integers(device: torch.device) -> bool:
    """Whether a CPU that is not fast in bf16 multiplies integers: in 16 bits the encoder is 1.3 (AVX2) to 1.7 times
    (AVX-512 VNNI) as fast as in fp32, in 8 bits 1.4 to 2.5 times (docs/log.md). The environment variable
    `BOTHWAYS_PRECISION` overrules it."""
    told = bool(os.environ.get(PRECISION_VARIABLE))
    return device.type == "cpu" and not told and not fast_in_bf16(device)


@cache
def kernels() -> ctypes.CDLL | None:
    """The compiled part of this package (inference/csrc); None if there was no gcc or clang where it was installed, or
    if it is of another version."""
    found = find_spec("bothways._kernels")
    try:
        library = ctypes.CDLL(str(found.origin)) if found else None
    except OSError:  # made for another kind of machine
        return None
    if library is None or not hasattr(library, "layout") or library.layout() != KERNEL_LAYOUT:
        return None
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    library.encode.argtypes = [pointer, pointer, number, ctypes.c_int, pointer, number, pointer, pointer]
    return library


def vector_instructions() -> str:
    """Those of this processor that the compiled part has code for; empty: none.

    What PyTorch is told not to use (its environment variable `ATEN_CPU_CAPABILITY`) is not used here either.
    """
    library = kernels()
    best = 0 if library is None else library.instruction_set()
    told = torch.backends.cpu.get_cpu_capability()
    allowed = 2 if told.startswith("AVX512") else 1 if told == "AVX2" else 0
    return ("", "AVX2", "AVX-512 VNNI")[min(best, allowed)]


def int8_bits() -> int:
    """How many bits activations have in int8, or 0 where it is not offered.

    Processors without VNNI instructions add two products of 8 bits in 16, which is not enough for two of the largest;
    for 7 bits it is.
    """
    return {"AVX-512 VNNI": 8, "AVX2": 7}.get(vector_instructions(), 0)


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
    library = ctypes.CDLL(str(found[0]) if found else None)  # else among what is loaded: conda has it elsewhere
    return library if hasattr(library, "omp_set_num_threads") else None


def use_threads(number: int) -> None:
    """Have the operations of the calling thread use so many threads, itself among them; those of others stay as they
    are, while `torch.set_num_threads` would change them for the whole process."""
    torch.get_num_threads()  # which sets the number of a new thread, so that it is not set after this
    library = openmp()
    assert library is not None, "ask `cores` first"
    library.omp_set_num_threads(number)


def use_one_thread() -> None:
    """Have the operations of the calling thread use this thread alone."""
    use_threads(1)


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
    missing = "on this processor" if kernels() else "built"
    in_use = number_format(None, device, integers=bool(vector_instructions()))
    bf16 = [name for name in BF16_CAPABILITIES if capabilities.get(name)]
    return {
        "processor": f"{processor_name()}, {os.cpu_count()} cores",
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16 instructions": ", ".join(bf16) or "none",
        "int16 and int8": vector_instructions() or f"not {missing}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "number format": f"{fast_precision(device)} in training, {in_use} in use"
        + (f" (as {PRECISION_VARIABLE} says)" if told else ""),
        "threads": str(torch.get_num_threads()),
        "freed memory": "kept" if keep_freed_memory() else "left to the system",
    }
