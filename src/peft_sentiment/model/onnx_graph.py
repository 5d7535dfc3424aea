"""The encoder as an ONNX graph of ONNX Runtime's own fused operations, written node by node.

For the BERT family; what it computes is what the model of `transformers` computes, to rounding.
Attention and activations are one operation each. The last layer is computed only at the first token
of each review, where the head reads it, and there its key and value weights are applied to one
query and one mixed state a head instead of to every token, which is the same by associativity and
takes a thirtieth of the products; the key's bias adds the same to each score and so drops out.

Shapes: B reviews, T tokens, D width, H heads, E width of the embeddings, V tokens known, C labels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from peft_sentiment.model.layer import Layer
from peft_sentiment.model.onnx_ranges import LayerPlan, Numbers, plan_layers
from peft_sentiment.model.readers import READERS

OPSET, IR_VERSION, FUSED_DOMAIN = 17, 8, "com.microsoft"
FUSED = ("MultiHeadAttention", "FastGelu", "Gelu")
"""Operations of ONNX Runtime that are not in the standard.

Its fused residual norm is not among them: it was slower than a sum and a norm where it
was tried. A sum is written as Sum, for a norm after an Add would be fused when the graph is loaded.
"""

FLOAT, INT32, INT64, BOOL = 1, 6, 7, 9
"""ONNX's numbers of these types."""

INPUT, MASK, OUTPUT = "input_ids", "attention_mask", "logits"
MASKED = -1e4
"""Added to the score of a token that is padding."""

EXACT = "exact"
"""Prefix of the nodes that are few and sensitive, and stay in float32."""

Array = NDArray[Any]

GELU = "gelu"
ACTIVATIONS = {GELU: "Gelu", "relu": "Relu", "tanh": "Tanh", "gelu_new": "FastGelu"}
"""Name in a config -> what computes it; Gelu and FastGelu are ONNX Runtime's own."""

HEADS: dict[str, Callable[[Any], tuple[Any, str, Any]]] = {
    "distilbert": lambda model: (model.pre_classifier, "relu", model.classifier),
    "bert": lambda model: (model.bert.pooler.dense, "tanh", model.classifier),
    "roberta": lambda model: (model.classifier.dense, "tanh", model.classifier.out_proj),
    "electra": lambda model: (model.classifier.dense, GELU, model.classifier.out_proj),
}
HEADS |= dict.fromkeys(("xlm-roberta", "camembert"), HEADS["roberta"])
"""Model type -> both linear layers of its head, and what stands between."""


def can_write_fused(model: PreTrainedModel) -> bool:
    """Tell whether a merged model can be written as a graph of fused operations."""
    kind = model.config.model_type
    if kind not in READERS or kind not in HEADS:
        return False
    if getattr(model.config, "position_embedding_type", "absolute") != "absolute":
        return False
    return all(layer.activation_name in ACTIVATIONS for layer in _read_layers(model))


@dataclass(frozen=True)
class Masks:
    """What is padding: the (B, T) tokens that are real, in int32, and whether all of them are."""

    tokens: str
    is_full: str


def _read_masks(writer: "GraphWriter") -> Masks:
    least = writer.add("ReduceMin", MASK, keepdims=0)
    return Masks(writer.add("Cast", MASK, to=INT32), writer.add("Cast", least, to=BOOL))


def _read_layers(model: PreTrainedModel) -> list[Layer]:
    _, blocks, read, _ = READERS[model.config.model_type](model)
    return [read(block, lambda module: module, model.config) for block in blocks]


@dataclass
class GraphWriter:
    """Collects nodes and weights; each method returns the name of what it adds."""

    nodes: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)

    def weigh(self, values: Any) -> str:  # noqa: ANN401 - whatever makes an array
        """Add a constant."""
        from onnx import numpy_helper

        name = f"weight_{len(self.weights)}"
        array = values.detach().numpy() if isinstance(values, torch.Tensor) else values
        self.weights.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def add(self, operation: str, *inputs: str, name: str = "", **attributes: Any) -> str:  # noqa: ANN401
        """Add a node; its output has its name."""
        from onnx import helper

        domain = FUSED_DOMAIN if operation in FUSED else ""
        output = f"{name or operation}_{len(self.nodes)}"
        node = helper.make_node(
            operation, list(inputs), [output], name=output, domain=domain, **attributes
        )
        self.nodes.append(node)
        return output

    def add_linear(self, x: str, linear: Any, name: str = "") -> str:  # noqa: ANN401 - nn.Linear
        """Add a product and its bias."""
        product = self.add("MatMul", x, self.weigh(linear.weight.T), name=name)
        return self.add("Add", product, self.weigh(linear.bias))

    def add_norm(self, x: str, norm: Any) -> str:  # noqa: ANN401 - nn.LayerNorm
        """Add a norm over the last axis."""
        weight, bias = self.weigh(norm.weight), self.weigh(norm.bias)
        return self.add("LayerNormalization", x, weight, bias, epsilon=norm.eps, axis=-1)

    def add_residual_norm(self, x: str, linear: Any, residual: str, norm: Any) -> str:  # noqa: ANN401
        """Add a product with its bias, a residual, and the norm of the sum."""
        added = self.add("Sum", self.add_linear(x, linear), residual)
        return self.add_norm(added, norm)


