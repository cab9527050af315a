"""The runtimes that a model can be exported to: what is written for each, and how the script beside it runs it."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from bothways.errors import InputError

ExportPrecision = Literal["fp32", "int8"]
"""The number format of weights and products. In int8 each output channel of a weight has a scale of its own."""
Inputs = Mapping[str, np.ndarray]
"""The inputs of a graph by name, (batch, length) int64."""


class Runtime(ABC):
    """Where an exported model runs."""

    packages: ClassVar[Mapping[ExportPrecision, Sequence[str]]]
    """What writing it needs."""
    script: ClassVar[Mapping[str, str]]
    """Lines of the script `classify.py`: packages to install, imports, what is loaded once, and how logits are found
    from `inputs`."""

    def require(self, precision: ExportPrecision) -> None:
        """Raise InputError if a package is not installed that writing in this format needs."""
        for package in self.packages[precision]:
            if find_spec(package) is None:
                extra = "'bothways[export]'" if package != "nncf" else package
                raise InputError(f"This export needs {package}; install it with pip install {extra}.")

    def learns_from_texts(self, precision: ExportPrecision) -> bool:
        """Whether writing in this format needs inputs like those that it will see."""
        return False

    @abstractmethod
    def write(self, model: Any, directory: Path, precision: ExportPrecision, samples: Sequence[Inputs]) -> None:
        """Write an `onnx.ModelProto` as this runtime reads it. `samples`: inputs like those it will see."""


class OnnxRuntime(Runtime):
    """ONNX Runtime; in fp32 the file is for any other that reads ONNX, too."""

    packages: ClassVar = {"fp32": ("onnx", "onnxruntime"), "int8": ("onnx", "onnxruntime")}
    script: ClassVar = {
        "packages": "onnxruntime",
        "imports": "import onnxruntime",
        "load": 'SESSION = onnxruntime.InferenceSession(str(HERE / "model.onnx"), providers=["CPUExecutionProvider"])',
        "run": "names = [output.name for output in SESSION.get_outputs()]\n"
        "    return dict(zip(names, SESSION.run(names, inputs)))",
    }

    def write(self, model: Any, directory: Path, precision: ExportPrecision, samples: Sequence[Inputs]) -> None:
        """In int8 activations have one scale for each product, found as it is computed ("dynamic").

        Weights have 7 bits (`reduce_range`): with 8 an AVX2 processor without VNNI, which may be where it is used,
        adds two products in 16 bits, and they overflow.
        """
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        goal = directory / "model.onnx"
        if precision == "fp32":
            onnx.save_model(model, goal)
            return
        with silenced():
            quantize_dynamic(
                model,
                goal,
                op_types_to_quantize=["MatMul"],
                nodes_to_exclude=in_fp32(node.name for node in model.graph.node),
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
            )


class OpenVino(Runtime):
    """OpenVINO on a CPU."""

    packages: ClassVar = {"fp32": ("onnx", "openvino"), "int8": ("onnx", "openvino", "nncf")}
    script: ClassVar = {
        "packages": "openvino",
        "imports": "import openvino",
        # Where the processor has bf16, OpenVINO would compute in it, to other numbers than were checked.
        "load": 'MODEL = openvino.Core().compile_model(HERE / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})',
        "run": "found = MODEL(inputs)\n    return {output.get_any_name(): found[output] for output in MODEL.outputs}",
    }

    def learns_from_texts(self, precision: ExportPrecision) -> bool:
        """Activations have fixed scales in int8."""
        return precision == "int8"

    def write(self, model: Any, directory: Path, precision: ExportPrecision, samples: Sequence[Inputs]) -> None:
        """In int8 activations have one scale for each product, learned from `samples`."""
        import openvino

        source = directory / "model.onnx"  # which OpenVINO reads from a file only
        source.write_bytes(model.SerializeToString())
        converted = openvino.convert_model(source)
        source.unlink()
        if precision == "int8":
            import nncf

            with silenced():
                converted = nncf.quantize(
                    converted,
                    nncf.Dataset(samples),
                    model_type=nncf.ModelType.TRANSFORMER,
                    preset=nncf.QuantizationPreset.MIXED,
                    ignored_scope=nncf.IgnoredScope(
                        names=in_fp32(node.get_friendly_name() for node in converted.get_ops()), validate=False
                    ),
                    subset_size=len(samples),
                )
        openvino.save_model(converted, directory / "model.xml", compress_to_fp16=False)


RUNTIMES: dict[str, Runtime] = {"onnx": OnnxRuntime(), "openvino": OpenVino()}
"""By the name that `--to` gives."""


def in_fp32(nodes: Iterator[str]) -> list[str]:
    """Those of the nodes of a graph that stay in fp32."""
    from bothways.export.graph import IN_FP32

    return [name for name in nodes if name.startswith(IN_FP32)]


@contextmanager
def silenced() -> Iterator[None]:
    """Without the advice that quantizers log, which is for who writes them."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
