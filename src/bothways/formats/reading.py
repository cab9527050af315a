"""Reading a model directory, ours or any published BERT's; `formats.writing` says what is in one, `formats.google` what
is in those of 2018."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bothways.checks import fits, spelled
from bothways.errors import InputError
from bothways.files.json_object import read_json_object
from bothways.files.signs import require_own_content
from bothways.formats.google import checkpoint_files, checkpoint_of, read_checkpoint
from bothways.formats.names import (
    ACTIVATION_NAMES,
    DERIVED,
    ENCODER_KEYS,
    ENCODER_VALUES,
    OLD_KINDS,
    OLD_NAMES,
    ONLY,
    PROBLEM_TYPES,
    REQUIRED,
    WRAPPERS,
    encoder_names,
    output_names,
)
from bothways.model.bert import Bert
from bothways.model.config import MASKED_LM, NEXT_SENTENCE, BertConfig, EncoderConfig, Int8Agreement, OutputConfig
from bothways.model.outputs import OutputLayer
from bothways.randomness import keeping_torch_state
from bothways.tokenizer import Tokenizer
from bothways.vocabulary import GOOGLE_SETTINGS, cleaning_of_google, is_google, read_settings

BASELINE = "baseline.json"
"""What describes a saved method of `baselines`."""


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
    remark: str = ""
    """What else there is to know, as half a sentence."""

    def __str__(self) -> str:
        encoder = self.encoder
        sentence = (
            f"{self.source}: read a {encoder.layers}-layer encoder, {encoder.hidden_size} wide, "
            f"with {listed(self.found)}"
        )
        sentence += f"; untrained: {listed(self.untrained)}" if self.untrained else "; nothing is missing"
        if self.unused:
            sentence += f"; left aside: {listed(self.unused)}"
        sentence += f"; {self.remark}" if self.remark else ""
        return sentence + "."


def listed(names: tuple[str, ...]) -> str:
    return ", ".join(names)


def load_model(path: str | os.PathLike) -> tuple[Bert, Tokenizer, LoadReport]:
    """Read a model directory, ours or any published BERT's, with the output layers it describes.

    Weights come back in fp32. Raises InputError, naming the file, if one is missing, damaged or a pickle, if a setting
    makes no sense or is not supported, if a weight is not finite or of a wrong shape, or if the vocabulary does not
    fit.
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
    weights = read_weights(directory, ours="bothways" in content)
    if "bothways" not in content:
        longest = read_settings(directory).get("model_max_length") or config.encoder.max_positions
        config = BertConfig(
            encoder=config.encoder,
            outputs=discover_outputs(content, weights.tensors, settings_file(directory)),
            max_length=int(min(longest, config.encoder.max_positions)),
        )
    with torch.device("meta"):  # before memory is taken for whatever config.json asks for
        check_shapes(Bert(config), weights, directory)
    with keeping_torch_state():
        bert = Bert(config).eval()
    return bert, tokenizer, replace(fill(bert, weights, directory), remark=cleaning_of_google(directory))


def settings_file(directory: Path) -> Path:
    """config.json, or bert_config.json in a directory of Google's that has no other."""
    return directory / (GOOGLE_SETTINGS if is_google(directory) else "config.json")


def read_config(directory: Path) -> dict[str, Any]:
    """The content of config.json; InputError for a model whose logits would be others than those published."""
    path = settings_file(directory)
    try:
        content = read_json_object(path)
    except FileNotFoundError:
        if (directory / BASELINE).exists():
            raise InputError(
                f"{directory}: this is a simpler method, not BERT; read it in Python with `load` of its class in "
                f"bothways.baselines."
            ) from None
        raise InputError(f"{directory}: config.json is missing; this is not a model directory.") from None
    if path.name == GOOGLE_SETTINGS:
        content = {"model_type": "bert", **content}
    if content.get("model_type") != "bert":
        raise InputError(f"{path}: model_type is {content.get('model_type')!r}; only 'bert' can be read.")
    for key, value in ONLY.items():
        if content.get(key, value) not in (value, None):
            raise InputError(f"{path}: {key} is {content[key]!r}; only models with {value!r} can be read.")
    return content


def from_published_config(content: Mapping[str, Any], directory: Path) -> BertConfig:
    """config.json → settings; without a `bothways` section the outputs stay open."""
    where = f"{settings_file(directory)}"
    check_encoder(content, where)
    given = {ours: content[theirs] for ours, theirs in ENCODER_KEYS.items() if theirs in content}
    given["activation"] = ACTIVATION_NAMES[given.get("activation", "gelu")]
    encoder = from_mapping(EncoderConfig, given, where)
    if "bothways" not in content:
        return BertConfig(encoder=encoder)
    ours = content["bothways"]
    if not isinstance(ours, dict):
        raise InputError(f"{where}: bothways is {ours!r}; it must be an object.")
    if ours.get("format") != 1:
        raise InputError(f"{where}: written by a newer bothways (format {ours.get('format')}); update the package.")
    outputs = ours.get("outputs", [])
    if not isinstance(outputs, list) or not all(isinstance(output, dict) for output in outputs):
        raise InputError(f"{where}: outputs is {outputs!r}; it must be a list of objects.")
    int8 = ours.get("int8")
    if not isinstance(int8, dict | None):
        raise InputError(f"{where}: int8 is {int8!r}; it must be an object.")
    return from_mapping(
        BertConfig,
        {
            "encoder": encoder,
            "outputs": tuple(from_mapping(OutputConfig, renamed(output), where) for output in outputs),
            "int8": int8 and from_mapping(Int8Agreement, int8, where),
            **{key: value for key, value in ours.items() if key not in ("format", "outputs", "int8")},
        },
        where,
    )


