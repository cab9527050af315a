"""What a student starts from: an encoder that exists, or a new one of a preset size."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import islice

import torch

from bothways.distillation.config import ResolvedConfig
from bothways.distillation.texts import Texts
from bothways.errors import InputError
from bothways.formats.hub import AUTO, locate
from bothways.formats.reading import load_model
from bothways.model.bert import Bert
from bothways.model.config import MASKED_LM, BertConfig, OutputConfig, preset
from bothways.pretraining.initialization import attach_keeping
from bothways.randomness import keeping_torch_state
from bothways.tokenizer import Tokenizer

SAMPLE = 1000
"""Texts that tell their language."""


def first_student(
    texts: Texts,
    *,
    encoder: str | os.PathLike | None,
    size: str | None,
    tokenizer: str | os.PathLike | None,
    seed: int,
) -> tuple[Bert, Tokenizer]:
    """An `encoder`, the shipped one of the texts' language unless named, or a new one of a preset `size` with the
    `tokenizer` of a directory. Raises InputError for what does not go together."""
    if size is None:
        if tokenizer is not None:
            raise InputError("--tokenizer is for a new encoder; add its size with --preset, or leave it out.")
        sample = [given.text for given in islice(texts.read(), SAMPLE)] if encoder in (None, AUTO) else []
        bert, known, _ = load_model(locate(encoder or AUTO, sample))
        return bert, known
    if encoder is not None:
        raise InputError(f"--preset is for a new encoder; {encoder} has its size already.")
    if tokenizer is None:
        raise InputError("--preset is for a new encoder, which needs a --tokenizer: a directory of one, or of a model.")
    known = Tokenizer.load(locate(tokenizer))
    with keeping_torch_state():
        torch.manual_seed(seed)
        return Bert(BertConfig(encoder=preset(size, known.vocab_size))), known


def attach(bert: Bert, distilled: tuple[OutputConfig, ...], config: ResolvedConfig) -> None:
    """Put on the output layers that learn: those that are `distilled`, and masked words if they count."""
    masked = (replace(MASKED_LM, loss_weight=config.masked_weight),) if config.masked_weight else ()
    known = {output.name: output for output in bert.config.outputs}
    if masked and MASKED_LM.name in known:  # whatever it counted before
        bert.configure(masked[0])
    attach_keeping(bert, (*distilled, *masked), seed=config.seed)
    bert.set_dropout(config.dropout)
