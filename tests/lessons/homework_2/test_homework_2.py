"""What homework 2 holds answers against, itself held against the library and others."""

from functools import partial

import pytest
import torch

from course_lib.config import TransformerConfig
from course_lib.interpretation.heads import induction_scores
from course_lib.lessons.homework_2.attention import grouped_attention
from course_lib.lessons.homework_2.counting import count_by_shape
from course_lib.lessons.homework_2.induction import attentions_of_repeats, find_induction_head
from course_lib.lessons.homework_2.layer import (
    STORED,
    feed_forward_half,
    repaired_block,
    run_layer,
    small_file,
    smollm2,
)
from course_lib.lessons.homework_2.masking import masked_weights
from course_lib.lessons.parts import turning
from course_lib.lessons.tools import vectors
from course_lib.pretrained.model_shape import count_active_parameters
from course_lib.pretrained.names import GGUF, translate
from course_lib.pretrained.zoo import ZOO
from course_lib.transformer_block.attention import causal_mask
from course_lib.transformer_block.block import Block
from course_lib.transformer_block.forward_pass import Pass


def test_a_made_up_layer_is_the_librarys_block():
    """The oracles of homework 2 against the library's own block: attention, the halves, the layer, the repair."""
    random = torch.Generator().manual_seed(7)
    config = TransformerConfig(
        vocab_size=1, context_length=9, d_model=16, n_layers=1, n_heads=4, n_kv_heads=2, d_head=4, d_ff=10,
        norm_eps=1e-5, rope_theta=50.0, rope_pairs="neighbours",
    )  # fmt: skip
    tensors = small_file(random, [3])
    settings = dict(n_heads=4, n_kv_heads=2, theta=50.0, eps=1e-5)
    block = Block(config, 0)
    ours = {translate(f"blocks.3.{name}", GGUF): name for name in block.state_dict()}
    block.load_state_dict({ours[name]: tensor for name, tensor in tensors.items()})
    x, run = vectors(random, 2, 6, 16), Pass(torch.arange(6))
    with torch.no_grad():
        after = block(x, run)
        torch.testing.assert_close(run_layer(x, tensors, 3, settings), after)

        weights = {one: tensors[f"blk.3.{theirs}.weight"] for one, theirs in STORED.items()}
        turn = turning(50.0, "neighbours")
        torch.testing.assert_close(repaired_block(x, weights, 4, 2, turn), after)

        rows = block.attention_norm(x)
        qkv = torch.cat([weights[one] for one in ("query", "key", "value")])
        gathered = grouped_attention(rows, qkv, weights["output"], 4, 2, turn)
        torch.testing.assert_close(gathered, block.attention(rows, run))
        half = [weights[one] for one in ("gate", "up", "down")]
        torch.testing.assert_close(feed_forward_half(x + gathered, weights["feed_forward_norm"], 1e-5, *half), after)


def test_weights_and_induction_scores_are_the_librarys():
    random = torch.Generator().manual_seed(8)
    scores = vectors(random, 2, 3, 7)
    values = vectors(random, 2, 7, 4)
    theirs = torch.nn.functional.scaled_dot_product_attention(
        torch.eye(3).expand(2, 3, 3), scores.transpose(1, 2), values, causal_mask(3, 7), scale=1.0
    )
    torch.testing.assert_close(masked_weights(scores) @ values, theirs)
    for attention in attentions_of_repeats(random, ((3, 4, 5), (2, 5, 9))):
        layer, head, score = find_induction_head(attention)
        table = induction_scores(attention)
        assert table[layer, head] == table.max() == pytest.approx(score)


@pytest.mark.parametrize("name", ["smollm2-135m", "llama-3.2-1b", "llama-3.1-405b", "phi-4", "mixtral-8x7b"])
def test_parameters_are_the_published_ones(name):
    shape = ZOO[name]
    experts, attention = shape.experts, shape.attention
    table = dict(
        vocab_size=shape.vocab_size, d_model=shape.d_model, n_layers=shape.n_layers, tied=shape.tied,
        n_heads=attention.n_heads, n_kv_heads=attention.n_kv_heads, d_head=attention.d_head,
        d_ff=experts.d_expert if experts else shape.feed_forward.d_ff,
        n_experts=experts.n_experts if experts else 1, n_active_experts=experts.n_active if experts else 1,
    )  # fmt: skip
    total, active = count_by_shape(table)
    assert f"{total:,}" == shape.published.parameters
    assert active == count_active_parameters(shape)


def test_every_layer_of_smollm2_agrees_and_no_slip_of_attention_does():
    """On each text: the check lets the right answer through everywhere, with two orders of magnitude to spare."""
    file, settings, streams = smollm2()
    for layer in range(30):
        tensors = {name: file.tensor(name) for name in file.tensors if name.startswith(f"blk.{layer}.")}
        before, after = streams[layer % len(streams)][layer : layer + 2]

        def apart(run, before=before, after=after, tensors=tensors, layer=layer):
            answer = run(before, tensors, layer, settings)
            return ((answer - after).norm(dim=-1) / (after - before).norm(dim=-1)).max()

        assert apart(run_layer) < 1e-5
        for slip in ("pairs", "theta"):
            assert apart(partial(run_layer, **{"pairs": dict(pairs="halves"), "theta": dict(theta=1e4)}[slip])) > 5e-3
