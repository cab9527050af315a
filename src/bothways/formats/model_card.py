"""Model cards: README.md of a model directory, what it is and how it came to be, as the Hugging Face hub reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bothways.model.config import BertConfig


def render(title: str, *paragraphs: str, pipeline: str = "text-classification", language: str | None = None) -> str:
    """A card: what programs read at the top, then a title and paragraphs."""
    head = {"language": language, "library_name": "bothways", "pipeline_tag": pipeline}
    lines = "".join(f"{key}: {value}\n" for key, value in head.items() if value is not None)
    return f"---\n{lines}---\n\n# {title}\n\n" + "\n\n".join(part.strip() for part in paragraphs if part) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in lines)


def default_card(config: BertConfig) -> str:
    """What can be read off the settings."""
    encoder = config.encoder
    outputs = table(["output", "kind", "labels"], [(o.name, o.kind, len(o.labels) or "–") for o in config.outputs])
    return render(
        f"BERT, {encoder.layers} layers, {encoder.hidden_size} wide",
        f"Vocabulary {encoder.vocab_size}, texts of up to {config.longest_text} tokens.",
        "## Output layers",
        outputs if config.outputs else "None.",
    )


def classifier_card(config: BertConfig, metrics: Mapping[str, Any], encoder: str) -> str:
    """What a classifier decides, from which encoder it was trained, and how good it was on rows it had not seen."""
    rows = []
    for output in config.outputs:
        measured = metrics["outputs"].get(output.name, {})
        shown = ", ".join(f"{name} {value:.4g}" for name, value in measured.items() if isinstance(value, float))
        rows.append((output.name, output.kind, len(output.labels) or "–", shown))
    return render(
        f"A classifier on {encoder}",
        f"Trained on {metrics['training']['examples']:,} rows; evaluated on {metrics['examples']:,} "
        f"({metrics['evaluated_on']}).",
        table(["output", "kind", "labels", "metrics"], rows),
    )
