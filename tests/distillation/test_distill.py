"""The recipe of distillation: a student comes nearer to its teacher, and ends in the same bits however it got there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import films, random_bert

from bothways.batch import UNLABELLED
from bothways.distillation import transfer_set as transfer_sets
from bothways.distillation.batches import DistillationBatches
from bothways.distillation.config import DistillationConfig, for_vectors, resolved
from bothways.distillation.run import distill
from bothways.distillation.teacher import EncoderTeacher, VectorFile, VectorObjective
from bothways.distillation.texts import Texts
from bothways.distillation.transfer_set import TransferSet, build_transfer_set
from bothways.errors import InputError, Stopped
from bothways.formats.reading import load_model
from bothways.formats.writing import save_model
from bothways.inference.engine import Engine
from bothways.model.config import EncoderConfig
from bothways.pretraining.masking import Masking
from bothways.tokenizer import Tokenizer
from bothways.training.checkpoint import Checkpoints

CONFIG = DistillationConfig(batch_tokens=512, evaluate_every=10, held_out=0.1, precision="fp32", max_length=64)


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    path = tmp_path / "documents.txt"
    path.write_text("\n\n".join("。\n".join(films(6, seed)[0]) + "。" for seed in range(150)), "utf-8")
    return path


@pytest.fixture
def teacher(tmp_path: Path, encoder_config: EncoderConfig, tokenizer: Tokenizer) -> Path:
    """Another random encoder, wider than the student."""
    wide = replace(encoder_config, hidden_size=48)
    save_model(tmp_path / "teacher", random_bert(wide, seed=7), tokenizer)
    return tmp_path / "teacher"


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return dict(load_model(directory)[0].state_dict())


def test_the_vectors_of_a_student_come_near(
    documents: Path, teacher: Path, encoder_directory: Path, tmp_path: Path
) -> None:
    config = replace(CONFIG, epochs=8, learning_rate=5e-3)
    distill([documents], tmp_path / "out", teacher=teacher, encoder=encoder_directory, config=config, quiet=True)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text("utf-8"))
    vectors = metrics["held_out"]["vector"]
    assert vectors[-1]["loss"] < 0.75 * vectors[0]["loss"]
    assert vectors[-1]["agreement"] > 0.9
    assert not (tmp_path / "out.run").exists()
    bert, tokenizer, report = load_model(tmp_path / "out")
    assert not report.untrained
    assert [(output.name, output.reads) for output in bert.config.outputs] == [("vector", "mean"), ("mlm", "masked")]
    # What was measured is what the directory gives: its mean of tokens, projected, is the teacher's vector.
    texts = films(50, seed=999)[0]
    found = Engine(bert, tokenizer).features(texts)
    with torch.no_grad():
        found = bert.output("vector")(torch.from_numpy(found)).numpy()
    engine = EncoderTeacher(teacher).engine
    wanted = engine.features(texts)
    cosines = (found * wanted).sum(-1) / np.linalg.norm(found, axis=-1) / np.linalg.norm(wanted, axis=-1)
    assert cosines.mean() > 0.9


def test_a_new_student(documents: Path, teacher: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, steps=30, masked_weight=0.0)
    done = distill([documents], tmp_path / "out", teacher=teacher, size="tiny", tokenizer=teacher, config=config)
    assert done.metrics["updates"] == 30
    assert [output.name for output in done.bert.config.outputs] == ["vector"]
    losses = done.metrics["losses"]["vector"]
    assert losses[-1][1] < losses[0][1]
    late = done.bert.embeddings.position.weight[100:]
    assert torch.equal(late[0], done.bert.embeddings.position.weight[1 + 99 % 63])


def test_transformers_reads_a_student(documents: Path, teacher: Path, encoder_directory: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForMaskedLM

    config = replace(CONFIG, steps=2)
    distill([documents], tmp_path / "out", teacher=teacher, encoder=encoder_directory, config=config, quiet=True)
    _, told = AutoModelForMaskedLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not told["missing_keys"]


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have a run die at some point: (what, at which call)."""

    def arrange(target: Any, name: str, call: int) -> None:
        original, calls = getattr(target, name), [0]

        def dying(*given: Any, **named: Any) -> Any:
            calls[0] += 1
            if calls[0] == call:
                raise Stopped("killed")
            return original(*given, **named)

        monkeypatch.setattr(target, name, dying)

    return arrange


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_recorded_on_cuda(documents: Path, teacher: Path, encoder_directory: Path, tmp_path: Path) -> None:
    """Recorded and replayed it comes as near as without."""
    near = []
    for compile in (False, True):
        config = replace(CONFIG, epochs=8, learning_rate=5e-3, precision="bf16", compile=compile)
        out = tmp_path / str(compile)
        done = distill([documents], out, teacher=teacher, encoder=encoder_directory, config=config, quiet=True)
        near.append(done.log.held_out["vector"][-1][2])
    assert near[1] == pytest.approx(near[0], abs=0.02)


