"""Where an encoder's name leads: a directory, a shipped encoder, or a model hub."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

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
    "bert_config.json",
    "*.ckpt*.index",
]
"""The files of a hub model that are of use; never a pickle. Those of sentence-transformers tell how a teacher's vectors
are made (`distillation.sentence_vectors`); the last two are Google's (`formats.google`)."""

CHECKPOINT_DATA = "*.ckpt*.data-*-of-*"
"""Weights in a TensorFlow checkpoint, of which a hub model with safetensors often has a copy, too."""

FILES = [*WANTED, CHECKPOINT_DATA]
"""The files of a model directory that are read."""

NOT_WANTED = ["*/*/*", "*/*.safetensors", "*/*.index", "*/*.data-*"]
"""What the patterns above would take from folders of a hub model, whose client lets * stand for / as well."""


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


def named(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Those of the names of a repository's files that a pattern stands for, as in a directory: * is never a /."""
    parts = {name: PurePosixPath(name) for name in names}
    return [
        name
        for name, path in parts.items()
        if any(path.match(pattern) and len(path.parts) == pattern.count("/") + 1 for pattern in patterns)
    ]


def at_revision(name: str | os.PathLike, revision: str | None) -> str | os.PathLike:
    """A name with the revision that is meant. Raises InputError if it has one already."""
    if revision is None:
        return name
    _, at, its_own = os.fspath(name).partition("@")
    if at and not Path(name).is_dir():
        raise InputError(f"{name}: this names the revision {its_own!r} already; leave out @{its_own} or {revision!r}.")
    return f"{os.fspath(name)}@{revision}"


def files_of(directory: Path) -> list[Path]:
    """The files of a model directory, in the order of their names."""
    return sorted({file for pattern in FILES for file in directory.glob(pattern)})


def locate(name: str | os.PathLike, texts: Sequence[str | Sequence[str]] = ()) -> Path:
    """A directory, a shipped encoder's name or a hub id such as `bert-base-chinese` → a local directory.

    A hub id may name a revision (branch, tag or commit): `bert-base-chinese@main`. `auto` is the shipped encoder for
    the language of `texts`. Raises InputError if there is no such place or the hub cannot be reached.
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
    for hub_id, at, revision in (str(name).rpartition("@"), str(name).partition("@")):
        if at and hub_id and (Path(hub_id).is_dir() or hub_id in {shipped.name for shipped in shipped_encoders()}):
            raise InputError(f"{name}: {hub_id} is a directory here, which has no revisions; leave out @{revision}.")
    if path.is_absolute() or hub_id.startswith(".") or hub_id.count("/") > 1:
        raise InputError(f"{name}: there is no such directory; name one that holds a model.")
    if at and not revision:
        raise InputError(f"{name}: there is no revision behind the @; name a branch, a tag or a commit.")
    return fetch(hub_id, revision or None)


def name_elsewhere(name: str | os.PathLike, directory: Path) -> str:
    """The name by which another machine finds the model that `locate` has found in `directory`: of a hub's it has the
    commit, since a branch may move on meanwhile; others go by their own."""
    if Path(name).is_dir() or directory in shipped_encoders():
        return os.fspath(name)
    return f"{os.fspath(name).partition('@')[0]}@{directory.name}"


def fetch(hub_id: str, revision: str | None = None) -> Path:
    """Download a model from the Hugging Face hub, or find it in the local cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, HTTPError, RevisionNotFoundError

    from bothways.formats.google import needs_checkpoint

    refuse_token_that_cannot_be_sent(hub_id)
    try:
        directory = Path(
            snapshot_download(hub_id, revision=revision, allow_patterns=WANTED, ignore_patterns=NOT_WANTED)
        )
        if needs_checkpoint(directory):  # of the same commit, whose number is the directory's name
            snapshot_download(hub_id, revision=directory.name, allow_patterns=FILES, ignore_patterns=NOT_WANTED)
        return directory
    except HFValidationError:
        raise InputError(f"{hub_id!r} is neither a directory nor a hub name such as bert-base-chinese.") from None
    except RevisionNotFoundError:
        raise InputError(
            f"{hub_id}: the hub has no revision {revision!r} of it; name a branch, a tag or a commit."
        ) from None
    except (HTTPError, EntryNotFoundError, OSError) as error:
        reason, advice = explained(error)
        raise InputError(
            f"{hub_id}: there is no such directory, and the hub did not deliver a model of that name ({reason}); "
            f"{advice}, or name a directory."
        ) from None


def refuse_token_that_cannot_be_sent(hub_id: str) -> None:
    """Raises InputError for a token that the hub's client fails on, with an error that may show all of it."""
    from huggingface_hub import constants, get_token

    if not constants.HF_HUB_OFFLINE and re.fullmatch(r"[!-~]*", get_token() or "") is None:
        raise InputError(
            f"{hub_id}: the token for the hub has a space or a character that no token has; copy it once more to "
            f"HF_TOKEN, or run hf auth login."
        )


def explained(error: Exception) -> tuple[str, str]:
    """Why the hub did not do what it was asked for → (what is wrong, what to do)."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, OfflineModeIsEnabled) or (
        constants.HF_HUB_OFFLINE and isinstance(error, LocalEntryNotFoundError)
    ):
        return "HF_HUB_OFFLINE is set", "unset it where there is a network"
    if isinstance(error, GatedRepoError):
        return "its owners have to grant access", "ask for it on its page, and set HF_TOKEN or run hf auth login"
    if isinstance(error, RepositoryNotFoundError):
        return "there is none, or only for others to see", "check the name; if it is private, set HF_TOKEN"
    if status == 401:
        return "it does not know this token", "set another HF_TOKEN or run hf auth login"
    if status == 403:
        return "this token does not allow it", "take one that does, as HF_TOKEN or with hf auth login"
    return (str(error).strip() or type(error).__name__).splitlines()[0], "check the name and the network"
