"""The recipe: corpus + masked-word and next-sentence output layers → a pre-trained encoder."""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bothways.batch import PackedBatch, TrainingBatch
from bothways.data.chance import uniform
from bothways.data.corpus import Corpus
from bothways.data.masking import Masking
from bothways.data.sentence_pairs import Pairs, SentencePairs, ranges
from bothways.data.word_vectors import word2vec
from bothways.encoders import locate
from bothways.errors import InputError
from bothways.formats.hugging_face import load_model, save_model
from bothways.hardware import computing_in, default_device, resolve
from bothways.model.bert import Bert
from bothways.model.config import MASKED_WORD, NEXT_SENTENCE, UNLABELLED, BertConfig, EncoderConfig, preset
from bothways.storage import alone_in, refuse_existing
from bothways.tokenizer import Tokenizer
from bothways.training.checkpoint import Checkpoints
from bothways.training.distributed import ALONE, Ranks, like, whole
from bothways.training.loop import TrainingConfig, TrainingLog, train
from bothways.training.optimization import OptimizerName
from bothways.training.throughput import peak
from bothways.training.watching import Watch

LOG_EVERY = 25
"""Updates between entries of the log."""
SELDOM = 5
"""A word vector learned from fewer occurrences is not worth having."""
VECTOR_DEVIATION = 0.05
"""Standard deviation of word vectors as token embeddings: about that of token embeddings after pre-training."""


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig(TrainingConfig):
    """How an encoder is pre-trained."""

    learning_rate: float = 1e-3
    """Peak of the learning rate; small encoders bear and want large ones."""
    warmup: float = 0.02
    """Share of all updates in which the learning rate rises; afterwards it falls linearly to zero."""
    optimizer: OptimizerName = "muon"
    """muon for the matrices of the encoder's layers and adamw for the rest, which learns as much from a quarter fewer
    tokens (docs/decisions.md), or adamw for everything (so is auto)."""
    steps: int = 10_000
    """Updates."""
    batch_tokens: int = 8192
    """Tokens in an update."""
    sequence_lengths: tuple[int, ...] = (32, 128, 512)
    """Longest pair of texts, in tokens, one length after the other: attention learns to look at neighbours sooner among
    few tokens (docs/decisions.md), late positions are learned last (arXiv 1810.04805, appendix A.2)."""
    length_shares: tuple[float, ...] = ()
    """Share of the updates that reads each length; left out: 0.4, 0.5, 0.1 of three, equal ones otherwise."""
    compile: bool = True
    """If it trains on CUDA: fuse what lies between matrix products (torch.compile) and, in bf16 without dropout, record
    updates as CUDA graphs. Worth the first half minute in long runs."""
    masking_rate: float = 0.15
    """Share of words to be guessed."""
    whole_words: bool = True
    """Hide all pieces of a word together."""
    next_sentence: bool = True
    """Learn to tell whether the second text follows the first, beside the hidden words."""
    word2vec: bool = False
    """Start the token embeddings of a new encoder with word2vec vectors of the corpus, a matter of minutes that saves
    many (needs gensim, the extra `vectors`)."""
    checkpoint_minutes: float = 10.0
    """Minutes between checkpoints."""
    held_out: float = 0.01
    """Share of the documents that is kept aside to judge the encoder (500 at most); 0: none."""
    evaluate_every: int = 500
    """Updates between judgements on the documents kept aside; 0: only at the end."""
    dropout: float = 0.0
    """Dropout while pre-training, and in fine-tuning what comes out of it, unless told otherwise; a small encoder needs
    none, and it costs a third of the speed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.learning_rate > 0, "learning_rate", "a number above 0 and at most 1")
        self.require(self.steps >= 1, "steps", "1 or more")
        lengths = self.sequence_lengths
        rising = lengths[:1] >= (8,) and all(a < b for a, b in pairwise(lengths))
        self.require(rising, "sequence_lengths", "rising lengths from 8 tokens on")
        shares = self.shares
        adding_up = len(shares) == len(lengths) and min(shares) >= 0 and abs(sum(shares) - 1) < 1e-6
        self.require(adding_up, "length_shares", "a share for each of the sequence lengths, 1 in all")
        self.require(self.batch_tokens >= 1, "batch_tokens", "1 or more")
        self.require(0 < self.masking_rate < 1, "masking_rate", "a share between 0 and 1")
        self.require(self.checkpoint_minutes >= 0, "checkpoint_minutes", "0 or more")
        self.require(0 <= self.held_out < 1, "held_out", "a share of at least 0 and below 1")
        self.require(self.evaluate_every >= 0, "evaluate_every", "0 (only at the end) or more")
        self.require(0 <= self.dropout < 1, "dropout", "a share of at least 0 and below 1")

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of the updates that reads each of the `sequence_lengths`."""
        count = len(self.sequence_lengths)
        return self.length_shares or ((0.4, 0.5, 0.1) if count == 3 else (1 / count,) * count)

    @property
    def main_length(self) -> int:
        """The length of pairs that most updates read."""
        return max(zip(self.shares, self.sequence_lengths, strict=True))[1]