def test_killed_and_resumed_it_ends_in_the_same_bits(
    documents: Path,
    teacher: Path,
    encoder_directory: Path,
    tmp_path: Path,
    stopping: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfer_sets, "PART", 64)
    config = replace(CONFIG, steps=12, checkpoint_minutes=0.0)
    given: dict[str, Any] = {"teacher": teacher, "encoder": encoder_directory, "config": config, "quiet": True}
    distill([documents], tmp_path / "whole", **given)
    with monkeypatch.context() as once:
        stopping_at = Texts.read

        def half(self: Texts, meters: Any = ()) -> Any:
            for number, text in enumerate(stopping_at(self, meters)):
                if number == 200 and meters:
                    raise Stopped("killed")
                yield text

        once.setattr(Texts, "read", half)
        with pytest.raises(Stopped):
            distill([documents], tmp_path / "out", **given)
    parts = sorted((tmp_path / "out.run" / "texts").glob("part-*"))
    assert len(parts) == 3
    before = parts[0].stat().st_mtime_ns
    stopping(Checkpoints, "save", 5)
    with pytest.raises(Stopped):
        distill([documents], tmp_path / "out", resume=True, **given)
    assert parts[0].stat().st_mtime_ns == before  # the teacher is not asked again
    assert len(list((tmp_path / "out.run" / "checkpoints").glob("update-*"))) == 3
    distill([documents], tmp_path / "out", resume=True, **given)
    for name, weight in weights(tmp_path / "whole").items():
        assert torch.equal(weight, weights(tmp_path / "out")[name]), name


