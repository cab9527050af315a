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

from bothways.data.documents import read_all
from bothways.data.preparation import build_from_files
from bothways.data.words import Words
from bothways.errors import InputError
from bothways.formats.hugging_face import load_model, save_model
from bothways.pretraining import PretrainingConfig, pretrain
from bothways.storage import new_directory
from bothways.tokenizer import Tokenizer
from bothways.training.checkpoint import Stopped


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
    stages: tuple[PretrainingConfig, ...]
    """How it is trained: each stage goes on from the one before."""


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
STAGES = (
    # Among 32 tokens attention finds neighbours much sooner than among 128 (docs/decisions.md).
    PretrainingConfig(steps=3_000, batch_tokens=4096, word2vec=True, sequence_length=32, final_share=0.0),
    PretrainingConfig(steps=4_500, batch_tokens=4096),
)
RECIPES = {
    "en-mini": Recipe(
        language="en",
        sources=ENGLISH,
        vocab_size=16_000,
        stages=STAGES,
    ),
    "zh-mini": Recipe(
        language="zh",
        sources=CHINESE,
        vocab_size=12_000,
        words="jieba",
        stages=STAGES,
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
    encoder: Path | None = None
    files: dict[str, str] = {}
    for number, stage in enumerate(recipe.stages, start=1):
        before, encoder = encoder, work / f"encoder-{number}"
        if not encoder.exists():
            pretrain(work / "corpus", encoder, size=recipe.preset, encoder=before, config=stage, resume=True)
        for kind, file in (("metrics", "metrics.json"), ("curves", "curves.svg")):
            if (encoder / file).exists():
                files[f"{kind}-{number}{Path(file).suffix}"] = (encoder / file).read_text("utf-8")
    assert encoder is not None, "a recipe has one stage at least"
    bert, tokenizer, _ = load_model(encoder)
    save_model(
        goal,
        bert,
        tokenizer,
        card=card(name, recipe, bert.config.encoder.vocab_size),
        extra_files=files,
        dtype=torch.bfloat16,
    )
    return goal


def card(name: str, recipe: Recipe, vocab_size: int) -> str:
    """The model card: what the encoder is, what it has read, under which licences, and how it was trained."""
    sources = "".join(f"| {source.what} | {source.licence} |\n" for source in recipe.sources)
    stages = [asdict(stage) for stage in recipe.stages]
    rows = [[key, *(str(stage[key]) for stage in stages)] for key in stages[0]]
    settings = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    numbers = [str(number) for number in range(1, len(stages) + 1)]
    return (
        f"---\nlanguage: {recipe.language}\nlibrary_name: bothways\npipeline_tag: fill-mask\n---\n\n"
        f"# {name}\n\nA BERT encoder of the preset {recipe.preset} with a vocabulary of {vocab_size:,} entries, "
        f"pre-trained from scratch with masked words and next sentences by\n"
        f"`python -m bothways.encoders.recipe {name}`. "
        f"Figures of each stage are in `metrics-N.json`, its curves in `curves-N.svg`.\n\n"
        f"## What it has read\n\n| text | licence |\n|---|---|\n{sources}\n"
        f"Near duplicates of documents were dropped; words were told apart by {recipe.words}.\n\n"
        f"## Settings\n\n| setting of stage | {' | '.join(numbers)} |\n|{'---|' * (len(stages) + 1)}\n{settings}"
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
        recipe = replace(recipe, stages=tuple(replace(stage, steps=steps) for stage in recipe.stages))
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
