"""A graph of ONNX, node by node, each in words that any runtime has known since 2022 (operator set 17)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from bothways.errors import InputError

OPERATORS, FORMAT = 17, 8
"""The operator set, and the version of the file, that belong together."""
LARGEST = 2_000_000_000
"""Bytes; a protobuf message holds two gigabytes."""


class OnnxBuilder:
    """Grows a graph. A value is known by its name, which begins with the part of the model that it is of."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._part = ""
        self._bytes = 0

    def part(self, name: str) -> OnnxBuilder:
        """Nodes from here on are of this part of the model; their names begin with it."""
        self._part = f"/{name}"
        return self

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """One more node with one output. → the name of its value"""
        name = f"{self._part}/{operator}.{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def constant(self, value: np.ndarray | Tensor | Sequence[int] | float, name: str = "") -> str:
        """An array, a number or some whole numbers. → the name of its value"""
        if isinstance(value, Tensor):
            value = value.detach().float().cpu().numpy()
        array = np.asarray(value, np.float32 if isinstance(value, float) else None)
        name = f"{self._part}/{name}" if name else f"/constant/{array.dtype}{array.tolist()}".replace(" ", "")
        if name not in self._constants:
            self._bytes += array.nbytes
            if self._bytes > LARGEST:
                raise InputError("The model has more than two gigabytes of weights, which no ONNX file holds.")
            self._constants[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def linear(self, layer: nn.Linear, value: str, name: str) -> str:
        """(…, in) → (…, out)"""
        product = self.add("MatMul", value, self.constant(layer.weight.detach().t(), f"{name}.weight"))
        return self.add("Add", product, self.constant(layer.bias, f"{name}.bias"))

    def norm(self, layer: nn.LayerNorm, value: str, name: str) -> str:
        """(…, hidden) → (…, hidden)"""
        scale, bias = self.constant(layer.weight, f"{name}.weight"), self.constant(layer.bias, f"{name}.bias")
        return self.add("LayerNormalization", value, scale, bias, axis=-1, epsilon=layer.eps)

    def finished(self, inputs: Mapping[str, Sequence[str]], outputs: Mapping[str, tuple[str, Sequence[Any]]]) -> Any:
        """The whole model, checked. `inputs`: name → shape, int64; `outputs`: name → (value, shape), float32; a text in
        a shape is a size that may change."""
        for name, (value, _) in outputs.items():
            self._nodes.append(helper.make_node("Identity", [value], [name], name=f"/output/{name}"))
        graph = helper.make_graph(
            self._nodes,
            "bothways",
            [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, (_, shape) in outputs.items()],
            list(self._constants.values()),
        )
        operators = [helper.make_opsetid("", OPERATORS)]
        model = helper.make_model(graph, opset_imports=operators, ir_version=FORMAT, producer_name="bothways")
        onnx.checker.check_model(model)
        return model
