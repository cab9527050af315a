"""The models that are served, by name; one that is replaced on disk is taken up without losing a request."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bothways.batch import Predictions
from bothways.errors import InputError
from bothways.files.reading import add_file
from bothways.formats.hub import files_of, locate
from bothways.formats.reading import load_model
from bothways.hardware import default_device
from bothways.inference.engine import Engine, require_trained
from bothways.model.bert import Bert
from bothways.serving.refusals import BackendFailed, UnknownModel
from bothways.tasks.task import Task
from bothways.tokenizer import Encoding

WARM_UP = "warm up"
CPU_TOKENS = 1024
"""Most tokens in a forward pass on a CPU: no slower than more, and memory stays small and in one piece however batches
differ."""
log = logging.getLogger("bothways.serving")


class ServedModel:
    """An engine under its name. `classify` and `embed` are what the batcher computes with: what is equal shares a
    batch."""

    def __init__(self, name: str, source: str, directory: Path, engine: Engine, fingerprint: str) -> None:
        """`directory`: where `source` led when the model was read; asking a hub again would take time, and might lead
        to another revision."""
        self.name, self.source, self.directory = name, source, directory
        self.engine, self.fingerprint = engine, fingerprint
        self._original: Bert | None = None
        self._reading = threading.Lock()

    def original(self) -> Bert:
        """The model as it was saved, with all its output layers: read when it is first asked for, since few ask. It
        takes a moment, so ask in a thread.

        Raises InputError if its directory was replaced meanwhile.
        """
        with self._reading:
            if self._original is None:
                bert, _, _ = load_model(self.directory)
                if fingerprint_of(self.directory) != self.fingerprint:
                    raise InputError("The files of this model have changed; reload it first.")
                self._original = bert.eval()
            return self._original

    def classify(self, encodings: Sequence[Encoding]) -> list[Predictions]:
        """What the output layers say of each text."""
        return one_by_one(self.engine.run(encodings))

    def embed(self, encodings: Sequence[Encoding]) -> list[np.ndarray]:
        """The mean of the tokens of each text in the last layer: (hidden,) float32."""
        return list(self.engine.represent(encodings))

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What its output layers decide."""
        return self.engine.tasks

    @property
    def guesses_words(self) -> bool:
        """Whether it still has the output layer that it was pre-trained with."""
        return any(output.reads == "masked" for output in self.engine.config.outputs)

    def labelled(self) -> Task:
        """The first output that says one thing of a whole text.

        Raises BackendFailed if there is none.
        """
        for task in self.tasks:
            if not task.pretokenized:
                return task
        self.require_outputs()
        raise BackendFailed(f"The model {self.name!r} labels words; ask /answers.")

    def require_outputs(self) -> None:
        """Raises BackendFailed for an encoder without output layers that classify."""
        if not self.tasks:
            raise BackendFailed(f"The model {self.name!r} is an encoder without classes; ask /embed.")

    def labels(self, task: Task) -> tuple[str, ...]:
        """A name for each number that an output gives; a regression has one, which is called as the output is."""
        return task.output.labels or (task.name,)


def one_by_one(predictions: Predictions) -> list[Predictions]:
    """What is said of several texts → of each alone."""
    return [
        Predictions(
            [encoding],
            {name: logits[i : i + 1] for name, logits in predictions.logits.items()},
            {name: [logits[i]] for name, logits in predictions.token_logits.items()},
        )
        for i, encoding in enumerate(predictions.encodings)
    ]


def together(parts: Sequence[Predictions]) -> Predictions:
    """What is said of each of some texts, at least one → of all; the reverse of `one_by_one`."""
    return Predictions(
        [encoding for part in parts for encoding in part.encodings],
        {name: np.concatenate([part.logits[name] for part in parts]) for name in parts[0].logits},
        {name: [logits for part in parts for logits in part.token_logits[name]] for name in parts[0].token_logits},
    )


def fingerprint_of(directory: Path) -> str:
    """A digest of all files of a model."""
    digest = hashlib.sha256()
    for file in files_of(directory):
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        add_file(digest, file)
    return digest.hexdigest()[:40]


