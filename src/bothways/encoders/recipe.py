"""How the shipped encoders came to be: texts → vocabulary → corpus → pre-training → a directory in this folder.

    python -m bothways.encoders.recipe en-mini --texts FOLDER --out FOLDER

Each step is one of the package's own verbs with the settings below; every step that is done already is passed over and
one that was interrupted goes on, so the command can be killed and started again until it ends.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro

from bothways.corpus.build import build_from_files
from bothways.corpus.documents import read_all
from bothways.corpus.word_segmentation import Words
from bothways.errors import InputError, Stopped
from bothways.files.writing import new_directory
from bothways.formats.reading import load_model
from bothways.formats.writing import save_model
from bothways.pretraining.config import PretrainingConfig
from bothways.pretraining.run import pretrain
from bothways.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Source:
    """A text that an encoder has read."""

    file: str
    """Its name in the folder of texts, without `.txt.xz`."""
    what: str
    """What it is."""
    licence: str
    """Its licence, as stated by who publishes it."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides an encoder."""

    language: str
    """ISO 639-1 code, for the model card."""
    sources: tuple[Source, ...]
    """What it reads."""
    vocab_size: int
    """Entries of the vocabulary."""
    preset: str = "mini"
    """Size of the encoder."""
    words: Words = "spaces"
    """What tells words apart."""
    training: tuple[PretrainingConfig, ...]
    """How it is pre-trained, one stage after the other; each goes on from the encoder before."""
    note: str = ""
    """What the shipped encoder's history has that a run of the recipe has not."""


ENGLISH = (
    Source(file="en-wiki", what="articles of the English Wikipedia (2014)", licence="CC BY-SA"),
    Source(file="en-books", what="500 books of Project Gutenberg", licence="public domain in the USA"),
)
CHINESE = (
    Source(file="zh-wiki", what="articles of the Chinese Wikipedia, in simplified characters", licence="CC BY-SA"),
    Source(file="zh-books", what="chapters of Chinese books (shjwudp/shu)", licence="public domain"),
    Source(file="zh-tech", what="technology articles (LCTT/TranslateProject)", licence="Apache-2.0"),
    Source(
        file="zh-misc",
        what="modern renderings of the classic histories (NiuTrans/Classical-Modern), essays on statistics (cosx.org, "
        "yihui.org), documentation of TiDB",
        licence="MIT; MIT; CC BY-SA",
    ),
)
LARGE = PretrainingConfig(
    batch_tokens=65_536,
    micro_batch_tokens=65_536,
    sequence_lengths=(32, 128, 512),
    length_shares=(0.05, 0.75, 0.2),
    learning_rate=3e-3,
)
"""Updates for a GPU, which reads a billion tokens in three minutes (docs/decisions.md). Two cores need a day: there,
ask for fewer --steps."""
FILES = ("metrics.json", "curves.svg")
"""What a stage leaves besides the model, and the finished encoder keeps."""
RECIPES = {
    "en-mini": Recipe(
        language="en",
        sources=ENGLISH,
        vocab_size=16_000,
        training=(replace(LARGE, steps=14_967),),
    ),
    "zh-mini": Recipe(
        language="zh",
        sources=CHINESE,
        vocab_size=12_000,
        words="jieba",
        training=(
            replace(LARGE, steps=19_416),
            replace(
                LARGE,
                steps=5_702,
                sequence_lengths=(128, 512),
                length_shares=(0.8, 0.2),
                learning_rate=1.5e-3,
                warmup=0.05,
                seed=1,
            ),
        ),
        note="By mistake the first stage of the shipped encoder read only the first 52 of 80 million tokens: the "
        "Wikipedia and most of the books. The second stage read all.",
    ),
}


