"""Where rows are few, output layers start from a linear probe (arXiv 2202.10054): they are fitted alone, to what the
encoder makes of the texts before it is trained. From chance, the few updates of such a table would hardly move them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bothways.finetuning.examples import Examples
from bothways.inference.engine import Engine
from bothways.model.bert import Bert
from bothways.model.outputs import OutputLayer
from bothways.tokenizer import Tokenizer

PENALTY, ITERATIONS = 3.0, 100
"""On half the squared weights for features of deviation 1, beside the loss summed over decisions; of classes,
1 / PENALTY is scikit-learn's C."""


def start_from_features(bert: Bert, tokenizer: Tokenizer, examples: Examples) -> None:
    """Fit the output layers that read texts to all `examples`; those that label words stay as they are."""
    engine = Engine(bert, tokenizer, precision="fp32")
    for task in examples.tasks:
        layer = bert.output(task.name)
        if layer.config.reads in ("first", "mean"):
            features = engine.represent(examples.encodings, layer.config.reads)
            targets = task.tensor(examples.targets[task.name], examples.encodings)
            fit_probe(layer, torch.from_numpy(features), targets)


def fit_probe(layer: OutputLayer, features: Tensor, targets: Tensor) -> None:
    """The weights of `layer` that are best for `features` (texts, hidden) and their targets, by L-BFGS."""
    mean, deviation = features.mean(0), features.std(0, correction=0).clamp(min=1e-6)
    features = (features - mean) / deviation
    projection = layer.projection
    parameters = [projection.weight, projection.bias]
    for parameter in parameters:
        torch.nn.init.zeros_(parameter)
    search = torch.optim.LBFGS(parameters, max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        search.zero_grad()
        loss = layer.loss(projection(features), targets) * layer.averages
        total = loss + PENALTY / 2 * projection.weight.square().sum()
        total.backward()
        return total

    search.step(objective)
    search.zero_grad()
    with torch.no_grad():
        projection.weight.div_(deviation)
        projection.bias.sub_(projection.weight @ mean)