def test_an_error_of_the_teacher_loses_no_part(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was answered before stays, and the rest is the same as without the error."""
    monkeypatch.setattr(transfer_sets, "PART", 64)
    (tmp_path / "texts.txt").write_text("\n".join(films(200)[0]), "utf-8")
    texts = Texts([tmp_path / "texts.txt"])

    def answer(part: Any, first: int) -> np.ndarray:
        return np.arange(first, first + len(part), dtype=np.float32)[:, None]

    def fails(part: Any, first: int) -> np.ndarray:
        if first:
            raise InputError("the teacher is gone")
        return answer(part, first)

    given: dict[str, Any] = {"dtype": np.float32, "settings": {}, "quiet": True}
    build_transfer_set(tmp_path / "whole", texts, tokenizer, 64, answer, **given)
    with pytest.raises(InputError, match="the teacher is gone"):
        build_transfer_set(tmp_path / "t", texts, tokenizer, 64, fails, **given)
    assert [path.name for path in transfer_sets.parts_in(tmp_path / "t")] == ["part-000000"]
    build_transfer_set(tmp_path / "t", texts, tokenizer, 64, answer, **given)
    for part in transfer_sets.parts_in(tmp_path / "whole"):
        for file in part.iterdir():
            assert file.read_bytes() == (tmp_path / "t" / part.name / file.name).read_bytes()


def test_an_unfinished_run_is_not_lost_by_mistake(
    documents: Path, teacher: Path, encoder_directory: Path, tmp_path: Path, stopping: Any
) -> None:
    config = replace(CONFIG, steps=4, checkpoint_minutes=0.0)
    given: dict[str, Any] = {"teacher": teacher, "encoder": encoder_directory, "quiet": True}
    stopping(Checkpoints, "save", 2)
    with pytest.raises(Stopped):
        distill([documents], tmp_path / "out", config=config, **given)
    with pytest.raises(InputError, match=r"out\.run holds an unfinished run; add --resume"):
        distill([documents], tmp_path / "out", config=config, **given)
    with pytest.raises(InputError, match=r"started with learning_rate 0\.001, not 0\.5"):
        distill([documents], tmp_path / "out", config=replace(config, learning_rate=0.5), resume=True, **given)
    with pytest.raises(InputError, match=r"was started with other max_length"):
        distill([documents], tmp_path / "out", config=replace(config, max_length=32), resume=True, **given)


def ready(tmp_path: Path, tokenizer: Tokenizer, rows: int = 300) -> tuple[TransferSet, np.ndarray]:
    """Texts whose teacher answers with vectors of chance."""
    (tmp_path / "texts.txt").write_text("\n".join(films(rows)[0]), "utf-8")
    vectors = np.random.default_rng(0).normal(size=(rows, 6)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    made = VectorFile(tmp_path / "vectors.npy")
    texts = Texts([tmp_path / "texts.txt"])
    transfer_set = build_transfer_set(
        tmp_path / "t", texts, tokenizer, 64, made.answers, dtype=np.float16, settings={}, quiet=True
    )
    return transfer_set, vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_texts_and_answers_are_found_again(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer_sets, "PART", 64)
    transfer_set, vectors = ready(tmp_path, tokenizer)
    rows = np.array([299, 0, 64, 63, 128, 5])
    np.testing.assert_allclose(transfer_set.answers(rows), vectors[rows], atol=1e-3)
    wanted = tokenizer.encode_batch([films(300)[0][row] for row in rows])
    for found, encoding in zip(transfer_set.encodings(rows), wanted, strict=True):
        np.testing.assert_array_equal(found.token_ids, encoding.token_ids)
        np.testing.assert_array_equal(found.segment_ids, encoding.segment_ids)


def test_the_second_text_of_a_pair_is_another_segment(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "pairs.csv").write_text("a,b\nthe film,很\n书,\n", "utf-8")

    def answer(texts: Any, first: int) -> np.ndarray:
        return np.zeros((len(texts), 1))

    texts = Texts([tmp_path / "pairs.csv"], ("a", "b"))
    transfer_set = build_transfer_set(
        tmp_path / "t", texts, tokenizer, 64, answer, dtype=np.float16, settings={}, quiet=True
    )
    for found, (one, other) in zip(transfer_set.encodings(np.arange(2)), [("the film", "很"), ("书", "")], strict=True):
        wanted = tokenizer.encode(one, other)
        np.testing.assert_array_equal(found.token_ids, wanted.token_ids)
        np.testing.assert_array_equal(found.segment_ids, wanted.segment_ids)


def test_an_update_is_a_function_of_its_number(tmp_path: Path, tokenizer: Tokenizer) -> None:
    transfer_set, vectors = ready(tmp_path, tokenizer)
    config = resolved(
        replace(CONFIG, epochs=2),
        for_vectors(32) | {"masked_weight": 1.0},  # type: ignore[arg-type]
        width=32,
        longest=64,
        micro_batch_tokens=8192,
        precision="fp32",
    )
    masking = Masking(tokenizer)
    one, other = (
        DistillationBatches(transfer_set, np.arange(300), VectorObjective(transfer_set), masking, config)
        for _ in range(2)
    )
    assert sorted(np.concatenate(one.plan)) == sorted([*range(300)] * 2)  # every text once in an epoch
    (batch,), (again,) = one.update(7), other.update(7)
    assert torch.equal(batch.inputs.token_ids, again.inputs.token_ids)
    assert torch.equal(batch.targets["mlm"], again.targets["mlm"])
    # The teacher's vectors belong to their texts, of which about half have hidden words.
    (rows,) = [one.plan[7]]
    order = rows[np.argsort(transfer_set.lengths[rows], kind="stable")]
    np.testing.assert_allclose(batch.targets["vector"].numpy(), vectors[order], atol=1e-3)
    hidden = masked = 0
    for step in range(len(one)):
        for batch in one.update(step):
            assert batch.inputs.masked_positions is not None
            hidden += len(np.unique(batch.inputs.sequence_of_token[batch.inputs.masked_positions]))
            masked += len(batch.inputs.masked_positions)
            assert UNLABELLED not in batch.targets["mlm"]
    assert 0.25 < hidden / 600 < 0.5  # short texts are often left whole by chance
    tokens = sum(transfer_set.lengths[rows].sum() - 2 * len(rows) for rows in one.plan)
    assert 0.05 < masked / tokens < 0.1


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.ones((5, 4), np.float32), r"vectors\.npy has 5 rows, but there are more than 5 texts"),
        (np.ones((11, 4), np.float32), r"vectors\.npy has 11 rows, but there are 10 texts"),
        (np.zeros((10, 4), np.float32), r"vectors\.npy, row 0: this vector is zero or not finite"),
        (np.ones(10, np.float32), r"this array has the shape \(10,\)"),
        (np.ones((10, 4), np.int64), r"the type int64; give floating-point numbers"),
    ],
)
def test_vectors_that_do_not_fit(tmp_path: Path, encoder_directory: Path, array: np.ndarray, sentence: str) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(films(10)[0]), "utf-8")
    np.save(tmp_path / "vectors.npy", array)
    with pytest.raises(InputError, match=sentence):
        distill(
            [tmp_path / "texts.txt"],
            tmp_path / "out",
            teacher=tmp_path / "vectors.npy",
            encoder=encoder_directory,
            config=CONFIG,
            quiet=True,
        )
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.run").exists()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"size": "tiny"}, "--preset is for a new encoder, which needs a --tokenizer"),
        ({"size": "tiny", "encoder": "en-mini"}, "en-mini has its size already"),
        ({"tokenizer": "en-mini"}, "--tokenizer is for a new encoder"),
        ({"config": DistillationConfig(max_length=65)}, "--max-length is 65, but the student reads 64 tokens"),
        ({"files": []}, "Name one file of texts at least"),
    ],
)
def test_what_does_not_go_together(
    documents: Path, teacher: Path, encoder_directory: Path, tmp_path: Path, given: dict[str, Any], sentence: str
) -> None:
    if "config" in given:
        given["encoder"] = encoder_directory
    with pytest.raises(InputError, match=sentence):
        distill(given.pop("files", [documents]), tmp_path / "out", teacher=teacher, **given)
    assert sorted(path.name for path in tmp_path.glob("out*")) == []


def test_texts_of_nothing(tmp_path: Path, teacher: Path, encoder_directory: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n\n", "utf-8")
    with pytest.raises(InputError, match=r"empty\.txt: there is no text to learn from"):
        distill([tmp_path / "empty.txt"], tmp_path / "out", teacher=teacher, encoder=encoder_directory, config=CONFIG)
