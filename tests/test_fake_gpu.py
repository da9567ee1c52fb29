"""A GPU that is not there: PyTorch's fake tensors carry shapes and devices, no numbers, and refuse to mix devices.

Everything here runs on the device "cuda", gradients off, on a machine without one. It takes a CUDA build of torch: a
CPU build knows no such device. What a fake tensor is asked for, the tests answer (`Reads`); what they show is that the
library keeps a model's tensors on its device, and how often it waits for them.
"""

from collections import Counter
from itertools import cycle
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from course_lib.config import TransformerConfig
from course_lib.input_processing import positions
from course_lib.input_processing.tokenizer import Tokenizer
from course_lib.interpretation.ablation import Attention, FeedForward, Head, ablated
from course_lib.interpretation.heads import attention_weights, induction_scores
from course_lib.interpretation.lens import logit_lens, residual_stream
from course_lib.interpretation.neurons import neuron_activations, promoted
from course_lib.llm import LLM
from course_lib.prediction.kv_cache import KVCache
from course_lib.prediction.speculative import prompt_lookup, speculate
from course_lib.training.evaluation import loss
from course_lib.transformer_block import attention, forward_pass, transformer
from course_lib.transformer_block.transformer import Transformer

pytestmark = pytest.mark.skipif(
    torch.version.cuda is None, reason=f"needs a CUDA build of torch (no GPU), and this is {torch.__version__}"
)

SHAPE = dict(vocab_size=128, context_length=40, d_model=24, n_layers=2, n_heads=6, n_kv_heads=2, d_head=4, d_ff=32)
GPT2 = dict(norm="layer_norm", positions="learned", feed_forward="mlp", activation="gelu_tanh", bias=True)
MODELS = {
    "llama": {},
    "gpt2": GPT2,
    "alibi": dict(positions="alibi"),
    "sinusoidal": dict(positions="sinusoidal", norm_position="post"),
    "neighbours": dict(rope_pairs="neighbours", tie_embeddings=False),
}
FULL = dict(temperature=0.7, top_k=9, top_p=0.9, min_p=0.01, repetition_penalty=1.2, seed=1)


class Reads(TorchDispatchMode):
    """Answers where a fake tensor is asked for a number, and counts what a GPU would have been waited for."""

    def __init__(self):
        super().__init__()
        self.waits, self.whole_numbers = Counter(), cycle([1])

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        first = next((arg for arg in args if isinstance(arg, torch.Tensor)), None)
        if first is not None and first.device.type == "cuda":
            if operation is torch.ops.aten._to_copy.default and kwargs.get("device") == torch.device("cpu"):
                self.waits["copy"] += 1
            if operation is torch.ops.aten._local_scalar_dense.default:
                self.waits["read"] += 1
        if operation is torch.ops.aten._local_scalar_dense.default:
            return {torch.bool: True, torch.int64: next(self.whole_numbers)}.get(first.dtype, 1.0)
        return operation(*args, **kwargs)


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    with FakeTensorMode(), Reads() as reads, torch.no_grad():
        yield reads


def model(**settings) -> Transformer:
    with torch.device("cuda"):
        return Transformer(TransformerConfig(**(SHAPE | settings))).eval()


def ids(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.long, device="cuda")


def cache(transformer: Transformer, batch: int) -> KVCache:
    return KVCache(transformer.config, 9, batch, device="cuda")


def llm(transformer: Transformer) -> LLM:
    """Its tokens are single letters."""
    decoder = SimpleNamespace(push=lambda id: "a", finish=lambda: "")
    tokenizer = Mock(
        spec=Tokenizer,
        special_tokens={},
        encode=lambda text: list(map(ord, text)),
        token_text=chr,
        token_bytes=lambda id: bytes([id]),
        stream=lambda: decoder,
        before=(),
        behind=(),
    )
    tokenizer.with_rows = lambda rows: tokenizer
    return LLM(tokenizer, transformer, set())


