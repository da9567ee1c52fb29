"""In bfloat16, by its own weights or by autocast, a model says what it says in float32, by every way through it."""

import contextlib

import pytest
import torch
import torch.nn.functional as F

from course_lib.interpretation.ablation import FeedForward, Head, ablated
from course_lib.interpretation.heads import attention_weights
from course_lib.interpretation.lens import logit_lens, residual_stream
from course_lib.prediction.kv_cache import KVCache
from course_lib.training.evaluation import loss
from course_lib.transformer_block.transformer import Transformer

GPT2 = dict(norm="layer_norm", feed_forward="mlp", activation="gelu_tanh", bias=True, tie_embeddings=False)
EXPERTS = dict(n_experts=3, n_active_experts=2)
MODELS = [
    *(dict(positions=scheme) for scheme in ("rope", "alibi", "learned", "sinusoidal", "none")),
    GPT2 | dict(positions="alibi", norm_position="post"),
    EXPERTS,
    EXPERTS | dict(positions="alibi", rope_pairs="neighbours"),
    EXPERTS | GPT2 | dict(positions="learned", n_active_experts=1),
]
IDS = torch.randint(50, (2, 9), generator=torch.Generator().manual_seed(1))
REAL = torch.arange(9) >= torch.tensor([[3], [0]])  # the first row begins with padding


def forward(model):
    return model(IDS)


def padded(model):
    own = (REAL.cumsum(1) - 1).clamp(min=0)
    return model.unembed(model.hidden_states(IDS, mask=REAL[:, None], positions=own))[REAL]


def cached(model):
    cache = KVCache(model.config, 9, 2, dtype=model.dtype)
    parts = IDS.split([5, 1, 1, 1, 1], dim=1)
    return torch.cat([model(part, cache) for part in parts], dim=1)


def weights(model):
    return attention_weights(model, IDS)


def padded_weights(model):
    """And what attention from scratch hands on."""
    run = model.begin(9, mask=REAL[:, None], tables=[])
    x = model.blocks[0](model.embed(IDS), run)
    return torch.cat((x[REAL].flatten(), run.tables[0].flatten()))


def lens(model):
    return logit_lens(model, residual_stream(model, IDS))


def without_parts(model):
    with ablated(model, [Head(0, 1), FeedForward(1)], "mean"):
        return model(IDS)


def held_out(model):
    return torch.tensor(loss(model, IDS.flatten(), context_length=8))


def gradients(model):
    with torch.enable_grad():
        F.cross_entropy(model(IDS).flatten(0, 1).float(), IDS.flatten()).backward()
    return torch.cat([part.grad.flatten().float() for part in model.parameters() if part.grad is not None])


WAYS = [forward, padded, cached, weights, padded_weights, lens, without_parts, held_out, gradients]


@pytest.mark.parametrize("precision", ["weights", "autocast"])
@pytest.mark.parametrize("settings", MODELS, ids=lambda settings: "-".join(map(str, settings.values())))
def test_half_precision_says_what_float32_says(tiny, settings, precision):
    def made() -> Transformer:
        model = tiny(n_layers=2, **settings)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        return model

    in_half = torch.autocast("cpu", dtype=torch.bfloat16) if precision == "autocast" else contextlib.nullcontext()
    for way in WAYS:
        torch.manual_seed(2)
        model = made()
        with torch.no_grad():
            expected = way(model)
            model.zero_grad()
            with in_half:
                got = way(model.bfloat16() if precision == "weights" else model).float()
        assert (got - expected).norm() <= 0.03 * expected.norm(), way.__name__
