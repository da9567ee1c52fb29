"""The checker of shapes is on in every module below the line whose signatures have shapes: a wrong one is refused."""

import ast

import jaxtyping
import pytest
import torch
from test_storeys import BELOW, MODULES

from course_lib.config import TransformerConfig

FLAT, SQUARE, CUBE = torch.zeros(3), torch.zeros(3, 3), torch.zeros(3, 3, 3)
CONFIG = TransformerConfig(
    vocab_size=9, context_length=8, d_model=4, n_layers=1, n_heads=2, n_kv_heads=1, d_head=2, d_ff=4
)


def model():
    from course_lib.transformer_block.transformer import Transformer

    return Transformer(CONFIG)


# module → its function, and a call that hands it a tensor with a dimension too many or too few, or of another kind
WRONG = {
    "input_processing.batching": lambda m: m.same_document(FLAT.long()),
    "input_processing.embeddings": lambda m: m.embed(FLAT.long(), FLAT),
    "input_processing.positions": lambda m: m.rotation_angles(SQUARE.long(), 4),
    "interpretation.heads": lambda m: m.induction_scores(FLAT),
    "interpretation.lens": lambda m: m.residual_stream(model(), SQUARE),
    "interpretation.neurons": lambda m: m.neuron_activations(model(), SQUARE),
    "interpretation.probes": lambda m: m.linear_probe(FLAT, [0, 1, 2]),
    "interpretation.trace": lambda m: m.likeliest(None, SQUARE, 2),
    "llm": lambda m: m.LLM(None, model(), None).likeliest(SQUARE, 2),
    "prediction.calibration": lambda m: m.calibration(FLAT, FLAT),
    "prediction.generation": lambda m: m.check_numbers(CUBE),
    "prediction.kv_cache": lambda m: m.KVCache(CONFIG, 4).append(0, FLAT, FLAT),
    "prediction.logits": lambda m: m.cross_entropy(SQUARE, FLAT),
    "prediction.sampling": lambda m: m.draw(SQUARE, torch.Generator()),
    "prediction.speculative": lambda m: m.accept_or_reject(SQUARE, SQUARE, 0, torch.Generator()),
    "training.batches": lambda m: m.places_of(0, SQUARE.long(), 2),
    "training.evaluation": lambda m: m.loss(model(), SQUARE.long(), context_length=2),
    "training.loop": lambda m: m.train(model(), SQUARE.long(), steps=1, batch_size=1, context_length=2),
    "training.trainer": lambda m: m.Trainer(model(), SQUARE.long(), steps=1, batch_size=1, context_length=2),
    "training.trigram": lambda m: m.count(SQUARE.long(), 3),
    "transformer_block.attention": lambda m: m.repeat_kv(FLAT, 2),
    "transformer_block.block": lambda m: m.Block(CONFIG, 0)(FLAT, model().begin(3)),
    "transformer_block.feed_forward": lambda m: m.load(FLAT, 3),
    "transformer_block.forward_pass": lambda m: m.Pass(FLAT[0]),
    "transformer_block.linear": lambda m: m.linear(FLAT, FLAT),
    "transformer_block.normalization": lambda m: m.rms_norm(SQUARE, SQUARE, 1e-5),
    "transformer_block.transformer": lambda m: model()(FLAT),
}


def shapes(hint):
    """Whether jaxtyping can see a shape in a hint: `Float[Tensor, "…"]`, but not the arguments of a Callable."""
    if isinstance(hint, ast.Subscript):
        name = ast.unparse(hint.value)
        return name in vars(jaxtyping) or (name != "Callable" and shapes(hint.slice))
    return any(map(shapes, ast.iter_child_nodes(hint)))


def test_no_module_with_shapes_is_missed():
    found = set()
    for name in BELOW:
        for node in ast.walk(ast.parse(MODULES[name].read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef):
                hints = [
                    node.returns,
                    *(argument.annotation for argument in ast.walk(node.args) if isinstance(argument, ast.arg)),
                ]
                if any(hint and shapes(hint) for hint in hints):
                    found.add(name.removeprefix("course_lib."))
    assert found == set(WRONG)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_shape_is_refused(name):
    module = pytest.importorskip(f"course_lib.{name}")
    with pytest.raises(jaxtyping.TypeCheckError):
        WRONG[name](module)
