"""A finished classifier as the teacher of a smaller one: what it says of texts without labels, of every
class how likely it is (arXiv 1503.02531)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bothways.batch import UNLABELLED
from bothways.distillation.config import Choices, for_classes
from bothways.distillation.teacher import Objective, digest_of_weights
from bothways.distillation.texts import Division, GivenText, lines
from bothways.distillation.transfer_set import TransferSet
from bothways.errors import InputError
from bothways.evaluation.rejection import MOST_ROWS, detector_of, rows_of_each_class
from bothways.formats.hub import locate
from bothways.inference.engine import Engine, load_classifier
from bothways.model.bert import Bert
from bothways.model.config import OutputConfig
from bothways.model.outputs import OutputLayer, OutputLayers, logits_width
from bothways.tasks import Task, tasks_of
from bothways.tokenizer import Tokenizer


class DistilledOutput(OutputLayer):
    """An output layer while it learns the logits of another model, in place of labels."""

    def __init__(self, layer: OutputLayer, temperature: float) -> None:
        nn.Module.__init__(self)
        self.config, self.layer, self.temperature = layer.config, layer, temperature

    def forward(self, representation: Tensor) -> Tensor:
        """(n, hidden) → (n, width): the logits of n texts."""
        return self.layer(representation)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.layer.distillation_loss(logits, targets, self.temperature)

    def count(self, targets: Tensor) -> int:
        return int((~targets.isnan().any(-1)).sum())

    def agreement(self, logits: Tensor, teacher_logits: Tensor) -> Tensor:
        return self.layer.agreement(logits, teacher_logits)

    @property
    def multiplications(self) -> int:
        return self.layer.multiplications


class ClassifierTeacher:
    """What a classifier says: the logits of all its output layers side by side, as calibrated."""

    dtype = np.float32

    def __init__(self, name: str | os.PathLike) -> None:
        """Raises InputError if it labels words: those of a student may be others."""
        bert, tokenizer = load_classifier(name)
        self.engine = Engine(bert, tokenizer)
        if words := [task.name for task in self.engine.tasks if task.pretokenized]:
            raise InputError(
                f"{name}: output {words[0]!r} labels words, which cannot be distilled; fine-tune a smaller encoder on "
                f"the same table."
            )
        ends = np.cumsum([logits_width(layer) for layer in self.engine.layers]).tolist()
        starts = [0, *ends[:-1]]
        self.parts = {
            layer.name: slice(start, end) for layer, start, end in zip(self.engine.layers, starts, ends, strict=True)
        }
        """Where the logits of each output layer are in an answer."""
        self.width = ends[-1]
        self.name, self.columns = str(name), bert.config.text_columns
        self.identity: Mapping[str, Any] = {
            "teacher": digest_of_weights(locate(name)),
            "temperatures": [layer.temperature for layer in self.engine.layers],
        }

    def choices(self, width: int) -> Choices:
        """See `Teacher`."""
        return for_classes(width, self.engine.config.longest)

    def division(self, longest: int, seed: int) -> Division:
        """Every line is a text, as for `classify`."""
        return lines

    def outputs(self, student: Bert, config: Any) -> tuple[OutputConfig, ...]:
        """Those of the teacher, without what was fitted to its own logits."""
        student.config = replace(
            student.config,
            outputs=(),
            max_length=config.max_length,
            long_texts="head",
            text_columns=self.columns,
        )
        return tuple(
            replace(
                task.output,
                reads=config.pooling,
                class_weights=(),
                focal_gamma=0.0,
                temperature=1.0,
                set_threshold=None,
            )
            for task in self.engine.tasks
        )

    def answers(self, texts: Sequence[GivenText], first: int) -> np.ndarray:
        """See `Teacher`."""
        pairs = None if len(self.columns) == 1 else [given.pair or "" for given in texts]
        found = self.engine.run(self.engine.encode([given.text for given in texts], pairs)).logits
        return np.concatenate([found[layer.name] / layer.temperature for layer in self.engine.layers], axis=1)

    def finished(self, texts: int) -> None:
        """See `Teacher`."""

    def objective(self, transfer_set: TransferSet, config: Any) -> Objective:
        """See `Teacher`."""
        return LogitsObjective(self, transfer_set, config.temperature)


class LogitsObjective:
    """The logits of every output; numbers with mean 0 and deviation 1, which are easier to learn."""

    def __init__(self, teacher: ClassifierTeacher, transfer_set: TransferSet, temperature: float) -> None:
        self.teacher, self.transfer_set, self.temperature = teacher, transfer_set, temperature
        self.tasks = teacher.engine.tasks
        self.easy: dict[str, np.ndarray] = {}
        self.restore: dict[str, Callable[[OutputLayer], None]] = {}
        for task in self.tasks:
            if not task.names_labels:
                easy, restore = task.standardize(transfer_set.every_answer(teacher.parts[task.name])[:, 0].tolist())
                self.easy[task.name], self.restore[task.name] = np.array(easy, np.float32)[:, None], restore

    def begin(self, bert: Bert, tokenizer: Tokenizer, read: np.ndarray) -> None:
        """See `Objective`."""
        distilled = {task.name for task in self.tasks}
        bert.outputs = OutputLayers(
            DistilledOutput(layer, self.temperature) if layer.config.name in distilled else layer
            for layer in bert.outputs
        )

    def targets(self, rows: np.ndarray) -> Mapping[str, Tensor]:
        """See `Objective`."""
        answers = self.transfer_set.answers(rows)
        logits = {task.name: answers[:, self.teacher.parts[task.name]] for task in self.tasks}
        numbers = {name: easy[rows] for name, easy in self.easy.items()}
        return {name: torch.from_numpy(np.ascontiguousarray(found)) for name, found in (logits | numbers).items()}

    def finish(self, bert: Bert, tokenizer: Tokenizer, read: np.ndarray, held_out: np.ndarray) -> None:
        """See `Objective`. Where the teacher can tell which texts are of none of its classes, so can the student."""
        bert.outputs = OutputLayers(layer.layer for layer in bert.outputs if isinstance(layer, DistilledOutput))
        bert.config = replace(bert.config, outputs=tuple(layer.config for layer in bert.outputs))
        for name, restore in self.restore.items():
            restore(bert.output(name))
        engine = Engine(bert, tokenizer)
        for task, of_teacher in zip(tasks_of(bert.config.outputs), self.tasks, strict=True):
            if of_teacher.detector is not None and of_teacher.detector.distance_threshold is not None:
                self._add_detector(bert, engine, task, of_teacher.detector, read, held_out if len(held_out) else read)

    def _add_detector(
        self, bert: Bert, engine: Engine, task: Task, detector: OutputConfig, read: np.ndarray, held_out: np.ndarray
    ) -> None:
        """Put on a layer that finds as many texts to be of none of the classes as the teacher did, fitted to those
        that it knew, with its decisions as their classes."""
        assert detector.distance_threshold is not None
        known = self.transfer_set.every_answer(self.teacher.parts[detector.name])[:, 0] <= detector.distance_threshold
        if not known[read].any() or not known[held_out].any():
            return
        classes = np.full(len(known), UNLABELLED)
        some = read[known[read]]
        for rows in np.array_split(some, -(-len(some) // 4096)):
            classes[rows] = self.transfer_set.answers(rows)[:, self.teacher.parts[task.name]].argmax(-1)
        chosen = rows_of_each_class(classes, MOST_ROWS, seed=0)
        reads = task.output.reads
        found = engine.represent(self.transfer_set.encodings(chosen), reads)
        layer = detector_of(bert, task, found, classes[chosen])
        distances = layer.distances(engine.represent(self.transfer_set.encodings(held_out), reads))
        threshold = float(np.quantile(distances, known[held_out].mean()))
        bert.configure(replace(layer.config, distance_threshold=threshold))
