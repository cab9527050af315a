"""BERT on one screen: embeddings → encoder → pooling → any number of output layers (arXiv 1810.04805)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from torch import Tensor, nn

from bothways.batch import PackedBatch, Reads
from bothways.model.config import BertConfig, OutputConfig
from bothways.model.embeddings import Embeddings
from bothways.model.encoder import Encoder
from bothways.model.outputs import OutputLayer, OutputLayers, build_output
from bothways.model.pooling import FirstTokenPooling, mean_of_windows, mean_pooling
from bothways.model.text_model import TextModel


class Bert(TextModel):
    """One encoder, any number of named output layers. Pre-training, fine-tuning and serving differ only in which
    output layers are attached and which data feeds them."""

    encoder: Encoder

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config.encoder)
        self.encoder = Encoder(config.encoder)
        self.pooling = FirstTokenPooling(config.encoder)
        self.outputs = OutputLayers(self._build(output) for output in config.outputs)
        self.apply(self._initialise)

    def encode(self, batch: PackedBatch, read: Tensor | None = None) -> Tensor:
        """A packed batch → (tokens, hidden): every token in the light of its whole text, both ways.

        With `read`, positions of tokens, only these come back: (read, hidden).
        """
        return self.encoder(self.embeddings(batch), batch, read)

    def forward(self, batch: PackedBatch, only: Collection[str] | None = None) -> dict[str, Tensor]:
        """A packed batch → the logits of each output layer (or of those named in `only`), by name."""
        outputs = [output for output in self.outputs if only is None or output.config.name in only]
        representations = self.represent(batch, {output.config.reads for output in outputs})
        return {output.config.name: output(representations[output.config.reads]) for output in outputs}

    def represent(self, batch: PackedBatch, reads: Collection[Reads]) -> dict[Reads, Tensor]:
        """A packed batch → what output layers read, one tensor for each of `reads` (shapes in `model.outputs`)."""
        firsts, masked, read = batch.sequence_starts[:-1], batch.masked_positions, batch.tokens_read(reads)
        hidden = self.encode(batch, read)
        if read is None:
            first_tokens, masked_tokens = hidden[firsts], hidden if masked is None else hidden[masked]
        else:
            first_tokens, masked_tokens = hidden[: len(firsts)], hidden[len(firsts) :]
        representations: dict[Reads, Tensor] = {"tokens": hidden, "masked": masked_tokens}
        if "first" in reads:
            representations["first"] = mean_of_windows(self.pooling(first_tokens), batch)
        if "mean" in reads:
            representations["mean"] = mean_of_windows(mean_pooling(hidden, batch), batch)
        return representations

    @property
    def token_embedding(self) -> nn.Embedding:
        return self.embeddings.token

    @property
    def layers(self) -> Sequence[nn.Module]:
        return tuple(self.encoder.layers)

    def multiplications(self, batch: PackedBatch) -> float:
        """How many a forward pass over `batch` takes in matrix products, the end of the last layer for what is read."""
        config = self.config.encoder
        hidden, tokens = config.hidden_size, len(batch.token_ids)
        read = batch.tokens_read({output.config.reads for output in self.outputs})
        computed = tokens if read is None else len(read)
        after_attention = hidden * hidden + 2 * hidden * config.feed_forward_size
        weights = tokens * 3 * hidden * hidden * config.layers
        weights += after_attention * (tokens * (config.layers - 1) + computed)
        weights += len(batch.lengths) * hidden * hidden  # pooling
        weights += sum(batch.size(output.config.reads) * output.multiplications for output in self.outputs)
        attention = config.layers * 2 * hidden * sum(length * length for length in batch.lengths)
        return float(weights + attention)

    def output(self, name: str) -> OutputLayer:
        """The output layer called `name`; KeyError if there is none."""
        for output in self.outputs:
            if output.config.name == name:
                return output
        raise KeyError(name)

    def attach(self, *outputs: OutputConfig) -> None:
        """Take off all output layers and put on fresh ones; the encoder stays as it is."""
        self.config = replace(self.config, outputs=outputs, int8=None)  # which was found with other output layers
        self.outputs = OutputLayers(self._build(output) for output in outputs)
        for module in self.outputs:
            module.apply(self._initialise_unless_shared)

    def add(self, output: OutputConfig) -> OutputLayer:
        """Put one more output layer on, with fresh weights, in the place of one of the same name."""
        others = [layer for layer in self.outputs if layer.config.name != output.name]
        layer = self._build(output).to(self.embeddings.token.weight.device).eval()
        layer.apply(self._initialise_unless_shared)
        self.outputs = OutputLayers([*others, layer])
        self.config = replace(self.config, outputs=tuple(layer.config for layer in self.outputs))
        return layer

    def configure(self, output: OutputConfig) -> None:
        """Give the output layer of this name other settings; its weights stay. KeyError if there is none."""
        self.output(output.name).config = output
        self.config = replace(self.config, outputs=tuple(layer.config for layer in self.outputs))

    def set_dropout(self, share: float) -> None:
        """Drop this share of features in training from now on."""
        self.config = replace(self.config, encoder=replace(self.config.encoder, dropout=share))
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = share

    def _build(self, output: OutputConfig) -> OutputLayer:
        return build_output(output, self.config.encoder, self.embeddings.token)

    def _initialise_unless_shared(self, module: nn.Module) -> None:
        if module is not self.embeddings.token:
            self._initialise(module)

    def _initialise(self, module: nn.Module) -> None:
        """Normal weights and zero biases. The published code redraws what lies beyond two standard deviations
        (google-research/bert, modeling.py, truncated_normal_initializer); `transformers` does not, nor do we."""
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=self.config.encoder.initializer_range)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
