"""The recipe: corpus + masked-word and next-sentence output layers → a pre-trained encoder."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bothways.batch import PackedBatch, TrainingBatch
from bothways.data.corpus import Corpus
from bothways.data.masking import Masking
from bothways.data.sentence_pairs import SentencePairs
from bothways.errors import InputError
from bothways.formats.hugging_face import save_model
from bothways.model.bert import Bert
from bothways.model.config import MASKED_WORD, NEXT_SENTENCE, BertConfig, EncoderConfig, preset
from bothways.storage import refuse_existing
from bothways.tokenizer import Tokenizer
from bothways.training.checkpoint import Checkpoints
from bothways.training.loop import TrainingConfig, TrainingLog, train


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig(TrainingConfig):
    """How an encoder is pre-trained."""

    learning_rate: float = 1e-3
    """Peak of the learning rate; small encoders bear and want large ones."""
    steps: int = 10_000
    """Updates."""
    batch_tokens: int = 8192
    """Tokens in an update."""
    sequence_length: int = 128
    """Longest pair of texts, in tokens."""
    masking_rate: float = 0.15
    """Share of words to be guessed."""
    whole_words: bool = True
    """Hide all pieces of a word together."""
    next_sentence: bool = True
    """Learn to tell whether the second text follows the first, beside the hidden words."""
    checkpoint_minutes: float = 10.0
    """Minutes between checkpoints."""
    dropout: float = 0.0
    """Dropout while pre-training; text seen once or twice needs none, and it costs a third of the speed."""


class PretrainingBatches:
    """Masked sentence pairs, made when they are needed: update `step` is a pure function of (seed, step)."""

    def __init__(self, corpus: Corpus, config: PretrainingConfig) -> None:
        self.config = config
        self.pairs = SentencePairs(
            corpus,
            sequence_length=config.sequence_length,
            random_share=0.5 if config.next_sentence else 0.0,
            seed=config.seed,
        )
        self.masking = Masking(corpus.tokenizer, rate=config.masking_rate, whole_words=config.whole_words)
        self.in_micro_batch = max(1, min(config.batch_tokens, config.micro_batch_tokens) // config.sequence_length)
        self.micro_batches = max(1, round(config.batch_tokens / (self.in_micro_batch * config.sequence_length)))

    def __len__(self) -> int:
        return self.config.steps

    def update(self, step: int) -> list[TrainingBatch]:
        """The micro-batches of update `step`."""
        first = step * self.micro_batches * self.in_micro_batch
        return [
            self.batch(first + part * self.in_micro_batch, self.in_micro_batch) for part in range(self.micro_batches)
        ]

    def batch(self, position: int, count: int) -> TrainingBatch:
        """`count` pairs from `position` on, packed by length and masked."""
        pairs = self.pairs.at(np.arange(position, position + count))
        masked = self.masking(pairs.token_ids, pairs.continues, np.random.default_rng([self.config.seed, 1, position]))
        inputs = PackedBatch.of(masked.token_ids, pairs.segment_ids, pairs.lengths, masked.positions)
        targets = {MASKED_WORD.name: torch.from_numpy(masked.targets)}
        if self.config.next_sentence:
            targets[NEXT_SENTENCE.name] = torch.from_numpy(pairs.labels)
        return TrainingBatch(inputs, targets)


def new_encoder(encoder: EncoderConfig, *, next_sentence: bool = True, seed: int = 0) -> Bert:
    """An untrained model with the output layers of pre-training."""
    torch.manual_seed(seed)
    return Bert(BertConfig(encoder=encoder, outputs=(MASKED_WORD, NEXT_SENTENCE) if next_sentence else (MASKED_WORD,)))


def fit(
    bert: Bert,
    corpus: Corpus,
    config: PretrainingConfig,
    *,
    checkpoints: Checkpoints | None = None,
    quiet: bool = False,
) -> TrainingLog:
    """Pre-train `bert` in place."""
    for module in bert.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = config.dropout
    batches = PretrainingBatches(corpus, config)
    return train(bert, batches, config, name="pre-training", checkpoints=checkpoints, quiet=quiet)


def pretrain(
    corpus: str | os.PathLike,
    out: str | os.PathLike,
    *,
    size: str = "mini",
    config: PretrainingConfig | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> tuple[Bert, Tokenizer, TrainingLog]:
    """Pre-train an encoder of a preset size on a corpus directory and write it to `out`, with `metrics.json`.

    Until it is finished the run lives in a directory beside `out`, called `OUT.run`. With `resume` an unfinished run
    goes on from its last checkpoint, to the same weights as if it had never stopped; without one it starts. Raises
    InputError for what the user must mend and `Stopped` if asked to stop (SIGTERM), with a checkpoint written.
    """
    config = config or PretrainingConfig()
    out = Path(out)
    refuse_existing(out, overwrite)
    unfinished = out.with_name(out.name + ".run")
    if unfinished.exists() and not resume and not overwrite:
        raise InputError(f"{unfinished} holds an unfinished run; add --resume to go on or --overwrite to start anew.")
    opened = Corpus.open(corpus)
    bert = new_encoder(preset(size, opened.tokenizer.vocab_size), next_sentence=config.next_sentence, seed=config.seed)
    if unfinished.exists() and not resume:
        shutil.rmtree(unfinished)
    checkpoints = Checkpoints(
        unfinished / "checkpoints",
        {"preset": size, "corpus": opened.fingerprint, **deciding(config)},
        every_seconds=60 * config.checkpoint_minutes,
    )
    log = fit(bert, opened, config, checkpoints=checkpoints)
    metrics = {
        "updates": log.updates,
        "tokens": log.tokens,
        "seconds": round(log.seconds, 2),
        "tokens_per_second": round(log.tokens_per_second, 1),
        "losses": log.losses,
        "settings": asdict(config),
    }
    save_model(
        out,
        bert,
        opened.tokenizer,
        extra_files={"metrics.json": json.dumps(metrics, indent=2) + "\n"},
        overwrite=overwrite,
    )
    shutil.rmtree(unfinished, ignore_errors=True)
    return bert, opened.tokenizer, log


def deciding(config: PretrainingConfig) -> dict[str, Any]:
    """The settings that decide the numbers of a run."""
    return {name: value for name, value in asdict(config).items() if name != "checkpoint_minutes"}