def check_encoder(content: Mapping[str, Any], where: str) -> None:
    """Raise InputError, naming the key, unless the encoder's settings in config.json make sense."""
    for key in REQUIRED:
        if key not in content:
            raise InputError(f"{where}: {key} is missing; restore it.")
    for key, (kind, least, most) in ENCODER_VALUES.items():
        value = content.get(key, least)
        if not fits(value, kind) or not least <= value <= most:
            name = "a whole number" if kind is int else "a number"
            raise InputError(f"{where}: {key} is {value!r}; it must be {name} from {least} to {most}.")
    activation = content.get("hidden_act", "gelu")
    if not isinstance(activation, str) or activation not in ACTIVATION_NAMES:
        raise InputError(f"{where}: hidden_act is {activation!r}; it must be one of {', '.join(ACTIVATION_NAMES)}.")
    hidden, heads = content["hidden_size"], content["num_attention_heads"]
    if hidden % heads:
        raise InputError(f"{where}: num_attention_heads is {heads}, which does not divide hidden_size {hidden}.")


def renamed(output: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an output layer under today's names."""
    kind = str(output.get("kind"))
    return {**output, "kind": OLD_KINDS.get(kind, kind)}


Config = TypeVar("Config")


def from_mapping(cls: type[Config], given: Mapping[str, Any], where: str) -> Config:
    """A configuration dataclass from JSON; InputError for a key it does not have or lacks, or a value it cannot
    take."""
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(given) - known):
        raise InputError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}.")
    hints = get_type_hints(cls)
    for key, value in given.items():
        if not fits(value, hints[key]):
            raise InputError(f"{where}: {key} is {value!r}; it must be {spelled(hints[key])}.")
    try:
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()})
    except (TypeError, InputError) as error:
        raise InputError(f"{where}: {str(error).rstrip('.')}.") from None


@dataclass(frozen=True)
class Weights:
    """The tensors of a directory under today's published names, without the leading `bert.`."""

    tensors: dict[str, Tensor]
    """Name → tensor; floating-point ones in fp32."""
    files: dict[str, Path]
    """Name → the file that holds it."""

    def used(self, name: str) -> Tensor:
        """A tensor that the model has a place for; InputError if it is not made of finite numbers."""
        tensor, place = self.tensors[name], f"{self.files[name]}: {name}"
        if not tensor.is_floating_point():
            raise InputError(f"{place} is of type {tensor.dtype}; only floating-point weights can be read.")
        if not tensor.sum().isfinite() and not tensor.isfinite().all():  # a sum is faster, but can overflow
            raise InputError(f"{place} has values that are NaN or infinite; take the weights of before they broke.")
        return tensor


def read_weights(directory: Path, *, ours: bool) -> Weights:
    """All tensors of the files that `transformers` reads; of a directory of `ours`, those of outputs.safetensors too.

    Raises InputError if a file is missing, damaged or a pickle, or if a tensor is there twice.
    """
    weights = Weights({}, {})
    if (checkpoint := checkpoint_of(directory)) is not None:
        for name, (tensor, file) in read_checkpoint(checkpoint).items():
            weights.tensors[name], weights.files[name] = tensor, file
        return weights
    for file in [*weight_files(directory), *([directory / "outputs.safetensors"] if ours else [])]:
        if not file.is_file() and file.name == "outputs.safetensors":
            continue
        try:
            with safe_open(file, framework="pt") as tensors:
                for published in tensors.keys():  # noqa: SIM118 (this object is no mapping)
                    name = published if file.name == "outputs.safetensors" else todays_name(published)
                    if name in weights.tensors:
                        raise InputError(f"{file}: {published} is there twice, in two files or under two names.")
                    tensor = tensors.get_tensor(published)
                    weights.tensors[name] = tensor.float() if tensor.is_floating_point() else tensor
                    weights.files[name] = file
        except (SafetensorError, OSError) as error:
            require_own_content(file)
            raise InputError(f"{file}: the weights cannot be read ({error}); fetch the file again.") from None
    return weights


