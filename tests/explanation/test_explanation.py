"""Explanations of models whose reasons are known, for every kind of output."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import films, random_bert
from rich.console import Console

from bothways import InputError, TextClassifier
from bothways.batch import PackedBatch
from bothways.explanation.config import ExplainConfig
from bothways.explanation.examples import Examples, keep_examples
from bothways.explanation.explain import explain
from bothways.explanation.gradients import IntegratedGradients
from bothways.explanation.inside import look_inside
from bothways.explanation.leave_out import LeaveOneOut, without
from bothways.explanation.masked_words import predict_masked
from bothways.explanation.result import Explanation
from bothways.explanation.run import explain_text
from bothways.explanation.show import show_explanation
from bothways.explanation.words import chinese_parts, read, words_in
from bothways.formats.writing import save_model
from bothways.inference.engine import Engine
from bothways.language import chinese_words
from bothways.model.attention import packed_attention
from bothways.model.bert import Bert
from bothways.model.config import MASKED_LM, EncoderConfig, OutputConfig
from bothways.tables.table import Columns, LabelColumn, Table
from bothways.tokenizer import Tokenizer

MOOD = OutputConfig(name="mood", kind="single", labels=("bad", "good"), reads="mean")
TOPICS = OutputConfig(name="topics", kind="multi", labels=("film", "hotel", "book"), reads="mean", temperature=2.0)
STARS = OutputConfig(name="stars", kind="regression", reads="mean")
SLOTS = OutputConfig(name="slots", kind="tags", labels=("O", "B-x", "I-x"), reads="tokens")
KINDS = [MOOD, replace(MOOD, reads="first"), replace(MOOD, labels=("a", "b", "c")), TOPICS, STARS, SLOTS]


def bag(encoder: EncoderConfig, tokenizer: Tokenizer, planted: dict[str, float], *outputs: OutputConfig) -> Bert:
    """A model that is a bag of words: its layers do nothing, and its output reads one feature, which the words that
    were planted have. The mean over tokens of ±1 at features 0 and 1 survives norms, whose mean is 0 that way."""
    bert = random_bert(encoder, *outputs)
    with torch.no_grad():
        for name, parameter in bert.named_parameters():
            parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)
        table = bert.embeddings.token.weight
        table[:, 2], table[:, 3] = 1.0, -1.0  # so that no vector is 0, which a norm would blow up
        for word, strength in planted.items():
            (token,) = tokenizer.encode(word).token_ids[1:-1]
            table[token, 0], table[token, 1] = strength, -strength
        for layer in bert.outputs:
            layer.projection.weight[-1, 0] = 1.0
    return bert


def engine_of(encoder: EncoderConfig, tokenizer: Tokenizer, *outputs: OutputConfig) -> tuple[Bert, Engine]:
    bert = random_bert(encoder, *outputs)
    return bert, Engine(bert, tokenizer, precision="fp32")


def by_name(explanation: Explanation, which: int = 0) -> dict[str, float | None]:
    """Word → contribution."""
    each = explanation.explained[which]
    return dict(zip((word.text for word in explanation.words), each.contributions, strict=True))


@pytest.mark.parametrize("method", ["words", "gradients"])
def test_planted_words_are_found_with_their_signs_and_no_other(
    encoder_config: EncoderConfig, tokenizer: Tokenizer, method: str
) -> None:
    bert = bag(encoder_config, tokenizer, {"worth": 2.0, "thin": -1.0}, MOOD)
    engine = Engine(bert, tokenizer, precision="fp32")
    way = LeaveOneOut(engine) if method == "words" else IntegratedGradients(bert, engine)
    found = explain(way, "the film is worth it, thin plot", label="good")
    assert [found.words[i].text for i in found.explained[0].strongest(2)] == ["worth", "thin"]
    contributions = by_name(found)
    assert (contributions["worth"] or 0) > 0.05
    assert (contributions["thin"] or 0) < -0.05
    against = explain(way, "the film is worth it, thin plot", label="bad")
    assert against.explained[0].contributions == pytest.approx([-(c or 0) for c in found.explained[0].contributions])


def test_a_contribution_is_the_evidence_of_the_text_less_that_of_the_text_without_the_word(
    encoder_config: EncoderConfig, tokenizer: Tokenizer
) -> None:
    _, engine = engine_of(encoder_config, tokenizer, MOOD)
    text, words = "the plot is thin", ["the", "plot", "is", "thin"]
    found = explain(LeaveOneOut(engine), text, label="good")

    def probability(text: str) -> float:
        predictions = engine.run(engine.encode([text]))
        return float(engine.tasks[0].probabilities(predictions)[0][1])

    def evidence(p: float) -> float:
        return math.log(p / (1 - p))

    whole = probability(text)
    assert found.explained[0].score == pytest.approx(whole, abs=1e-6)
    for i in range(len(words)):
        left = probability(" ".join(words[:i] + words[i + 1 :]))
        assert found.explained[0].contributions[i] == pytest.approx(evidence(whole) - evidence(left), abs=1e-3)
        assert found.explained[0].scores_without is not None
        assert found.explained[0].scores_without[i] == pytest.approx(left, abs=1e-5)


@pytest.mark.parametrize("output", KINDS, ids=lambda output: f"{output.kind}-{output.reads}-{len(output.labels)}")
def test_gradients_of_every_kind_add_up_to_the_difference_to_the_baseline(
    encoder_config: EncoderConfig, tokenizer: Tokenizer, output: OutputConfig
) -> None:
    bert, engine = engine_of(encoder_config, tokenizer, output)
    found = explain(IntegratedGradients(bert, engine), "the jokes are worse")
    for each in found.explained:
        assert each.completeness is not None
        assert each.completeness.gap <= 0.02 * max(abs(each.completeness.difference), 0.1)
        assert sum(c or 0 for c in each.contributions) == pytest.approx(each.completeness.sum, abs=1e-4)
    assert len(found.explained) == (4 if output is SLOTS else len(found.explained))


@pytest.mark.parametrize("output", KINDS, ids=lambda output: f"{output.kind}-{output.reads}-{len(output.labels)}")
def test_every_kind_is_explained_as_json(
    encoder_config: EncoderConfig, tokenizer: Tokenizer, output: OutputConfig
) -> None:
    _, engine = engine_of(encoder_config, tokenizer, output)
    found = json.loads(json.dumps(explain(LeaveOneOut(engine), "the jokes are worse").as_json()))
    assert [word["text"] for word in found["words"]] == ["the", "jokes", "are", "worse"]
    assert found["unit"] == ("value" if output is STARS else "log-odds")
    for each in found["explained"]:
        assert len(each["contributions"]) == len(each["scores_without"]) == 4
        assert each["label"] in (output.labels or (None,))
    assert [each["word"] for each in found["explained"]][:1] == ([0] if output is SLOTS else [None])


def test_each_word_that_has_a_tag_is_explained_by_hiding_every_word(
    encoder_config: EncoderConfig, tokenizer: Tokenizer
) -> None:
    _, engine = engine_of(encoder_config, tokenizer, SLOTS, MOOD)
    found = explain(LeaveOneOut(engine), "the jokes are worse", output="slots")
    assert [each.word for each in found.explained] == [0, 1, 2, 3]
    encoding = engine.encode([["the", "jokes", "are", "worse"]])[0]
    hidden = replace(encoding, token_ids=np.where(encoding.words == 3, tokenizer.mask_id, encoding.token_ids))
    both = engine.run([encoding, hidden])
    task = engine.tasks[0]
    label = task.output.labels.index(found.explained[1].label or "")
    before, after = (float(p[1, label]) for p in task.probabilities(both))
    assert found.explained[1].score == pytest.approx(before, abs=1e-5)
    assert (found.explained[1].scores_without or ())[3] == pytest.approx(after, abs=1e-5)
    named = explain(LeaveOneOut(engine), "the jokes are worse", output="slots", label="I-x")
    assert {each.label for each in named.explained} == {"I-x"}


def test_both_texts_of_a_pair_are_explained_and_a_word_knows_where_it_stands(
    encoder_config: EncoderConfig, tokenizer: Tokenizer
) -> None:
    bert = random_bert(encoder_config, MOOD)
    bert.config = replace(bert.config, text_columns=("one", "two"))
    method = LeaveOneOut(Engine(bert, tokenizer, precision="fp32"))
    found = explain(method, "the plot", "the jokes")
    assert [(word.text, word.of) for word in found.words] == [
        ("the", "text"),
        ("plot", "text"),
        ("the", "pair"),
        ("jokes", "pair"),
    ]
    assert found.words[3].start == 4
    assert len({round(c or 0, 6) for c in found.explained[0].contributions}) == 4
    with pytest.raises(InputError, match="reads pairs"):
        explain(method, "the plot")


def test_words_are_those_of_a_person_in_both_languages() -> None:
    def words(text: str) -> list[str]:
        return [text[start:end] for start, end in words_in(text)]

    assert words("I don't like it—at all!") == ["I", "don't", "like", "it", "—", "at", "all", "!"]
    assert words("café的服务员很好,ok") == ["café", "的", "服务员", "很", "好", ",", "ok"]
    assert words(" \n") == []


def test_without_jieba_chinese_words_are_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget() -> None:
        chinese_parts.cache_clear()
        chinese_words.cache_clear()

    forget()
    monkeypatch.setitem(__import__("sys").modules, "jieba", None)
    try:
        assert list(words_in("服务员 ok")) == [(0, 1), (1, 2), (2, 3), (4, 6)]
    finally:
        forget()


def test_every_token_of_a_text_belongs_to_the_word_it_is_a_piece_of(
    encoder_config: EncoderConfig, tokenizer: Tokenizer
) -> None:
    _, engine = engine_of(encoder_config, tokenizer, MOOD)
    reading = read(engine, "Unbelievably café，这家酒店 \ud800 很!")
    assert reading.encoding.offsets is not None
    for (start, end), word in zip(reading.encoding.offsets, reading.word_of_token, strict=True):
        assert (word < 0) == (start == end)
        if word >= 0:
            assert reading.words[word].start <= start < end <= reading.words[word].end


def test_a_text_is_explained_the_same_whatever_is_explained_beside_it(
    encoder_config: EncoderConfig, tokenizer: Tokenizer
) -> None:
    _, engine = engine_of(encoder_config, tokenizer, MOOD)
    alone, small = (
        explain(LeaveOneOut(engine), "the jokes are worse"),
        Engine(random_bert(encoder_config, MOOD), tokenizer, precision="fp32", batch_tokens=8),
    )
    in_batches_of_few = explain(LeaveOneOut(small), "the jokes are worse")
    assert in_batches_of_few.explained[0].contributions == pytest.approx(alone.explained[0].contributions, abs=1e-4)


@pytest.mark.parametrize("text", ["", " \n ", "\x00"])
def test_a_text_without_words_is_answered_and_has_no_contributions(
    encoder_config: EncoderConfig, tokenizer: Tokenizer, text: str
) -> None:
    bert, engine = engine_of(encoder_config, tokenizer, MOOD)
    for method in (LeaveOneOut(engine), IntegratedGradients(bert, engine)):
        found = explain(method, text)
        assert not [c for c in found.explained[0].contributions if c]
        assert 0 < found.explained[0].score < 1


@pytest.mark.parametrize("windows", [1, 40])
def test_of_five_thousand_words_several_are_left_out_at_a_time_and_that_is_told(
    encoder_config: EncoderConfig, tokenizer: Tokenizer, windows: int
) -> None:
    bert = random_bert(encoder_config, MOOD)
    if windows > 1:
        bert.config = replace(bert.config, long_texts="windows", overlap=8, most_windows=windows)
    engine = Engine(bert, tokenizer, precision="fp32")
    found = explain(LeaveOneOut(engine, most_tokens=10_000), "the film is worse " * 1250)
    read_words = sum(c is not None for c in found.explained[0].contributions) * found.together
    assert found.truncated
    assert found.unread + engine.encode(["the film is worse " * 1250])[0].read - 2 == 5000
    assert found.together == (1 if windows == 1 else found.together)
    assert windows == 1 or found.together > 100
    assert 5000 - found.unread <= read_words < 5000 - found.unread + found.together


def test_a_word_left_out_is_gone_from_each_window(encoder_config: EncoderConfig, tokenizer: Tokenizer) -> None:
    bert = random_bert(encoder_config, MOOD)
    bert.config = replace(bert.config, long_texts="windows", overlap=8, most_windows=4, max_length=16)
    engine = Engine(bert, tokenizer, precision="fp32")
    reading = read(engine, " ".join(["the", "plot", "and", "jokes"] * 8))
    gone = reading.word_of_token == 11
    left = without(reading.encoding, gone)
    assert reading.encoding.windows is not None
    assert left.windows is not None
    assert gone.sum() == 2  # two windows share it
    assert sum(left.windows) == len(left) == len(reading.encoding) - 2
    starts = np.cumsum((0, *left.windows[:-1]))
    assert (left.token_ids[starts] == tokenizer.cls_id).all()
    assert PackedBatch.pack([left]).lengths == left.windows


def test_gradients_add_up_over_windows_and_over_pairs(encoder_config: EncoderConfig, tokenizer: Tokenizer) -> None:
    bert = random_bert(encoder_config, MOOD)
    plain = bert.config
    windows = replace(plain, long_texts="windows", overlap=8, most_windows=4, max_length=16)
    for config, pair in ((windows, None), (replace(plain, text_columns=("one", "two")), "the film")):
        bert.config = config
        method = IntegratedGradients(bert, Engine(bert, tokenizer, precision="fp32"))
        (each,) = explain(method, "the plot and jokes " * 6, pair).explained
        assert each.completeness is not None
        assert each.completeness.gap <= 0.02 * max(abs(each.completeness.difference), 0.1)
        assert None not in each.contributions


def test_attention_is_what_the_model_computes(encoder_config: EncoderConfig, tokenizer: Tokenizer) -> None:
    bert = random_bert(encoder_config, MOOD)
    inside = look_inside(bert, tokenizer, "the jokes are worse")
    batch = PackedBatch.pack([tokenizer.encode("the jokes are worse")])
    with torch.no_grad():
        layer = bert.encoder.layers[0].attention
        projected = layer.query_key_value(bert.embeddings(batch)).unflatten(-1, (3, layer.heads, layer.head_size))
        expected = packed_attention(projected, batch)
        looked = torch.from_numpy(inside.attention[0]) @ projected[:, 2].transpose(0, 1)
    assert torch.allclose(looked.transpose(0, 1), expected, atol=1e-5)
    assert inside.attention.shape == (2, 4, len(inside.tokens), len(inside.tokens))
    assert np.allclose(inside.attention.sum(-1), 1, atol=1e-5)
    table = bert.embeddings.position.weight.detach().norm(dim=-1)
    assert np.allclose(inside.norms["position"], table[: len(inside.tokens)], atol=1e-5)
    assert look_inside(bert, tokenizer, "the " * 500).truncated
    json.dumps(inside.as_json())


def test_hidden_words_are_guessed_as_the_output_layer_says(encoder_config: EncoderConfig, tokenizer: Tokenizer) -> None:
    bert = random_bert(encoder_config, MASKED_LM)
    (guess,) = predict_masked(bert, tokenizer, "the [MASK] are worse", top=3)
    encoding = tokenizer.encode("the [MASK] are worse")
    with torch.no_grad():
        expected = torch.softmax(bert(PackedBatch.pack([encoding]))["mlm"][2], dim=-1).topk(3)
    assert guess.probabilities == pytest.approx(expected.values.tolist(), abs=1e-5)
    assert list(guess.tokens) == tokenizer.tokens(expected.indices)
    assert (guess.word.text, guess.probability) == ("[MASK]", None)
    each = predict_masked(bert, tokenizer, "the jokes are worse")
    assert [guess.word.text for guess in each] == ["the", "jokes", "are", "worse"]
    (hidden,) = predict_masked(bert, tokenizer, "the [MASK] are worse", top=tokenizer.vocab_size)
    assert each[1].probability == pytest.approx(dict(zip(hidden.tokens, hidden.probabilities, strict=True))["jokes"])
    assert predict_masked(bert, tokenizer, "") == []
    with pytest.raises(InputError, match="en-mini"):
        predict_masked(random_bert(encoder_config, MOOD), tokenizer, "the [MASK]")


def test_the_nearest_row_to_one_that_was_kept_is_itself(
    encoder_config: EncoderConfig, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    bert, engine = engine_of(encoder_config, tokenizer, MOOD)
    texts = ["the plot is thin", "这家酒店很干净", "the café scene"]
    columns = Columns(labels=(LabelColumn(output="mood", column="mood"),))
    table = Table("rows", columns, ["1", "2", "3"], list(texts), None, {"mood": ["bad", "good", None]})
    save_model(tmp_path / "model", bert, tokenizer)
    assert Examples.load(tmp_path / "model", engine) is None
    asked = explain_text(str(tmp_path / "model"), texts[0], config=ExplainConfig(nearest=2))
    assert "This model has kept none of its training rows; finetune --keep-examples keeps them." in asked.notes
    assert not any("kept" in note for note in explain_text(str(tmp_path / "model"), texts[0]).notes)
    keep_examples(tmp_path / "model", engine, table)
    found = Examples.load(tmp_path / "model", engine)
    assert found is not None
    for row, text in enumerate(texts, start=1):
        first, *others = found.nearest(engine.encode([text])[0], 10)
        assert (first.row, first.text) == (row, text)
        assert first.similarity == pytest.approx(1, abs=1e-2)
        assert len(others) == 2
    assert [n.outputs["mood"] for n in found.nearest(engine.encode([texts[2]])[0], 1)] == [None]
    told = explain_text(str(tmp_path / "model"), texts[0], config=ExplainConfig(nearest=2))
    assert told.content["nearest"][0]["row"] == 1
    assert not any("kept" in note for note in told.notes)
    assert len(explain_text(str(tmp_path / "model"), texts[0]).content["nearest"]) == 3
    (tmp_path / "model" / "examples.parquet").write_text("no table")
    with pytest.raises(InputError, match=r"examples\.parquet"):
        Examples.load(tmp_path / "model", engine)


def test_a_classifier_explains_by_the_word_that_its_label_hangs_on(encoder_directory: Path) -> None:
    texts, labels = films(300)
    classifier = TextClassifier(encoder_directory, epochs=10).fit(texts, labels)
    good, pair = classifier.explain(["the film is good", "the plot 空洞"])
    assert good.explained[0].label == classifier.predict(["the film is good"])[0]
    assert good.words[good.explained[0].strongest(1)[0]].text == "good"
    assert pair.words[pair.explained[0].strongest(1)[0]].text == "空洞"
    assert good.known in (True, False)
    with pytest.raises(InputError, match="has no label 'sad'"):
        classifier.explain(["the film"], label="sad")


def test_what_looks_like_markup_or_steers_a_terminal_is_shown_as_it_is(
    encoder_config: EncoderConfig, tokenizer: Tokenizer
) -> None:
    _, engine = engine_of(encoder_config, tokenizer, replace(MOOD, name="[red]mood", labels=("[b]", "<i>")))
    text = "[bold red]the <b>plot</b>[/] \x1b[31m [link=x]"
    for colour in ("truecolor", None):
        stream = io.StringIO()
        console = Console(file=stream, force_terminal=bool(colour), color_system=colour, width=200)  # type: ignore
        show_explanation(explain(LeaveOneOut(engine), text), console)
        shown = stream.getvalue()
        assert "\x1b[31m" not in shown
        assert ("\x1b[" in shown) == bool(colour)
    assert "[bold red]the <b>plot</b>[/] �[31m [link=x]" in shown
    assert "[red]mood: " in shown


def test_names_that_a_model_does_not_have_are_refused_in_one_sentence(
    encoder_config: EncoderConfig, tokenizer: Tokenizer
) -> None:
    _, engine = engine_of(encoder_config, tokenizer, MOOD, STARS)
    method = LeaveOneOut(engine)
    with pytest.raises(InputError, match="no output 'mode', but 'mood', 'stars'"):
        explain(method, "the", output="mode")
    with pytest.raises(InputError, match="no label 'fair', but 'bad', 'good'"):
        explain(method, "the", label="fair")
    with pytest.raises(InputError, match="has no labels"):
        explain(method, "the", output="stars", label="good")
    with pytest.raises(InputError, match="single texts"):
        explain(method, "the", "film")


def test_a_missing_captum_is_told_with_what_to_install(
    encoder_config: EncoderConfig, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "captum.attr", None)
    with pytest.raises(InputError, match=r"bothways\[explain\]"):
        IntegratedGradients(*engine_of(encoder_config, tokenizer, MOOD))


def test_each_word_is_shown_with_its_tag_and_its_reasons(encoder_config: EncoderConfig, tokenizer: Tokenizer) -> None:
    _, engine = engine_of(encoder_config, tokenizer, replace(SLOTS, name="[red]slots"))
    found = explain(LeaveOneOut(engine), "the [b]jokes worse")
    stream = io.StringIO()
    show_explanation(found, Console(file=stream, width=120))
    lines = stream.getvalue().splitlines()
    assert "[red]slots" in lines[1]
    for each, line in zip(found.explained, lines[3:], strict=False):
        assert found.words[each.word or 0].text in line
        assert each.label is not None
        assert each.label in line
