"""The recipe: corpus + masked-word and next-sentence output layers → a pre-trained encoder."""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bothways.corpus.shards import Corpus
from bothways.errors import InputError
from bothways.files.writing import exclusive_directory, refuse_existing
from bothways.formats.writing import save_model
from bothways.hardware import default_device, fast_precision, resolve, tokens_at_once
from bothways.model.bert import Bert
from bothways.pretraining.batches import PretrainingBatches
from bothways.pretraining.config import PretrainingConfig, settings_to_match
from bothways.pretraining.held_out import HeldOut, split_documents
from bothways.pretraining.initialization import copy_unread_positions, first_encoder, new_encoder_with_word_vectors
from bothways.tokenizer import Tokenizer
from bothways.training.checkpoint import Checkpoints
from bothways.training.config import TrainingConfig
from bothways.training.distributed import SINGLE_PROCESS, Ranks
from bothways.training.log import TrainingLog
from bothways.training.loop import Report, train
from bothways.training.tensorboard import TensorBoardLog
from bothways.training.throughput import peak

LOG_EVERY = 25
"""Updates between entries of the log."""


def fit(
    bert: Bert,
    corpus: Corpus,
    config: PretrainingConfig,
    *,
    positions_read: int = 0,
    checkpoints: Checkpoints | None = None,
    watch: TensorBoardLog | None = None,
    ranks: Ranks = SINGLE_PROCESS,
    quiet: bool = False,
) -> TrainingLog:
    """Pre-train `bert` in place. `positions_read`: as many positions it has learned before."""
    bert.set_dropout(config.dropout)
    device = ranks.device or default_device()
    dtype = resolve(config.precision, device)
    config = replace(
        config,
        micro_batch_tokens=config.micro_batch_tokens or tokens_at_once(device),
        precision=config.precision or fast_precision(device),
    )
    read, unread = split_documents(corpus, config)
    held_out = HeldOut(corpus, config, unread) if len(unread) else None
    if config.held_out and held_out is None and ranks.is_main and not quiet:
        print(f"{corpus.directory}: no text is held out; there is too little of it.", file=sys.stderr)
    batches = PretrainingBatches(corpus, config, read, ranks)
    turns = {config.steps, *(phase.begin for phase in batches.phases)}

    def after_update(bert: Bert, log: TrainingLog) -> None:
        update = log.updates
        due = update == config.steps or (config.evaluate_every > 0 and update % config.evaluate_every == 0)
        if due or update in turns:
            copy_unread_positions(bert, max(positions_read, batches.phase(update - 1).length))
        if due and held_out is not None:
            for name, measured in held_out.evaluate(bert, dtype, device).items():
                log.held_out.setdefault(name, []).append((update, *measured))
        if watch is not None:
            watch.begin(update - 1)
            if update % LOG_EVERY == 0:
                watch.update(log)

    return train(
        bert,
        batches,
        TrainingConfig.of(config),
        device=device,
        checkpoints=checkpoints,
        after_update=after_update,
        ranks=ranks,
        report=Report(
            name="pre-training",
            log_every=LOG_EVERY,
            peak=0.0 if quiet else peak(device, dtype),
            quiet=quiet or not ranks.is_main,
        ),
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
    had never stopped; without one it starts. Raises InputError for what the user has to correct and `Stopped` if asked
    to stop (SIGTERM), with a checkpoint written.
    """
    config = config or PretrainingConfig()
    out, ranks = Path(out), Ranks.join()
    refuse_existing(out, overwrite, reads=(corpus, encoder))
    unfinished = out.with_name(out.name + ".run")
    if unfinished.exists() and not resume and not overwrite:
        raise InputError(f"{unfinished} holds an unfinished run; add --resume to go on or --overwrite to start anew.")
    ranks.barrier()  # until every rank has looked, since the first now makes the directory
    with exclusive_directory(unfinished, anew=not resume) if ranks.is_main else nullcontext():
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
    ranks.barrier()  # until what is not to be gone on with is gone
    going_on = any(unfinished.glob("checkpoints/update-*"))  # what was verified when the run began is not read again
    opened = Corpus.open(corpus, verify=ranks.is_local_main and not going_on)
    bert = first_encoder(opened, config, size=size, encoder=encoder)
    ranks.require_same(opened.fingerprint, "corpus")
    settings = {"encoder": str(encoder or size or "mini"), "corpus": opened.fingerprint, **settings_to_match(config)}
    ranks.require_same(json.dumps(settings), "settings")
    if config.word2vec:
        bert = new_encoder_with_word_vectors(bert, opened, config, unfinished, json.dumps(settings), ranks)
    checkpoints = Checkpoints(unfinished / "checkpoints", settings, every_seconds=60 * config.checkpoint_minutes)
    watch = TensorBoardLog(unfinished) if ranks.is_main else None
    known = bert.config.encoder.max_positions if encoder is not None else 0
    log = fit(bert, opened, config, positions_read=known, checkpoints=checkpoints, watch=watch, ranks=ranks)
    if watch is None:
        return bert, opened.tokenizer, log
    files = {"metrics.json": json.dumps(described(log, config), indent=2) + "\n", **watch.close(log)}
    save_model(out, bert, opened.tokenizer, extra_files=files, overwrite=overwrite)
    if (unfinished / "tensorboard").is_dir():
        os.replace(unfinished / "tensorboard", out / "tensorboard")
    shutil.rmtree(unfinished, ignore_errors=True)
    return bert, opened.tokenizer, log


def described(log: TrainingLog, config: PretrainingConfig) -> dict[str, Any]:
    """A run as it goes into metrics.json."""
    return {
        "updates": log.updates,
        "tokens": log.tokens,
        "seconds": round(log.seconds, 2),
        "tokens_per_second": round(log.tokens_per_second, 1),
        "share_of_peak": round(log.share_of_peak, 4),
        "losses": log.losses,
        "held_out": log.held_out,
        "settings": asdict(config),
    }