def weight_files(directory: Path) -> list[Path]:
    """model.safetensors or, if there is none, the files that model.safetensors.index.json names, or a checkpoint of
    TensorFlow's."""
    single, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        places = read_json_object(index).get("weight_map")
        if (
            not isinstance(places, dict)
            or not places
            or not all(isinstance(name, str) and Path(name).name == name for name in places.values())
        ):
            raise InputError(f"{index}: weight_map must say for each weight which file beside it holds it.")
        files = [directory / name for name in sorted(set(places.values()))]
        if missing := [file for file in files if not file.is_file()]:
            raise InputError(f"{missing[0]} is missing, though {index.name} names it; restore it.")
        return files
    if (checkpoint := checkpoint_of(directory)) is not None:
        return checkpoint_files(checkpoint)
    pickles = sorted([*directory.glob("*.bin"), *directory.glob("*.pt"), *directory.glob("*.ckpt*")])
    if pickles:
        raise InputError(
            f"{pickles[0]}: weights in a pickle can run any code when opened, so they are not read; "
            f"have the directory converted to model.safetensors."
        )
    others = sorted(path for ending in ("*.h5", "*.msgpack", "*.onnx") for path in directory.glob(ending))
    if others:
        raise InputError(f"{others[0]}: weights of another program are not read; convert them to model.safetensors.")
    raise InputError(f"{directory}: model.safetensors is missing; restore it.")


def todays_name(name: str) -> str:
    """A tensor's name in a published file → the name that it has today, without the leading `bert.`."""
    while wrapper := next((wrapper for wrapper in WRAPPERS if name.startswith(wrapper)), ""):
        name = name.removeprefix(wrapper)
    for old, new in OLD_NAMES.items():
        name = name.replace(old, new)
    return name.removeprefix("bert.")


def discover_outputs(content: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> tuple[OutputConfig, ...]:
    """The output layers of a published directory, told by its tensors and its config.json at `path`."""
    outputs = []
    if "cls.predictions.bias" in tensors and content.get("tie_word_embeddings", True) is not False:
        outputs.append(MASKED_LM)  # whose weights from features to words are the token embeddings
    if "cls.seq_relationship.weight" in tensors:
        outputs.append(NEXT_SENTENCE)
    names = content.get("architectures") or [""]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path}: architectures is {names!r}; it must be a list of names.")
    choice = names[0].endswith("ForMultipleChoice")  # its classifier sets one of several texts against the others
    if "classifier.weight" in tensors and not outputs and not choice:
        width = len(tensors["classifier.weight"])
        if names[0].endswith("ForTokenClassification"):
            labels = published_labels(content, width, path)
            outputs.append(OutputConfig(name="tags", kind="tags", labels=labels, reads="tokens"))
        else:
            kinds = {problem: kind for kind, problem in PROBLEM_TYPES.items()}
            problem = content.get("problem_type")
            kind = "single" if width > 1 else "regression"
            if problem is not None:
                if (
                    not isinstance(problem, str)
                    or problem not in kinds
                    or (problem == PROBLEM_TYPES["single"] and width == 1)
                ):
                    raise InputError(
                        f"{path}: problem_type is {problem!r} for {width} logits; it must be null or one of "
                        f"{', '.join(kinds)}."
                    )
                kind = kinds[problem]
            labels = () if kind == "regression" else published_labels(content, width, path)
            outputs.append(OutputConfig(name="label", kind=kind, labels=labels))  # type: ignore[arg-type]
    return tuple(outputs)


def published_labels(content: Mapping[str, Any], width: int, path: Path) -> tuple[str, ...]:
    """The names of `width` classes in the order of their logits, from `id2label` in config.json at `path`."""
    names = content.get("id2label")
    if names is None:
        return tuple(f"LABEL_{index}" for index in range(width))
    numbers = [key.isdecimal() and int(key) for key in names] if isinstance(names, dict) else []
    if sorted(numbers) != list(range(width)) or not all(isinstance(name, (str, int, float)) for name in names.values()):
        raise InputError(f"{path}: id2label must give each of the {width} classes, from 0 to {width - 1}, a name.")
    labels = tuple(str(name) for _, name in sorted(zip(numbers, names.values(), strict=True)))
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise InputError(f"{path}: id2label calls two classes {twice[0]!r}; give each a name of its own.")
    return labels


def check_shapes(bert: Bert, weights: Weights, directory: Path) -> None:
    """Raise InputError where a tensor has another shape than config.json asks for."""
    settings = settings_file(directory).name
    names = encoder_names(bert.config.encoder.layers) | output_names(bert.config.outputs)
    for ours, parameter in bert.named_parameters():
        tensors = [weights.tensors[name] for name in names[ours] if name in weights.tensors]
        shape = (len(parameter) // len(names[ours]), *parameter.shape[1:])
        for tensor in tensors:
            if tensor.shape != shape:
                raise InputError(
                    f"{directory}: {names[ours][0]} has the shape {tuple(tensor.shape)}, but {settings} asks for "
                    f"{shape}; weights and {settings} do not belong together."
                )


@torch.no_grad()
def fill(bert: Bert, weights: Weights, directory: Path) -> LoadReport:
    """Copy weights into the model; InputError where one is not finite or the encoder lacks one."""
    tensors = weights.tensors
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
        parameter.copy_(torch.cat([weights.used(name) for name in names[ours]]))
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
