"""Writing a model directory, whole or not at all. It is a Hugging Face directory, which `transformers` reads:

config.json          `model_type: bert`, the published keys, and a `bothways` section that describes the outputs
model.safetensors    the weights under the published BERT parameter names
outputs.safetensors  output layers for which no published name exists (several classifiers on one encoder)
tokenizer.json       the tokenizer, with tokenizer_config.json
README.md            the model card
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from bothways.files.writing import new_directory
from bothways.formats.model_card import default_card
from bothways.formats.names import (
    ACTIVATION_NAMES,
    ENCODER_KEYS,
    PROBLEM_TYPES,
    architecture,
    encoder_names,
    essential,
    output_names,
    published,
)
from bothways.model.bert import Bert
from bothways.model.config import BertConfig
from bothways.tasks import TASKS
from bothways.tokenizer import Tokenizer

# ── Writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def save_model(
    path: str | os.PathLike,
    bert: Bert,
    tokenizer: Tokenizer,
    *,
    card: str = "",
    extra_files: Mapping[str, str] | None = None,
    overwrite: bool = False,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a model directory, whole or not at all.

    `card` is the text of README.md; `extra_files` are written beside it. Raises InputError if `path` exists and
    `overwrite` is not set, or if the disk is full.
    """
    with new_directory(path, overwrite) as directory:
        write_json(directory / "config.json", to_published_config(bert.config, dtype))
        model, others = to_published_weights(bert, dtype)
        save_file(model, directory / "model.safetensors", metadata={"format": "pt"})
        if others:
            save_file(others, directory / "outputs.safetensors", metadata={"format": "pt"})
        tokenizer.save(directory, bert.config.longest)
        for name, text in {"README.md": card or default_card(bert.config), **(extra_files or {})}.items():
            (directory / name).write_text(text, "utf-8")
        for weights in directory.glob("*.safetensors"):  # which safetensors lets only its owner read
            shutil.copymode(directory / "config.json", weights)


def to_published_weights(bert: Bert, dtype: torch.dtype = torch.float32) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of a model under the names in the files: (model.safetensors, outputs.safetensors)."""
    config = bert.config
    prefix = "bert." if published(config.outputs) else ""
    names = {
        ours: tuple(prefix + name for name in theirs) for ours, theirs in encoder_names(config.encoder.layers).items()
    }
    names |= output_names(config.outputs)
    model: dict[str, Tensor] = {}
    others: dict[str, Tensor] = {}
    for ours, parameter in bert.named_parameters():
        theirs = names[ours]
        part = others if theirs[0].startswith("outputs.") or (ours.startswith("outputs.") and not prefix) else model
        for name, tensor in zip(theirs, parameter.detach().cpu().chunk(len(theirs)), strict=True):
            part[name] = tensor.to(dtype).clone()
    return model, others


def to_published_config(config: BertConfig, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """The content of config.json."""
    encoder = asdict(config.encoder)
    encoder["activation"] = {ours: theirs for theirs, ours in reversed(ACTIVATION_NAMES.items())}[
        config.encoder.activation
    ]
    content: dict[str, Any] = {
        "model_type": "bert",
        "architectures": [architecture(config.outputs)],
        **{theirs: encoder[ours] for ours, theirs in ENCODER_KEYS.items()},
        "attention_probs_dropout_prob": 0.0,  # see `model.attention`
        "pad_token_id": 0,
        "dtype": str(dtype).removeprefix("torch."),
    }
    outputs = essential(config.outputs)
    if len(outputs) == 1 and (output := outputs[0]).kind in TASKS:
        labels = output.labels or (output.name,)
        content["id2label"] = {str(index): label for index, label in enumerate(labels)}
        content["label2id"] = {label: index for index, label in enumerate(labels)}
        if output.kind in PROBLEM_TYPES:
            content["problem_type"] = PROBLEM_TYPES[output.kind]
    ways = {"head": (), "windows": ("long_texts", "overlap", "most_windows")}
    long_texts = ways.get(config.long_texts, ("long_texts",))
    content["bothways"] = {
        "format": 1,
        "max_length": config.longest,
        **{name: getattr(config, name) for name in long_texts},
        "text_columns": list(config.text_columns),
        **({} if config.int8 is None else {"int8": asdict(config.int8)}),
        "outputs": [asdict(output) for output in config.outputs],
    }
    return content


def write_json(path: Path, content: Any) -> None:
    """Write `content` as readable UTF-8 JSON."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
