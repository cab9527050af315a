"""Numbers against `transformers`, in fp32, with tiny random weights: at most 1e-5 apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from conftest import random_encodings
from torch.nn.functional import cross_entropy

from bothways.batch import UNLABELLED, PackedBatch, TrainingBatch
from bothways.formats.names import encoder_names, output_names
from bothways.formats.reading import load_model
from bothways.model.bert import Bert
from bothways.model.outputs import SummedCrossEntropy
from bothways.tokenizer import Encoding, Tokenizer
from bothways.training.step import backward

LENGTHS = [7, 3, 12, 12, 1, 30, 7, 64]
TOLERANCE = 1e-5


def padded(encodings: list[Encoding]) -> dict[str, torch.Tensor]:
    """The same texts as `transformers` wants them: a rectangle with a mask."""
    longest = max(map(len, encodings))
    filled = {
        key: torch.zeros(len(encodings), longest, dtype=torch.long)
        for key in ("input_ids", "token_type_ids", "attention_mask")
    }
    for i, encoding in enumerate(encodings):
        filled["input_ids"][i, : len(encoding)] = torch.from_numpy(encoding.token_ids)
        filled["token_type_ids"][i, : len(encoding)] = torch.from_numpy(encoding.segment_ids)
        filled["attention_mask"][i, : len(encoding)] = 1
    return filled


def reference(kind: str, directory: Path, tokenizer: Tokenizer, **settings: object) -> torch.nn.Module:
    """A tiny random model of `transformers`, saved to `directory` with our tokenizer beside it."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.2,
        **settings,
    )
    model = getattr(transformers, kind)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(directory)
    tokenizer.save(directory)
    return model


def loaded(directory: Path) -> Bert:
    bert, _, report = load_model(directory)
    assert not report.untrained
    assert not report.unused
    return bert


def unpad(values: torch.Tensor, encodings: list[Encoding]) -> torch.Tensor:
    return torch.cat([row[: len(encoding)] for row, encoding in zip(values, encodings, strict=True)])