def write_fused_graph(model: PreTrainedModel, reviews: Sequence[Array] = ()) -> Any:  # noqa: ANN401 - an onnx.ModelProto
    """Return a merged model as a graph of fused operations.

    The graph takes (B, T) token ids and the mask of those that are real, and gives (B, C) logits.
    Its words' embeddings are stored in int8 with a scale a word.

    Args:
        model: one that `can_write_fused`, in float32.
        reviews: token ids of real ones, (T,) each, on which to find the channels that are too wide
            for int8; with none, none are looked for.
    """
    writer = GraphWriter()
    x = _add_embeddings(writer, model)
    masks = _read_masks(writer)
    *layers, last = _read_layers(model)
    for layer, plan in zip(layers, plan_layers(model, layers, reviews), strict=True):
        x = _add_layer(writer, x, masks, layer, plan)
    first = _add_last_layer(writer, x, last)
    inner, activation, outer = HEADS[model.config.model_type](model)
    raised = writer.add(ACTIVATIONS[activation], writer.add_linear(first, inner, name=EXACT))
    writer.add_linear(raised, outer, name=EXACT)
    return _build_model(writer, len(model.config.id2label or ()))


def _add_embeddings(writer: GraphWriter, model: Any) -> str:  # noqa: ANN401 - of transformers
    """Add the (B, T, D) input of the first layer."""
    body, kind = model.base_model, model.config.model_type
    embeddings = body.embeddings
    words = embeddings.word_embeddings.weight.detach()
    scales = words.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / 127
    numbers = writer.add("Gather", writer.weigh(torch.round(words / scales).to(torch.int8)), INPUT)
    scale = writer.add("Gather", writer.weigh(scales), INPUT)
    x = writer.add("Mul", writer.add("Cast", numbers, to=FLOAT), scale)  # (B, T, E)
    x = writer.add("Add", x, _add_positions(writer, embeddings, model.config, kind))
    x = writer.add_norm(x, embeddings.LayerNorm)
    if hasattr(body, "embeddings_project"):
        x = writer.add_linear(x, body.embeddings_project, name=EXACT)
    return x


def _add_positions(writer: GraphWriter, embeddings: Any, config: Any, kind: str) -> str:  # noqa: ANN401
    """Add the (T, E) embeddings of the places, that of the first segment among them."""
    is_shifted = kind in ("roberta", "xlm-roberta", "camembert")
    first = config.pad_token_id + 1 if is_shifted else 0
    places = embeddings.position_embeddings.weight.detach()[first:]
    if hasattr(embeddings, "token_type_embeddings"):
        places = places + embeddings.token_type_embeddings.weight.detach()[0]
    length = writer.add("Slice", writer.add("Shape", INPUT), *_list_numbers(writer, 1, 2))
    start, axis = _list_numbers(writer, 0, 0)
    return writer.add("Slice", writer.weigh(places), start, length, axis)


def _list_numbers(writer: GraphWriter, *numbers: int) -> list[str]:
    return [writer.weigh(np.array([number], np.int64)) for number in numbers]


def _add_layer(writer: GraphWriter, x: str, masks: Masks, layer: Any, plan: LayerPlan) -> str:  # noqa: ANN401 - linears
    """Add a layer that computes every token: (B, T, D) -> (B, T, D)."""
    narrow, spread = _narrow(writer, x, plan.attention)
    parts = [
        writer.add("Add", writer.add("MatMul", narrow, writer.weigh(spread(part.weight).T)),
                   writer.weigh(part.bias))
        for part in (layer.query, layer.key, layer.value)
    ]  # fmt: skip
    attended = _attend(writer, parts, masks, layer.heads)
    x = writer.add_residual_norm(attended, layer.out, x, layer.attention_norm)
    return _add_feed_forward(writer, x, layer, plan)


def _narrow(
    writer: GraphWriter, x: str, divisors: Numbers | None
) -> tuple[str, Callable[[torch.Tensor], torch.Tensor]]:
    """Divide channels, and return what multiplies the weights that read them."""
    if divisors is None:
        return x, torch.Tensor.detach
    factors = torch.from_numpy(divisors).float()
    return (
        writer.add("Mul", x, writer.weigh(1 / factors)),
        lambda weight: weight.detach() * factors,
    )


def _attend(writer: GraphWriter, parts: list[str], masks: Masks, heads: int) -> str:
    """Add attention: without a mask where nothing is padded, which has a faster form."""
    from onnx import helper

    branches = {}
    for name, inputs in (("then_branch", parts), ("else_branch", [*parts, "", masks.tokens])):
        branch = GraphWriter()
        unique = f"{name}_{len(writer.nodes)}"
        output = branch.add("MultiHeadAttention", *inputs, name=unique, num_heads=heads)
        info = helper.make_tensor_value_info(output, FLOAT, None)
        branches[name] = helper.make_graph(branch.nodes, unique, [], [info])
    return writer.add("If", masks.is_full, **branches)


