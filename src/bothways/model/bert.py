"""BERT on one screen: embeddings → encoder → pooling → any number of output layers (arXiv 1810.04805)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from torch import Tensor, nn

from bothways.batch import PackedBatch
from bothways.model.config import BertConfig, OutputConfig, Reads
from bothways.model.embeddings import Embeddings
from bothways.model.encoder import Encoder
from bothways.model.outputs import OutputLayer, build_output
from bothways.model.pooling import FirstTokenPooling, MeanPooling


class Bert(nn.Module):
    """One encoder, any number of named output layers. Pre-training, fine-tuning and serving differ only in which
    output layers are attached and which data feeds them."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config.encoder)
        self.encoder = Encoder(config.encoder)
        self.pooling = FirstTokenPooling(config.encoder)
        self.mean_pooling = MeanPooling()
        self.outputs = nn.ModuleList(self._build(output) for output in config.outputs)
        self.apply(self._initialise)

    def encode(self, batch: PackedBatch) -> Tensor:
        """A packed batch → (tokens, hidden): every token in the light of its whole text, both ways."""
        return self.encoder(self.embeddings(batch), batch)

    def forward(self, batch: PackedBatch, only: Collection[str] | None = None) -> dict[str, Tensor]:
        """A packed batch → the logits of each output layer (or of those named in `only`), by name."""
        hidden = self.encode(batch)
        read: dict[Reads, Tensor] = {"tokens": hidden}
        logits = {}
        for output in self.outputs:
            if only is None or output.config.name in only:
                reads = output.config.reads
                if reads not in read:
                    read[reads] = self._read(reads, hidden, batch)
                logits[output.config.name] = output(read[reads])
        return logits

    def output(self, name: str) -> OutputLayer:
        """The output layer called `name`; KeyError if there is none."""
        for output in self.outputs:
            if output.config.name == name:
                return output
        raise KeyError(name)

    def attach(self, *outputs: OutputConfig) -> None:
        """Take off all output layers and put on fresh ones; the encoder stays as it is."""
        self.config = replace(self.config, outputs=outputs)
        self.outputs = nn.ModuleList(self._build(output) for output in outputs)
        for module in self.outputs:
            module.apply(self._initialise_unless_shared)

    def _read(self, reads: Reads, hidden: Tensor, batch: PackedBatch) -> Tensor:
        if reads == "first":
            return self.pooling(hidden, batch)
        if reads == "mean":
            return self.mean_pooling(hidden, batch)
        return hidden if batch.masked_positions is None else hidden[batch.masked_positions]

    def _build(self, output: OutputConfig) -> OutputLayer:
        return build_output(output, self.config.encoder, self.embeddings.token)

    def _initialise_unless_shared(self, module: nn.Module) -> None:
        if module is not self.embeddings.token:
            self._initialise(module)

    def _initialise(self, module: nn.Module) -> None:
        """Normal weights, zero biases, as published (the same repository's modeling.py, `initializer_range`)."""
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=self.config.encoder.initializer_range)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