def gap(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    return (ours - theirs).abs().max().item()


def gradient_gap(bert: Bert, model: torch.nn.Module) -> float:
    """The largest difference between the gradients of all parameters."""
    theirs = {name.removeprefix("bert."): p.grad for name, p in model.named_parameters()}
    names = encoder_names(bert.config.encoder.layers) | output_names(bert.config.outputs)
    worst = 0.0
    for ours, parameter in bert.named_parameters():
        parts = [theirs[name] for name in names[ours]]
        if parameter.grad is None or not parameter.grad.to_dense().any():
            assert all(part is None or not part.any() for part in parts), f"{ours} got no gradient"
        else:
            worst = max(worst, gap(parameter.grad.to_dense(), torch.cat(parts)))
    return worst


def run_backward(bert: Bert, batch: TrainingBatch) -> dict[str, float]:
    sums = backward(bert, [batch], torch.float32, torch.device("cpu"))
    return {name: float(loss) / count for name, (loss, count) in sums.items()}


def test_hidden_states_and_pooled_output(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = reference("BertModel", tmp_path, tokenizer)
    bert = loaded(tmp_path)
    encodings = random_encodings(tokenizer.vocab_size, LENGTHS)
    batch = PackedBatch.pack(encodings)
    with torch.no_grad():
        theirs = model(**padded(encodings), output_hidden_states=True)
        hidden = bert.embeddings(batch)
        assert gap(hidden, unpad(theirs.hidden_states[0], encodings)) < TOLERANCE
        for layer, expected in zip(bert.encoder.layers, theirs.hidden_states[1:], strict=True):
            hidden = layer(hidden, batch)
            assert gap(hidden, unpad(expected, encodings)) < TOLERANCE
        assert gap(bert.represent(batch, {"first"})["first"], theirs.pooler_output) < TOLERANCE
        everything = bert.represent(batch, {"first", "mean", "tokens"})
        assert gap(everything["first"], theirs.pooler_output) < TOLERANCE
        mean = torch.stack([part.mean(0) for part in hidden.split([len(e) for e in encodings])])
        assert gap(everything["mean"], mean) < TOLERANCE


def test_pre_training(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Masked-word and next-sentence logits, the loss and all gradients, tied embeddings included."""
    model = reference("BertForPreTraining", tmp_path, tokenizer)
    bert = loaded(tmp_path)
    encodings = random_encodings(tokenizer.vocab_size, LENGTHS)
    batch = PackedBatch.pack(encodings)
    random = np.random.default_rng(1)
    masked = torch.from_numpy(np.flatnonzero(random.random(sum(LENGTHS)) < 0.3))
    targets = torch.from_numpy(random.integers(5, tokenizer.vocab_size, len(masked)))
    next_sentence = torch.from_numpy(random.integers(0, 2, len(LENGTHS)))
    labels = torch.full((sum(LENGTHS),), UNLABELLED).index_put((masked,), targets)
    rectangle = torch.full((len(LENGTHS), max(LENGTHS)), UNLABELLED)
    for i, part in enumerate(labels.split(LENGTHS)):
        rectangle[i, : len(part)] = part
    theirs = model(**padded(encodings), labels=rectangle, next_sentence_label=next_sentence)
    theirs.loss.backward()

    logits = bert(batch)
    assert gap(logits["mlm"], unpad(theirs.prediction_logits, encodings)) < TOLERANCE
    assert gap(logits["nsp"], theirs.seq_relationship_logits) < TOLERANCE
    from dataclasses import replace

    inputs = replace(batch, masked_positions=masked)
    assert gap(bert(inputs)["mlm"], logits["mlm"][masked]) < TOLERANCE
    losses = run_backward(bert, TrainingBatch(inputs, {"mlm": targets, "nsp": next_sentence}))
    assert losses["mlm"] + losses["nsp"] == pytest.approx(theirs.loss.item(), abs=TOLERANCE)
    assert gradient_gap(bert, model) < TOLERANCE


def test_cross_entropy_in_bf16() -> None:
    """Ours of bf16 logits against PyTorch's of the same numbers in fp32, some targets left out: loss and gradient."""
    random = np.random.default_rng(0)
    logits = torch.from_numpy(random.normal(scale=4, size=(70, 3000))).bfloat16().requires_grad_()
    targets = torch.from_numpy(random.integers(0, 3000, 70)).index_fill(0, torch.arange(0, 70, 9), UNLABELLED)
    exact = logits.detach().float().requires_grad_()
    loss, expected = SummedCrossEntropy.apply(logits, targets), cross_entropy(exact, targets, reduction="sum")
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3)
    (loss / 62).backward()
    (expected / 62).backward()
    assert logits.grad is not None
    assert logits.grad.dtype == torch.bfloat16
    torch.testing.assert_close(logits.grad.float(), exact.grad, atol=1e-5, rtol=2e-2)
    impossible = torch.tensor([[0.0, -300.0]]).bfloat16().requires_grad_()  # probability 0
    loss = SummedCrossEntropy.apply(impossible, torch.tensor([1]))
    loss.backward()
    assert 80 < loss.item() < 100
    assert impossible.grad is not None
    assert impossible.grad.tolist() == [[1, -1]]


@pytest.mark.parametrize("kind", ["single", "multi", "regression"])
def test_sequence_classification(tmp_path: Path, tokenizer: Tokenizer, kind: str) -> None:
    problem = {"single": "single_label", "multi": "multi_label"}.get(kind, "")
    settings = (
        {"num_labels": 1, "problem_type": "regression"}
        if kind == "regression"
        else {"num_labels": 3, "problem_type": f"{problem}_classification"}
    )
    model = reference("BertForSequenceClassification", tmp_path, tokenizer, **settings)
    bert = loaded(tmp_path)
    assert bert.config.outputs[0].kind == kind
    encodings = random_encodings(tokenizer.vocab_size, LENGTHS)
    batch = PackedBatch.pack(encodings)
    random = np.random.default_rng(1)
    targets = {
        "single": torch.from_numpy(random.integers(0, 3, len(LENGTHS))),
        "multi": torch.from_numpy(random.integers(0, 2, (len(LENGTHS), 3))).float(),
        "regression": torch.from_numpy(random.normal(size=len(LENGTHS))).float(),
    }[kind]
    theirs = model(**padded(encodings), labels=targets)
    theirs.loss.backward()
    assert gap(bert(batch)["label"], theirs.logits) < TOLERANCE
    losses = run_backward(bert, TrainingBatch(batch, {"label": targets}))
    assert losses["label"] == pytest.approx(theirs.loss.item(), abs=TOLERANCE)
    assert gradient_gap(bert, model) < TOLERANCE


def test_token_classification(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = reference("BertForTokenClassification", tmp_path, tokenizer, num_labels=4)
    bert, _, report = load_model(tmp_path)
    assert report.untrained == ("pooling",)  # that class has none, and tags do not read it
    encodings = random_encodings(tokenizer.vocab_size, LENGTHS)
    batch = PackedBatch.pack(encodings)
    targets = torch.from_numpy(np.random.default_rng(1).integers(0, 4, sum(LENGTHS)))
    targets[::3] = UNLABELLED
    rectangle = torch.full((len(LENGTHS), max(LENGTHS)), UNLABELLED)
    for i, part in enumerate(targets.split(LENGTHS)):
        rectangle[i, : len(part)] = part
    theirs = model(**padded(encodings), labels=rectangle)
    theirs.loss.backward()
    assert gap(bert(batch)["tags"], unpad(theirs.logits, encodings)) < TOLERANCE
    losses = run_backward(bert, TrainingBatch(batch, {"tags": targets}))
    assert losses["tags"] == pytest.approx(theirs.loss.item(), abs=TOLERANCE)
    model.pooler = bert.pooling
    grads = [p for name, p in bert.named_parameters() if "pooling" in name]
    assert all(p.grad is None for p in grads)
    theirs_by_name = {name.removeprefix("bert."): p.grad for name, p in model.named_parameters()}
    names = encoder_names(2) | output_names(bert.config.outputs)
    for ours, parameter in bert.named_parameters():
        if "pooling" not in ours:
            expected = torch.cat([theirs_by_name[name] for name in names[ours]])
            assert gap(parameter.grad.to_dense(), expected) < TOLERANCE


@pytest.mark.parametrize("activation", ["gelu_new", "relu"])
def test_other_activations(tmp_path: Path, tokenizer: Tokenizer, activation: str) -> None:
    model = reference("BertModel", tmp_path, tokenizer, hidden_act=activation)
    encodings = random_encodings(tokenizer.vocab_size, LENGTHS)
    with torch.no_grad():
        theirs = unpad(model(**padded(encodings)).last_hidden_state, encodings)
        assert gap(loaded(tmp_path).encode(PackedBatch.pack(encodings)), theirs) < TOLERANCE


def test_published_weights(minilm: Path) -> None:
    """A real encoder on real texts of both languages, singles and pairs."""
    model = transformers.AutoModel.from_pretrained(minilm).eval()
    bert, tokenizer, report = load_model(minilm)
    assert not report.untrained
    texts = ["A quiet film.", "这家酒店很干净，服务也不错。", "word " * 300, "", "Café? Yes — naïve 😀!"]
    pairs = ["So it is.", "是的", "more " * 300, "x", ""]
    encodings = tokenizer.encode_batch(texts, max_length=256) + tokenizer.encode_batch(texts, pairs, max_length=256)
    batch = PackedBatch.pack(encodings)
    with torch.no_grad():
        theirs = model(**padded(encodings))
        represented = bert.represent(batch, {"tokens", "first"})
    assert gap(represented["tokens"], unpad(theirs.last_hidden_state, encodings)) < TOLERANCE
    assert gap(represented["first"], theirs.pooler_output) < TOLERANCE
