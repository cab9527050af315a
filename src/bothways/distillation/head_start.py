"""A student that starts from its teacher: some of its layers, as in DistilBERT (arXiv 1910.01108, section 3), and what
its token vectors for the student's own vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bothways.model.bert import Bert
from bothways.model.config import BertConfig
from bothways.randomness import keeping_torch_state
from bothways.tokenizer import Tokenizer

Pieces = Callable[[str, bool], Sequence[int]]
"""An entry of the student's vocabulary without its ##, and whether it had none → the tokens that the teacher reads in
its place."""


@torch.no_grad()
def start_from(teacher: Bert, pieces: Pieces, tokenizer: Tokenizer, layers: Sequence[int], *, seed: int = 0) -> Bert:
    """A student with the `layers` of a teacher (its first is 0), as wide as that, for the vocabulary of `tokenizer`.

    A token's vector is the mean of those that the teacher reads in its place; for tokens that it does not know, the
    mean of all.
    """
    shape = replace(
        teacher.config.encoder, vocab_size=tokenizer.vocab_size, layers=len(layers), segments=2, dropout=0.0
    )
    with keeping_torch_state():
        torch.manual_seed(seed)
        student = Bert(BertConfig(encoder=shape))
    student.pooling.load_state_dict(teacher.pooling.state_dict())
    for ours, number in zip(student.encoder.layers, layers, strict=True):
        ours.load_state_dict(teacher.encoder.layers[number].state_dict())
    table = teacher.embeddings.token.weight
    student.embeddings.token.weight.copy_(token_vectors(table, pieces, tokenizer))
    student.embeddings.position.weight.copy_(teacher.embeddings.position.weight)
    segments = teacher.embeddings.segment.weight
    student.embeddings.segment.weight.copy_(segments)  # both as the only one, if it has one
    student.embeddings.norm.load_state_dict(teacher.embeddings.norm.state_dict())
    return student


def token_vectors(table: Tensor, pieces: Pieces, tokenizer: Tokenizer) -> Tensor:
    """Vectors for the whole vocabulary of `tokenizer` from the `table` of a teacher: (vocabulary, hidden)."""
    known = tokenizer.tokens(range(tokenizer.vocab_size))
    found = [pieces(token.removeprefix("##"), not token.startswith("##")) for token in known]
    used = torch.tensor(sorted({piece for many in found for piece in many}))
    mean = table[used].mean(0)
    return torch.stack([table[torch.tensor(many)].mean(0) if len(many) else mean for many in found])


@torch.no_grad()
def extended(bert: Bert, tokenizer: Tokenizer, entries: Mapping[str, str | None]) -> tuple[Bert, Tokenizer]:
    """An encoder with more entries in its vocabulary (entry → a known one that it is like), which start as what they
    are like, or as the mean of all."""
    larger = tokenizer.extended(entries)
    shape = replace(bert.config.encoder, vocab_size=larger.vocab_size)
    with keeping_torch_state():
        student = Bert(replace(bert.config, encoder=shape)).eval()
    number = {token: row for row, token in enumerate(tokenizer.tokens(range(tokenizer.vocab_size)))}
    like = [None if known is None else number[known] for known in entries.values()]
    weights = bert.state_dict()
    for name, tensor in student.state_dict().items():
        if (before := weights[name]).shape == tensor.shape:
            tensor.copy_(before)
        else:  # one row, or number, for each entry
            mean = before.mean(0)
            more = [mean if row is None else before[row] for row in like]
            tensor.copy_(torch.cat((before, torch.stack(more))))
    return student, larger
