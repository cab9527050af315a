"""Reading a model directory, ours or any published BERT's; `formats.writing` says what is in one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bothways.errors import InputError
from bothways.formats.names import (
    ACTIVATION_NAMES,
    DERIVED,
    ENCODER_KEYS,
    OLD_KINDS,
    OLD_NAMES,
    PROBLEM_TYPES,
    encoder_names,
    output_names,
)
from bothways.model.bert import Bert
from bothways.model.config import MASKED_LM, NEXT_SENTENCE, BertConfig, EncoderConfig, OutputConfig
from bothways.model.outputs import OutputLayer
from bothways.tokenizer import Tokenizer

# ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class LoadReport:
    """What was found in a model directory."""

    source: str
    """The directory."""
    encoder: EncoderConfig
    """The encoder found."""
    found: tuple[str, ...]
    """Parts read from the files."""
    untrained: tuple[str, ...]
    """Parts that the files lack; they start with fresh random weights."""
    unused: tuple[str, ...]
    """Parts of the files that this model has no place for."""

    def __str__(self) -> str:
        encoder = self.encoder
        sentence = (
            f"{self.source}: read a {encoder.layers}-layer encoder, {encoder.hidden_size} wide, "
            f"with {listed(self.found)}"
        )
        sentence += f"; untrained: {listed(self.untrained)}" if self.untrained else "; nothing starts untrained"
        if self.unused:
            sentence += f"; left aside: {listed(self.unused)}"
        return sentence + "."


def listed(names: tuple[str, ...]) -> str:
    return ", ".join(names)


def load_model(path: str | os.PathLike) -> tuple[Bert, Tokenizer, LoadReport]:
    """Read a model directory, ours or any published BERT's, with the output layers it describes.

    Weights come back in fp32. Raises InputError if a file is missing, damaged or a pickle, if a shape is wrong or if
    the vocabulary does not fit.
    """
    directory = Path(path)
    if not directory.is_dir():
        raise InputError(f"{directory}: there is no such model directory.")
    content = read_config(directory)
    config = from_published_config(content, directory)
    tokenizer = Tokenizer.load(directory)
    if tokenizer.vocab_size > config.encoder.vocab_size:
        raise InputError(
            f"{directory}: the tokenizer knows {tokenizer.vocab_size} entries but the model only "
            f"{config.encoder.vocab_size}; take the tokenizer that the model was trained with."
        )
    tensors = dict(read_weights(directory))
    if "bothways" not in content:
        config = BertConfig(encoder=config.encoder, outputs=discover_outputs(content, tensors))
    bert = Bert(config).eval()
    return bert, tokenizer, fill(bert, tensors, directory)


def read_config(directory: Path) -> dict[str, Any]:
    """The content of config.json."""
    path = directory / "config.json"
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{directory}: config.json is missing; this is not a model directory.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: this is not JSON ({error}); restore the file.") from None
    if not isinstance(content, dict) or content.get("model_type") != "bert":
        kind = content.get("model_type") if isinstance(content, dict) else None
        raise InputError(f"{path}: model_type is {kind!r}; only 'bert' can be read.")
    if content.get("position_embedding_type", "absolute") != "absolute":
        raise InputError(f"{path}: only absolute position embeddings can be read.")
    return content


def from_published_config(content: Mapping[str, Any], directory: Path) -> BertConfig:
    """config.json → settings; without a `bothways` section the outputs stay open."""
    where = f"{directory / 'config.json'}"
    given = {ours: content[theirs] for ours, theirs in ENCODER_KEYS.items() if theirs in content}
    activation = given.get("activation", "gelu")
    if activation not in ACTIVATION_NAMES:
        raise InputError(f"{where}: the activation {activation!r} is not one of {', '.join(ACTIVATION_NAMES)}.")
    given["activation"] = ACTIVATION_NAMES[activation]
    encoder = from_mapping(EncoderConfig, given, where)
    ours = content.get("bothways")
    if ours is None:
        return BertConfig(encoder=encoder)
    if ours.get("format") != 1:
        raise InputError(f"{where}: written by a newer bothways (format {ours.get('format')}); update the package.")
    return from_mapping(
        BertConfig,
        {
            "encoder": encoder,
            "outputs": tuple(from_mapping(OutputConfig, renamed(output), where) for output in ours.get("outputs", ())),
            **{key: value for key, value in ours.items() if key not in ("format", "outputs")},
        },
        where,
    )


def renamed(output: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an output layer under today's names."""
    kind = str(output.get("kind"))
    return {**output, "kind": OLD_KINDS.get(kind, kind)}


