"""What an encoder starts from: fresh weights, word vectors, or an encoder that has read other text before."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from bothways.corpus.shards import Corpus
from bothways.errors import InputError
from bothways.formats.hub import locate
from bothways.formats.reading import load_model
from bothways.formats.writing import save_model
from bothways.model.bert import Bert
from bothways.model.config import MASKED_LM, NEXT_SENTENCE, BertConfig, EncoderConfig, OutputConfig, preset
from bothways.pretraining.config import PretrainingConfig
from bothways.pretraining.held_out import split_documents
from bothways.pretraining.word_vectors import word2vec
from bothways.randomness import keeping_torch_state
from bothways.training.distributed import Ranks, distribute_like, full_tensor

MIN_COUNT = 5
"""A word vector learned from fewer occurrences is not worth having."""
VECTOR_DEVIATION = 0.05
"""Standard deviation of word vectors as token embeddings: about that of token embeddings after pre-training."""


def first_encoder(
    corpus: Corpus, config: PretrainingConfig, *, size: str | None, encoder: str | os.PathLike | None
) -> Bert:
    """What a run starts from: a new encoder of a preset `size` (mini unless given), or `encoder`, which goes on.

    Raises InputError for settings that do not go together.
    """
    if encoder is None:
        shape = preset(size or "mini", corpus.tokenizer.vocab_size)
        bert = new_encoder(shape, next_sentence=config.next_sentence, seed=config.seed)
    elif size is not None:
        raise InputError(f"--preset is for a new encoder; {encoder} has its size already.")
    elif config.word2vec:
        raise InputError(f"--word2vec is for a new encoder; {encoder} has token embeddings already.")
    else:
        bert = known_encoder(encoder, corpus, next_sentence=config.next_sentence, seed=config.seed)
    longest, positions = config.sequence_lengths[-1], bert.config.encoder.max_positions
    if longest > positions:
        raise InputError(
            f"Pairs of {longest} tokens are longer than the position table ({positions}); ask for shorter "
            f"--sequence-lengths."
        )
    return bert


def new_encoder(encoder: EncoderConfig, *, next_sentence: bool = True, seed: int = 0) -> Bert:
    """An untrained model with the output layers of pre-training."""
    with keeping_torch_state():
        torch.manual_seed(seed)
        return Bert(BertConfig(encoder=encoder, outputs=(MASKED_LM, NEXT_SENTENCE) if next_sentence else (MASKED_LM,)))


@torch.no_grad()
def copy_unread_positions(bert: Bert, read: int) -> None:
    """Positions from `read` on, which no text has reached yet, become copies of those before, in the same order.

    From chance they would take millions of tokens to learn, which the last and longest pairs are too few for
    (docs/decisions.md). Position 0 belongs to [CLS] and is no model for others.
    """
    table = bert.embeddings.position.weight
    later = torch.arange(read, len(table))
    started = full_tensor(table.detach()).clone()
    started[later] = started[1 + (later - 1) % (read - 1)]
    table.copy_(distribute_like(table, started))


@torch.no_grad()
def start_with_word_vectors(bert: Bert, vectors: np.ndarray, counts: np.ndarray) -> None:
    """Word vectors become the token embeddings, and how common each token is the bias of its prediction.

    `vectors`: (vocabulary, hidden); `counts`: (vocabulary,), how often each token was seen. Tokens that were seen less
    than `MIN_COUNT` times keep their random vectors.
    """
    often = counts >= MIN_COUNT
    if often.sum() > 1:
        known = vectors[often] - vectors[often].mean(axis=0)
        known *= VECTOR_DEVIATION / known.std()
        bert.embeddings.token.weight[torch.from_numpy(often)] = torch.from_numpy(known)
    frequency = np.log((counts + 1.0) / (counts.sum() + len(counts)))
    bias = bert.output(MASKED_LM.name).get_parameter("bias")
    bias.copy_(torch.from_numpy(frequency - frequency.mean()))


def new_encoder_with_word_vectors(
    bert: Bert, corpus: Corpus, config: PretrainingConfig, run: Path, settings: str, ranks: Ranks
) -> Bert:
    """A new encoder, its token embeddings word vectors; made by the first rank and kept in `run` for a resumption with
    the same `settings`."""
    goal = run / "start"
    made_for = goal / "settings.json"
    if ranks.is_main and not (made_for.is_file() and made_for.read_text("utf-8") == settings):
        documents, _ = split_documents(corpus, config)
        vectors = word2vec(corpus, documents, bert.config.encoder.hidden_size, scratch=run, seed=config.seed)
        start_with_word_vectors(bert, *vectors)
        save_model(goal, bert, corpus.tokenizer, extra_files={made_for.name: settings}, overwrite=True)
    ranks.barrier()
    return load_model(goal)[0]


def known_encoder(encoder: str | os.PathLike, corpus: Corpus, *, next_sentence: bool = True, seed: int = 0) -> Bert:
    """An encoder that has read other text before, to go on with `corpus`; output layers that it lacks start fresh.

    Raises InputError if the corpus was built with another tokenizer than the encoder's, or if the encoder cannot tell
    the sentences of a pair apart.
    """
    bert, tokenizer, report = load_model(locate(encoder))
    if tokenizer.fingerprint != corpus.tokenizer.fingerprint:
        raise InputError(
            f"{corpus.directory} was built with another tokenizer than that of {encoder}; build the corpus with "
            f"--tokenizer {report.source}."
        )
    if next_sentence and bert.config.encoder.segments < 2:
        raise InputError(
            f"{report.source}: type_vocab_size is 1, so the encoder cannot tell the sentences of a pair apart; "
            f"pre-train without next-sentence prediction."
        )
    attach_keeping(bert, (MASKED_LM, NEXT_SENTENCE) if next_sentence else (MASKED_LM,), seed=seed)
    return bert


def attach_keeping(bert: Bert, outputs: tuple[OutputConfig, ...], *, seed: int) -> None:
    """Put `outputs` on `bert` in place of those it has; one that it has already keeps its weights, others are fresh."""
    known = {output.config: output for output in bert.outputs}
    with keeping_torch_state():
        torch.manual_seed(seed)
        bert.attach(*outputs)
    for output in bert.outputs:
        if output.config in known:
            output.load_state_dict(known[output.config].state_dict())
