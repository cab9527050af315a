"""Verbs that make an encoder: vocabulary, corpus, pre-training, distillation."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import OmitArgPrefixes, Positional

from bothways.cli.shared import ToldInOneSentence, require
from bothways.corpus.duplicates import Duplicates
from bothways.corpus.word_segmentation import Words
from bothways.distillation.config import DistillationConfig
from bothways.pretraining.config import PretrainingConfig
from bothways.terminal import say


@dataclass(frozen=True, kw_only=True)
class PretrainingFlags(ToldInOneSentence, PretrainingConfig):
    """How an encoder is pre-trained."""


@dataclass(frozen=True, kw_only=True)
class DistillationFlags(ToldInOneSentence, DistillationConfig):
    """How a student learns from a teacher."""


def tokenizer_train(
    inputs: Positional[tuple[str, ...]],
    /,
    vocab_size: int,
    out: Path,
    cased: bool = False,
    overwrite: bool = False,
) -> None:
    """Learn a WordPiece vocabulary from documents.

    Args:
        inputs: Text (a blank line between documents), JSON lines or Parquet (column text); compressed or not.
        vocab_size: Entries of the vocabulary, at most.
        out: Directory to write.
        cased: Keep capitals and accents.
        overwrite: Replace the directory if it exists.
    """
    from bothways.corpus.documents import read_all
    from bothways.files.writing import new_directory, refuse_existing
    from bothways.tokenizer import Tokenizer

    require(inputs, "file of documents")
    refuse_existing(out, overwrite, reads=inputs)
    with new_directory(out, overwrite) as directory:
        lines = (line for document in read_all(inputs, "tokenizer") for line in document)
        tokenizer = Tokenizer.train(lines, vocab_size, lowercase=not cased)
        tokenizer.save(directory)
    say(f"{out}: a vocabulary of {tokenizer.vocab_size:,} entries.")


def corpus_build(
    inputs: Positional[tuple[str, ...]],
    /,
    tokenizer: str,
    out: Path,
    duplicates: Duplicates = "keep",
    words: Words = "spaces",
    processes: int = 0,
    resume: bool = False,
    overwrite: bool = False,
) -> None:
    """Turn documents into token shards for pre-training.

    Args:
        inputs: Text (a blank line between documents), JSON lines or Parquet (column text); compressed or not.
        tokenizer: Directory of a tokenizer or a model, or the name of a shipped encoder.
        out: Directory to write.
        duplicates: Documents to drop: none, those that were there before, or also those nearly the same.
        words: What tells words apart, for hiding them whole: spaces, or jieba for Chinese, too.
        processes: How many cut documents; 0: one a core, or one if there is little to do.
        resume: Go on with a build that was interrupted, if there is one.
        overwrite: Replace the directory if it exists.
    """
    from bothways.corpus.build import build_from_files, tidy
    from bothways.files.writing import refuse_existing
    from bothways.formats.hub import locate
    from bothways.tokenizer import Tokenizer

    require(inputs, "file of documents")
    if resume and not overwrite and (out / "corpus.json").exists():
        tidy(out)
        say(f"{out} is finished; there is nothing to resume.")
        return
    refuse_existing(out, overwrite, reads=(*inputs, tokenizer))
    corpus = build_from_files(
        inputs,
        Tokenizer.load(locate(tokenizer)),
        out,
        duplicates=duplicates,
        words=words,
        processes=processes,
        resume=resume,
        overwrite=overwrite,
    )
    from bothways.corpus.shards import read_description

    counted = read_description(corpus.directory)
    dropped = f"; {counted['dropped']:,} duplicates dropped" if duplicates != "keep" else ""
    say(f"{out}: {counted['documents']:,} documents, {counted['tokens']:,} tokens{dropped}.")


def pretrain(
    corpus: Path,
    out: Path,
    preset: str | None = None,
    encoder: str | None = None,
    config: OmitArgPrefixes[PretrainingFlags] = PretrainingFlags(),
    resume: bool = False,
    overwrite: bool = False,
) -> None:
    """Pre-train an encoder with masked words and next sentences.

    Args:
        corpus: Directory written by `bothways corpus build`.
        out: Directory to write.
        preset: Size of a new encoder: tiny, mini (unless told), small, medium, base or large.
        encoder: Go on with this one (directory, shipped name or hub id), whose tokenizer has cut the corpus.
        config: How to train.
        resume: Go on from the last checkpoint of an unfinished run, if there is one; a finished one is left as it is.
        overwrite: Replace the directory if it exists.
    """
    from bothways.pretraining.run import pretrain as recipe

    if resume and not overwrite and (out / "metrics.json").exists():
        say(f"{out} is finished; there is nothing to resume.")
        return
    *_, log = recipe(corpus, out, size=preset, encoder=encoder, config=config, resume=resume, overwrite=overwrite)
    losses = ", ".join(f"{name} loss {entries[-1][1]:.3f}" for name, entries in log.losses.items())
    if os.environ.get("RANK", "0") == "0":  # one process speaks for all that torchrun has started
        say(f"{out}: {log.tokens:,} tokens in {log.seconds:,.0f} s; {losses}.")


def distill(
    inputs: Positional[tuple[str, ...]],
    /,
    teacher: str,
    out: Path,
    encoder: str | None = None,
    preset: str | None = None,
    tokenizer: str | None = None,
    prompt: str | None = None,
    text: str | None = None,
    config: OmitArgPrefixes[DistillationFlags] = DistillationFlags(),
    resume: bool = False,
    overwrite: bool = False,
) -> None:
    """Have a smaller encoder or classifier learn from a larger one, on texts without labels.

    An encoder as teacher gives the student its sentence vectors, a classifier its probabilities.

    Args:
        inputs: Tables (CSV, TSV, JSON lines, Parquet), a row a text; or plain text, a line a text, or under an encoder
            documents with a blank line between, of which passages of all lengths are read.
        teacher: Directory or hub id of an encoder or a classifier; or a .npy file of vectors, a row for each text.
        out: Directory to write.
        encoder: The student: directory, shipped name or hub id; the shipped one of the texts' language unless named.
        preset: In its place the size of a new one: tiny, mini, small, medium, base or large.
        tokenizer: Directory of the tokenizer of a new one.
        prompt: What stands before every text that an encoder reads as teacher; unless given, what its directory says.
        text: Column of the text in tables (unless told, text); a classifier knows its own.
        config: How to learn.
        resume: Go on with an unfinished run, if there is one; a finished one is left as it is.
        overwrite: Replace the directory if it exists.
    """
    from bothways.distillation.run import distill as recipe

    require(inputs, "file of texts")
    if resume and not overwrite and (out / "metrics.json").exists():
        say(f"{out} is finished; there is nothing to resume.")
        return
    done = recipe(
        inputs,
        out,
        teacher=teacher,
        encoder=encoder,
        size=preset,
        tokenizer=tokenizer,
        config=config,
        prompt=prompt,
        column=text,
        resume=resume,
        overwrite=overwrite,
    )
    last = {name: entries[-1] for name, entries in done.metrics["held_out"].items()}
    agreed = ", ".join(f"{name} {entry['agreement']:.3f}" for name, entry in last.items())
    held_out = done.metrics["texts_held_out"]
    on = f"; agreement with the teacher on {held_out:,} texts held out: {agreed}." if agreed else "."
    say(f"{out}: {done.metrics['texts']:,} texts{on}")
