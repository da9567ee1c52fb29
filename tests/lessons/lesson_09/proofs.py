import torch
import torch.nn.functional as F
from lessons.proof import Proof

from course_lib.config import TransformerConfig
from course_lib.input_processing.positions import rotate
from course_lib.transformer_block.attention import attend
from course_lib.transformer_block.block import Block
from course_lib.transformer_block.forward_pass import Pass
from course_lib.transformer_block.normalization import rms_norm

block_forward = Proof("block_forward")


@block_forward.right
def in_two_halves(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    y = rms_norm(x, weights["attention_norm.weight"], eps)
    query, key, value = (
        F.linear(y, weights[f"attention.{name}.weight"]).unflatten(-1, (n, -1)).transpose(1, 2)
        for name, n in (("query", n_heads), ("key", n_kv_heads), ("value", n_kv_heads))
    )
    mixed, _ = attend(rotate(query, angles), rotate(key, angles), value)
    x = x + F.linear(mixed.transpose(1, 2).flatten(2), weights["attention.output.weight"])
    y = rms_norm(x, weights["feed_forward_norm.weight"], eps)
    gate, up = (F.linear(y, weights[f"feed_forward.{name}.weight"]) for name in ("gate", "up"))
    return x + F.linear(F.silu(gate) * up, weights["feed_forward.down.weight"])


@block_forward.right
def the_librarys_module(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    d_model, queries = weights["attention.output.weight"].shape
    config = TransformerConfig(
        vocab_size=1,
        context_length=99,
        d_model=d_model,
        n_layers=1,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        d_head=queries // n_heads,
        d_ff=len(weights["feed_forward.up.weight"]),
        norm_eps=eps,
    )
    block = Block(config, 0)
    block.load_state_dict(weights)
    with torch.no_grad():
        turned_by = {config.rope_theta: (angles.cos(), angles.sin())}
        return block(x, Pass(torch.arange(x.shape[1]), rotations=turned_by))


@block_forward.right
def head_by_head(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    """Each text, head and token by itself, in plain loops."""
    w, out = weights, []
    for text in x:
        y = rms_norm(text, w["attention_norm.weight"], eps)
        q, k, v = (y @ w[f"attention.{name}.weight"].T for name in ("query", "key", "value"))
        d = q.shape[1] // n_heads
        heads = []
        for h in range(n_heads):
            g = h * n_kv_heads // n_heads
            one, other = rotate(q[:, h * d : h * d + d], angles), rotate(k[:, g * d : g * d + d], angles)
            rows = []
            for i in range(len(text)):
                seen = torch.softmax(other[: i + 1] @ one[i] / d**0.5, dim=0)
                rows.append(seen @ v[: i + 1, g * d : g * d + d])
            heads.append(torch.stack(rows))
        text = text + torch.cat(heads, dim=1) @ w["attention.output.weight"].T
        y = rms_norm(text, w["feed_forward_norm.weight"], eps)
        gate = y @ w["feed_forward.gate.weight"].T
        inside = gate / (1 + torch.exp(-gate)) * (y @ w["feed_forward.up.weight"].T)
        out.append(text + inside @ w["feed_forward.down.weight"].T)
    return torch.stack(out)


def look(y, w, angles, n_heads, n_kv_heads, turn=(True, True, False), split=None, join=None, share=None):
    split = split or (lambda z, n: z.unflatten(-1, (n, -1)).transpose(1, 2))
    query, key, value = (
        split(F.linear(y, w[f"attention.{name}.weight"]), n)
        for name, n in (("query", n_heads), ("key", n_kv_heads), ("value", n_kv_heads))
    )
    query, key, value = (rotate(z, angles) if t else z for z, t in zip((query, key, value), turn, strict=True))
    if share:
        key, value = share(key), share(value)
    mixed, _ = attend(query, key, value)
    joined = join(mixed) if join else mixed.transpose(1, 2).flatten(2)
    return F.linear(joined, w["attention.output.weight"])


def think(y, w):
    gate, up = (F.linear(y, w[f"feed_forward.{name}.weight"]) for name in ("gate", "up"))
    return F.linear(F.silu(gate) * up, w["feed_forward.down.weight"])


@block_forward.wrong("the copy that was made for attention")
def one_copy_for_both(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    y = rms_norm(x, weights["attention_norm.weight"], eps)
    feed_forward = {name: tensor for name, tensor in weights.items() if name.startswith("feed_forward.")}
    quiet = {name: torch.zeros_like(tensor) for name, tensor in feed_forward.items()}
    x = in_two_halves(x, weights | quiet, angles, n_heads, n_kv_heads, eps)
    gate, up = (F.linear(y, weights[f"feed_forward.{name}.weight"]) for name in ("gate", "up"))
    return x + F.linear(F.silu(gate) * up, weights["feed_forward.down.weight"])


@block_forward.wrong("attention's result takes the stream's place")
def no_first_residual(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    x = look(rms_norm(x, weights["attention_norm.weight"], eps), weights, angles, n_heads, n_kv_heads)
    return x + think(rms_norm(x, weights["feed_forward_norm.weight"], eps), weights)


@block_forward.wrong("the feed-forward part's result takes the stream's place")
def no_second_residual(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    x = x + look(rms_norm(x, weights["attention_norm.weight"], eps), weights, angles, n_heads, n_kv_heads)
    return think(rms_norm(x, weights["feed_forward_norm.weight"], eps), weights)


@block_forward.wrong("nothing is added to the stream")
def no_residual(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    x = look(rms_norm(x, weights["attention_norm.weight"], eps), weights, angles, n_heads, n_kv_heads)
    return think(rms_norm(x, weights["feed_forward_norm.weight"], eps), weights)


@block_forward.wrong("so what attention added is lost")
def from_the_old_x(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    h = x + look(rms_norm(x, weights["attention_norm.weight"], eps), weights, angles, n_heads, n_kv_heads)
    return x + think(rms_norm(h, weights["feed_forward_norm.weight"], eps), weights)


@block_forward.wrong("both parts read the x that came in")
def in_parallel(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    a = look(rms_norm(x, weights["attention_norm.weight"], eps), weights, angles, n_heads, n_kv_heads)
    return x + a + think(rms_norm(x, weights["feed_forward_norm.weight"], eps), weights)


@block_forward.wrong("added to the normalized copy")
def overwrites_x(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    x = rms_norm(x, weights["attention_norm.weight"], eps)
    x = x + look(x, weights, angles, n_heads, n_kv_heads)
    x = rms_norm(x, weights["feed_forward_norm.weight"], eps)
    return x + think(x, weights)


@block_forward.wrong("post-norm")
def normalizes_the_sum(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    x = rms_norm(x + look(x, weights, angles, n_heads, n_kv_heads), weights["attention_norm.weight"], eps)
    return rms_norm(x + think(x, weights), weights["feed_forward_norm.weight"], eps)


@block_forward.wrong("reads through attention's norm")
def one_norm_for_both(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    x = x + look(rms_norm(x, weights["attention_norm.weight"], eps), weights, angles, n_heads, n_kv_heads)
    return x + think(rms_norm(x, weights["attention_norm.weight"], eps), weights)


@block_forward.wrong("the two norms' weights are exchanged")
def norms_exchanged(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    x = x + look(rms_norm(x, weights["feed_forward_norm.weight"], eps), weights, angles, n_heads, n_kv_heads)
    return x + think(rms_norm(x, weights["attention_norm.weight"], eps), weights)


@block_forward.wrong("attention reads the stream without a norm")
def first_norm_forgotten(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    x = x + look(x, weights, angles, n_heads, n_kv_heads)
    return x + think(rms_norm(x, weights["feed_forward_norm.weight"], eps), weights)


@block_forward.wrong("the feed-forward part reads the stream without a norm")
def second_norm_forgotten(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    x = x + look(rms_norm(x, weights["attention_norm.weight"], eps), weights, angles, n_heads, n_kv_heads)
    return x + think(x, weights)


@block_forward.wrong("the feed-forward part comes first")
def other_order(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    x = x + think(rms_norm(x, weights["feed_forward_norm.weight"], eps), weights)
    return x + look(rms_norm(x, weights["attention_norm.weight"], eps), weights, angles, n_heads, n_kv_heads)


@block_forward.wrong("the feed-forward part is missing")
def attention_alone(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    return x + look(rms_norm(x, weights["attention_norm.weight"], eps), weights, angles, n_heads, n_kv_heads)


@block_forward.wrong("the attention part is missing")
def feed_forward_alone(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    return x + think(rms_norm(x, weights["feed_forward_norm.weight"], eps), weights)


def with_inside(inside, x, weights, angles, n_heads, n_kv_heads, eps):
    x = x + look(rms_norm(x, weights["attention_norm.weight"], eps), weights, angles, n_heads, n_kv_heads)
    y = rms_norm(x, weights["feed_forward_norm.weight"], eps)
    gate, up = (F.linear(y, weights[f"feed_forward.{name}.weight"]) for name in ("gate", "up"))
    return x + F.linear(inside(gate, up), weights["feed_forward.down.weight"])


@block_forward.wrong("gate and up are exchanged")
def gate_is_up(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    return with_inside(lambda gate, up: F.silu(up) * gate, x, weights, angles, n_heads, n_kv_heads, eps)


@block_forward.wrong("silu is missing")
def no_silu(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    return with_inside(lambda gate, up: gate * up, x, weights, angles, n_heads, n_kv_heads, eps)


@block_forward.wrong("it does not use `up`")
def gate_alone(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    return with_inside(lambda gate, up: F.silu(gate), x, weights, angles, n_heads, n_kv_heads, eps)


@block_forward.wrong("a plain sigmoid")
def sigmoid_gate(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    return with_inside(lambda gate, up: torch.sigmoid(gate) * up, x, weights, angles, n_heads, n_kv_heads, eps)


@block_forward.wrong("bends with gelu")
def gelu_gate(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    return with_inside(lambda gate, up: F.gelu(gate) * up, x, weights, angles, n_heads, n_kv_heads, eps)


@block_forward.wrong("it does not use `eps`")
def own_eps(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    x = x + look(rms_norm(x, weights["attention_norm.weight"]), weights, angles, n_heads, n_kv_heads)
    return x + think(rms_norm(x, weights["feed_forward_norm.weight"]), weights)


def with_look(x, weights, angles, n_heads, n_kv_heads, eps, **slip):
    y = rms_norm(x, weights["attention_norm.weight"], eps)
    x = x + look(y, weights, angles, n_heads, n_kv_heads, **slip)
    return x + think(rms_norm(x, weights["feed_forward_norm.weight"], eps), weights)


@block_forward.wrong("not turned by their positions")
def no_positions(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    return with_look(x, weights, angles, n_heads, n_kv_heads, eps, turn=(False, False, False))


@block_forward.wrong("values are turned, too")
def all_turned(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    return with_look(x, weights, angles, n_heads, n_kv_heads, eps, turn=(True, True, True))


@block_forward.wrong("keys are not turned: queries and keys are")
def queries_turned(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    return with_look(x, weights, angles, n_heads, n_kv_heads, eps, turn=(True, False, False))


@block_forward.wrong("cutting into heads mixes positions")
def viewed(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    def cut(z, n):
        return z.view(z.shape[0], n, z.shape[1], z.shape[2] // n)

    return with_look(x, weights, angles, n_heads, n_kv_heads, eps, split=cut)


@block_forward.wrong("joining the heads mixes positions")
def flattened(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    return with_look(x, weights, angles, n_heads, n_kv_heads, eps, join=lambda m: m.reshape(m.shape[0], m.shape[2], -1))


@block_forward.wrong("key heads serve in turn")
def tiled(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    def share(z):
        return z.repeat(1, n_heads // n_kv_heads, 1, 1)

    return with_look(x, weights, angles, n_heads, n_kv_heads, eps, share=share)


@block_forward.wrong("tokens see the future")
def unmasked(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    w = weights
    y = rms_norm(x, w["attention_norm.weight"], eps)
    query, key, value = (
        F.linear(y, w[f"attention.{name}.weight"]).unflatten(-1, (n, -1)).transpose(1, 2)
        for name, n in (("query", n_heads), ("key", n_kv_heads), ("value", n_kv_heads))
    )
    mixed = F.scaled_dot_product_attention(rotate(query, angles), rotate(key, angles), value, enable_gqa=True)
    x = x + F.linear(mixed.transpose(1, 2).flatten(2), w["attention.output.weight"])
    return x + think(rms_norm(x, w["feed_forward_norm.weight"], eps), w)


@block_forward.wrong("it takes the mean off (LayerNorm)")
def layer_norms(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    x = x + look(
        F.layer_norm(x, x.shape[-1:], weights["attention_norm.weight"], None, eps), weights, angles, n_heads, n_kv_heads
    )
    return x + think(F.layer_norm(x, x.shape[-1:], weights["feed_forward_norm.weight"], None, eps), weights)


@block_forward.wrong("cannot be multiplied")
def untransposed(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    y = rms_norm(x, weights["feed_forward_norm.weight"], eps)
    return x + (F.silu(y @ weights["feed_forward.gate.weight"]) * y) @ weights["feed_forward.down.weight"]


@block_forward.wrong("it changes what it was given")
def in_place(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    x += look(rms_norm(x, weights["attention_norm.weight"], eps), weights, angles, n_heads, n_kv_heads)
    x += think(rms_norm(x, weights["feed_forward_norm.weight"], eps), weights)
    return x


transformer_parameters = Proof("transformer_parameters")


@transformer_parameters.right
def part_by_part(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, tied):
    attention = 2 * d_model * n_heads * d_head + 2 * d_model * n_kv_heads * d_head
    block = attention + 3 * d_model * d_ff + 2 * d_model
    return vocab_size * d_model * (1 if tied else 2) + n_layers * block + d_model


@transformer_parameters.right
def by_a_list_of_shapes(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, tied):
    total = d_model + sum(vocab_size * d_model for _ in range(2 - tied))
    for _ in range(n_layers):
        for rows in (n_heads * d_head, n_kv_heads * d_head, n_kv_heads * d_head, d_ff, d_ff):
            total += rows * d_model
        for columns in (n_heads * d_head, d_ff):
            total += d_model * columns
        total += d_model + d_model
    return total


@transformer_parameters.wrong("two matrices of d_model × d_ff")
def plain_mlp(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, tied):
    block = 2 * d_model * (n_heads + n_kv_heads) * d_head + 2 * d_model * d_ff + 2 * d_model
    return vocab_size * d_model * (2 - tied) + n_layers * block + d_model


@transformer_parameters.wrong("counted for every query head")
def multi_head(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, tied):
    return part_by_part(vocab_size, d_model, n_layers, n_heads, n_heads, d_head, d_ff, tied)


@transformer_parameters.wrong("it takes d_model / n_heads for a head's width")
def square_attention(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, tied):
    return part_by_part(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_model // n_heads, d_ff, tied)


@transformer_parameters.wrong("all heads together are n_heads · d_head wide")
def square_query_and_output(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, tied):
    attention = 2 * d_model**2 + 2 * d_model * n_kv_heads * d_head
    block = attention + 3 * d_model * d_ff + 2 * d_model
    return vocab_size * d_model * (2 - tied) + n_layers * block + d_model


@transformer_parameters.wrong("the norms are missing")
def matrices_alone(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, tied):
    all_of_it = part_by_part(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, tied)
    return all_of_it - (2 * n_layers + 1) * d_model


@transformer_parameters.wrong("the final norm is missing")
def no_final_norm(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, tied):
    return part_by_part(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, tied) - d_model


@transformer_parameters.wrong("one norm a block")
def a_single_norm(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, tied):
    return part_by_part(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, tied) - n_layers * d_model


@transformer_parameters.wrong("it does not use `tied`")
def always_one_table(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, tied):
    return part_by_part(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, True)


@transformer_parameters.wrong("it counts the table twice though it is tied")
def always_two_tables(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, tied):
    return part_by_part(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, False)


@transformer_parameters.wrong("the wrong way round")
def tied_is_two(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, tied):
    return part_by_part(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, not tied)


@transformer_parameters.wrong("attention's output matrix is missing")
def three_projections(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, tied):
    all_of_it = part_by_part(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, tied)
    return all_of_it - n_layers * d_model * n_heads * d_head


@transformer_parameters.wrong("it counts a single block")
def one_block(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, tied):
    return part_by_part(vocab_size, d_model, 1, n_heads, n_kv_heads, d_head, d_ff, tied)


@transformer_parameters.wrong("the tables are counted once a block")
def a_table_each(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, tied):
    one = part_by_part(vocab_size, d_model, 1, n_heads, n_kv_heads, d_head, d_ff, tied) - d_model
    return n_layers * one + d_model


@transformer_parameters.wrong("the tables are missing")
def without_tables(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, tied):
    return part_by_part(0, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, tied)


@transformer_parameters.wrong("a float")
def in_millions(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, tied):
    return part_by_part(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, tied) / 1e6


flops_per_token = Proof("flops_per_token")


@flops_per_token.right
def two_sums(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, context):
    attention = 2 * d_model * n_heads * d_head + 2 * d_model * n_kv_heads * d_head
    matrices = n_layers * (attention + 3 * d_model * d_ff) + vocab_size * d_model
    return 2 * matrices + n_layers * n_heads * 4 * d_head * context


@flops_per_token.right
def layer_by_layer(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, context):
    total = 2 * d_model * vocab_size
    for _ in range(n_layers):
        total += 2 * d_model * (n_heads + 2 * n_kv_heads) * d_head
        for _ in range(n_heads):
            total += context * (2 * d_head)  # a score for each key
            total += context * (2 * d_head)  # each value, weighted and added
        total += 2 * n_heads * d_head * d_model
        total += 3 * 2 * d_model * d_ff
    return total


@flops_per_token.wrong("each number of a matrix counts once")
def multiplications(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, context):
    looking = n_layers * n_heads * 4 * d_head * context
    return (
        two_sums(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, context) - looking
    ) // 2 + looking


@flops_per_token.wrong("everything is half of what it is")
def all_halved(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, context):
    return two_sums(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, context) // 2


@flops_per_token.wrong("a look-up costs none")
def look_up_counted(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, context):
    all_of_it = two_sums(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, context)
    return all_of_it + 2 * vocab_size * d_model


@flops_per_token.wrong("one score a token of the vocabulary, is missing")
def blocks_alone(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, context):
    return two_sums(0, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, context)


@flops_per_token.wrong("looking at the context is missing")
def two_a_weight(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, context):
    return two_sums(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, 0)


@flops_per_token.wrong("costs twice as much")
def scores_alone(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, context):
    looking = n_layers * n_heads * 2 * d_head * context
    return two_sums(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, 0) + looking


@flops_per_token.wrong("costs four times as much")
def products_alone(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, context):
    looking = n_layers * n_heads * d_head * context
    return two_sums(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, 0) + looking


@flops_per_token.wrong("only key heads look")
def key_heads(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, context):
    looking = n_layers * n_kv_heads * 4 * d_head * context
    return two_sums(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, 0) + looking


@flops_per_token.wrong("in the context's part: d_head is given")
def as_wide_as_the_stream(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, context):
    looking = n_layers * 4 * d_model * context
    return two_sums(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, 0) + looking


@flops_per_token.wrong("a single layer looks at the context")
def one_layer_looks(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, context):
    looking = n_heads * 4 * d_head * context
    return two_sums(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, 0) + looking


@flops_per_token.wrong("it counts the whole text")
def whole_text(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, context):
    return context * two_sums(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, context)


@flops_per_token.wrong("context counts squared")
def each_at_each(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, context):
    return two_sums(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, context**2)


@flops_per_token.wrong("two matrices in the feed-forward network")
def plain_network(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, context):
    all_of_it = two_sums(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, context)
    return all_of_it - 2 * n_layers * d_model * d_ff


@flops_per_token.wrong("norms are counted like matrices")
def all_parameters(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, context):
    all_of_it = part_by_part(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, True)
    return 2 * all_of_it + n_layers * n_heads * 4 * d_head * context


@flops_per_token.wrong("keys and values are counted for every query head")
def as_many_keys(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff, context):
    return two_sums(vocab_size, d_model, n_layers, n_heads, n_heads, d_head, d_ff, context)


logit_lens = Proof("logit_lens")


@logit_lens.right
def norm_then_table(stream, final_norm_weight, table, eps=1e-5):
    return rms_norm(stream, final_norm_weight, eps) @ table.T


@logit_lens.right
def fused(stream, final_norm_weight, table, eps=1e-5):
    return F.linear(F.rms_norm(stream, stream.shape[-1:], final_norm_weight, eps), table)


@logit_lens.right
def row_by_row(stream, final_norm_weight, table, eps=1e-5):
    logits = torch.empty(*stream.shape[:2], len(table))
    for depth, rows in enumerate(stream):
        for position, row in enumerate(rows):
            size = (row.square().sum() / len(row) + eps).sqrt()
            logits[depth, position] = torch.stack([(row / size * final_norm_weight) @ token for token in table])
    return logits


@logit_lens.wrong("the final norm is missing")
def unnormalized(stream, final_norm_weight, table, eps=1e-5):
    return stream @ table.T


@logit_lens.wrong("the norm's weights are missing")
def unweighted(stream, final_norm_weight, table, eps=1e-5):
    return F.rms_norm(stream, stream.shape[-1:], None, eps) @ table.T


@logit_lens.wrong("the norm's weights alone")
def only_weighted(stream, final_norm_weight, table, eps=1e-5):
    return (stream * final_norm_weight) @ table.T


@logit_lens.wrong("it takes the mean off")
def by_layer_norm(stream, final_norm_weight, table, eps=1e-5):
    return F.layer_norm(stream, stream.shape[-1:], final_norm_weight, None, eps) @ table.T


@logit_lens.wrong("divides by the row's length")
def to_unit_length(stream, final_norm_weight, table, eps=1e-5):
    return (stream / (stream.pow(2).sum(-1, keepdim=True) + eps).sqrt() * final_norm_weight) @ table.T


@logit_lens.wrong("its root is missing")
def by_the_square(stream, final_norm_weight, table, eps=1e-5):
    return (stream / (stream.pow(2).mean(-1, keepdim=True) + eps) * final_norm_weight) @ table.T


@logit_lens.wrong("one size for all: each row")
def one_size(stream, final_norm_weight, table, eps=1e-5):
    return (stream / (stream.pow(2).mean() + eps).sqrt() * final_norm_weight) @ table.T


@logit_lens.wrong("it normalizes over positions")
def over_positions(stream, final_norm_weight, table, eps=1e-5):
    return (stream / (stream.pow(2).mean(1, keepdim=True) + eps).sqrt() * final_norm_weight) @ table.T


@logit_lens.wrong("the last depth is not normalized")
def finished_last(stream, final_norm_weight, table, eps=1e-5):
    logits = rms_norm(stream, final_norm_weight, eps) @ table.T
    logits[-1] = stream[-1] @ table.T
    return logits


@logit_lens.wrong("it does not use `eps`")
def small_eps(stream, final_norm_weight, table, eps=1e-5):
    return rms_norm(stream, final_norm_weight) @ table.T


@logit_lens.wrong("these are probabilities")
def softmaxed(stream, final_norm_weight, table, eps=1e-5):
    return (rms_norm(stream, final_norm_weight, eps) @ table.T).softmax(-1)


@logit_lens.wrong("the last position alone")
def last_position(stream, final_norm_weight, table, eps=1e-5):
    return rms_norm(stream[:, -1], final_norm_weight, eps) @ table.T


@logit_lens.wrong("these are cosines")
def cosines(stream, final_norm_weight, table, eps=1e-5):
    return rms_norm(stream, final_norm_weight, eps) @ (table / table.norm(dim=1, keepdim=True)).T


@logit_lens.wrong("it returns numbers of type int64")
def guesses(stream, final_norm_weight, table, eps=1e-5):
    return (rms_norm(stream, final_norm_weight, eps) @ table.T).argmax(-1)
