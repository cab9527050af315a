"""A directory we write is one that `transformers` reads, key for key and logit for logit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from conftest import random_bert, random_encodings
from test_model import gap, padded, unpad

from bothways.batch import PackedBatch
from bothways.formats.reading import load_model
from bothways.formats.writing import save_model
from bothways.model.config import MASKED_LM, NEXT_SENTENCE, EncoderConfig, OutputConfig
from bothways.tokenizer import Tokenizer

SINGLE = OutputConfig(name="mood", kind="single", labels=("bad", "good", "既好又坏"))
MULTI = OutputConfig(name="topics", kind="multi", labels=("a", "b"))
REGRESSION = OutputConfig(name="stars", kind="regression")
TAGS = OutputConfig(name="slots", kind="tags", labels=("O", "B-x"), reads="tokens")
MEAN = OutputConfig(name="tone", kind="single", labels=("x", "y"), reads="mean")

CASES = [
    ((MASKED_LM, NEXT_SENTENCE), "BertForPreTraining", set()),
    ((NEXT_SENTENCE,), "BertForNextSentencePrediction", set()),
    ((SINGLE,), "BertForSequenceClassification", set()),
    ((MULTI,), "BertForSequenceClassification", set()),
    ((REGRESSION,), "BertForSequenceClassification", set()),
    # These two classes have no pooling layer; AutoModel has, so it is written, and they name it.
    ((MASKED_LM,), "BertForMaskedLM", {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}),
    ((TAGS,), "BertForTokenClassification", {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}),
    ((SINGLE, TAGS, MULTI, REGRESSION), "BertModel", set()),
    ((MEAN,), "BertModel", set()),
    ((), "BertModel", set()),
]


@pytest.mark.parametrize(("outputs", "architecture", "unexpected"), CASES)
def test_written_directories_load_there(
    tmp_path: Path,
    encoder_config: EncoderConfig,
    tokenizer: Tokenizer,
    outputs: tuple[OutputConfig, ...],
    architecture: str,
    unexpected: set[str],
) -> None:
    bert = random_bert(encoder_config, *outputs)
    save_model(tmp_path / "model", bert, tokenizer)
    config = transformers.AutoConfig.from_pretrained(tmp_path / "model")
    assert config.architectures == [architecture]
    model, report = getattr(transformers, architecture).from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not report["missing_keys"]
    assert set(report["unexpected_keys"]) == unexpected
    assert not report["mismatched_keys"]
    base, base_report = transformers.AutoModel.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not base_report["missing_keys"]

    encodings = random_encodings(tokenizer.vocab_size, [5, 9, 2])
    batch = PackedBatch.pack(encodings)
    with torch.no_grad():
        theirs, ours = model.eval()(**padded(encodings)), bert(batch)
        hidden = base.eval()(**padded(encodings)).last_hidden_state
        assert gap(bert.encode(batch), unpad(hidden, encodings)) < 1e-5
    if architecture == "BertForPreTraining":
        assert gap(ours["mlm"], unpad(theirs.prediction_logits, encodings)) < 1e-5
        assert gap(ours["nsp"], theirs.seq_relationship_logits) < 1e-5
    elif architecture != "BertModel":
        logits = theirs.logits if outputs[0].reads == "first" else unpad(theirs.logits, encodings)
        assert gap(ours[outputs[0].name], logits) < 1e-5


def test_label_names_survive(tmp_path: Path, encoder_config: EncoderConfig, tokenizer: Tokenizer) -> None:
    save_model(tmp_path / "model", random_bert(encoder_config, SINGLE), tokenizer)
    there = transformers.pipeline("text-classification", model=str(tmp_path / "model"))
    assert there("the film")[0]["label"] in SINGLE.labels


@pytest.mark.parametrize("outputs", [case[0] for case in CASES])
def test_what_is_written_comes_back(
    tmp_path: Path, encoder_config: EncoderConfig, tokenizer: Tokenizer, outputs: tuple[OutputConfig, ...]
) -> None:
    bert = random_bert(encoder_config, *outputs)
    save_model(tmp_path / "model", bert, tokenizer)
    again, _, report = load_model(tmp_path / "model")
    assert not report.untrained
    assert not report.unused
    assert again.config.outputs == bert.config.outputs
    assert again.config.encoder == bert.config.encoder
    for (name, parameter), (_, other) in zip(bert.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(parameter, other), name


def test_who_reads_the_configuration_reads_the_weights(
    tmp_path: Path, encoder_config: EncoderConfig, tokenizer: Tokenizer
) -> None:
    topics = OutputConfig(name="topics", kind="multi", labels=("a", "b"))
    stars = OutputConfig(name="stars", kind="regression")
    save_model(tmp_path / "model", random_bert(encoder_config, topics, stars), tokenizer)
    files = list((tmp_path / "model").iterdir())
    assert {"model.safetensors", "outputs.safetensors"} <= {file.name for file in files}
    assert len({file.stat().st_mode for file in files}) == 1


def test_old_published_names(tmp_path: Path, encoder_config: EncoderConfig, tokenizer: Tokenizer) -> None:
    """Files of 2018: gamma and beta, position ids, a decoder that repeats the embeddings."""
    from safetensors.torch import load_file, save_file

    bert = random_bert(encoder_config, MASKED_LM, NEXT_SENTENCE)
    save_model(tmp_path / "model", bert, tokenizer)
    path = tmp_path / "model" / "model.safetensors"
    tensors = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in load_file(path).items()
    }
    tensors["bert.embeddings.position_ids"] = torch.arange(64)[None]
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].clone()
    save_file(tensors, path)
    again, _, report = load_model(tmp_path / "model")
    assert not report.unused
    batch = PackedBatch.pack(random_encodings(tokenizer.vocab_size, [5, 9, 2]))
    with torch.no_grad():
        assert torch.equal(again(batch)["mlm"], bert(batch)["mlm"])
