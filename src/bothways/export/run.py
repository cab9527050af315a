"""From a model directory to one that other runtimes use, checked against the engine before it takes its name.

model.onnx or model.xml, model.bin   the graph with its weights
tokenizer.json                       the tokenizer, which truncates and pads as the model needs it
export.json                          labels, temperatures and thresholds: how logits become answers; what was checked
classify.py                          a script that answers texts with these files, without torch
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import tokenizers

from bothways.errors import InputError
from bothways.export.agreement import Agreement, agreement
from bothways.export.runtimes import RUNTIMES, ExportPrecision, Runtime
from bothways.export.samples import Samples, samples_of
from bothways.files.writing import new_directory, refuse_existing
from bothways.formats.hub import files_of, locate
from bothways.formats.writing import write_json
from bothways.inference.engine import Engine, load_classifier
from bothways.language import CHINESE
from bothways.long_texts import LongTexts
from bothways.model.config import BertConfig
from bothways.tasks import Task
from bothways.tokenizer import Tokenizer
from bothways.vocabulary import PAD, add_special_tokens

TOLERANCE = 1e-4
"""Logits in fp32 may differ by so much from the engine's."""
READ: dict[LongTexts, LongTexts] = {"head": "head", "tail": "tail"}
"""What is read of long texts, where the tokenizer alone can choose it; in place of the others it is their head."""
TRUNCATED_AT = {"head": "right", "tail": "left"}
SCRIPT = "classify.py"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What became of a model."""

    agreement: Agreement
    """How far it says what the engine says."""
    truncated_to: int | None
    """Where the model reads more of long texts than what was exported does: the tokens that this reads."""


def export(
    model: str | os.PathLike,
    out: str | os.PathLike,
    *,
    to: str,
    precision: ExportPrecision = "fp32",
    texts: str | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write the classifier `model` for the runtime `to` (onnx or openvino) into the directory `out`.

    `texts`: a table on whose texts it is checked, with the columns that the model reads; None: on a few that are built
    in. Raises InputError if a package is missing, the model cannot be exported, or what was exported in fp32 differs
    from the engine by more than `TOLERANCE`; then nothing is left behind.
    """
    runtime = RUNTIMES[to]
    runtime.require(precision)
    model_directory = locate(model)
    refuse_existing(out, overwrite, reads=(texts, *files_of(model_directory)))
    if texts is None and runtime.learns_from_texts(precision):
        raise InputError(f"In {precision} {to} learns from texts how large activations are; name a table with --texts.")
    bert, tokenizer = load_classifier(model)
    wanted = bert.config
    bert.config = replace(wanted, long_texts=READ.get(wanted.long_texts, "head"))
    engine = Engine(bert, tokenizer, precision="fp32")
    learned, checked = parts_of(samples_of(engine, texts), runtime, precision)

    from bothways.export.graph import to_onnx  # which imports onnx

    with new_directory(out, overwrite) as directory:
        tokenizer_for(bert.config, tokenizer).save(str(directory / "tokenizer.json"))
        names = [layer.name for layer in engine.layers]
        inputs = [inputs_of(engine, learned[i : i + 1]) for i in range(len(learned.texts))]
        runtime.write(to_onnx(bert, names), directory, precision, inputs)
        description = description_of(engine, to, precision)
        write_json(directory / "export.json", description)
        (directory / SCRIPT).write_text(script_for(runtime), "utf-8")
        found = agreement(engine, loaded(directory / SCRIPT), checked.texts, checked.pairs)
        if precision == "fp32" and not found.largest_difference <= TOLERANCE:
            raise InputError(
                f"What was exported differs from the model by {found.largest_difference:.2g} in a logit, more than "
                f"{TOLERANCE:g}; nothing was written. Another version of the runtime may do better."
            )
        write_json(directory / "export.json", description | {"checked": found.as_json()})
    return Exported(
        agreement=found,
        truncated_to=None if wanted.long_texts in READ else wanted.longest,
    )


def parts_of(samples: Samples, runtime: Runtime, precision: ExportPrecision) -> tuple[Samples, Samples]:
    """The texts to learn from, and those to check on, which are others if there are several."""
    if not runtime.learns_from_texts(precision):
        return samples[:0], samples
    return samples[::2], samples[1::2] if len(samples.texts) > 1 else samples


def inputs_of(engine: Engine, samples: Samples) -> dict[str, Any]:
    """One text as the graph reads it, (1, length) int64 each."""
    (encoding,) = engine.encode(samples.texts, samples.pairs)
    ids = encoding.token_ids.astype("int64")[None]
    segments = encoding.segment_ids.astype("int64")[None]
    return {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": segments}


def tokenizer_for(config: BertConfig, tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    """The tokenizer with truncation, padding and special tokens set, so that nothing but the library is needed."""
    backend = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    add_special_tokens(backend)
    backend.enable_truncation(config.longest, direction=TRUNCATED_AT[config.long_texts])
    backend.enable_padding(pad_id=backend.token_to_id(PAD), pad_token=PAD)
    return backend


def description_of(engine: Engine, to: str, precision: ExportPrecision) -> dict[str, Any]:
    """The content of export.json, without what was checked."""
    return {
        "format": 1,
        "runtime": to,
        "precision": precision,
        "text_columns": list(engine.config.text_columns),
        "words": engine.pretokenized,
        "by_character": CHINESE.pattern,
        "max_length": engine.config.longest,
        "long_texts": engine.config.long_texts,
        "outputs": {task.name: described(task) for task in engine.tasks},
    }


def described(task: Task) -> dict[str, Any]:
    """How the logits of an output become an answer."""
    output, detector = task.output, task.detector if task.tells_known else None
    return {
        "kind": output.kind,
        "labels": list(output.labels),
        "temperature": output.temperature,
        "thresholds": list(output.thresholds),
        "set_threshold": output.set_threshold,
        "distance": detector and detector.name,
        "distance_threshold": detector and detector.distance_threshold,
    }


def script_for(runtime: Runtime) -> str:
    """The text of `classify.py`."""
    text = (Path(__file__).parent / "templates" / "classify.py.txt").read_text("utf-8")
    for place, lines in runtime.script.items():
        text = text.replace("{{" + place + "}}", lines)
    return text


def loaded(script: Path) -> ModuleType:
    """The script as a module; nothing of it is kept on the disk or in `sys.modules`."""
    module = ModuleType(script.stem)
    module.__file__ = str(script)
    exec(compile(script.read_text("utf-8"), str(script), "exec"), module.__dict__)
    return module
