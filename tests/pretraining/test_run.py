"""The recipe of pre-training: what is read when, what is kept aside, what is written."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import films

from bothways.batch import UNLABELLED, TrainingBatch
from bothways.corpus.build import build_corpus
from bothways.corpus.shards import Corpus
from bothways.errors import InputError
from bothways.formats.reading import load_model
from bothways.formats.writing import save_model
from bothways.model.config import EncoderConfig, preset
from bothways.pretraining.batches import PretrainingBatches
from bothways.pretraining.config import PretrainingConfig
from bothways.pretraining.held_out import HeldOut, split_documents
from bothways.pretraining.initialization import MIN_COUNT, new_encoder, start_with_word_vectors
from bothways.pretraining.run import pretrain
from bothways.tokenizer import Tokenizer
from bothways.training import tensorboard
from bothways.training.distributed import Ranks

CONFIG = PretrainingConfig(
    steps=60,
    batch_tokens=1024,
    sequence_lengths=(32,),
    held_out=0.1,
    evaluate_every=20,
    precision="fp32",
)


def test_it_learns_and_says_so(corpus: Corpus, tmp_path: Path) -> None:
    pretrain(corpus.directory, tmp_path / "encoder", size="tiny", config=CONFIG)
    metrics = json.loads((tmp_path / "encoder" / "metrics.json").read_text())
    for name in ("mlm", "nsp"):
        assert metrics["losses"][name][-1][1] < metrics["losses"][name][0][1]
        assert [update for update, _, _ in metrics["held_out"][name]] == [20, 40, 60]
        assert all(0 <= accuracy <= 1 for _, _, accuracy in metrics["held_out"][name])
    assert metrics["held_out"]["mlm"][-1][1] < metrics["held_out"]["mlm"][0][1]
    assert 0 < metrics["share_of_peak"] < 1
    assert (tmp_path / "encoder" / "curves.svg").read_text().startswith("<?xml")
    assert list((tmp_path / "encoder" / "tensorboard").glob("events*"))
    assert not (tmp_path / "encoder.run").exists()
    bert, _, report = load_model(tmp_path / "encoder")
    assert not report.untrained
    assert [output.name for output in bert.config.outputs] == ["mlm", "nsp"]
    assert bert.config.encoder.dropout == CONFIG.dropout == 0.0  # which fine-tuning follows


def test_an_encoder_goes_on_with_other_text(corpus: Corpus, tmp_path: Path, tokenizer: Tokenizer) -> None:
    first, *_ = pretrain(corpus.directory, tmp_path / "first", size="tiny", config=CONFIG)
    still = replace(CONFIG, steps=1, learning_rate=1e-12)
    again, *_ = pretrain(corpus.directory, tmp_path / "again", encoder=tmp_path / "first", config=still)
    for (name, old), new in zip(first.state_dict().items(), again.state_dict().values(), strict=True):
        torch.testing.assert_close(old, new, msg=name)
    alone, *_ = pretrain(
        corpus.directory, tmp_path / "alone", encoder=tmp_path / "first", config=replace(still, next_sentence=False)
    )
    assert [output.config.name for output in alone.outputs] == ["mlm"]
    torch.testing.assert_close(alone.output("mlm").state_dict(), first.output("mlm").state_dict())


def test_an_encoder_with_another_tokenizer(corpus: Corpus, tmp_path: Path) -> None:
    other = Tokenizer.train(films(60)[0], 200)
    save_model(tmp_path / "other", new_encoder(preset("tiny", other.vocab_size)), other)
    with pytest.raises(InputError, match=r"was built with another tokenizer than that of .*other"):
        pretrain(corpus.directory, tmp_path / "out", encoder=tmp_path / "other", config=CONFIG)


def test_it_begins_with_what_word_vectors_know(corpus: Corpus, tmp_path: Path) -> None:
    """Nothing but the bias, how common each word is, is worth much on made-up films; it must be there at once."""
    losses = {}
    for name, given in (("with", True), ("without", False)):
        config = replace(CONFIG, word2vec=given, learning_rate=1e-6)
        *_, log = pretrain(corpus.directory, tmp_path / name, size="tiny", config=config)
        losses[name] = log.held_out["mlm"][0][1]
    assert losses["with"] < losses["without"] - 1


def test_too_little_text_for_word_vectors(encoder_config: EncoderConfig) -> None:
    """A deviation of no vectors, or of one, is no number."""
    bert = new_encoder(encoder_config)
    size = encoder_config.vocab_size
    for often in (0, 1):
        counts = np.where(np.arange(size) < often, MIN_COUNT, 0)
        start_with_word_vectors(bert, np.ones((size, encoder_config.hidden_size), np.float32), counts)
        assert all(parameter.isfinite().all() for parameter in bert.parameters())


def test_word_vectors_for_an_encoder_that_has_embeddings(corpus: Corpus, tmp_path: Path) -> None:
    pretrain(corpus.directory, tmp_path / "first", size="tiny", config=replace(CONFIG, steps=1))
    with pytest.raises(InputError, match=r"--word2vec is for a new encoder"):
        pretrain(corpus.directory, tmp_path / "out", encoder=tmp_path / "first", config=replace(CONFIG, word2vec=True))


def test_word_vectors_of_another_run_are_not_taken_up(corpus: Corpus, tmp_path: Path) -> None:
    """As it was left by one that was killed before its first checkpoint."""
    other = new_encoder(preset("mini", 100))
    save_model(tmp_path / "out.run" / "start", other, corpus.tokenizer, extra_files={"settings.json": "{}"})
    (tmp_path / "out.run" / "half.tokens").write_text("1 2")
    config = replace(CONFIG, word2vec=True, steps=2, held_out=0)
    bert, *_ = pretrain(corpus.directory, tmp_path / "out", size="tiny", config=config, resume=True)
    assert bert.config.encoder == preset("tiny", corpus.tokenizer.vocab_size, dropout=CONFIG.dropout)
    assert not (tmp_path / "out.run").exists()


def test_a_full_disk_ends_the_curves_and_not_the_run(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tensorboard, "SPARE", 1 << 60)
    pretrain(corpus.directory, tmp_path / "out", size="tiny", config=CONFIG)
    assert capsys.readouterr().err.count("no more curves are drawn ([Errno 28]") == 1


def test_what_is_kept_aside_is_never_read(tmp_path: Path) -> None:
    """Every document has a word of its own."""
    words = [a + b for a in "bcdfghjk" for b in "lmnpqrst"]
    letters = Tokenizer.train([" ".join(words)] * 9, 400)
    corpus = build_corpus([[f"{word} {word}."] * 9 for word in words], letters, tmp_path / "corpus")
    config = replace(CONFIG, steps=200)
    read, aside = split_documents(corpus, config)
    assert len(aside) == 6
    assert sorted([*read, *aside]) == list(range(64))

    def seen(batches: list) -> set[int]:
        return {i for b in batches for i in b.inputs.token_ids.tolist()} | {
            i for b in batches for i in b.targets["mlm"].tolist()
        }

    own = {word: letters.encode(word).token_ids[1] for word in words}
    batches = PretrainingBatches(corpus, config, read)
    for batch in (b for step in range(200) for b in batches.update(step)):
        visible = batch.targets["mlm"].tolist()
        assert not {own[words[d]] for d in aside} & set(visible)
    judged = seen(HeldOut(corpus, config, aside).batches)
    assert {own[words[d]] for d in aside} <= judged


def test_the_last_updates_read_longer_pairs(corpus: Corpus) -> None:
    batches = PretrainingBatches(corpus, replace(CONFIG, sequence_lengths=(32, 64), length_shares=(0.9, 0.1)))
    longest = [max(max(b.inputs.lengths) for b in batches.update(step)) for step in range(60)]
    assert max(longest[:54]) == 32
    assert longest[54:] == [64] * 6
    tokens = [sum(len(b.inputs.token_ids) for b in batches.update(step)) for step in (0, 59)]
    assert abs(tokens[0] - tokens[1]) < 300


def test_positions_that_no_text_has_reached(corpus: Corpus, tmp_path: Path) -> None:
    """They are copies of those before, and a longer length finds them so; those of an encoder that goes on stay."""

    def positions(name: str, lengths: tuple[int, ...], **settings: Any) -> torch.Tensor:
        config = replace(CONFIG, steps=20, sequence_lengths=lengths, **settings)
        bert, *_ = pretrain(corpus.directory, tmp_path / name, size="tiny", config=config)
        return bert.embeddings.position.weight.detach()

    def copied(table: torch.Tensor, read: int) -> torch.Tensor:
        return table[1 + (torch.arange(read, 512) - 1) % (read - 1)]

    short = positions("short", (32,))
    torch.testing.assert_close(short[32:], copied(short, 32), rtol=0, atol=0)
    longer = positions("longer", (16, 64))
    torch.testing.assert_close(longer[64:], copied(longer, 64), rtol=0, atol=0)
    assert (longer[16:64] - copied(longer, 16)[:48]).abs().max() > 0, "the longer pairs taught nothing"
    untouched = replace(CONFIG, steps=1, learning_rate=1e-12)
    known = new_encoder(preset("tiny", corpus.tokenizer.vocab_size))
    save_model(tmp_path / "known", known, corpus.tokenizer)
    bert, *_ = pretrain(corpus.directory, tmp_path / "on", encoder=tmp_path / "known", config=untouched)
    torch.testing.assert_close(bert.embeddings.position.weight, known.embeddings.position.weight)


def test_an_update_is_the_same_however_it_is_cut(corpus: Corpus) -> None:
    """The same pairs, masked alike, in micro-batches of any size."""

    def texts(batches: list[TrainingBatch]) -> list[list[int]]:
        return sorted(p.tolist() for b in batches for p in b.inputs.token_ids.split(list(b.inputs.lengths)))

    whole = PretrainingBatches(corpus, CONFIG).update(3)
    parts = PretrainingBatches(corpus, replace(CONFIG, micro_batch_tokens=256)).update(3)
    assert (len(whole), len(parts)) == (1, 4)
    assert texts(whole) == texts(parts)
    assert sum(len(p.targets["mlm"]) for p in parts) == len(whole[0].targets["mlm"])


def test_every_rank_has_something_to_compute(corpus: Corpus) -> None:
    """Three pairs for two ranks, one at a time: the second time one rank has none, but one that counts for nothing."""
    config = replace(CONFIG, batch_tokens=96, micro_batch_tokens=32)
    ranks = [PretrainingBatches(corpus, config, ranks=Ranks(rank, 2)).update(5) for rank in (0, 1)]
    assert [len(batches) for batches in ranks] == [2, 2]
    idle = ranks[1][1]
    assert (idle.targets["mlm"] == UNLABELLED).all()
    assert idle.targets["nsp"].tolist() == [UNLABELLED]
    whole = PretrainingBatches(corpus, config).update(5)
    for name in ("mlm", "nsp"):
        labelled = [int((b.targets[name] != UNLABELLED).sum()) for batches in (*ranks, whole) for b in batches]
        assert sum(labelled[:4]) == sum(labelled[4:])


def test_evaluating_changes_nothing(corpus: Corpus) -> None:
    bert = new_encoder(preset("tiny", corpus.tokenizer.vocab_size))
    held_out = HeldOut(corpus, CONFIG, split_documents(corpus, CONFIG)[1])
    first, again = (held_out.evaluate(bert, torch.float32, torch.device("cpu")) for _ in range(2))
    assert first == again
    assert first["nsp"][1] == pytest.approx(0.5, abs=0.15)
    assert first["mlm"][0] == pytest.approx(np.log(corpus.tokenizer.vocab_size), abs=0.3)


def test_mistakes(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"Pairs of 1024 tokens are longer than the position table \(512\)"):
        pretrain(corpus.directory, tmp_path / "a", config=replace(CONFIG, sequence_lengths=(1024,)))
    alone = build_corpus([["One document. Of two sentences."]], corpus.tokenizer, tmp_path / "alone")
    with pytest.raises(InputError, match=r"need two documents at least; .* or pre-train with --no-next-sentence"):
        pretrain(alone.directory, tmp_path / "a", config=CONFIG)
    with pytest.raises(InputError, match=r"--held-out is 0\.999, which leaves 1 of \d+ documents to read"):
        pretrain(corpus.directory, tmp_path / "a", config=replace(CONFIG, held_out=0.999))
    with pytest.raises(InputError, match=r"--preset is for a new encoder; .* has its size already"):
        pretrain(corpus.directory, tmp_path / "a", size="tiny", encoder=tmp_path, config=CONFIG)
    for setting in ({"learning_rate": float("inf")}, {"learning_rate": 2.0}, {"weight_decay": float("inf")}):
        with pytest.raises(InputError, match=r"(and|,) at most 1\."):
            replace(CONFIG, **setting)
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    with pytest.raises(InputError, match=r"Word vectors need gensim; install it with pip install"):
        pretrain(corpus.directory, tmp_path / "a", config=replace(CONFIG, word2vec=True))
    assert [p.name for p in tmp_path.iterdir()] == ["alone"], "a run that is refused left something behind"
    (tmp_path / "b.run").mkdir()
    with pytest.raises(InputError, match="holds an unfinished run; add --resume to go on or --overwrite"):
        pretrain(corpus.directory, tmp_path / "b", config=CONFIG)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["alone", "b.run"]
