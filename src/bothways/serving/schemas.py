"""The shapes of requests, as the dialects have them; fields that clients may send and that mean nothing here pass."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bothways.serving.service import Direction, Request

Text = Annotated[str, Field(min_length=1, strict=True)]
Inputs = Text | Annotated[list[Text], Field(min_length=1)]
"""A text, or several."""
TextOrPair = Annotated[list[Text], Field(min_length=1, max_length=2)]
Name = Annotated[str, Field(strict=True)] | None
Flag = Annotated[bool, Field(strict=True)]
Size = Annotated[int, Field(strict=True, ge=1)] | None


class Body(BaseModel):
    """What all requests have in common."""

    model_config = ConfigDict(extra="ignore")

    model: Name = Field(None, description="Name of a model; none: the first that is served.")


class Readable(Body):
    """A request whose texts may be longer than the model reads."""

    truncate: Flag | None = Field(
        None, description="Whether longer texts may be truncated; null: as the server is set."
    )
    truncation_direction: Direction = Field("right", description="The end at which tokens are left out.")


class WithPairs(Readable):
    """A request whose inputs may be pairs."""

    inputs: Text | TextOrPair | Annotated[list[TextOrPair], Field(min_length=1)] = Field(
        description='"a" is a text, ["a", "b"] one pair, [["a"], ["b", "c"]] a batch of a text and a pair.'
    )

    @property
    def single(self) -> bool:
        """Whether it is one text, or one pair."""
        return isinstance(self.inputs, str) or isinstance(self.inputs[0], str)

    def request(self) -> Request:
        """Its texts. ValueError if some are pairs and some are not."""
        rows = [[self.inputs]] if isinstance(self.inputs, str) else [self.inputs] if self.single else self.inputs
        pairs = [row[1] for row in rows if len(row) == 2]
        if pairs and len(pairs) != len(rows):
            raise ValueError("A model reads texts or pairs of texts; send one kind.")
        return Request(
            [row[0] for row in rows],  # type: ignore[misc]
            pairs or None,  # type: ignore[arg-type]
            truncate=self.truncate,
            direction=self.truncation_direction,
            method="single" if self.single else "batch",
        )


class PredictRequest(WithPairs):
    """Text Embeddings Inference, `POST /predict`."""

    raw_scores: Flag = Field(False, description="Logits in place of probabilities.")


class HubParameters(BaseModel):
    """What `huggingface_hub` may ask for."""

    top_k: Size = None
    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = None


class HubRequest(WithPairs):
    """`huggingface_hub.InferenceClient(address)`, `POST /`."""

    parameters: HubParameters = HubParameters()
    normalize: Flag | None = None
    dimensions: Size = None


class AnswersRequest(WithPairs):
    """Ours, `POST /answers`."""


class ExplainRequest(WithPairs):
    """Ours, `POST /explain`."""

    output: Name = Field(None, description="Name of an output; none: the first.")
    label: Name = Field(None, description="The label to explain; none: the one that is decided.")


class MaskedRequest(Body):
    """Ours, `POST /masked`."""

    inputs: Text = Field(description="A text with [MASK] in the place of a word.")
    top: Annotated[int, Field(strict=True, ge=1, le=100)] = 5

    def request(self) -> Request:
        """Its text."""
        return of_texts(self.inputs)


class OfTexts(Readable):
    """A request whose inputs are a text or several."""

    inputs: Inputs

    def request(self) -> Request:
        """Its texts."""
        return of_texts(self.inputs, truncate=self.truncate, direction=self.truncation_direction)


class EmbedRequest(OfTexts):
    """Text Embeddings Inference, `POST /embed`."""

    normalize: Flag = True
    dimensions: Size = Field(None, description="The first so many features of each vector.")


class TokenizeRequest(Body):
    """Text Embeddings Inference, `POST /tokenize`."""

    inputs: Inputs
    add_special_tokens: Flag = True


class EmbeddingsRequest(Body):
    """OpenAI, `POST /v1/embeddings`."""

    input: Inputs
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Size = None


class ClassifyRequest(Body):
    """vLLM, `POST /classify`."""

    input: Inputs


class InferInput(BaseModel):
    """Open Inference Protocol: one tensor."""

    name: Annotated[str, Field(strict=True)]
    shape: Annotated[list[Annotated[int, Field(strict=True, ge=0)]], Field(min_length=1)]
    datatype: Literal["BYTES"]
    data: list[Any]


class InferOutput(BaseModel):
    """Open Inference Protocol: a tensor that is asked for."""

    name: Annotated[str, Field(strict=True)]


class InferRequest(BaseModel):
    """Open Inference Protocol, `POST /v2/models/M/infer`."""

    model_config = ConfigDict(extra="ignore")

    id: Name = None
    inputs: Annotated[list[InferInput], Field(min_length=1)]
    outputs: list[InferOutput] | None = None


class ReloadRequest(Body):
    """Ours, `POST /reload`."""


Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class InBothLanguages(BaseModel):
    """A sentence in English and in Chinese."""

    en: str
    zh: str


class EvaluatedText(BaseModel):
    """A text, or both of a pair, that the model was evaluated on."""

    row: InBothLanguages = Field(description="Where it stands in its table.")
    texts: Annotated[list[str], Field(min_length=1, max_length=2)]
    truncated: bool = Field(description="Whether the beginning is all that was kept of it.")


class CellText(EvaluatedText):
    """A text in a cell of a confusion matrix."""

    score: Share | None = Field(description="The probability of the predicted class.")
    expected_score: Share | None = Field(description="That of the expected class.")


class Mistake(EvaluatedText):
    """A text that was answered wrongly, as the report tells it."""

    expected: str
    predicted: str
    score: str


class ConfusionCell(BaseModel):
    """The texts of one class that were taken for one of the classes; classes are counted from 0."""

    expected: Count
    predicted: Count
    count: Count
    texts: list[CellText] = Field(description="Some: of a wrong cell the surest, of a right one the least sure.")


class EvaluatedTable(BaseModel):
    """A table of the report."""

    caption: InBothLanguages
    header: list[InBothLanguages]
    rows: list[list[str]]
    left_out: Count


class EvaluatedOutput(BaseModel):
    """What was seen of one output; what has no confusion matrix has no labels, totals and cells."""

    name: str
    kind: str
    sentence: InBothLanguages
    notes: list[InBothLanguages]
    labels: list[str]
    totals: list[Count] = Field(description="How many texts each class has.")
    cells: list[ConfusionCell] = Field(description="Those that are not empty, the most confused first.")
    grids: list[EvaluatedTable]
    mistakes: list[Mistake]

    @model_validator(mode="after")
    def require_classes(self) -> EvaluatedOutput:
        """ValueError for a cell of a class that has no label."""
        if len(self.totals) != len(self.labels):
            raise ValueError("each label has a total")
        if any(max(cell.expected, cell.predicted) >= len(self.labels) for cell in self.cells):
            raise ValueError("each cell is of two labels")
        return self


class Evaluation(BaseModel):
    """What was seen while a model was evaluated, `GET /models/M/evaluation`."""

    evaluated_on: str | None = None
    rows: Count = Field(description="How many texts were looked at.")
    all_rows: Count | None = Field(None, description="Of how many that it was evaluated on, evenly spaced.")
    outputs: list[EvaluatedOutput]
    outputs_left_out: Count = Field(0, description="How many outputs there was no room for.")


class Error(BaseModel):
    """Why there is no answer."""

    error: str
    error_type: str = "Validation"


def of_texts(inputs: str | list[str], **options: Any) -> Request:
    """A text, or several, as a request."""
    single = isinstance(inputs, str)
    return Request([inputs] if single else inputs, method="single" if single else "batch", **options)  # type: ignore