def load(name: str, source: str) -> ServedModel:
    """A model directory, shipped encoder or hub id made ready, and tried once.

    Raises InputError if it cannot be read, has output layers without trained weights, or changes meanwhile.
    """
    directory = locate(source)
    try:
        fingerprint = fingerprint_of(directory)
        bert, tokenizer, report = load_model(directory)
        require_trained(source, bert, report)
        if fingerprint_of(directory) != fingerprint:
            raise InputError(f"{source}: the directory changes while it is read; replace it whole, by renaming.")
    except OSError as error:
        raise InputError(f"{source}: the model cannot be read ({error.strerror}).") from None
    engine = Engine(bert, tokenizer, batch_tokens=CPU_TOKENS if default_device().type == "cpu" else None)
    pairs = [WARM_UP] if len(engine.config.text_columns) == 2 else None
    texts = [WARM_UP.split() if engine.pretokenized else WARM_UP]
    model = ServedModel(name, source, directory, engine, fingerprint)
    encodings = engine.encode(texts, [WARM_UP.split()] if pairs and engine.pretokenized else pairs)
    for logits in model.classify(encodings)[0].logits.values():
        if not np.isfinite(logits).all():
            raise InputError(f"{source}: the model says NaN; take the weights of before they broke.")
    return model


@dataclass(frozen=True)
class Source:
    """Where a model is, and under which name it is served."""

    name: str
    place: str

    @classmethod
    def parse(cls, written: str) -> Source:
        """`DIR`, whose name is that of the directory, or `NAME=DIR`. Raises InputError for a name that no address can
        hold."""
        name, equals, place = written.partition("=")
        if not equals or "/" in name:  # a directory may have the sign in its name
            name, place = Path(written).resolve().name if Path(written).is_dir() else written, written
        if not place or not name or any(sign in name for sign in "/?#%\\ ") or not name.isprintable():
            raise InputError(f"{written!r} has no name that an address can hold; write NAME=DIR.")
        return cls(name, place)


class Generation:
    """How often the models of several processes were read again: the length of a file that all see."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._seen = self._length()

    def announce(self) -> None:
        """This process has read its models again, so the others should."""
        with self.file.open("ab") as file:
            file.write(b"+")
        self._seen += 1  # and not the length, which another process may have made longer meanwhile

    def has_passed(self) -> bool:
        """Whether another process has announced anything since it was last asked."""
        before, self._seen = self._seen, self._length()
        return self._seen != before

    def _length(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0


class Models:
    """All that are served; the first answers where a request names none."""

    def __init__(self, sources: Sequence[Source], *, generation: Generation | None = None) -> None:
        """Loads all. `generation`: how several processes tell each other of models that were read again.

        Raises InputError if one cannot be read, or two have one name.
        """
        names = [source.name for source in sources]
        if not names:
            raise InputError("Name one model at least.")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"Two models are called {twice[0]!r}; give each its own name: NAME=DIR.")
        self._generation = generation
        self._models = {source.name: load(source.name, source.place) for source in sources}
        self._reloading = asyncio.Lock()

    @property
    def names(self) -> list[str]:
        """In the order given."""
        return list(self._models)

    def get(self, name: str | None = None) -> ServedModel:
        """The model of a name, or the first. Raises UnknownModel if there is none."""
        if name is None:
            return next(iter(self._models.values()))
        try:
            return self._models[name]
        except KeyError:
            raise UnknownModel(f"There is no model of that name; there are: {', '.join(self._models)}.") from None

    async def reload(self, name: str | None = None) -> list[ServedModel]:
        """Read a model, or all of them, again and serve what was read; requests in work end with what they began with.

        Raises InputError, and goes on with all that was, if one cannot be read; UnknownModel if there is none.
        """
        names = self.names if name is None else [self.get(name).name]
        async with self._reloading:
            found = await self._read_again(names)
            if self._generation is not None:
                self._generation.announce()
        return found

    async def _read_again(self, names: Sequence[str]) -> list[ServedModel]:
        """Whoever asks has `_reloading`, so that no older reading ends after this one."""
        found = [await asyncio.to_thread(load, name, self.get(name).source) for name in names]
        self._models.update({model.name: model for model in found})
        return found

    async def follow(self, every_seconds: float = 0.5) -> None:
        """Read models again whenever another process has, without end."""
        while self._generation is not None:
            await asyncio.sleep(every_seconds)
            if not self._generation.has_passed():
                continue
            async with self._reloading:
                try:
                    await self._read_again(self.names)
                except InputError as error:
                    log.error("This worker goes on with what it had: %s", error)
                except Exception:  # such as a lack of memory: the next announcement is to be heard all the same
                    log.exception("This worker goes on with what it had.")
