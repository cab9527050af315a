"""How a teacher's vectors are made, as its directory says; held against sums by hand, and transformers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import random_bert

from bothways.distillation.sentence_vectors import sentence_vectors_of
from bothways.distillation.teacher import EncoderTeacher
from bothways.distillation.texts import GivenText
from bothways.errors import InputError
from bothways.formats.writing import save_model
from bothways.hardware import PRECISION_VARIABLE
from bothways.model.config import EncoderConfig
from bothways.tokenizer import Tokenizer

TEXTS = ["a film", "这家酒店很干净，服务也不错。", "the plot is thin and the jokes are worse"]


def write(directory: Path, pooling: dict, *modules: str, **files: dict) -> None:
    """Files as sentence-transformers writes them."""
    listed = [{"type": f"sentence_transformers.models.{name}", "path": f"1_{name}"} for name in modules]
    (directory / "modules.json").write_text(json.dumps(listed), "utf-8")
    (directory / "1_Pooling").mkdir(exist_ok=True)
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(pooling), "utf-8")
    for name, content in files.items():
        (directory / f"{name}.json").write_text(json.dumps(content), "utf-8")


@pytest.mark.parametrize(("pooling", "first"), [({}, False), ({"pooling_mode_cls_token": True}, True)])
def test_vectors_are_those_of_transformers(
    encoder_directory: Path, pooling: dict, first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModel

    monkeypatch.setenv(PRECISION_VARIABLE, "fp32")
    write(encoder_directory, pooling, "Transformer", "Pooling", "Normalize")
    teacher = EncoderTeacher(encoder_directory)
    found = teacher.answers([GivenText(text) for text in TEXTS], 0)
    reference = AutoModel.from_pretrained(encoder_directory).eval()
    for text, vector in zip(TEXTS, found, strict=True):
        ids = torch.from_numpy(teacher.engine.encode([text])[0].token_ids).long()[None]
        with torch.no_grad():
            hidden = reference(ids).last_hidden_state[0]
        wanted = hidden[0] if first else hidden.mean(0)
        np.testing.assert_allclose(vector, wanted / wanted.norm(), atol=1e-5)


def test_a_prompt_stands_before_every_text(encoder_directory: Path) -> None:
    prompts = {"prompts": {"query": "the ", "none": ""}, "default_prompt_name": "query"}
    write(encoder_directory, {}, "Transformer", "Pooling", config_sentence_transformers=prompts)
    told = EncoderTeacher(encoder_directory).answers([GivenText("film")], 0)
    plain = EncoderTeacher(encoder_directory, prompt="").answers([GivenText("the film")], 0)
    np.testing.assert_array_equal(told, plain)


def test_no_more_is_read_than_the_directory_says(encoder_directory: Path) -> None:
    write(encoder_directory, {}, "Transformer", "Pooling", sentence_bert_config={"max_seq_length": 8})
    teacher = EncoderTeacher(encoder_directory)
    assert len(teacher.engine.encode(["film " * 30])[0]) == 8


def test_the_mean_is_read_where_nothing_is_said(
    tmp_path: Path, encoder_config: EncoderConfig, tokenizer: Tokenizer
) -> None:
    save_model(tmp_path / "e", random_bert(encoder_config), tokenizer)
    assert sentence_vectors_of(tmp_path / "e").reads == "mean"


@pytest.mark.parametrize(
    ("pooling", "modules", "sentence"),
    [
        ({"pooling_mode_max_tokens": True}, ("Pooling",), "pooling_mode_max_tokens cannot be done"),
        (
            {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
            ("Pooling",),
            "pooling_mode_cls_token and pooling_mode_mean_tokens cannot be done",
        ),
        ({}, ("Transformer", "Dense"), "the module Dense is not read here"),
    ],
)
def test_what_cannot_be_done_is_said(
    encoder_directory: Path, pooling: dict, modules: tuple[str, ...], sentence: str
) -> None:
    write(encoder_directory, pooling, *modules)
    with pytest.raises(InputError, match=sentence):
        EncoderTeacher(encoder_directory)
