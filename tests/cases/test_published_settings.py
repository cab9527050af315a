"""Every setting of a published directory is honoured, as `transformers` honours it, or refused in one sentence."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import films
from transformers import AutoTokenizer

from bothways import InputError, TextClassifier, Tokenizer
from cases.helpers import (
    VOCABULARY,
    check_refusal,
    check_sentence,
    edit_json,
    edit_weights,
    reference,
    refuses,
    refuses_in_python,
    review_rows,
    run,
    succeeds,
    write_json,
    write_rows,
    write_vocabulary,
)

Published = Callable[..., Path]

TEXTS = ["möchte Möchte", "我爱北京 good", "[X1] film [x1]", "Good [MASK] THE", "aä", "the film[X1]is good", "ÄÖÜ é"]
BEYOND = len(VOCABULARY)


def same_tokens(directory: Path) -> None:
    """Our tokens are those of `transformers`."""
    theirs, ours = AutoTokenizer.from_pretrained(directory), Tokenizer.load(directory)
    for text in TEXTS:
        expected = theirs(text)["input_ids"]
        ids = ours.encode(text).token_ids.tolist()
        assert ids == expected, f"{ours.tokens(ids)} instead of {theirs.convert_ids_to_tokens(expected)}"


def added(token: str, **changes: bool) -> dict[str, Any]:
    """An entry of `added_tokens_decoder`."""
    usual = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True}
    return {"content": token, **usual, **changes}


# ── The tokenizer ────────────────────────────────────────────────────────────────────────────────────────────────────

SWITCHES: list[dict[str, Any]] = [
    {},
    {"do_lower_case": False},
    {"strip_accents": False},
    {"strip_accents": True, "do_lower_case": False},
    {"strip_accents": None},
    {"tokenize_chinese_chars": False},
    {"tokenize_chinese_chars": False, "do_lower_case": False, "strip_accents": True},
]


@pytest.mark.parametrize("settings", SWITCHES, ids=str)
def test_a_vocabulary_is_read_with_all_its_settings(
    settings: dict[str, Any], published: Published, place: Path
) -> None:
    directory = write_vocabulary(published(place / "p"), **settings)
    same_tokens(directory)
    again = Tokenizer.load(directory)
    again.save(directory)
    assert [again.encode(text).token_ids.tolist() for text in TEXTS] == [
        Tokenizer.load(directory).encode(text).token_ids.tolist() for text in TEXTS
    ]


@pytest.mark.parametrize("settings", SWITCHES, ids=str)
def test_settings_beside_a_tokenizer_json_overrule_it(
    settings: dict[str, Any], published: Published, place: Path
) -> None:
    directory = published(place / "p")
    edit_json(directory / "tokenizer_config.json", **settings)
    same_tokens(directory)


def test_settings_overrule_a_cased_tokenizer_json_too(published: Published, place: Path) -> None:
    directory = published(place / "p")
    content = json.loads((directory / "tokenizer.json").read_text("utf-8"))
    content["normalizer"]["lowercase"] = False
    write_json(directory / "tokenizer.json", content)
    same_tokens(directory)
    (directory / "tokenizer_config.json").unlink()
    same_tokens(directory)


@pytest.mark.parametrize("inside", [True, False], ids=["in vocab.txt", "beyond vocab.txt"])
@pytest.mark.parametrize(
    "place_of",
    ["added_tokens_decoder", "added_tokens.json", "special_tokens_map.json", "additional_special_tokens"],
)
def test_an_added_token_is_one_token(place_of: str, inside: bool, published: Published, place: Path) -> None:
    tokens = [*VOCABULARY, "[X1]"] if inside else VOCABULARY
    settings: dict[str, Any] = {
        "added_tokens_decoder": {"added_tokens_decoder": {str(BEYOND): added("[X1]")}},
        "additional_special_tokens": {"additional_special_tokens": ["[X1]"]},
    }.get(place_of, {})
    directory = write_vocabulary(published(place / "p"), tokens, **settings)
    if place_of == "added_tokens.json":
        write_json(directory / place_of, {"[X1]": BEYOND})
    if place_of == "special_tokens_map.json":
        write_json(directory / place_of, {"additional_special_tokens": ["[X1]"]})
    assert BEYOND in AutoTokenizer.from_pretrained(directory)("[X1]")["input_ids"]
    same_tokens(directory)


@pytest.mark.parametrize(
    "flags",
    [{"special": False}, {"special": False, "normalized": True}, {"single_word": True}, {"lstrip": True}],
    ids=str,
)
def test_an_added_token_keeps_its_flags(flags: dict[str, bool], published: Published, place: Path) -> None:
    settings = {"added_tokens_decoder": {str(BEYOND): added("[X1]", **flags)}}
    same_tokens(write_vocabulary(published(place / "p"), **settings))


def test_an_added_token_beside_a_tokenizer_json_is_one_token(published: Published, place: Path) -> None:
    directory = published(place / "p")
    edit_json(directory / "tokenizer_config.json", added_tokens_decoder={str(BEYOND): added("[X1]")})
    same_tokens(directory)


@pytest.mark.parametrize("beside", ["vocab.txt", "tokenizer.json"])
def test_answers_about_added_tokens_are_those_of_transformers(beside: str, published: Published, place: Path) -> None:
    directory = published(place / "p", vocab_size=BEYOND + 8, num_labels=3)
    settings = {"added_tokens_decoder": {str(BEYOND): added("[X1]")}}
    if beside == "vocab.txt":
        write_vocabulary(directory, strip_accents=False, **settings)
    else:
        edit_json(directory / "tokenizer_config.json", strip_accents=False, **settings)
    answers = TextClassifier.load(directory, precision="fp32").predict_proba(TEXTS)
    np.testing.assert_allclose(answers, reference(directory, TEXTS), atol=1e-5)


OLDER: dict[str, dict[str, Any]] = {
    "a special token that is numbered": {
        "added_tokens.json": {"[X1]": BEYOND},
        "special_tokens_map.json": {"additional_special_tokens": ["[X1]"], "mask_token": "[MASK]"},
    },
    "a mask that takes the space before it": {
        "special_tokens_map.json": {"mask_token": {"content": "[MASK]", "lstrip": True, "normalized": False}},
    },
    "numbers in the reverse order": {"added_tokens.json": {"[X1]": BEYOND + 1, "[X2]": BEYOND}},
    "a token with a name of its own": {"special_tokens_map.json": {"place_token": "[X1]"}},
    "a number that is named in the settings": {
        "added_tokens.json": {"[X1]": BEYOND},
        "tokenizer_config.json": {"additional_special_tokens": ["[X1]"]},
    },
    "settings before older files": {
        "added_tokens.json": {"film[X1]": BEYOND},
        "tokenizer_config.json": {"added_tokens_decoder": {str(BEYOND): added("[X1]")}},
    },
}


@pytest.mark.parametrize("beside", ["vocab.txt", "tokenizer.json"])
@pytest.mark.parametrize("case", OLDER)
def test_older_files_are_read_as_transformers_reads_them(
    case: str, beside: str, published: Published, place: Path
) -> None:
    directory = published(place / "p")
    if beside == "vocab.txt":
        write_vocabulary(directory)
    for name, content in OLDER[case].items():
        path = directory / name
        write_json(path, (json.loads(path.read_text("utf-8")) if path.is_file() else {}) | content)
    same_tokens(directory)


@pytest.mark.parametrize("kind", ["BertTokenizerFast", "DistilBertTokenizer", "PreTrainedTokenizerFast", None])
def test_the_class_says_which_file_is_right_about_letters(kind: str | None, published: Published, place: Path) -> None:
    """A class of BERT takes the settings; the general one takes tokenizer.json as it is, here and after saving."""
    directory = published(place / "p")
    content = json.loads((directory / "tokenizer.json").read_text("utf-8"))
    content["normalizer"] |= {"lowercase": False, "clean_text": False}
    write_json(directory / "tokenizer.json", content)
    edit_json(directory / "tokenizer_config.json", tokenizer_class=kind, strip_accents=False)
    same_tokens(directory)
    before = Tokenizer.load(directory)
    before.save(directory)
    same_tokens(directory)
    assert Tokenizer.load(directory).fingerprint == before.fingerprint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tokenizer_class", "BertJapaneseTokenizer"),
        ("truncation_side", "left"),
        ("split_special_tokens", True),
        ("cls_token", "good"),
        ("model_max_length", "512"),
        ("model_max_length", 0),
    ],
)
def test_settings_that_are_not_supported_are_refused(key: str, value: Any, published: Published, place: Path) -> None:
    write_vocabulary(published(place / "p"), **{key: value})
    refuses("classify", "p", says=[r"p/tokenizer_config\.json", key], stdin=b"good\n")


def test_an_added_token_without_a_row_in_the_model_is_refused(published: Published, place: Path) -> None:
    write_vocabulary(published(place / "p"), added_tokens_decoder={str(BEYOND): added("[X1]")})
    refuses("classify", "p", says=["^bothways: p", str(BEYOND), str(BEYOND + 1)], stdin=b"[X1]\n")


def test_special_tokens_of_other_names_are_honoured_or_refused(published: Published, place: Path) -> None:
    tokens = ["<mask>" if token == "[MASK]" else token for token in VOCABULARY]
    directory = write_vocabulary(published(place / "p"), tokens, mask_token="<mask>")
    try:
        Tokenizer.load(directory)
    except InputError as error:
        check_sentence(str(error), [r"vocab\.txt|tokenizer_config\.json", r"\[MASK\]|mask_token"])
    else:
        same_tokens(directory)


def test_an_entry_that_is_there_twice_has_the_number_it_has_in_transformers(published: Published, place: Path) -> None:
    tokens = list(VOCABULARY)
    tokens[40] = "good"
    same_tokens(write_vocabulary(published(place / "p"), tokens))


@pytest.mark.parametrize("content", ["{", "[]", '{"do_lower_case": "no"}', '{"added_tokens_decoder": {"x": 1}}'])
@pytest.mark.parametrize("beside", ["vocab.txt", "tokenizer.json"])
def test_settings_that_cannot_be_read_are_refused_by_their_file(
    beside: str, content: str, published: Published, place: Path
) -> None:
    directory = published(place / "p")
    if beside == "vocab.txt":
        write_vocabulary(directory)
    (directory / "tokenizer_config.json").write_text(content)
    refuses("classify", "p", says=[r"tokenizer_config\.json"], stdin=b"good\n")


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_texts_are_cut_where_the_tokenizer_says(name: str, published: Published, place: Path) -> None:
    """`model_max_length`, as `transformers` has it with truncation."""
    directory = published(place / "p", max_position_embeddings=16)
    if name == "tokenizer_config.json":
        edit_json(directory / name, model_max_length=12)
    expected = 16 if name == "config.json" else 12
    answer = succeeds("classify", directory, stdin=b"the film is good " * 20).answers[0]
    assert (answer["tokens"], answer["truncated"]) == (expected, True)


# ── config.json: what is honoured ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hidden_act": "relu"},
        {"hidden_act": "gelu_new"},
        {"layer_norm_eps": 0.01},
        {"type_vocab_size": 1},
        {"num_attention_heads": 4, "intermediate_size": 48},
        {"num_hidden_layers": 1},
        {"hidden_dropout_prob": 0.5, "classifier_dropout": 0.5},
    ],
    ids=str,
)
def test_answers_are_those_of_transformers(changes: dict[str, Any], published: Published, place: Path) -> None:
    directory = published(place / "p", num_labels=3, **changes)
    answers = TextClassifier.load(directory, precision="fp32").predict_proba(TEXTS)
    np.testing.assert_allclose(answers, reference(directory, TEXTS), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_number_format_are_read(dtype: torch.dtype, published: Published, place: Path) -> None:
    directory = published(place / "p", num_labels=3)
    edit_weights(directory / "model.safetensors", lambda w: {name: tensor.to(dtype) for name, tensor in w.items()})
    answers = TextClassifier.load(directory, precision="fp32").predict_proba(TEXTS)
    edit_weights(directory / "model.safetensors", lambda w: {name: tensor.float() for name, tensor in w.items()})
    edit_json(directory / "config.json", dtype="float32")
    np.testing.assert_allclose(answers, reference(directory, TEXTS), atol=1e-5)


def test_several_labels_at_once_have_a_probability_each(published: Published, place: Path) -> None:
    from transformers import pipeline

    directory = published(place / "p", num_labels=3, problem_type="multi_label_classification")
    answer = succeeds("classify", directory, stdin=b"the good film\n").answers[0]["outputs"]["label"]["scores"]
    for said in pipeline("text-classification", str(directory), top_k=None)(["the good film"])[0]:
        assert math.isclose(answer[said["label"]], said["score"], abs_tol=1e-5)


# ── config.json: what is refused ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("key", ["is_decoder", "add_cross_attention", "is_encoder_decoder"])
@pytest.mark.parametrize("verb", ["classify", "finetune", "python"])
def test_a_model_that_looks_only_back_is_refused(verb: str, key: str, published: Published, place: Path) -> None:
    """Its attention is causal, or needs a second input; the answers would be others than those of `transformers`."""
    edit_json(published(place / "p") / "config.json", **{key: True})
    says = [r"p/config\.json", key]
    if verb == "classify":
        refuses("classify", "p", says=says, stdin=b"good\n")
    elif verb == "finetune":
        write_rows("t.csv", review_rows())
        refuses("finetune", "--train", "t.csv", "--encoder", "p", "--out", "out", says=says)
    else:
        refuses_in_python(lambda: TextClassifier.load("p"), says)


@pytest.mark.parametrize("key", ["is_decoder", "add_cross_attention"])
def test_such_a_key_that_is_false_is_no_matter(key: str, published: Published, place: Path) -> None:
    edit_json(published(place / "p") / "config.json", **{key: False})
    succeeds("classify", "p", stdin=b"good\n")


PAIRS = [{"text": row["text"], "text_pair": "the film", "label": row["label"]} for row in review_rows()]


def test_pairs_for_an_encoder_of_one_segment_are_refused(published: Published, place: Path) -> None:
    published(place / "p", "BertModel", type_vocab_size=1)
    write_rows("t.csv", PAIRS)
    says = ["encoder", "type_vocab_size|segment", "pair"]
    refuses("finetune", "--train", "t.csv", "--encoder", "p", "--out", "out", says=says)
    pairs = [(row["text"], row["text_pair"]) for row in PAIRS]
    refuses_in_python(lambda: TextClassifier("p", epochs=1).fit(pairs, films(40)[1]), ["type_vocab_size|segment"])


def test_single_texts_are_welcome_to_an_encoder_of_one_segment(published: Published, place: Path) -> None:
    published(place / "p", "BertModel", type_vocab_size=1)
    write_rows("t.csv", review_rows())
    succeeds("finetune", "--train", "t.csv", "--encoder", "p", "--epochs", 1, "--out", "out")
    succeeds("evaluate", "out", "t.csv")


def test_next_sentences_for_an_encoder_of_one_segment_are_refused(published: Published, place: Path) -> None:
    published(place / "p", "BertModel", type_vocab_size=1)
    Path("docs.txt").write_text("A good film. It is worth it.\n\nA thin plot. It is worse.\n" * 20)
    succeeds("corpus", "build", "docs.txt", "--tokenizer", "p", "--out", "corpus")
    use = ("pretrain", "--corpus", "corpus", "--encoder", "p", "--sequence-lengths", 64, "--steps", 2, "--out", "out")
    refuses(*use, says=[r"\bp\b", "type_vocab_size|segment", "pair|next sentence|next-sentence"])


WRONG: list[tuple[str, Any]] = [
    *(("num_attention_heads", value) for value in (0, -2, 5, "2", None)),
    *(("type_vocab_size", value) for value in (None, 0, "2", -1)),
    *(("id2label", value) for value in (["a", "b"], "a", {"a": "x", "b": "y"}, {"0": "x"})),
    *(("hidden_size", value) for value in ("32", None, 0, -32, [32])),
    *(("num_hidden_layers", value) for value in ("2", None, -1, 1.5)),
    *(("intermediate_size", value) for value in ("64", None, 0)),
    *(("max_position_embeddings", value) for value in ("64", None, 0)),
    *(("vocab_size", value) for value in ("100", None, 0)),
    *(("layer_norm_eps", value) for value in ("1e-12", None, -1)),
    *(("hidden_act", value) for value in (None, ["gelu"], {"a": 1}, "silu")),
    *(("hidden_dropout_prob", value) for value in ("0.1", None, 2)),
    ("initializer_range", "0.02"),
    ("architectures", [None]),
    *(("problem_type", value) for value in ("several", ["regression"])),
    ("position_embedding_type", "relative_key"),
    ("pruned_heads", {"0": [1]}),
    ("hidden_size", True),
    ("num_hidden_layers", 10**9),
    ("id2label", {"0": "x", "2": "y"}),
    ("id2label", {"0": "x", "1": None}),
]


@pytest.mark.parametrize(("key", "value"), WRONG, ids=lambda value: json.dumps(value).replace('"', ""))
def test_a_setting_of_no_sense_is_named_with_its_file(key: str, value: Any, published: Published, place: Path) -> None:
    edit_json(published(place / "p") / "config.json", **{key: value})
    also = {"hidden_act": "|activation", "position_embedding_type": "|position embeddings"}.get(key, "")
    refuses("classify", "p", says=[r"p/config\.json", f"{key}\\b{also}"], stdin=b"good\n")


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"])
def test_a_setting_that_is_missing_is_named_as_it_stands_in_the_file(
    key: str, published: Published, place: Path
) -> None:
    path = published(place / "p") / "config.json"
    content = json.loads(path.read_text("utf-8"))
    content.pop(key, None)
    write_json(path, content)
    refuses("classify", "p", says=[r"p/config\.json", f"{key}\\b"], stdin=b"good\n")


def with_output(**changes: Any) -> Callable[[dict[str, Any]], None]:
    """A change of the first output of a `bothways` section."""
    return lambda ours: ours["outputs"][0].update(changes)


OURS: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "outputs is a number": ("outputs", lambda ours: ours.update(outputs=5)),
    "an output is a number": ("outputs", lambda ours: ours.update(outputs=[5])),
    "labels is a text": ("labels", with_output(labels="ab")),
    "labels are numbers": ("labels", with_output(labels=[0, 1])),
    "labels is null": ("labels", with_output(labels=None)),
    "the same label twice": ("labels", with_output(labels=["negative", "negative"])),
    "kind is unknown": ("kind", with_output(kind="several")),
    "reads is unknown": ("reads", with_output(reads="last")),
    "name is a number": ("name", with_output(name=5)),
    "temperature is 0": ("temperature", with_output(temperature=0)),
    "temperature is a text": ("temperature", with_output(temperature="1")),
    "thresholds is a number": ("thresholds", with_output(thresholds=0.5)),
    "max_length is a text": ("max_length", lambda ours: ours.update(max_length="64")),
    "max_length is below 0": ("max_length", lambda ours: ours.update(max_length=-5)),
    "text_columns is empty": ("text_columns", lambda ours: ours.update(text_columns=[])),
    "text_columns is a text": ("text_columns", lambda ours: ours.update(text_columns="text")),
    "text_columns are three": ("text_columns", lambda ours: ours.update(text_columns=["a", "b", "c"])),
}


@pytest.mark.parametrize("case", OURS)
def test_our_own_section_is_checked_too(case: str, classifier: Path, place: Path) -> None:
    path = Path(shutil.copytree(classifier, place / "p")) / "config.json"
    content = json.loads(path.read_text("utf-8"))
    key, change = OURS[case]
    change(content["bothways"])
    write_json(path, content)
    refuses("classify", "p", says=[r"p/config\.json", key], stdin=b"good\n")


@pytest.mark.parametrize("section", [[], "ours", 5, True])
def test_a_section_that_is_no_object_is_refused(section: Any, published: Published, place: Path) -> None:
    edit_json(published(place / "p") / "config.json", bothways=section)
    refuses("classify", "p", says=[r"p/config\.json.*bothways"], stdin=b"good\n")


def test_words_that_are_not_tied_to_the_embeddings_are_left_aside(published: Published, place: Path) -> None:
    """Their own weights have no place in the model, and those of the embeddings give other words."""
    from bothways.formats.reading import load_model

    published(place / "p", "BertForMaskedLM", tie_word_embeddings=False)
    bert, _, report = load_model(place / "p")
    assert not list(bert.outputs)
    assert "cls.predictions" in report.unused


# ── The weights ──────────────────────────────────────────────────────────────────────────────────────────────────────

TENSORS = [
    "bert.embeddings.word_embeddings.weight",
    "bert.encoder.layer.1.output.dense.bias",
    "bert.encoder.layer.0.attention.self.key.weight",
    "bert.pooler.dense.weight",
    "classifier.bias",
]


@pytest.mark.parametrize(
    ("name", "value"),
    [*((name, math.nan) for name in TENSORS), ("classifier.bias", math.inf), ("classifier.bias", -math.inf)],
)
def test_a_weight_that_is_no_number_is_refused_on_loading(
    name: str, value: float, published: Published, place: Path
) -> None:
    def spoil(weights: dict[str, torch.Tensor]) -> None:
        weights[name].view(-1)[-1] = value

    edit_weights(published(place / "p") / "model.safetensors", spoil)
    says = [r"\bp/model\.safetensors", name.removeprefix("bert.").replace(".", r"\.")]
    refuses("classify", "p", says=says, stdin=b"good\n")
    refuses_in_python(lambda: TextClassifier.load("p"), says)


@pytest.mark.parametrize("verb", ["finetune", "evaluate", "outputs"])
def test_so_it_is_by_every_verb_and_in_every_file(verb: str, encoder: Path, classifier: Path, place: Path) -> None:
    def spoil(weights: dict[str, torch.Tensor]) -> None:
        next(iter(weights.values())).view(-1)[0] = math.nan

    rows = [{**row, "stars": index} for index, row in enumerate(review_rows())]
    write_rows("t.csv", rows)
    if verb == "finetune":
        shutil.copytree(encoder, "p")
        edit_weights(Path("p/model.safetensors"), spoil)
        use: tuple[object, ...] = ("finetune", "--train", "t.csv", "--encoder", "p", "--out", "out")
        refuses(*use, says=[r"\bp/model\.safetensors"])
        return
    if verb == "evaluate":
        shutil.copytree(classifier, "p")
        edit_weights(Path("p/model.safetensors"), spoil)
    else:
        use = ("finetune", "--train", "t.csv", "--encoder", encoder, "--epochs", 1, "--out", "p", "--label", "label")
        succeeds(*use, "--output", "stars:regression")
        edit_weights(Path("p/outputs.safetensors"), spoil)
    name = "outputs" if verb == "outputs" else "model"
    refuses("evaluate", "p", "t.csv", says=[rf"\bp/{name}\.safetensors"])


def test_a_weight_too_large_for_fp16_is_seen_as_infinite(published: Published, place: Path) -> None:
    def spoil(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        weights["classifier.bias"][0] = 1e6
        return {name: tensor.half() for name, tensor in weights.items()}

    edit_weights(published(place / "p") / "model.safetensors", spoil)
    refuses("classify", "p", says=[r"\bp/model\.safetensors", r"classifier\.bias"], stdin=b"good\n")


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.int64])
def test_whole_numbers_are_no_weights(dtype: torch.dtype, published: Published, place: Path) -> None:
    """They are the mark of a quantized model, whose scales would be left aside."""

    def spoil(weights: dict[str, torch.Tensor]) -> None:
        weights[TENSORS[2]] = weights[TENSORS[2]].to(dtype)

    edit_weights(published(place / "p") / "model.safetensors", spoil)
    refuses("classify", "p", says=[r"\bp/model\.safetensors", r"attention\.self\.key\.weight"], stdin=b"good\n")


def test_a_quantized_model_is_refused(published: Published, place: Path) -> None:
    edit_json(published(place / "p") / "config.json", quantization_config={"quant_method": "bitsandbytes"})
    refuses("classify", "p", says=[r"p/config\.json", "quantization_config"], stdin=b"good\n")


@pytest.mark.parametrize("kind", ["BertForMultipleChoice", "BertForQuestionAnswering", "BertForNextSentencePrediction"])
def test_models_for_other_ends_do_not_classify(kind: str, published: Published, place: Path) -> None:
    """One of several choices has a layer called `classifier`, too, of one logit; it is no regression."""
    published(place / "p", kind)
    ended = run("classify", "p", stdin=b"good\n")
    check_refusal(ended, [r"^bothways: p", "classif|output layer|architectures"])


@pytest.mark.parametrize("content", [[], {}, {"weight_map": 5}, {"weight_map": {"a": "../model.safetensors"}}], ids=str)
def test_an_index_of_no_sense_is_refused(content: object, published: Published, place: Path) -> None:
    directory = published(place / "p")
    (directory / "model.safetensors").rename(place / "model.safetensors")
    write_json(directory / "model.safetensors.index.json", content)
    refuses("classify", "p", says=[r"p/model\.safetensors\.index\.json"], stdin=b"good\n")
