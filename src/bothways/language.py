"""Which language a text is in, as far as this package asks: Chinese, or one that puts spaces between words."""

from __future__ import annotations

import re
from collections.abc import Sequence

CHINESE = re.compile(r"[\u3400-\u9fff]")
"""A Chinese character."""


def mostly_chinese(texts: Sequence[str | Sequence[str]]) -> bool:
    """Whether most texts (or the words of texts) have a Chinese character; the first thousand tell."""
    first = texts[:1000]
    return sum(bool(CHINESE.search("".join(text))) for text in first) > len(first) / 2
