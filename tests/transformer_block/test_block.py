"""The block's wiring, pre-norm and post-norm, against torch.nn.TransformerEncoderLayer with the same weights."""

import pytest
import torch
from torch import nn

from course_lib.config import TransformerConfig
from course_lib.prediction.kv_cache import KVCache
from course_lib.transformer_block.block import Block
from course_lib.transformer_block.forward_pass import Pass
from course_lib.transformer_block.normalization import rms_norm

D_MODEL, HEADS, D_FF = 24, 3, 40


def both(norm_position, activation):
    """Our block and PyTorch's, with the same random weights, in float64."""
    config = TransformerConfig(
        vocab_size=9, context_length=9, d_model=D_MODEL, n_layers=1, n_heads=HEADS, n_kv_heads=HEADS, d_head=8,
        d_ff=D_FF, norm="layer_norm", positions="none", feed_forward="mlp", activation=activation, bias=True,
        norm_position=norm_position,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(3)
    ours = Block(config, 0).double()
    for parameter in ours.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 3
    theirs = nn.TransformerEncoderLayer(
        D_MODEL, HEADS, D_FF, dropout=0.0, activation=activation, batch_first=True,
        norm_first=norm_position == "pre", dtype=torch.float64,
    )  # fmt: skip
    part = ours.attention
    for kind in ("weight", "bias"):
        three = [getattr(projection, kind).data for projection in (part.query, part.key, part.value)]
        getattr(theirs.self_attn, f"in_proj_{kind}").data = torch.cat(three)
        for mine, reference in pairs(ours, theirs):
            getattr(reference, kind).data = getattr(mine, kind).data.clone()
    return ours, theirs


def pairs(ours, theirs):
    return (
        (ours.attention.output, theirs.self_attn.out_proj),
        (ours.feed_forward.up, theirs.linear1),
        (ours.feed_forward.down, theirs.linear2),
        (ours.attention_norm, theirs.norm1),
        (ours.feed_forward_norm, theirs.norm2),
    )


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_position", ["pre", "post"])
def test_block_and_its_gradients_equal_torch(norm_position, activation):
    ours, theirs = both(norm_position, activation)
    x = torch.randn(2, 7, D_MODEL, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    mine, reference = x.clone().requires_grad_(), x.clone().requires_grad_()
    future = nn.Transformer.generate_square_subsequent_mask(7, dtype=torch.float64)
    result, expected = ours(mine, Pass(torch.arange(7))), theirs(reference, src_mask=future, is_causal=True)
    torch.testing.assert_close(result, expected, atol=1e-9, rtol=1e-9)

    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    result.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(mine.grad, reference.grad, atol=1e-8, rtol=1e-8)
    for one, other in pairs(ours, theirs):
        for kind in ("weight", "bias"):
            close = dict(atol=1e-8, rtol=1e-8)
            torch.testing.assert_close(getattr(one, kind).grad, getattr(other, kind).grad, **close)


@pytest.mark.parametrize("norm_position", ["pre", "post"])
def test_pre_and_post_are_not_the_same(norm_position):
    """The oracle with the other wiring differs: the test above can fail."""
    ours, _ = both(norm_position, "gelu")
    _, other = both("post" if norm_position == "pre" else "pre", "gelu")
    x = torch.randn(1, 5, D_MODEL, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    future = nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)
    assert (ours(x, Pass(torch.arange(5))) - other(x, src_mask=future, is_causal=True)).abs().max() > 0.5


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_post_norm_transformer_has_no_final_norm(tiny, family):
    """Vaswani et al. 2017: the last block's own norm is the last; all that calls final_norm still works."""
    model, pre = tiny(family, norm_position="post"), tiny(family)
    ids = torch.randint(50, (1, 10), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        x, run = model.embed(ids), model.begin(10)
        for block in model.blocks:
            x = block(x, run)
        torch.testing.assert_close(model.final_norm(x), x)
        torch.testing.assert_close(model.hidden_states(ids), x, atol=1e-5, rtol=1e-5)
    missing = set(pre.state_dict()) - set(model.state_dict())
    assert missing == {name for name in pre.state_dict() if name.startswith("final_norm.")} != set()
    assert set(model.state_dict()) < set(pre.state_dict())


@pytest.mark.parametrize("norm_position", ["pre", "post"])
def test_a_cache_changes_nothing_in_either_wiring(tiny, norm_position):
    model = tiny(norm_position=norm_position)
    ids = torch.randint(50, (1, 12), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        cache = KVCache(model.config, max_length=12)
        pieces = [model(part, cache) for part in ids.split([5, 4, 1, 1, 1], dim=1)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), model(ids), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("norm_position, before, on_result", [("pre", 1, 0), ("both", 1, 1), ("result", 0, 1)])
def test_where_norms_stand(tiny, norm_position, before, on_result):
    """Gemma 2 has both; OLMo 2 those on the results alone."""
    model = tiny(norm_position=norm_position, n_layers=1)
    [block] = model.blocks
    for name, parameter in block.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 2.0)
    x, run = torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(6)), model.begin(7)
    expected = x
    for part, name in ((lambda rows: block.attention(rows, run), "attention"), (block.feed_forward, "feed_forward")):
        read, result = getattr(block, f"{name}_norm"), getattr(block, f"{name}_result_norm")
        assert [len(list(one.parameters())) for one in (read, result)] == [before, on_result]
        told = part(rms_norm(expected, read.weight, 1e-5) if before else expected)
        expected = expected + (rms_norm(told, result.weight, 1e-5) if on_result else told)
    torch.testing.assert_close(block(x, run), expected)
    assert "final_norm.weight" in model.state_dict()
