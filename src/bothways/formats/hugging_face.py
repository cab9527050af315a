"""A model directory is a Hugging Face directory.

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
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bothways.errors import InputError
from bothways.model.bert import Bert
from bothways.model.config import MASKED_WORD, NEXT_SENTENCE, BertConfig, EncoderConfig, OutputConfig
from bothways.model.outputs import OutputLayer
from bothways.storage import new_directory
from bothways.tokenizer import Tokenizer

# ── Names: ours → theirs. Where several of theirs make one of ours, they are stacked along the first axis. ──────────

EMBEDDING_NAMES = {
    "embeddings.token.weight": "embeddings.word_embeddings.weight",
    "embeddings.segment.weight": "embeddings.token_type_embeddings.weight",
    "embeddings.position.weight": "embeddings.position_embeddings.weight",
    "embeddings.norm.*": "embeddings.LayerNorm.*",
}
LAYER_NAMES: dict[str, str | tuple[str, ...]] = {
    "attention.query_key_value.*": ("attention.self.query.*", "attention.self.key.*", "attention.self.value.*"),
    "attention.output.*": "attention.output.dense.*",
    "attention_norm.*": "attention.output.LayerNorm.*",
    "feed_forward.expand.*": "intermediate.dense.*",
    "feed_forward.contract.*": "output.dense.*",
    "feed_forward_norm.*": "output.LayerNorm.*",
}
POOLING_NAMES = {"pooling.dense.*": "pooler.dense.*"}
OUTPUT_NAMES = {
    "masked_word": {
        "transform.*": "cls.predictions.transform.dense.*",
        "norm.*": "cls.predictions.transform.LayerNorm.*",
        "bias": "cls.predictions.bias",
    },
    "next_sentence": {"projection.*": "cls.seq_relationship.*"},
    "classifier": {"projection.*": "classifier.*"},
}
OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
DERIVED = ("embeddings.position_ids", "cls.predictions.decoder.weight", "cls.predictions.decoder.bias")
"""Tensors in published files that repeat others or can be counted out."""

ENCODER_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "feed_forward_size": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "segments": "type_vocab_size",
    "activation": "hidden_act",
    "norm_epsilon": "layer_norm_eps",
    "dropout": "hidden_dropout_prob",
    "initializer_range": "initializer_range",
}
ACTIVATION_NAMES = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
PROBLEM_TYPES = {
    "single": "single_label_classification",
    "multi": "multi_label_classification",
    "regression": "regression",
}
ARCHITECTURES = {
    ("masked_word", "next_sentence"): "BertForPreTraining",
    ("masked_word",): "BertForMaskedLM",
    ("next_sentence",): "BertForNextSentencePrediction",
    ("single",): "BertForSequenceClassification",
    ("multi",): "BertForSequenceClassification",
    ("regression",): "BertForSequenceClassification",
    ("tags",): "BertForTokenClassification",
}
"""Kinds of output layer → the class of `transformers` that has exactly these."""


def expand(table: Mapping[str, str | tuple[str, ...]], ours: str = "", theirs: str = "") -> dict[str, tuple[str, ...]]:
    """Spell out `*` as weight and bias, put prefixes before both sides, and make every right side a tuple."""
    spelled = {}
    for our_name, their_names in table.items():
        for end in ("weight", "bias") if "*" in our_name else ("",):
            names = (their_names,) if isinstance(their_names, str) else their_names
            spelled[ours + our_name.replace("*", end)] = tuple(theirs + n.replace("*", end) for n in names)
    return spelled


def encoder_names(layers: int) -> dict[str, tuple[str, ...]]:
    """Parameter names of the encoder: ours → theirs, without the `bert.` that stands before theirs in most files."""
    names = expand(EMBEDDING_NAMES)
    for layer in range(layers):
        names |= expand(LAYER_NAMES, f"encoder.layers.{layer}.", f"encoder.layer.{layer}.")
    return names | expand(POOLING_NAMES)


def published(outputs: tuple[OutputConfig, ...]) -> bool:
    """Whether `transformers` has a class with exactly these output layers."""
    return architecture(outputs) != "BertModel"


def architecture(outputs: tuple[OutputConfig, ...]) -> str:
    """The class of `transformers` that has exactly these output layers, reading what it reads; else a bare encoder."""
    if any(output.reads == "mean" for output in outputs):
        return "BertModel"
    return ARCHITECTURES.get(tuple(sorted(output.kind for output in outputs)), "BertModel")


def output_names(outputs: tuple[OutputConfig, ...]) -> dict[str, tuple[str, ...]]:
    """Parameter names of the output layers: ours → those in the files."""
    names: dict[str, tuple[str, ...]] = {}
    for index, output in enumerate(outputs):
        table = OUTPUT_NAMES.get(output.kind, OUTPUT_NAMES["classifier"])
        if published(outputs) or output.kind in OUTPUT_NAMES:
            names |= expand(table, f"outputs.{index}.")
        else:
            names |= expand({"projection.*": f"outputs.{output.name}.*"}, f"outputs.{index}.")
    return names


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
        part = others if ours.startswith("outputs.") and not prefix else model
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
        "attention_probs_dropout_prob": config.encoder.dropout,
        "pad_token_id": 0,
        "dtype": str(dtype).removeprefix("torch."),
    }
    if len(config.outputs) == 1 and (output := config.outputs[0]).kind in (*PROBLEM_TYPES, "tags"):
        labels = output.labels or (output.name,)
        content["id2label"] = {str(index): label for index, label in enumerate(labels)}
        content["label2id"] = {label: index for index, label in enumerate(labels)}
        if output.kind in PROBLEM_TYPES:
            content["problem_type"] = PROBLEM_TYPES[output.kind]
    content["bothways"] = {
        "format": 1,
        "max_length": config.longest,
        "text_columns": list(config.text_columns),
        "outputs": [asdict(output) for output in config.outputs],
    }
    return content


def default_card(config: BertConfig) -> str:
    """A model card that says what can be read off the settings."""
    encoder = config.encoder
    outputs = "".join(
        f"- `{output.name}`: {output.kind}" + (f", {len(output.labels)} labels\n" if output.labels else "\n")
        for output in config.outputs
    )
    return (
        "---\nlibrary_name: bothways\npipeline_tag: text-classification\n---\n\n"
        f"# BERT, {encoder.layers} layers, {encoder.hidden_size} wide\n\n"
        f"Vocabulary {encoder.vocab_size}, texts of up to {config.longest} tokens.\n\n"
        f"## Output layers\n\n{outputs or 'None.'}\n"
    )


def write_json(path: Path, content: Any) -> None:
    """Write `content` as readable UTF-8 JSON."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


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
            "outputs": tuple(from_mapping(OutputConfig, output, where) for output in ours.get("outputs", ())),
            **{key: value for key, value in ours.items() if key not in ("format", "outputs")},
        },
        where,
    )


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
        outputs.append(MASKED_WORD)
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
