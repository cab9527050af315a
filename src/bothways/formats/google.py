"""The BERT directories that Google published (github.com/google-research/bert), and whoever trained with that code:
bert_config.json, vocab.txt and a TensorFlow checkpoint, bert_model.ckpt.index with its .data files.

They come out under the names of `formats.names`; only the ends of names differ, and matrices are transposed.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from bothways.errors import InputError
from bothways.formats.tensor_bundle import TensorBundle

CHECKPOINT = "*.ckpt*.index"
"""What the index of a checkpoint is called: bert_model.ckpt.index, model.ckpt-20000.index."""
FILES = ["bert_config.json", "vocab.txt", CHECKPOINT, "*.ckpt*.data-*-of-*"]
"""The files of a directory."""
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
"""Where the same weights are if they are there twice; those are read."""
NAME_ENDS = {
    "word_embeddings": "word_embeddings.weight",
    "token_type_embeddings": "token_type_embeddings.weight",
    "position_embeddings": "position_embeddings.weight",
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "output_weights": "weight",
    "output_bias": "bias",
}
"""The last part of a name there → that of `formats.names`; other parts are the same."""
TRANSPOSED = "kernel"
"""(inputs, outputs) there."""
OPTIMIZER = ("adam_m", "adam_v")
"""The last part of the names of what the optimizer keeps."""


def needs_checkpoint(directory: Path) -> bool:
    """Whether the weights of a directory are in a checkpoint and nowhere else."""
    return any(directory.glob(CHECKPOINT)) and not any((directory / name).is_file() for name in SAFETENSORS)


def checkpoint_of(directory: Path) -> Path | None:
    """The index of the checkpoint that holds the weights of a directory; None if it has safetensors, or neither.
    InputError if it has several."""
    found = sorted(directory.glob(CHECKPOINT)) if needs_checkpoint(directory) else []
    if len(found) > 1:
        raise InputError(
            f"{directory}: there are {len(found)} checkpoints, such as {found[0].name} and {found[1].name}; put the "
            f"one that is meant into a directory of its own, with bert_config.json and vocab.txt."
        )
    return found[0] if found else None


def checkpoint_files(index: Path) -> list[Path]:
    """All files of a checkpoint."""
    return [index, *sorted(index.parent.glob(f"{index.stem}.data-*-of-*"))]


def read_checkpoint(index: Path) -> dict[str, tuple[Tensor, Path]]:
    """Published name, without `bert.` → (weights in fp32, the file that holds them).

    Raises InputError, naming the file, if one is missing or damaged, or if two tensors have one name.
    """
    bundle = TensorBundle(index)
    found: dict[str, tuple[Tensor, Path]] = {}
    for theirs, entry in bundle.entries.items():
        if theirs.endswith(OPTIMIZER):
            continue
        name = published_name(theirs)
        if name in found:
            raise InputError(f"{index}: {theirs} is there twice, under two names.")
        tensor = bundle.tensor(theirs).float()
        found[name] = tensor.T if theirs.endswith(TRANSPOSED) and tensor.ndim == 2 else tensor, bundle.file_of(entry)
    return found


def published_name(theirs: str) -> str:
    """A name in the checkpoint → in published directories; both as `output_weights` alone is in a classifier."""
    *parts, end = theirs.split("/")
    if not parts and end in NAME_ENDS:
        parts = ["classifier"]
    name = ".".join([*parts, NAME_ENDS.get(end, end)])
    return name.replace("layer_", "layer.").removeprefix("bert.")