def places(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Where each token stands: (which pair, which token of it), both (tokens,) int64."""
    return np.repeat(pairs.positions, pairs.lengths), ranges(np.zeros_like(pairs.lengths), pairs.lengths)


class Phase:
    """Updates whose pairs have the same length."""

    def __init__(
        self,
        corpus: Corpus,
        config: PretrainingConfig,
        begin: int,
        length: int,
        seed: int,
        documents: np.ndarray | None,
        ranks: Ranks,
    ) -> None:
        self.begin, self.length = begin, length
        """First update; tokens."""
        self.pairs = SentencePairs(
            corpus,
            sequence_length=length,
            random_share=0.5 if config.next_sentence else 0.0,
            seed=seed,
            documents=documents,
        )
        self.in_update = max(1, config.batch_tokens // length)
        """Pairs."""
        if self.in_update < ranks.world:
            raise InputError(
                f"An update of {config.batch_tokens} tokens has {self.in_update} pairs of {length}, too few for "
                f"{ranks.world} processes; ask for more --batch-tokens."
            )
        self.in_micro_batch = max(1, config.at_once // length)
        """Pairs, at most."""


class PretrainingBatches:
    """Masked sentence pairs, made when they are needed: update `step` is a pure function of (seed, step)."""

    def __init__(
        self,
        corpus: Corpus,
        config: PretrainingConfig,
        documents: np.ndarray | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        """`documents`: those to read; None: all. `ranks`: every one of them gets its own part of each update."""
        self.config, self.ranks = config, ranks
        self.masking = Masking(corpus.tokenizer, rate=config.masking_rate, whole_words=config.whole_words)
        ends = [round(config.steps * share) for share in accumulate(config.shares)]
        self.phases = [
            Phase(corpus, config, begin, length, config.seed + number, documents, ranks)
            for number, (begin, end, length) in enumerate(zip([0, *ends], ends, config.sequence_lengths, strict=False))
            if begin < end
        ]
        """One length after the other."""

    def __len__(self) -> int:
        return self.config.steps

    def phase(self, step: int) -> Phase:
        """The phase that update `step` belongs to."""
        return next(phase for phase in reversed(self.phases) if phase.begin <= step)

    def update(self, step: int) -> list[TrainingBatch]:
        """The micro-batches of update `step`."""
        phase = self.phase(step)
        positions = (step - phase.begin) * phase.in_update + np.arange(phase.in_update)
        own = np.array_split(positions, self.ranks.world)[self.ranks.rank]
        most = -(-phase.in_update // self.ranks.world)
        parts = -(-most // phase.in_micro_batch)  # as many on every rank, since shards are gathered for each
        return [self.batch(phase.pairs, part) for part in np.array_split(own, parts)]

    def batch(self, of: SentencePairs, positions: np.ndarray) -> TrainingBatch:
        """The pairs at some positions, packed by length and masked.

        Of no positions it is a pair that counts for nothing, since every rank has to have something to compute.
        """
        if not len(positions):
            batch = self.batch(of, np.zeros(1, np.int64))
            return TrainingBatch(
                batch.inputs, {name: torch.full_like(t, UNLABELLED) for name, t in batch.targets.items()}
            )
        pairs = of.at(positions)
        # Chance belongs to each token of each pair, so that it does not matter which pairs share a batch.
        chance = uniform(of.seed, *places(pairs), draws=3, stream=2)
        masked = self.masking(pairs.token_ids, pairs.continues, chance)
        inputs = PackedBatch.of(masked.token_ids, pairs.segment_ids, pairs.lengths, masked.positions)
        targets = {MASKED_WORD.name: torch.from_numpy(masked.targets)}
        if self.config.next_sentence:
            targets[NEXT_SENTENCE.name] = torch.from_numpy(pairs.labels)
        return TrainingBatch(inputs, targets)


class HeldOut:
    """Text kept aside, masked once and for all: how well the output layers do on what was never read."""

    PAIRS, TOKENS = 512, 8192

    def __init__(self, corpus: Corpus, config: PretrainingConfig, documents: np.ndarray) -> None:
        config = replace(config, sequence_lengths=(config.main_length,), length_shares=())
        batches = PretrainingBatches(corpus, config, documents)
        pairs = batches.phases[0].pairs
        count = min(self.PAIRS, pairs.in_epoch)
        at_once = max(1, self.TOKENS // config.main_length)
        parts = np.array_split(np.arange(count), -(-count // at_once))
        self.batches = [batches.batch(pairs, part) for part in parts]

    @torch.no_grad()
    def judge(self, bert: Bert, dtype: torch.dtype, device: torch.device) -> dict[str, tuple[float, float]]:
        """By output layer: (loss, accuracy)."""
        bert.eval()
        losses, right, counts = ({output.config.name: 0.0 for output in bert.outputs} for _ in range(3))
        for batch in self.batches:
            batch = batch.to(device)
            with computing_in(dtype, device):
                logits = bert(batch.inputs)
            for output in bert.outputs:
                name, targets = output.config.name, batch.targets[output.config.name]
                losses[name] += float(output.loss(logits[name], targets))
                right[name] += int((logits[name].argmax(-1) == targets).sum())
                counts[name] += output.count(targets)
        return {name: (losses[name] / max(1, n), right[name] / max(1, n)) for name, n in counts.items()}


def split_documents(corpus: Corpus, config: PretrainingConfig) -> tuple[np.ndarray, np.ndarray]:
    """(documents to read, documents kept aside), spread evenly over the corpus; of fewer than 200 none is kept."""
    everything = np.arange(corpus.documents)
    count = min(500, int(corpus.documents * config.held_out))
    if count < 2:
        return everything, everything[:0]
    if corpus.documents - count < 2:
        raise InputError(
            f"--held-out is {config.held_out:g}, which leaves {corpus.documents - count} of {corpus.documents:,} "
            f"documents to read; give a smaller share."
        )
    aside = np.linspace(0, corpus.documents - 1, count).astype(np.int64)
    return np.setdiff1d(everything, aside), aside


def new_encoder(encoder: EncoderConfig, *, next_sentence: bool = True, seed: int = 0) -> Bert:
    """An untrained model with the output layers of pre-training."""
    torch.manual_seed(seed)
    return Bert(BertConfig(encoder=encoder, outputs=(MASKED_WORD, NEXT_SENTENCE) if next_sentence else (MASKED_WORD,)))


@torch.no_grad()
def copy_positions(bert: Bert, read: int) -> None:
    """Positions from `read` on, which no text has reached yet, become copies of those before, in the same order.

    From chance they would take millions of tokens to learn, which the last and longest pairs are too few for
    (docs/decisions.md). Position 0 belongs to [CLS] and is no model for others.
    """
    table = bert.embeddings.position.weight
    later = torch.arange(read, len(table))
    started = whole(table.detach()).clone()
    started[later] = started[1 + (later - 1) % (read - 1)]
    table.copy_(like(table, started))


@torch.no_grad()
def start_with_word_vectors(bert: Bert, vectors: np.ndarray, counts: np.ndarray) -> None:
    """Word vectors become the token embeddings, and how common each token is the bias of its prediction.

    `vectors`: (vocabulary, hidden); `counts`: (vocabulary,), how often each token was seen. Tokens that were seen less
    than `SELDOM` times keep their random vectors.
    """
    often = counts >= SELDOM
    if often.sum() > 1:
        known = vectors[often] - vectors[often].mean(axis=0)
        known *= VECTOR_DEVIATION / known.std()
        bert.embeddings.token.weight[torch.from_numpy(often)] = torch.from_numpy(known)
    frequency = np.log((counts + 1.0) / (counts.sum() + len(counts)))
    bias = bert.output(MASKED_WORD.name).get_parameter("bias")
    bias.copy_(torch.from_numpy(frequency - frequency.mean()))


def new_encoder_with_word_vectors(
    bert: Bert, corpus: Corpus, config: PretrainingConfig, run: Path, settings: str, ranks: Ranks
) -> Bert:
    """A new encoder, its token embeddings word vectors; made by the first rank and kept in `run` for a resumption with
    the same `settings`."""
    goal = run / "start"
    made_for = goal / "settings.json"
    if ranks.first and not (made_for.is_file() and made_for.read_text("utf-8") == settings):
        documents, _ = split_documents(corpus, config)
        vectors = word2vec(corpus, documents, bert.config.encoder.hidden_size, scratch=run, seed=config.seed)
        start_with_word_vectors(bert, *vectors)
        save_model(goal, bert, corpus.tokenizer, extra_files={made_for.name: settings}, overwrite=True)
    ranks.wait()
    return load_model(goal)[0]


def known_encoder(encoder: str | os.PathLike, corpus: Corpus, *, next_sentence: bool = True, seed: int = 0) -> Bert:
    """An encoder that has read other text before, to go on with `corpus`; output layers that it lacks start fresh.

    Raises InputError if the corpus was cut with another tokenizer than the encoder's.
    """
    torch.manual_seed(seed)
    bert, tokenizer, report = load_model(locate(encoder))
    if tokenizer.fingerprint != corpus.tokenizer.fingerprint:
        raise InputError(
            f"{corpus.directory} was cut with another tokenizer than that of {encoder}; build the corpus with "
            f"--tokenizer {report.source}."
        )
    known = {output.config: output for output in bert.outputs}
    bert.attach(*((MASKED_WORD, NEXT_SENTENCE) if next_sentence else (MASKED_WORD,)))
    for output in bert.outputs:
        if output.config in known:
            output.load_state_dict(known[output.config].state_dict())
    return bert


def fit(
    bert: Bert,
    corpus: Corpus,
    config: PretrainingConfig,
    *,
    positions_read: int = 0,
    checkpoints: Checkpoints | None = None,
    watch: Watch | None = None,
    ranks: Ranks = ALONE,
    quiet: bool = False,
) -> TrainingLog:
    """Pre-train `bert` in place. `positions_read`: as many positions it has learned before."""
    bert.set_dropout(config.dropout)
    device = ranks.device or default_device()
    dtype = resolve(config.precision, device)
    read, aside = split_documents(corpus, config)
    held_out = HeldOut(corpus, config, aside) if len(aside) else None
    if config.held_out and held_out is None and ranks.first and not quiet:
        print(f"{corpus.directory}: no text is kept aside; there is too little of it.", file=sys.stderr)
    batches = PretrainingBatches(corpus, config, read, ranks)
    turns = {config.steps, *(phase.begin for phase in batches.phases)}

    def after_update(bert: Bert, log: TrainingLog) -> None:
        update = log.updates
        due = update == config.steps or (config.evaluate_every > 0 and update % config.evaluate_every == 0)
        if due or update in turns:
            copy_positions(bert, max(positions_read, batches.phase(update - 1).length))
        if due and held_out is not None:
            for name, judged in held_out.judge(bert, dtype, device).items():
                log.held_out.setdefault(name, []).append((update, *judged))
        if watch is not None:
            watch.begin(update - 1)
            if update % LOG_EVERY == 0:
                watch.update(log)

    return train(
        bert,
        batches,
        config,
        name="pre-training",
        device=device,
        checkpoints=checkpoints,
        after_update=after_update,
        log_every=LOG_EVERY,
        peak=0.0 if quiet else peak(device, dtype),
        ranks=ranks,
        quiet=quiet or not ranks.first,
    )


def pretrain(
    corpus: str | os.PathLike,
    out: str | os.PathLike,
    *,
    size: str | None = None,
    encoder: str | os.PathLike | None = None,
    config: PretrainingConfig | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> tuple[Bert, Tokenizer, TrainingLog]:
    """Pre-train an encoder on a corpus directory and write it to `out`, with `metrics.json`.

    It is a new one of a preset `size` (mini unless given), or `encoder` (directory, shipped name or hub id), which goes
    on reading. Until it is finished the run lives in a directory beside `out`, called `OUT.run`, where one process at a
    time may be at work. With `resume` an unfinished run goes on from its last checkpoint, to the same weights as if it
    had never stopped; without one it starts. Raises InputError for what the user must mend and `Stopped` if asked to
    stop (SIGTERM), with a checkpoint written.
    """
    config = config or PretrainingConfig()
    out, ranks = Path(out), Ranks.join()
    refuse_existing(out, overwrite, reads=(corpus,))
    unfinished = out.with_name(out.name + ".run")
    if unfinished.exists() and not resume and not overwrite:
        raise InputError(f"{unfinished} holds an unfinished run; add --resume to go on or --overwrite to start anew.")
    ranks.wait()  # until every rank has looked, since the first now makes the directory
    with alone_in(unfinished, anew=not resume) if ranks.first else nullcontext():
        return _pretrain(corpus, out, unfinished, size, encoder, config, ranks, overwrite)


def _pretrain(
    corpus: str | os.PathLike,
    out: Path,
    unfinished: Path,
    size: str | None,
    encoder: str | os.PathLike | None,
    config: PretrainingConfig,
    ranks: Ranks,
    overwrite: bool,
) -> tuple[Bert, Tokenizer, TrainingLog]:
    """`pretrain`, once no other process is at work in the directory `unfinished`."""
    ranks.wait()  # until what is not to be gone on with is gone
    going_on = any(unfinished.glob("checkpoints/update-*"))  # what was verified when the run began is not read again
    opened = Corpus.open(corpus, verify=ranks.first_here and not going_on)
    if encoder is None:
        shape = preset(size or "mini", opened.tokenizer.vocab_size)
        bert = new_encoder(shape, next_sentence=config.next_sentence, seed=config.seed)
    elif size is not None:
        raise InputError(f"--preset is for a new encoder; {encoder} has its size already.")
    elif config.word2vec:
        raise InputError(f"--word2vec is for a new encoder; {encoder} has token embeddings already.")
    else:
        bert = known_encoder(encoder, opened, next_sentence=config.next_sentence, seed=config.seed)
    longest, positions = config.sequence_lengths[-1], bert.config.encoder.max_positions
    if longest > positions:
        raise InputError(
            f"Pairs of {longest} tokens are longer than the position table ({positions}); ask for shorter "
            f"--sequence-lengths."
        )
    ranks.require_same(opened.fingerprint, "corpus")
    settings = {"encoder": str(encoder or size or "mini"), "corpus": opened.fingerprint, **deciding(config)}
    ranks.require_same(json.dumps(settings), "settings")
    if config.word2vec:
        bert = new_encoder_with_word_vectors(bert, opened, config, unfinished, json.dumps(settings), ranks)
    checkpoints = Checkpoints(unfinished / "checkpoints", settings, every_seconds=60 * config.checkpoint_minutes)
    watch = Watch(unfinished) if ranks.first else None
    known = positions if encoder is not None else 0
    log = fit(bert, opened, config, positions_read=known, checkpoints=checkpoints, watch=watch, ranks=ranks)
    if watch is None:
        return bert, opened.tokenizer, log
    metrics = {
        "updates": log.updates,
        "tokens": log.tokens,
        "seconds": round(log.seconds, 2),
        "tokens_per_second": round(log.tokens_per_second, 1),
        "share_of_peak": round(log.share_of_peak, 4),
        "losses": log.losses,
        "held_out": log.held_out,
        "settings": asdict(config),
    }
    files = {"metrics.json": json.dumps(metrics, indent=2) + "\n", **watch.close(log)}
    save_model(out, bert, opened.tokenizer, extra_files=files, overwrite=overwrite)
    if (unfinished / "tensorboard").is_dir():
        os.replace(unfinished / "tensorboard", out / "tensorboard")
    shutil.rmtree(unfinished, ignore_errors=True)
    return bert, opened.tokenizer, log


def deciding(config: PretrainingConfig) -> dict[str, Any]:
    """The settings that decide the numbers of a run."""
    others = ("checkpoint_minutes", "evaluate_every", "shard")
    return {name: value for name, value in asdict(config).items() if name not in others}
