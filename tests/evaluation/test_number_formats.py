"""A model directory says how far answers in int8 are those in fp32."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import films, random_bert

from bothways import InputError, TextClassifier
from bothways.classifier import as_table
from bothways.evaluation import number_formats
from bothways.evaluation.number_formats import int8_agreement
from bothways.finetuning.config import FinetuningConfig
from bothways.formats.reading import load_model
from bothways.formats.writing import save_model
from bothways.hardware import int8_bits
from bothways.inference.engine import Engine
from bothways.model.config import EncoderConfig, Int8Agreement, OutputConfig
from bothways.tasks.statistics import wilson_interval
from bothways.tokenizer import Tokenizer

LABEL = OutputConfig(name="label", kind="single", labels=("a", "b", "c"))
NUMBER = OutputConfig(name="number", kind="regression")
needs_int8 = pytest.mark.skipif(not int8_bits(), reason="there is no int8 for this processor, or no compiler was here")


@pytest.fixture
def encoder_of_whole_panels(encoder_config: EncoderConfig, tokenizer: Tokenizer, tmp_path: Path) -> Path:
    """One that there are kernels for."""
    config = replace(encoder_config, hidden_size=64, feed_forward_size=128)
    save_model(tmp_path / "whole-panels", random_bert(config), tokenizer)
    return tmp_path / "whole-panels"


@needs_int8
def test_the_share_of_equal_labels_is_counted(encoder_config: EncoderConfig, tokenizer: Tokenizer) -> None:
    bert = random_bert(replace(encoder_config, hidden_size=64), LABEL, NUMBER)
    torch.nn.init.normal_(bert.output("label").projection.weight, std=1e-4)  # so that labels are close calls
    texts, names = films(300)
    found = int8_agreement(bert, tokenizer, as_table(list(texts), None, list(names), "films"))
    logits = [
        engine.run(engine.encode(texts)).logits["label"].argmax(-1)
        for engine in (Engine(bert, tokenizer, precision="fp32"), Engine(bert, tokenizer, precision="int8"))
    ]
    assert found is not None
    assert found.rows == 300
    equal = logits[0] == logits[1]
    assert found.agreement == pytest.approx(float(np.mean(equal)), abs=1e-4)
    assert found.at_least == pytest.approx(wilson_interval(equal.sum(), 300)[0], abs=1e-4)


def test_a_model_without_labels_and_a_machine_without_int8_say_nothing(
    encoder_config: EncoderConfig, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, names = films(20)
    table = as_table(list(texts), None, list(names), "films")
    assert int8_agreement(random_bert(encoder_config, NUMBER), tokenizer, table) is None
    monkeypatch.setattr(number_formats, "fits", lambda config: False)
    assert int8_agreement(random_bert(encoder_config, LABEL), tokenizer, table) is None


@needs_int8
def test_a_trained_classifier_carries_it_and_training_anew_forgets_it(
    encoder_of_whole_panels: Path, tmp_path: Path
) -> None:
    texts, names = films(200)
    classifier = TextClassifier(encoder_of_whole_panels, epochs=1, held_out=0.2).fit(texts, names)
    classifier.save(tmp_path / "model")
    written = json.loads((tmp_path / "model" / "config.json").read_text())["bothways"]["int8"]
    assert written["rows"] == 40
    assert written["bits"] == int8_bits()
    assert load_model(tmp_path / "model")[0].config.int8 == Int8Agreement(**written)
    again = TextClassifier(tmp_path / "model", epochs=1, held_out=0.0).fit(texts, names)
    assert again.bert_.config.int8 is None


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("often", "int8 is 'often'; it must be an object"),
        ({"rows": 10, "agreement": 2.0}, "agreement from 0 to 1"),
        ({"rows": 10, "agreement": 1.0, "share": 1}, "unknown key 'share'"),
    ],
)
def test_what_makes_no_sense_in_a_file_is_said(
    written: object, told: str, encoder_config: EncoderConfig, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    bert = random_bert(encoder_config, LABEL)
    bert.config = replace(bert.config, int8=Int8Agreement(rows=10, agreement=1.0))
    save_model(tmp_path / "model", bert, tokenizer)
    path = tmp_path / "model" / "config.json"
    content = json.loads(path.read_text())
    content["bothways"]["int8"] = written
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=told):
        load_model(tmp_path / "model")


def test_training_in_int8_is_refused(encoder_directory: Path) -> None:
    texts, names = films(20)
    with pytest.raises(InputError, match="A model is used in int8, not trained in it"):
        TextClassifier(encoder_directory, precision="int8").fit(texts, names)
    with pytest.raises(InputError, match="precision"):
        FinetuningConfig(precision="int8")  # type: ignore[arg-type]
