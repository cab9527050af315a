"""A student that starts from layers and token vectors of its teacher, and an encoder that learns new entries."""

from __future__ import annotations

from dataclasses import replace

import torch
from conftest import random_bert

from bothways.batch import PackedBatch
from bothways.distillation.head_start import extended, start_from
from bothways.model.config import MASKED_LM, EncoderConfig
from bothways.tokenizer import Tokenizer


def test_layers_and_token_vectors_are_those_of_the_teacher(encoder_config: EncoderConfig, tokenizer: Tokenizer) -> None:
    teacher = random_bert(replace(encoder_config, layers=4, vocab_size=50, segments=1))
    known = {"film": [7], "good": [8, 9], "[CLS]": [2]}
    student = start_from(teacher, lambda letters, begins: known.get(letters, []) if begins else [], tokenizer, (1, 3))
    assert student.config.encoder.layers == 2
    for ours, theirs in ((0, 1), (1, 3)):
        for name, tensor in student.encoder.layers[ours].state_dict().items():
            assert torch.equal(tensor, teacher.encoder.layers[theirs].state_dict()[name])
    table = teacher.embeddings.token.weight
    number = {token: row for row, token in enumerate(tokenizer.tokens(range(tokenizer.vocab_size)))}
    found = student.embeddings.token.weight
    assert torch.equal(found[number["film"]], table[7])
    assert torch.equal(found[number["[CLS]"]], table[2])
    torch.testing.assert_close(found[number["good"]], table[8:10].mean(0))
    torch.testing.assert_close(found[number["jokes"]], table[[2, 7, 8, 9]].mean(0))
    assert torch.equal(student.embeddings.segment.weight[1], teacher.embeddings.segment.weight[0])


def test_new_entries_change_nothing_for_what_was_known(encoder_config: EncoderConfig, tokenizer: Tokenizer) -> None:
    bert = random_bert(encoder_config, MASKED_LM)
    larger, words = extended(bert, tokenizer, {"電影": "film", "😂": None})
    assert words.vocab_size == tokenizer.vocab_size + 2 == larger.config.encoder.vocab_size
    batch = PackedBatch.pack([tokenizer.encode("a good film")])
    with torch.no_grad():
        before, after = bert(batch)["mlm"], larger(batch)["mlm"]
    torch.testing.assert_close(after[:, :-2], before)
    film = tokenizer.tokens(range(tokenizer.vocab_size)).index("film")
    torch.testing.assert_close(after[:, -2], before[:, film])
    torch.testing.assert_close(larger.embeddings.token.weight[-1], bert.embeddings.token.weight.mean(0))
