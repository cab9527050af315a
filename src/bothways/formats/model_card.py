"""Model cards: README.md of a model directory, what it is and how it came to be."""

from __future__ import annotations

from bothways.model.config import BertConfig


def default_card(config: BertConfig) -> str:
    """A model card that says what can be read off the settings."""
    encoder = config.encoder
    outputs = "".join(
        f"- `{output.name}`: {output.kind}" + (f", {len(output.labels)} labels\n" if output.labels else "\n")
        for output in config.outputs
    )
    return (
        "---\nlibrary_name: bothways\npipeline_tag: text-classification\n---\n\n"
        f"# BERT, {encoder.layers} layers, {encoder.hidden_size} wide\n\n"
        f"Vocabulary {encoder.vocab_size}, texts of up to {config.longest} tokens.\n\n"
        f"## Output layers\n\n{outputs or 'None.'}\n"
    )