Config = TypeVar("Config")


def from_mapping(cls: type[Config], given: Mapping[str, Any], where: str) -> Config:
    """A configuration dataclass from JSON; InputError for a key it does not have or one it lacks."""
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(given) - known):
        raise InputError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}.")
    try:
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()})
    except TypeError as error:
        raise InputError(f"{where}: {error}.") from None


def read_weights(directory: Path) -> Iterator[tuple[str, Tensor]]:
    """All tensors of a directory, in fp32, under today's published names without the leading `bert.`."""
    files = sorted(directory.glob("model*.safetensors")) + sorted(directory.glob("outputs.safetensors"))
    if not any(file.name.startswith("model") for file in files):
        pickles = sorted([*directory.glob("*.bin"), *directory.glob("*.pt"), *directory.glob("*.ckpt*")])
        if pickles:
            raise InputError(
                f"{pickles[0]}: weights in a pickle can run any code when opened, so they are not read; "
                f"have the directory converted to model.safetensors."
            )
        raise InputError(f"{directory}: model.safetensors is missing; restore it.")
    for file in files:
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (this object is no mapping)
                    tensor = tensors.get_tensor(name)
                    for old, new in OLD_NAMES.items() if file.name != "outputs.safetensors" else ():
                        name = name.replace(old, new)
                    yield name.removeprefix("bert."), tensor.float() if tensor.is_floating_point() else tensor
        except (SafetensorError, OSError) as error:
            raise InputError(f"{file}: the weights cannot be read ({error}); fetch the file again.") from None


def discover_outputs(content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[OutputConfig, ...]:
    """The output layers of a published directory, told by its tensors and its config.json."""
    outputs = []
    if "cls.predictions.bias" in tensors:
        outputs.append(MASKED_LM)
    if "cls.seq_relationship.weight" in tensors:
        outputs.append(NEXT_SENTENCE)
    if "classifier.weight" in tensors and not outputs:
        width = len(tensors["classifier.weight"])
        names = content.get("id2label") or {}
        labels = tuple(str(names.get(str(index), f"LABEL_{index}")) for index in range(width))
        if (content.get("architectures") or [""])[0].endswith("ForTokenClassification"):
            outputs.append(OutputConfig(name="tags", kind="tags", labels=labels, reads="tokens"))
        else:
            kinds = {problem: kind for kind, problem in PROBLEM_TYPES.items()}
            kind = kinds.get(content.get("problem_type") or "", "single" if width > 1 else "regression")
            outputs.append(
                OutputConfig(name="label", kind=kind, labels=() if kind == "regression" else labels)  # type: ignore[arg-type]
            )
    return tuple(outputs)


@torch.no_grad()
def fill(bert: Bert, tensors: Mapping[str, Tensor], directory: Path) -> LoadReport:
    """Copy `tensors` (published names) into the model; InputError where a shape is wrong."""
    names = encoder_names(bert.config.encoder.layers) | output_names(bert.config.outputs)
    found: dict[str, None] = {}
    untrained: dict[str, None] = {}
    used = set(DERIVED)
    for ours, parameter in bert.named_parameters():
        part = part_of(ours, bert)
        if not all(name in tensors for name in names[ours]):
            untrained[part] = None
            continue
        found[part] = None
        used.update(names[ours])
        tensor = torch.cat([tensors[name] for name in names[ours]])
        if tensor.shape != parameter.shape:
            raise InputError(
                f"{directory}: {names[ours][0]} has the shape {tuple(tensor.shape)}, but config.json asks for "
                f"{tuple(parameter.shape)}; weights and config.json do not belong together."
            )
        parameter.copy_(tensor)
    if "encoder" in untrained or "embeddings" in untrained:
        lacking = next(n for ours in names if part_of(ours, bert) in untrained for n in names[ours] if n not in tensors)
        raise InputError(f"{directory}: the weights lack {lacking}; this is not a whole BERT encoder.")
    unused = dict.fromkeys(".".join(name.split(".")[:2]) for name in tensors if name not in used)
    return LoadReport(
        str(directory),
        bert.config.encoder,
        tuple(found),
        tuple(part for part in untrained),
        tuple(unused),
    )


def part_of(name: str, bert: Bert) -> str:
    """The part of the model that a parameter belongs to, as a user would call it."""
    first, second = name.split(".")[:2]
    if first != "outputs":
        return first
    layer = bert.outputs[int(second)]
    assert isinstance(layer, OutputLayer)
    return f"output layer {layer.config.name!r}"