@pytest.mark.parametrize("settings", MODELS.values(), ids=MODELS)
def test_a_model_keeps_to_its_device(gpu, settings):
    transformer = model(**settings)
    kept, real = cache(transformer, 2), torch.ones(2, 1, 6, dtype=torch.bool, device="cuda")
    assert transformer(ids(2, 6)).device.type == "cuda"
    assert transformer(ids(2, 6), kept).shape == (2, 6, 128) and transformer(ids(2, 1), kept).shape == (2, 1, 128)
    own = torch.zeros(2, 6, dtype=torch.long)
    assert transformer.hidden_states(ids(2, 6), mask=real, positions=own).device.type == "cuda"


@pytest.mark.parametrize("settings", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("sampling", [dict(temperature=0), FULL], ids=["greedy", "sampled"])
def test_a_step_waits_once(gpu, settings, sampling):
    """Alone and in a batch with padding: one copy of logits a step, and no look at a number on the GPU."""
    speaker = llm(model(**settings))
    assert speaker.generate("abc", 3, **sampling) == "aaa"
    assert gpu.waits == {"copy": 3}
    gpu.waits.clear()
    assert speaker.generate_batch(["abc", "a", "bb"], 3, **sampling) == ["aaa"] * 3
    assert gpu.waits == {"copy": 3}


def test_a_mixture_of_experts_waits_once_a_layer_for_how_many_tokens_each_expert_gets(gpu):
    transformer = model(n_experts=4, n_active_experts=2)
    gpu.whole_numbers = cycle([5, 4, 3, 0])  # of 2 · 6 places
    assert transformer(ids(1, 6)).device.type == "cuda"
    assert gpu.waits == {"read": 2 * 4}  # fake tensors are read number by number, a real one in one go


def test_speculative_decoding_waits_once_a_run(gpu):
    rounds = list(speculate(model(), prompt_lookup, [1, 2, 1], 6, **FULL))
    assert gpu.waits == {"copy": len(rounds)}


@pytest.mark.parametrize("settings", MODELS.values(), ids=MODELS)
def test_what_is_measured_keeps_to_the_device(gpu, settings):
    transformer = model(**settings)
    assert loss(transformer, torch.zeros(100, dtype=torch.long), context_length=8) > 0
    assert loss(transformer, ids(100), context_length=8, past=3) > 0
    traced = llm(transformer).trace("ab")
    assert traced.logits.device.type == traced.attention.device.type == "cpu"
    stream = residual_stream(transformer, ids(2, 6))
    assert logit_lens(transformer, stream[:, :, -1]).shape == (3, 2, 128)
    assert induction_scores(attention_weights(transformer, ids(6))).shape == (2, 6)
    assert neuron_activations(transformer, ids(6)).shape == (2, 6, 32)
    if transformer.config.norm_position == "pre":
        assert promoted(transformer, 1, 3).device.type == "cpu"
    for replace_by in ("zero", "mean"):
        with ablated(transformer, [Head(0, 1), Attention(1), FeedForward(1)], replace_by):
            transformer(ids(2, 6))


@pytest.mark.parametrize(
    ("place", "name", "settings"),
    [
        (attention, "causal_mask", {}),
        (forward_pass, "rotation_angles", {}),
        (positions, "sinusoids", dict(positions="sinusoidal")),
        (positions, "alibi_bias", dict(positions="alibi")),
        (transformer, "embed", {}),
        (attention, "repeat_kv", {}),
    ],
)
def test_a_tensor_left_on_the_cpu_is_noticed(gpu, monkeypatch, place, name, settings):
    """The proof that the tests above can fail."""
    transformer, made = model(**settings), getattr(place, name)
    monkeypatch.setattr(place, name, lambda *args: made(*args).cpu())
    with pytest.raises(RuntimeError, match="on the same device"):
        attention_weights(transformer, ids(6))


def test_a_cache_left_on_the_cpu_is_noticed_and_a_mask_is_moved(gpu):
    transformer = model()
    with pytest.raises(RuntimeError, match="same device"):
        transformer(ids(2, 6), cache=KVCache(transformer.config, 9, 2))
    assert transformer(ids(2, 6), mask=torch.ones(2, 1, 6, dtype=torch.bool)).device.type == "cuda"
