"""Where an encoder's name leads: a directory, a shipped encoder, or a model hub."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bothways.errors import InputError
from bothways.language import mostly_chinese

AUTO = "auto"
"""In place of a name: the shipped encoder for the language of the texts, `zh-mini` or `en-mini`."""

SHIPPED = Path(__file__).parents[1] / "encoders"
"""The folder of the encoders that come with the package."""

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
    """The directories of the encoders that come with the package."""
    return sorted(path.parent for path in SHIPPED.glob("*/config.json"))


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
    shipped = SHIPPED / str(name)
    if "/" not in str(name) and (shipped / "config.json").is_file():
        return shipped
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