def _add_feed_forward(writer: GraphWriter, x: str, layer: Any, plan: LayerPlan) -> str:  # noqa: ANN401 - linears
    """Add both products with the norm; the few channels that are wide go beside them in float32."""
    narrow, spread = _narrow(writer, x, plan.inner)
    activation, side = ACTIVATIONS[layer.activation_name], torch.from_numpy(plan.side)
    inner, bias = spread(layer.inner.weight).clone(), layer.inner.bias.detach().clone()
    outer = layer.outer.weight.detach().clone()
    inner[side], bias[side], outer[:, side] = 0, 0, 0
    raised = writer.add("MatMul", narrow, writer.weigh(inner.T))
    raised = writer.add(activation, writer.add("Add", raised, writer.weigh(bias)))
    lowered = writer.add("MatMul", raised, writer.weigh(outer.T))
    terms = [writer.add("Add", lowered, writer.weigh(layer.outer.bias)), x]
    if len(side):
        wide = writer.add("MatMul", x, writer.weigh(layer.inner.weight[side].T), name=EXACT)
        wide = writer.add("Add", wide, writer.weigh(layer.inner.bias[side]))
        wide = writer.add(activation, wide)
        lower = writer.weigh(layer.outer.weight[:, side].T)
        terms.append(writer.add("MatMul", wide, lower, name=EXACT))
    return writer.add_norm(writer.add("Sum", *terms), layer.output_norm)


def _add_last_layer(writer: GraphWriter, x: str, layer: Any) -> str:  # noqa: ANN401 - as above
    """Add the last layer at the first tokens: (B, T, D) -> (B, D)."""
    heads, (width, inputs) = layer.heads, layer.key.weight.shape
    by_head = [
        part.weight.detach().reshape(heads, width // heads, inputs)
        for part in (layer.key, layer.value)
    ]
    scale = (width // heads) ** -0.5
    first = writer.add("Gather", x, writer.weigh(np.int64(0)), axis=1)  # (B, D)
    query = writer.add_linear(first, layer.query, name=EXACT)
    query = _reshape(writer, query, 0, heads, 1, -1)
    query = writer.add("MatMul", query, writer.weigh(by_head[0] * scale), name=EXACT)
    query = _reshape(writer, query, 0, heads, -1)  # (B, H, D)
    turned = writer.add("Transpose", x, perm=[0, 2, 1])
    scores = writer.add("MatMul", query, turned, name=EXACT)  # (B, H, T)
    shares = writer.add("Softmax", writer.add("Add", scores, _add_bias(writer)), axis=-1)
    mixed = _reshape(writer, writer.add("MatMul", shares, x, name=EXACT), 0, heads, 1, -1)
    value = writer.weigh(by_head[1].transpose(1, 2))
    mixed = _reshape(writer, writer.add("MatMul", mixed, value, name=EXACT), 0, -1)  # (B, D)
    attended = writer.add("Add", mixed, writer.weigh(layer.value.bias))
    attended = writer.add("Add", writer.add_linear(attended, layer.out, name=EXACT), first)
    attended = writer.add_norm(attended, layer.attention_norm)
    raised = writer.add_linear(attended, layer.inner, name=EXACT)
    raised = writer.add(ACTIVATIONS[layer.activation_name], raised)
    output = writer.add("Add", writer.add_linear(raised, layer.outer, name=EXACT), attended)
    return writer.add_norm(output, layer.output_norm)


def _add_bias(writer: GraphWriter) -> str:
    """Add the (B, 1, T) numbers that take padding out of the first tokens' attention."""
    mask = writer.add("Unsqueeze", writer.add("Cast", MASK, to=FLOAT), *_list_numbers(writer, 1))
    padding = writer.add("Sub", writer.weigh(np.float32(1)), mask)
    return writer.add("Mul", padding, writer.weigh(np.float32(MASKED)))


def _reshape(writer: GraphWriter, x: str, *shape: int) -> str:
    return writer.add("Reshape", x, writer.weigh(np.array(shape, np.int64)))


def _build_model(writer: GraphWriter, labels: int) -> Any:  # noqa: ANN401 - an onnx.ModelProto
    from onnx import helper

    writer.nodes[-1].output[0] = OUTPUT
    inputs = [
        helper.make_tensor_value_info(name, INT64, ["batch", "tokens"]) for name in (INPUT, MASK)
    ]
    logits = helper.make_tensor_value_info(OUTPUT, FLOAT, ["batch", labels])
    graph = helper.make_graph(writer.nodes, "classifier", inputs, [logits], writer.weights)
    versions = [helper.make_opsetid("", OPSET), helper.make_opsetid(FUSED_DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=versions, ir_version=IR_VERSION)
