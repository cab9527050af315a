"""Everything that decides the encoders that come with the package; `recipe` follows it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bothways.corpus.word_segmentation import Words
from bothways.distillation.config import DistillationConfig
from bothways.pretraining.config import PretrainingConfig


@dataclass(frozen=True, kw_only=True)
class Source:
    """A text that an encoder has read."""

    file: str
    """Its name in the folder of texts, without `.txt.xz`."""
    what: str
    """What it is."""
    licence: str
    """Its licence, as stated by who publishes it."""
    passages: int
    """Its first so many passages are answered by the teacher."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides an encoder."""

    language: str
    """ISO 639-1 code, for the model card."""
    sources: tuple[Source, ...]
    """What it reads."""
    vocab_size: int
    """Entries of the vocabulary."""
    layers: tuple[int, ...] = ()
    """Layers of the teacher that it starts from (the first is 0), in place of pre-training."""
    preset: str = "mini"
    """Size of an encoder that is pre-trained."""
    words: Words = "spaces"
    """What tells words apart."""
    training: tuple[PretrainingConfig, ...] = ()
    """How it is pre-trained, one stage after the other; each goes on from the encoder before."""
    distillation: DistillationConfig | None = None
    """How it learns from a teacher, E5, afterwards; None: it has none."""
    note: str = ""
    """What the shipped encoder's history has that a run of the recipe has not."""


ENGLISH = (
    Source(file="en-wiki", what="articles of the English Wikipedia (2014)", licence="CC BY-SA", passages=700_000),
    Source(
        file="en-books",
        what="500 books of Project Gutenberg",
        licence="public domain in the USA",
        passages=500_000,
    ),
)
CHINESE = (
    Source(
        file="zh-wiki",
        what="articles of the Chinese Wikipedia, in simplified characters",
        licence="CC BY-SA",
        passages=700_000,
    ),
    Source(file="zh-books", what="chapters of Chinese books (shjwudp/shu)", licence="public domain", passages=150_000),
    Source(
        file="zh-tech",
        what="technology articles (LCTT/TranslateProject)",
        licence="Apache-2.0",
        passages=300_000,
    ),
    Source(
        file="zh-misc",
        what="modern renderings of the classic histories (NiuTrans/Classical-Modern), essays on statistics (cosx.org, "
        "yihui.org), documentation of TiDB",
        licence="MIT; MIT; CC BY-SA",
        passages=200_000,
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
LEARNING = DistillationConfig(
    batch_tokens=65_536,
    micro_batch_tokens=65_536,
    learning_rate=2e-3,
    masked_weight=0.05,
    max_length=128,
)
"""Learning from the teacher, on a GPU as well. Its vectors are alike (any two have a cosine of some 0.75), so that what
is to be learned is small; hidden words have to count little beside it."""
EVERY_SECOND = (1, 3, 5, 7, 9, 11)
"""Of the teacher's twelve layers, the last of them included."""
RECIPES = {
    "en-mini": Recipe(
        language="en",
        sources=ENGLISH,
        vocab_size=16_000,
        training=(replace(LARGE, steps=14_967),),
        distillation=replace(LEARNING, steps=6_000),
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
        distillation=DistillationConfig(masked_weight=0.05, max_length=128, epochs=4),
        note="By mistake the first stage of the shipped encoder read only the first 52 of 80 million tokens: the "
        "Wikipedia and most of the books. The second stage read all. From the teacher it learned on two cores, from "
        "every sixth of its 1.2 million passages.",
    ),
    "en-small": Recipe(
        language="en",
        sources=ENGLISH,
        vocab_size=16_000,
        layers=EVERY_SECOND,
        distillation=replace(LEARNING, steps=4_600, learning_rate=1e-3),
        note="Its vocabulary, learned from the same texts, is that of en-mini.",
    ),
    "zh-small": Recipe(
        language="zh",
        sources=CHINESE,
        vocab_size=12_000,
        words="jieba",
        layers=EVERY_SECOND,
        distillation=replace(LEARNING, steps=4_600, learning_rate=1e-3),
        note="Its vocabulary, learned from the same texts, is that of zh-mini.",
    ),
}
