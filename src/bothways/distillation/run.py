"""The recipe: unlabelled texts + a teacher → a student, an encoder or classifier that answers as its teacher."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bothways.distillation.batches import DistillationBatches
from bothways.distillation.classifier import ClassifierTeacher
from bothways.distillation.config import DistillationConfig, ResolvedConfig, resolved, settings_to_match
from bothways.distillation.held_out import HeldOut, split
from bothways.distillation.student import attach, first_student
from bothways.distillation.teacher import EncoderTeacher, Teacher, VectorFile
from bothways.distillation.texts import Texts
from bothways.distillation.transfer_set import TransferSet, build_transfer_set
from bothways.errors import InputError
from bothways.files.writing import exclusive_directory, refuse_existing
from bothways.formats.hub import AUTO, locate
from bothways.formats.model_card import render, table
from bothways.formats.reading import load_model
from bothways.formats.writing import save_model
from bothways.hardware import default_device, fast_precision, resolve, tokens_at_once
from bothways.model.bert import Bert
from bothways.model.config import MASKED_LM
from bothways.pretraining.initialization import copy_unread_positions
from bothways.pretraining.masking import Masking
from bothways.tasks import TASKS, tasks_of
from bothways.tokenizer import Tokenizer
from bothways.training.checkpoint import Checkpoints
from bothways.training.config import TrainingConfig
from bothways.training.log import TrainingLog
from bothways.training.loop import Report, train
from bothways.training.throughput import peak

LOG_EVERY = 25
"""Updates between entries of the log."""


@dataclass(frozen=True)
class Distilled:
    """A student that has learned, and what was measured."""

    bert: Bert
    tokenizer: Tokenizer
    log: TrainingLog
    metrics: dict[str, Any] = field(default_factory=dict)


def teacher_of(
    name: str | os.PathLike, *, prompt: str | None = None, column: str | None = None, max_length: int | None = None
) -> Teacher:
    """A .npy file of vectors, a classifier or an encoder. `prompt`, `column`, `max_length`: see `EncoderTeacher`.

    Raises InputError if it is none of them, or where a setting is not for it.
    """
    if str(name).endswith(".npy"):
        if prompt is not None:
            raise InputError(f"--prompt is for an encoder; the vectors in {name} are made already.")
        return VectorFile(name, column=column or "text")
    if tasks_of(load_model(locate(name))[0].config.outputs):
        if prompt is not None or column is not None:
            raise InputError(f"{name} is a classifier, which knows its columns; leave out --prompt and --text.")
        return ClassifierTeacher(name)
    longest = {} if max_length is None else {"max_length": max_length}
    return EncoderTeacher(name, prompt=prompt, column=column or "text", **longest)


def fit(
    bert: Bert,
    tokenizer: Tokenizer,
    transfer_set: TransferSet,
    teacher: Teacher,
    config: ResolvedConfig,
    *,
    checkpoints: Checkpoints | None = None,
    quiet: bool = False,
) -> TrainingLog:
    """Have `bert` learn in place what a teacher has answered; its output layers are those that learn."""
    device = default_device()
    dtype = resolve(config.precision, device)
    read, unread = split(transfer_set, config.held_out)
    objective = teacher.objective(transfer_set, config)
    objective.begin(bert, tokenizer, read)
    held_out = HeldOut(transfer_set, unread, objective) if len(unread) else None
    batches = DistillationBatches(transfer_set, read, objective, Masking(tokenizer, rate=config.masking_rate), config)

    def after_update(bert: Bert, log: TrainingLog) -> None:
        update = log.updates
        due = update == len(batches) or (config.evaluate_every > 0 and update % config.evaluate_every == 0)
        if due and held_out is not None:
            for name, measured in held_out.evaluate(bert, dtype, device).items():
                log.held_out.setdefault(name, []).append((update, *measured))

    log = train(
        bert,
        batches,
        TrainingConfig.of(config),
        device=device,
        checkpoints=checkpoints,
        after_update=after_update,
        report=Report(
            name="distillation", log_every=LOG_EVERY, peak=0.0 if quiet else peak(device, dtype), quiet=quiet
        ),
    )
    objective.finish(bert, tokenizer, read, unread)
    return log


def distill(
    files: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    *,
    teacher: str | os.PathLike | Teacher,
    encoder: str | os.PathLike | None = None,
    size: str | None = None,
    tokenizer: str | os.PathLike | None = None,
    config: DistillationConfig | None = None,
    prompt: str | None = None,
    column: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> Distilled:
    """Have a student learn from a teacher what it answers to the texts of `files`, and write it to `out`.

    The student is `encoder` (the shipped one of the texts' language unless named), or a new one of a preset `size`
    with the `tokenizer` of a directory. The teacher is an encoder, a classifier or a .npy file (see `teacher_of`), or
    anything else that is a `Teacher`. Until it is finished the run lives in a directory beside `out`, `OUT.run`. With
    `resume` an unfinished run goes on, to the same weights as if it had never stopped. Raises InputError for what the
    user has to correct and `Stopped` if asked to stop (SIGTERM), with a checkpoint written.
    """
    config = config or DistillationConfig()
    out = Path(out)
    named = None if not isinstance(teacher, (str, os.PathLike)) else teacher
    refuse_existing(out, overwrite, reads=(*files, named, encoder, tokenizer))
    unfinished = out.with_name(out.name + ".run")
    if unfinished.exists() and not resume and not overwrite:
        raise InputError(f"{unfinished} holds an unfinished run; add --resume to go on or --overwrite to start anew.")
    if isinstance(teacher, (str, os.PathLike)):
        teacher = teacher_of(teacher, prompt=prompt, column=column, max_length=config.max_length)
    given = Texts(files, teacher.columns, most=config.most_texts)
    bert, words = first_student(given, encoder=encoder, size=size, tokenizer=tokenizer, seed=config.seed)
    device = default_device()
    chosen = resolved(
        config,
        teacher.choices(bert.config.encoder.hidden_size),
        width=bert.config.encoder.hidden_size,
        longest=bert.config.longest,
        micro_batch_tokens=tokens_at_once(device),
        precision=fast_precision(device),
    )
    texts = replace(given, divide=teacher.division(chosen.max_length, chosen.seed))
    require_room(bert, chosen)
    with exclusive_directory(unfinished, anew=not resume):
        start = str(size or encoder or AUTO)
        done = _distill(bert, words, texts, teacher, chosen, unfinished, start=start, quiet=quiet)
        if size is not None:
            copy_unread_positions(done.bert, chosen.max_length)
        card = card_of(done, teacher.name, "the shipped encoder" if start == AUTO else start)
        files_beside = {"metrics.json": json.dumps(done.metrics, indent=2, ensure_ascii=False) + "\n"}
        save_model(out, done.bert, done.tokenizer, card=card, extra_files=files_beside, overwrite=overwrite)
        shutil.rmtree(unfinished, ignore_errors=True)
    return done


def _distill(
    bert: Bert,
    tokenizer: Tokenizer,
    texts: Texts,
    teacher: Teacher,
    config: ResolvedConfig,
    unfinished: Path,
    *,
    start: str,
    quiet: bool,
) -> Distilled:
    """`distill`, once no other process is at work in the directory `unfinished`."""
    identity = {**teacher.identity, "texts": texts.identity, "tokenizer": tokenizer.fingerprint}
    reading = {name: getattr(config, name) for name in ("max_length", "most_texts", "seed")}
    transfer_set = build_transfer_set(
        unfinished / "texts",
        texts,
        tokenizer,
        config.max_length,
        teacher.answers,
        dtype=teacher.dtype,
        settings={**identity, **reading},
        quiet=quiet,
    )
    if config.most_texts is None:
        with anew_after_mistake(transfer_set.directory):
            teacher.finished(transfer_set.counted["texts"])
    if transfer_set.counted["truncated"] and not quiet:
        print(
            f"{transfer_set.counted['truncated']:,} of {transfer_set.counted['texts']:,} texts are longer than "
            f"{config.max_length} tokens; the student reads their beginning.",
            file=sys.stderr,
        )
    attach(bert, teacher.outputs(bert, config), config)
    settings = {**identity, "student": start, **settings_to_match(config)}
    checkpoints = Checkpoints(unfinished / "checkpoints", settings, every_seconds=60 * config.checkpoint_minutes)
    log = fit(bert, tokenizer, transfer_set, teacher, config, checkpoints=checkpoints, quiet=quiet)
    if MASKED_LM.name in {output.name for output in bert.config.outputs}:
        bert.configure(MASKED_LM)  # in another training it counts as ever
    counted = {**transfer_set.counted, "texts_held_out": len(split(transfer_set, config.held_out)[1])}
    return Distilled(bert, tokenizer, log, described(log, config, teacher.name, counted))


@contextmanager
def anew_after_mistake(directory: Path) -> Iterator[None]:
    """Leave nothing to go on from if the block finds that it is of no use."""
    try:
        yield
    except InputError:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def require_room(bert: Bert, config: ResolvedConfig) -> None:
    """Raise InputError if the student cannot read texts as long as asked for."""
    if config.max_length > bert.config.encoder.max_positions:
        raise InputError(
            f"--max-length is {config.max_length}, but the student reads {bert.config.encoder.max_positions} tokens at "
            f"most; ask for fewer."
        )


def described(log: TrainingLog, config: ResolvedConfig, teacher: str, counted: dict[str, int]) -> dict[str, Any]:
    """A run as it goes into metrics.json."""
    held_out = {
        name: [{"update": update, "loss": loss, "agreement": agreed} for update, loss, agreed in entries]
        for name, entries in log.held_out.items()
    }
    return {
        "teacher": teacher,
        **counted,
        "updates": log.updates,
        "tokens": log.tokens,
        "seconds": round(log.seconds, 2),
        "tokens_per_second": round(log.tokens_per_second, 1),
        "share_of_peak": round(log.share_of_peak, 4),
        "losses": log.losses,
        "held_out": held_out,
        "settings": asdict(config),
    }


def card_of(done: Distilled, teacher: str, student: str) -> str:
    """The model card: from whom it has learned what, and how near it has come."""
    measured = done.metrics["held_out"]
    rows = []
    for output in done.bert.config.outputs:
        last = measured.get(output.name, [{}])[-1]
        agreed = f"{last['agreement']:.4f}" if last else "–"
        rows.append((output.name, output.kind, len(output.labels) or "–", agreed))
    return render(
        f"Distilled from {Path(teacher).name}",
        f"Started from {Path(student).name}; has learned what {Path(teacher).name} says of "
        f"{done.metrics['texts']:,} texts, in {done.metrics['updates']:,} updates.",
        "Agreement with the teacher, on texts it has not learned from: for classes the share of equal answers, for "
        "vectors the cosine.",
        table(["output", "kind", "labels", "agreement"], rows),
        pipeline="text-classification" if any(o.kind in TASKS for o in done.bert.config.outputs) else "fill-mask",
    )