def make(name: str, recipe: Recipe, texts: Path, out: Path) -> Path:
    """Follow a recipe in `out`; the finished encoder, in bf16 and with its output layers, is `out/NAME`.

    Raises InputError if a text is missing, or for what the verbs refuse.
    """
    goal, work = out / name, out / f"{name}.work"
    if goal.exists():
        print(f"{goal} is finished.", file=sys.stderr)
        return goal
    inputs = [str(texts / f"{source.file}.txt.xz") for source in recipe.sources]
    if missing := [path for path in inputs if not Path(path).is_file()]:
        raise InputError(f"{missing[0]}: this text of the recipe is missing; put it there.")
    if not (work / "tokenizer").exists():
        lines = (line for document in read_all(inputs, "tokenizer") for line in document)
        tokenizer = Tokenizer.train(lines, recipe.vocab_size)
        with new_directory(work / "tokenizer") as directory:
            tokenizer.save(directory)
    tokenizer = Tokenizer.load(work / "tokenizer")
    if not (work / "corpus").exists():
        build_from_files(inputs, tokenizer, work / "corpus", duplicates="near", words=recipe.words, resume=True)
    stages = [work / f"encoder-{number}" for number in range(1, len(recipe.training) + 1)]
    before = None
    for encoder, config in zip(stages, recipe.training, strict=True):
        if not encoder.exists():
            size = recipe.preset if before is None else None
            pretrain(work / "corpus", encoder, size=size, encoder=before, config=config, resume=True)
        before = encoder
    bert, tokenizer, _ = load_model(stages[-1])
    save_model(
        goal,
        bert,
        tokenizer,
        card=card(name, recipe, bert.config.encoder.vocab_size),
        extra_files={
            file.replace(".", f"-{number}."): (encoder / file).read_text("utf-8")
            for number, encoder in enumerate(stages, start=1)
            for file in FILES
            if (encoder / file).exists()
        },
        dtype=torch.bfloat16,
    )
    return goal


def card(name: str, recipe: Recipe, vocab_size: int) -> str:
    """The model card: what the encoder is, what it has read, under which licences, and how it was trained."""
    sources = "".join(f"| {source.what} | {source.licence} |\n" for source in recipe.sources)
    stages = [asdict(config) for config in recipe.training]
    columns = "".join(f" stage {number} |" for number in range(1, len(stages) + 1))
    settings = "".join(
        f"| {setting} |" + "".join(f" {stage[setting]} |" for stage in stages) + "\n" for setting in stages[0]
    )
    return (
        f"---\nlanguage: {recipe.language}\nlibrary_name: bothways\npipeline_tag: fill-mask\n---\n\n"
        f"# {name}\n\nA BERT encoder of the preset {recipe.preset} with a vocabulary of {vocab_size:,} entries, "
        f"pre-trained from scratch with masked words and next sentences by\n"
        f"`python -m bothways.encoders.recipe {name}`. "
        f"The metrics of each stage are in `metrics-*.json`, its curves in `curves-*.svg`.\n\n"
        f"## What it has read\n\n| text | licence |\n|---|---|\n{sources}\n"
        f"Near duplicates of documents were dropped; words were told apart by {recipe.words}.\n"
        f"{recipe.note}\n\n## Settings\n\n| setting |{columns}\n|---|{'---|' * len(stages)}\n{settings}"
    )


def main(
    name: Annotated[str, tyro.conf.Positional],
    /,
    texts: Path,
    out: Path,
    steps: int | None = None,
) -> None:
    """Make a shipped encoder.

    Args:
        name: Which one.
        texts: Folder with the texts of the recipe.
        out: Folder to work in.
        steps: Updates of each stage, if not those of the recipe.
    """
    if name not in RECIPES:
        raise InputError(f"There is no recipe {name!r}; choose one of {', '.join(RECIPES)}.")
    recipe = RECIPES[name]
    if steps is not None:
        recipe = replace(recipe, training=tuple(replace(stage, steps=steps) for stage in recipe.training))
    print(make(name, recipe, texts, out))


if __name__ == "__main__":
    try:
        tyro.cli(main, prog="python -m bothways.encoders.recipe")
    except InputError as error:
        print(f"bothways: {error}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stopped:
        print(f"bothways: {stopped} The same command goes on.", file=sys.stderr)
        sys.exit(143)
