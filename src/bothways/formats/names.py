"""The names that published BERT directories use, as tables: ours → theirs.

Where several of theirs make one of ours, they are stacked along the first axis.
"""

from __future__ import annotations

from collections.abc import Mapping

from bothways.model.config import OutputConfig

# ── Names: ours → theirs. Where several of theirs make one of ours, they are stacked along the first axis. ──────────

EMBEDDING_NAMES = {
    "embeddings.token.weight": "embeddings.word_embeddings.weight",
    "embeddings.segment.weight": "embeddings.token_type_embeddings.weight",
    "embeddings.position.weight": "embeddings.position_embeddings.weight",
    "embeddings.norm.*": "embeddings.LayerNorm.*",
}
LAYER_NAMES: dict[str, str | tuple[str, ...]] = {
    "attention.query_key_value.*": ("attention.self.query.*", "attention.self.key.*", "attention.self.value.*"),
    "attention.output.*": "attention.output.dense.*",
    "attention_norm.*": "attention.output.LayerNorm.*",
    "feed_forward.expand.*": "intermediate.dense.*",
    "feed_forward.contract.*": "output.dense.*",
    "feed_forward_norm.*": "output.LayerNorm.*",
}
POOLING_NAMES = {"pooling.dense.*": "pooler.dense.*"}
OUTPUT_NAMES = {
    "masked_lm": {
        "transform.*": "cls.predictions.transform.dense.*",
        "norm.*": "cls.predictions.transform.LayerNorm.*",
        "bias": "cls.predictions.bias",
    },
    "next_sentence": {"projection.*": "cls.seq_relationship.*"},
    "classifier": {"projection.*": "classifier.*"},
}
BESIDE = {"mahalanobis": ("whitening", "means"), "vector": ("projection.weight", "projection.bias")}
"""Kinds of output layer that `transformers` need not know of, for which no published name exists → their parameters."""
OLD_KINDS = {"masked_word": "masked_lm"}
"""Kinds of output layer as model directories of before call them → as they are called now."""
OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
WRAPPERS = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""
DERIVED = ("embeddings.position_ids", "cls.predictions.decoder.weight", "cls.predictions.decoder.bias")
"""Tensors in published files that repeat others or can be counted out."""

ENCODER_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "feed_forward_size": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "segments": "type_vocab_size",
    "activation": "hidden_act",
    "norm_epsilon": "layer_norm_eps",
    "dropout": "hidden_dropout_prob",
    "initializer_range": "initializer_range",
}
ENCODER_VALUES: dict[str, tuple[type, float, float]] = {
    "vocab_size": (int, 1, 10_000_000),
    "hidden_size": (int, 1, 1_000_000),
    "num_hidden_layers": (int, 1, 1000),
    "num_attention_heads": (int, 1, 1_000_000),
    "intermediate_size": (int, 1, 1_000_000),
    "max_position_embeddings": (int, 3, 10_000_000),
    "type_vocab_size": (int, 1, 1000),
    "layer_norm_eps": (float, 0, 1),
    "hidden_dropout_prob": (float, 0, 1),
    "initializer_range": (float, 0, 1000),
}
"""Key of config.json → type, least and most; a float may be written as a whole number."""
REQUIRED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
"""Keys of config.json that must be there."""
ONLY: dict[str, object] = {
    "is_decoder": False,  # a causal mask
    "add_cross_attention": False,  # a second input
    "is_encoder_decoder": False,
    "position_embedding_type": "absolute",
    "quantization_config": None,  # whole numbers, whose scales would be left aside
    "pruned_heads": {},
}
"""Keys of config.json that change the logits and that are read with this value only."""
ACTIVATION_NAMES = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
PROBLEM_TYPES = {
    "single": "single_label_classification",
    "multi": "multi_label_classification",
    "regression": "regression",
}
ARCHITECTURES = {
    ("masked_lm", "next_sentence"): "BertForPreTraining",
    ("masked_lm",): "BertForMaskedLM",
    ("next_sentence",): "BertForNextSentencePrediction",
    ("single",): "BertForSequenceClassification",
    ("multi",): "BertForSequenceClassification",
    ("regression",): "BertForSequenceClassification",
    ("tags",): "BertForTokenClassification",
}
"""Kinds of output layer → the class of `transformers` that has exactly these."""


def expand(table: Mapping[str, str | tuple[str, ...]], ours: str = "", theirs: str = "") -> dict[str, tuple[str, ...]]:
    """Spell out `*` as weight and bias, put prefixes before both sides, and make every right side a tuple."""
    spelled = {}
    for our_name, their_names in table.items():
        for end in ("weight", "bias") if "*" in our_name else ("",):
            names = (their_names,) if isinstance(their_names, str) else their_names
            spelled[ours + our_name.replace("*", end)] = tuple(theirs + n.replace("*", end) for n in names)
    return spelled


def encoder_names(layers: int) -> dict[str, tuple[str, ...]]:
    """Parameter names of the encoder: ours → theirs, without the `bert.` that stands before theirs in most files."""
    names = expand(EMBEDDING_NAMES)
    for layer in range(layers):
        names |= expand(LAYER_NAMES, f"encoder.layers.{layer}.", f"encoder.layer.{layer}.")
    return names | expand(POOLING_NAMES)


def published(outputs: tuple[OutputConfig, ...]) -> bool:
    """Whether `transformers` has a class with exactly these output layers."""
    return architecture(outputs) != "BertModel"


def essential(outputs: tuple[OutputConfig, ...]) -> tuple[OutputConfig, ...]:
    """The output layers without those that `transformers` need not know of."""
    return tuple(output for output in outputs if output.kind not in BESIDE)


def architecture(outputs: tuple[OutputConfig, ...]) -> str:
    """The class of `transformers` that has exactly these output layers, reading what it reads; else a bare encoder."""
    if any(output.reads == "mean" for output in essential(outputs)):
        return "BertModel"
    return ARCHITECTURES.get(tuple(sorted(output.kind for output in essential(outputs))), "BertModel")


def output_names(outputs: tuple[OutputConfig, ...]) -> dict[str, tuple[str, ...]]:
    """Parameter names of the output layers: ours → those in the files."""
    names: dict[str, tuple[str, ...]] = {}
    for index, output in enumerate(outputs):
        table = OUTPUT_NAMES.get(output.kind, OUTPUT_NAMES["classifier"])
        if output.kind in BESIDE:
            names |= expand(
                {part: f"outputs.{output.name}.{part}" for part in BESIDE[output.kind]}, f"outputs.{index}."
            )
        elif published(outputs) or output.kind in OUTPUT_NAMES:
            names |= expand(table, f"outputs.{index}.")
        else:
            names |= expand({"projection.*": f"outputs.{output.name}.*"}, f"outputs.{index}.")
    return names
