"""What was exported says what the engine says: every kind of output, both runtimes, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import SENTENCES, random_bert

from bothways import InputError
from bothways.batch import Predictions
from bothways.export import run as module
from bothways.export import runtimes
from bothways.export.agreement import same_decisions
from bothways.export.graph import INPUTS, to_onnx
from bothways.export.run import export, loaded
from bothways.formats.reading import load_model
from bothways.formats.writing import save_model
from bothways.inference.answers import answers
from bothways.inference.engine import Engine, load_classifier
from bothways.model.config import EncoderConfig, OutputConfig
from bothways.tasks.tags import words_of
from bothways.tokenizer import Tokenizer

LABELS = ("a", "b", "c")
TOPIC = OutputConfig(name="topic", kind="single", labels=LABELS, set_threshold=0.3, temperature=1.7)
OUTPUTS = {
    "several": (
        TOPIC,
        OutputConfig(name="topic.distance", kind="mahalanobis", of="topic", labels=LABELS, distance_threshold=6.0),
        OutputConfig(name="parts", kind="multi", labels=("x", "y"), reads="mean", thresholds=(0.4, 0.6), temperature=2),
        OutputConfig(name="stars", kind="regression"),
        OutputConfig(name="mood", kind="single", labels=("好", "坏"), reads="mean"),
        OutputConfig(name="any", kind="multi", labels=("x", "y")),
    ),
    "tags": (OutputConfig(name="slots", kind="tags", labels=("O", "B-x", "I-x"), reads="tokens"), TOPIC),
}
TEXTS = [*SENTENCES, " ".join(SENTENCES), "", "film", "好"]
NO_TORCH = """
import runpy, sys
sys.modules["torch"] = sys.modules["bothways"] = None  # to import them is an error from now on
sys.argv = [sys.argv[1]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_model(encoder: EncoderConfig, tokenizer: Tokenizer, kinds: str = "several", **changes: Any) -> Engine:
    """A model directory `model`, and what the engine makes of it."""
    bert = random_bert(encoder, *OUTPUTS[kinds])
    bert.config = replace(bert.config, **changes)
    save_model("model", bert, tokenizer)
    return Engine(*load_classifier("model"), precision="fp32")


def run_script(lines: list[str], directory: str = "out") -> list[dict[str, Any]]:
    """What the exported script answers in a process that cannot import torch."""
    command = [sys.executable, "-c", NO_TORCH, f"{directory}/classify.py"]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def require_same(found: Any, expected: Any) -> None:
    """Equal, numbers to 1e-4."""
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            require_same(found[key], expected[key])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            require_same(one, other)
    else:
        assert found == (pytest.approx(expected, abs=1e-4) if isinstance(expected, float) else expected)


def require_answers(engine: Engine, found: list[dict[str, Any]], texts: list[Any], pairs: list[Any] | None) -> None:
    expected = list(answers(engine.tasks, texts, engine.run(engine.encode(texts, pairs))))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        require_same(one, other)


# ── Numbers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.parametrize("kinds", ["several", "tags"])
def test_the_script_answers_as_the_engine_without_torch(
    to: str, kinds: str, encoder_config: EncoderConfig, tokenizer: Tokenizer
) -> None:
    engine = write_model(encoder_config, tokenizer, kinds)
    done = export("model", "out", to=to)
    assert done.agreement.largest_difference < 1e-4
    assert done.agreement.same_decisions == 1.0
    assert done.truncated_to is None
    files = {"onnx": ["model.onnx"], "openvino": ["model.bin", "model.xml"]}[to]
    assert sorted(p.name for p in Path("out").iterdir()) == ["classify.py", "export.json", *files, "tokenizer.json"]
    found = run_script(TEXTS)
    assert any(answer["truncated"] for answer in found)
    texts: list[Any] = [words_of(text) for text in TEXTS] if kinds == "tags" else TEXTS
    require_answers(engine, found, texts, None)


@pytest.mark.parametrize("kinds", ["several", "tags"])
def test_pairs_are_truncated_as_the_model_does(kinds: str, encoder_config: EncoderConfig, tokenizer: Tokenizer) -> None:
    engine = write_model(encoder_config, tokenizer, kinds, text_columns=("text", "other"), max_length=20)
    export("model", "out", to="onnx")
    script = loaded(Path("out/classify.py"))
    texts, others = TEXTS, TEXTS[3:] + TEXTS[:3]
    found = list(script.answers(zip(texts, others, strict=True), batch_size=4))
    if kinds == "tags":
        require_answers(engine, found, [words_of(t) for t in texts], [words_of(t) for t in others])
        return
    require_answers(engine, found, texts, others)
    printed = run_script([f"{text}\t{other}" for text, other in zip(texts, others, strict=True)])
    require_same(printed, found)


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu"])
def test_every_activation(activation: str, encoder_config: EncoderConfig, tokenizer: Tokenizer) -> None:
    write_model(replace(encoder_config, activation=activation), tokenizer)  # type: ignore[arg-type]
    assert export("model", "out", to="onnx").agreement.largest_difference < 1e-4


def test_the_last_tokens_are_read_where_the_model_reads_them(
    encoder_config: EncoderConfig, tokenizer: Tokenizer
) -> None:
    engine = write_model(encoder_config, tokenizer, long_texts="tail", max_length=16)
    export("model", "out", to="onnx")
    require_answers(engine, list(loaded(Path("out/classify.py")).answers(TEXTS)), TEXTS, None)


@pytest.mark.parametrize("long_texts", ["both", "windows"])
def test_what_a_tokenizer_cannot_choose_is_the_head_and_that_is_told(
    long_texts: str, encoder_config: EncoderConfig, tokenizer: Tokenizer
) -> None:
    write_model(encoder_config, tokenizer, long_texts=long_texts, most_windows=4, max_length=16)
    assert export("model", "out", to="onnx").truncated_to == 16
    assert json.loads(Path("out/export.json").read_text("utf-8"))["long_texts"] == "head"


def test_a_published_encoder(minilm: Path) -> None:
    """Whose heads are 32 wide, and whose tokenizer.json comes from elsewhere."""
    bert, published, _ = load_model(minilm)
    bert.attach(TOPIC, OutputConfig(name="mood", kind="single", labels=("x", "y"), reads="mean"))
    save_model("model", bert, published)
    Path("some.csv").write_text("text\n" + "".join(f'"{text}"\n' for text in SENTENCES), "utf-8")
    assert export("model", "out", to="onnx", texts="some.csv").agreement.largest_difference < 1e-4


def test_the_graph_is_one_that_checkers_accept_and_has_its_shapes(
    encoder_config: EncoderConfig,
) -> None:
    bert = random_bert(encoder_config, *OUTPUTS["several"], OUTPUTS["tags"][0])
    graph = onnx.shape_inference.infer_shapes(to_onnx(bert, ["topic", "slots"]), strict_mode=True).graph
    shapes = {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert shapes == {
        **{name: ["batch", "length"] for name in INPUTS},
        "topic": ["batch", 3],
        "slots": ["batch", "length", 3],
    }


# ── int8 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_int8_is_smaller_and_tells_how_many_labels_stay(encoder_config: EncoderConfig, tokenizer: Tokenizer) -> None:
    wide = replace(encoder_config, hidden_size=128, feed_forward_size=512)
    write_model(wide, tokenizer)
    export("model", "fp32", to="onnx")
    done = export("model", "int8", to="onnx", precision="int8")
    assert 0.9 < done.agreement.same_decisions <= 1.0
    assert 1e-4 < done.agreement.largest_difference < 2
    assert json.loads(Path("int8/export.json").read_text("utf-8"))["checked"] == done.agreement.as_json()
    weights = {w.name: w for w in onnx.load("int8/model.onnx").graph.initializer}
    quantized = [name for name, w in weights.items() if w.data_type == onnx.TensorProto.INT8 and w.dims]
    assert len([name for name in quantized if name.endswith("weight_quantized")]) == 4 * wide.layers
    assert not [name for name in quantized if name.startswith(("/pooling", "/outputs"))]
    assert Path("int8/model.onnx").stat().st_size < 0.5 * Path("fp32/model.onnx").stat().st_size
    assert len(run_script(TEXTS, "int8")) == len(TEXTS)


@pytest.mark.filterwarnings("ignore")
def test_int8_of_openvino_learns_from_some_texts_and_is_checked_on_others(
    encoder_config: EncoderConfig, tokenizer: Tokenizer
) -> None:
    pytest.importorskip("nncf")
    write_model(encoder_config, tokenizer)
    Path("some.csv").write_text("text\n" + "".join(f'"{text}"\n' for text in TEXTS), "utf-8")
    done = export("model", "out", to="openvino", precision="int8", texts="some.csv")
    assert done.agreement.texts == len(TEXTS) // 2
    assert 1e-4 < done.agreement.largest_difference < 2
    assert len(run_script(TEXTS)) == len(TEXTS)


def test_labels_decided_alike_are_counted_one_by_one(encoder_config: EncoderConfig, tokenizer: Tokenizer) -> None:
    engine = write_model(encoder_config, tokenizer)
    logits = {layer.name: np.ones((4, 1 if layer.reads == "x" else 3), np.float32) for layer in engine.layers}
    logits |= {name: np.full((4, 2), -9, np.float32) for name in ("parts", "mood", "any")}
    logits["topic"] = np.eye(4, 3, dtype=np.float32)
    other = dict(logits, topic=np.eye(4, 3, 1, dtype=np.float32))  # of four texts three have another label
    other["any"] = np.where([[1, 0]] * 4, 9, -9).astype(np.float32)  # and one of the two labels here
    found = same_decisions(engine, Predictions([], logits, {}), Predictions([], other, {}))
    assert found == pytest.approx(1 - (3 + 4) / (4 + 8 + 4 + 8))


# ── Mistakes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def refuses(**changes: Any) -> str:
    with pytest.raises(InputError) as error:
        export("model", "out", **{"to": "onnx", **changes})
    assert not Path("out").exists()
    return str(error.value)


def test_texts_of_a_table_are_checked(encoder_config: EncoderConfig, tokenizer: Tokenizer) -> None:
    write_model(encoder_config, tokenizer)
    rows = ["text,label", *(f'"{text}",a' for text in SENTENCES)]
    Path("some.csv").write_text("\n".join(rows), "utf-8")
    Path("none.csv").write_text("text\n")
    Path("other.csv").write_text("body\nx\n")
    assert export("model", "checked", to="onnx", texts="some.csv").agreement.texts == len(SENTENCES)
    assert "none.csv: there is no text to check the export on" in refuses(texts="none.csv")
    assert "other.csv, line 2: there is no column 'text'" in refuses(texts="other.csv")


def test_a_package_that_is_missing_is_named(
    encoder_config: EncoderConfig, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(encoder_config, tokenizer)
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None if name in ("openvino", "nncf") else name)
    assert refuses(to="openvino") == "This export needs openvino; install it with pip install 'bothways[export]'."
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None if name == "nncf" else name)
    assert refuses(to="openvino", precision="int8") == "This export needs nncf; install it with pip install nncf."
    monkeypatch.setattr(runtimes, "find_spec", lambda name: name)
    assert "name a table with --texts" in refuses(to="openvino", precision="int8")


def test_a_graph_that_computes_something_else_is_refused(
    encoder_config: EncoderConfig, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(encoder_config, tokenizer)
    monkeypatch.setattr("bothways.export.graph.MASKED", -1.0)  # padding is looked at a little
    assert "nothing was written" in refuses()


def test_a_tokenizer_that_reads_otherwise_is_refused(
    encoder_config: EncoderConfig, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(encoder_config, tokenizer, max_length=20)
    monkeypatch.setitem(module.TRUNCATED_AT, "head", "left")
    assert "does not read a text as the model does" in refuses()


@pytest.mark.parametrize("name", ["input_ids", "/x"])
def test_an_output_named_as_an_input_is_refused(name: str, encoder_config: EncoderConfig, tokenizer: Tokenizer) -> None:
    save_model("model", random_bert(encoder_config, replace(TOPIC, name=name)), tokenizer)
    assert f"Output {name!r} has a name that the graph needs" in refuses()


def test_nothing_is_overwritten_unasked(encoder_config: EncoderConfig, tokenizer: Tokenizer) -> None:
    write_model(encoder_config, tokenizer)
    Path("there").mkdir()
    with pytest.raises(InputError, match="there exists already"):
        export("model", "there", to="onnx")
    with pytest.raises(InputError, match="in use"):
        export("model", "model", to="onnx", overwrite=True)
    export("model", "there", to="onnx", overwrite=True)


def test_an_encoder_without_outputs_is_refused(encoder_directory: Path) -> None:
    with pytest.raises(InputError, match="no output layer that classifies"):
        export(encoder_directory, "out", to="onnx")
