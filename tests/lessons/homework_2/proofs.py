import math

import torch
import torch.nn.functional as F
from lessons.proof import Proof

from course_lib.input_processing.positions import rotate, rotation_angles
from course_lib.transformer_block import attention, normalization

masked_weights = Proof("masked_weights")
grouped_attention = Proof("grouped_attention")
feed_forward_half = Proof("feed_forward_half")
run_layer = Proof("run_layer")
find_induction_head = Proof("find_induction_head")
count_by_shape = Proof("count_by_shape")
repaired_block = Proof("repaired_block")

# ---- masked_weights ------------------------------------------------------------------------------


@masked_weights.right
def by_distance(scores, window):
    n_query, n_key = scores.shape[-2:]
    distance = torch.arange(n_key - n_query, n_key)[:, None] - torch.arange(n_key)
    visible = distance >= 0
    if window is not None:
        visible = visible & (distance < window)
    return torch.softmax(scores.masked_fill(~visible, float("-inf")), dim=-1)


@masked_weights.right
def by_triangles(scores, window):
    n_query, n_key = scores.shape[-2:]
    past = n_key - n_query
    seen = torch.ones(n_query, n_key).tril(past)
    if window:
        seen = seen - torch.ones(n_query, n_key).tril(past - window)
    weights = torch.exp(scores - scores.masked_fill(seen == 0, -1e30).amax(-1, keepdim=True)).nan_to_num() * seen
    return weights.nan_to_num(posinf=0) / weights.nan_to_num(posinf=0).sum(-1, keepdim=True)


@masked_weights.right
def row_by_row(scores, window):
    weights = torch.zeros_like(scores)
    n_query, n_key = scores.shape[-2:]
    for row in range(n_query):
        end = n_key - n_query + row + 1
        begin = 0 if window is None else max(0, end - window)
        weights[..., row, begin:end] = scores[..., row, begin:end].softmax(-1)
    return weights


@masked_weights.right
def with_a_very_negative_number(scores, window):
    n_query, n_key = scores.shape[-2:]
    hidden = torch.ones(n_query, n_key, dtype=torch.bool).triu(1 + n_key - n_query)
    if window is not None:
        hidden |= torch.ones(n_query, n_key, dtype=torch.bool).tril(n_key - n_query - window)
    return (scores + hidden * -1e9).softmax(-1)


def masked(scores, visible):
    return scores.masked_fill(~visible, -torch.inf).softmax(-1)


def distances(scores):
    n_query, n_key = scores.shape[-2:]
    return torch.arange(n_key - n_query, n_key)[:, None] - torch.arange(n_key)


@masked_weights.wrong("it lines the queries up with the first keys")
def a_plain_tril(scores, window):
    visible = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if window is not None:
        visible &= ~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(-window)
    return masked(scores, visible)


@masked_weights.wrong("it calls `causal_mask`")
def with_the_librarys_mask(scores, window):
    return masked(scores, attention.causal_mask(*scores.shape[-2:]))


@masked_weights.wrong("a token does not see itself")
def strictly_the_past(scores, window):
    d = distances(scores)
    return masked(scores, (d > 0) & (d < (window or 99)))


@masked_weights.wrong("wrong way round")
def the_future_only(scores, window):
    d = distances(scores)
    return masked(scores, (d <= 0) & (-d < (window or 99)))


@masked_weights.wrong("it hides nothing")
def softmax_alone(scores, window):
    return scores.softmax(-1)


@masked_weights.wrong("one token of the future")
def one_too_far(scores, window):
    d = distances(scores)
    return masked(scores, (d >= -1) & (d < (window or 99)))


@masked_weights.wrong("it ignores the window")
def no_window(scores, window):
    return masked(scores, distances(scores) >= 0)


@masked_weights.wrong("one too wide")
def wide(scores, window):
    d = distances(scores)
    return masked(scores, (d >= 0) & (d <= (window or 99)))


@masked_weights.wrong("one too narrow")
def narrow(scores, window):
    d = distances(scores)
    return masked(scores, (d >= 0) & (d < max(1, (window or 99) - 1)))


@masked_weights.wrong("the future back into sight")
def window_alone(scores, window):
    d = distances(scores)
    return masked(scores, d >= 0 if window is None else d < window)


@masked_weights.wrong("e to the power of 0 is 1")
def zeroed(scores, window):
    d = distances(scores)
    return (scores * ((d >= 0) & (d < (window or 99)))).softmax(-1)


@masked_weights.wrong("the mask comes after the softmax")
def masked_last(scores, window):
    d = distances(scores)
    return scores.softmax(-1) * ((d >= 0) & (d < (window or 99)))


@masked_weights.wrong("its columns sum to 1")
def columns(scores, window):
    d = distances(scores)
    return scores.masked_fill((d < 0) | (d >= (window or 99)), -torch.inf).softmax(-2)


@masked_weights.wrong("it gives the masked scores")
def scores_only(scores, window):
    d = distances(scores)
    return scores.masked_fill((d < 0) | (d >= (window or 99)), -torch.inf)


@masked_weights.wrong("NaN (not a number)")
def without_the_largest(scores, window):
    d = distances(scores)
    weights = scores.exp() * ((d >= 0) & (d < (window or 99)))
    return weights / weights.sum(-1, keepdim=True)


@masked_weights.wrong("it gives another value")
def too_little(scores, window):
    d = distances(scores)
    return scores.masked_fill((d < 0) | (d >= (window or 99)), -10.0).softmax(-1)


# ---- grouped_attention ---------------------------------------------------------------------------


def pieces(x, qkv, n_heads, n_kv_heads):
    """Queries, keys and values, (batch, heads, position, d_head) each."""
    d_head = qkv.shape[0] // (n_heads + 2 * n_kv_heads)
    rows = (x @ qkv.T).split([n_heads * d_head, n_kv_heads * d_head, n_kv_heads * d_head], dim=-1)
    return [row.view(*row.shape[:2], -1, d_head).transpose(1, 2) for row in rows]


def softly(scores):
    n_query, n_key = scores.shape[-2:]
    return scores.masked_fill(torch.ones(n_query, n_key).tril() == 0, -torch.inf).softmax(-1)


def looked(query, key, value, root=None, soft=softly):
    return soft(query @ key.transpose(-2, -1) / (root or math.sqrt(query.shape[-1]))) @ value


def together(heads, output):
    return heads.transpose(1, 2).flatten(2) @ output.T


@grouped_attention.right
def step_by_step(x, qkv, output, n_heads, n_kv_heads, turn):
    query, key, value = pieces(x, qkv, n_heads, n_kv_heads)
    query, key = turn(query), turn(key)
    key = key.repeat_interleave(n_heads // n_kv_heads, dim=1)
    value = value.repeat_interleave(n_heads // n_kv_heads, dim=1)
    return together(looked(query, key, value), output)


@grouped_attention.right
def by_pytorch(x, qkv, output, n_heads, n_kv_heads, turn):
    query, key, value = pieces(x, qkv, n_heads, n_kv_heads)
    mixed = F.scaled_dot_product_attention(turn(query), turn(key), value, is_causal=True, enable_gqa=True)
    return together(mixed, output)


@grouped_attention.right
def head_by_head(x, qkv, output, n_heads, n_kv_heads, turn):
    d_head = qkv.shape[0] // (n_heads + 2 * n_kv_heads)
    weight = qkv.view(-1, d_head, x.shape[-1])
    total = 0
    for head in range(n_heads):
        group = n_heads + head * n_kv_heads // n_heads
        query, key, value = x @ weight[head].T, x @ weight[group].T, x @ weight[group + n_kv_heads].T
        mixed = looked(turn(query[:, None]), turn(key[:, None]), value[:, None])[:, 0]
        total = total + mixed @ output[:, head * d_head : (head + 1) * d_head].T
    return total


@grouped_attention.right
def five_dimensions(x, qkv, output, n_heads, n_kv_heads, turn):
    query, key, value = pieces(x, qkv, n_heads, n_kv_heads)
    query = turn(query).unflatten(1, (n_kv_heads, -1))  # (batch, group, heads of it, position, d_head)
    mixed = looked(query, turn(key)[:, :, None], value[:, :, None])
    return torch.einsum("bgmpd,ogmd->bpo", mixed, output.unflatten(1, (n_kv_heads, -1, query.shape[-1])))


def grouped(x, qkv, output, n_heads, n_kv_heads, turn, see=looked, share=None, turned=(1, 1, 0), order=(0, 1, 2)):
    share = share or (lambda heads: heads.repeat_interleave(n_heads // n_kv_heads, dim=1))
    parts = pieces(x, qkv, n_heads, n_kv_heads)
    parts = [parts[i] for i in order]
    query, key, value = (turn(part) if yes else part for part, yes in zip(parts, turned, strict=True))
    return together(see(query, share(key), share(value)), output)


@grouped_attention.wrong("the groups go wrong")
def repeated_in_turn(x, qkv, output, n_heads, n_kv_heads, turn):
    share = lambda heads: heads.repeat(1, n_heads // n_kv_heads, 1, 1)  # noqa: E731
    return grouped(x, qkv, output, n_heads, n_kv_heads, turn, share=share)


@grouped_attention.wrong("look at the first key head")
def first_key_head(x, qkv, output, n_heads, n_kv_heads, turn):
    return grouped(x, qkv, output, n_heads, n_kv_heads, turn, share=lambda heads: heads[:, :1])


@grouped_attention.wrong("keys and values are swapped")
def values_first(x, qkv, output, n_heads, n_kv_heads, turn):
    return grouped(x, qkv, output, n_heads, n_kv_heads, turn, order=(0, 2, 1))


@grouped_attention.wrong("the future is not hidden")
def not_causal(x, qkv, output, n_heads, n_kv_heads, turn):
    query, key, value = pieces(x, qkv, n_heads, n_kv_heads)
    return together(F.scaled_dot_product_attention(turn(query), turn(key), value, enable_gqa=True), output)


@grouped_attention.wrong("sees nothing and becomes NaN")
def without_itself(x, qkv, output, n_heads, n_kv_heads, turn):
    def soft(scores):
        return scores.masked_fill(torch.ones(scores.shape[-2:]).tril(-1) == 0, -torch.inf).softmax(-1)

    see = lambda q, k, v: looked(q, k, v, soft=soft)  # noqa: E731
    return grouped(x, qkv, output, n_heads, n_kv_heads, turn, see=see)


@grouped_attention.wrong("a row of weights does not sum to 1")
def mask_at_the_end(x, qkv, output, n_heads, n_kv_heads, turn):
    see = lambda q, k, v: looked(q, k, v, soft=lambda scores: scores.softmax(-1).tril())  # noqa: E731
    return grouped(x, qkv, output, n_heads, n_kv_heads, turn, see=see)


@grouped_attention.wrong("softmax runs over the queries")
def over_the_queries(x, qkv, output, n_heads, n_kv_heads, turn):
    def soft(scores):
        return scores.masked_fill(torch.ones(scores.shape[-2:]).tril() == 0, -torch.inf).softmax(-2)

    see = lambda q, k, v: looked(q, k, v, soft=soft)  # noqa: E731
    return grouped(x, qkv, output, n_heads, n_kv_heads, turn, see=see)


@grouped_attention.wrong("are not divided by the root of d_head")
def not_divided(x, qkv, output, n_heads, n_kv_heads, turn):
    return grouped(x, qkv, output, n_heads, n_kv_heads, turn, see=lambda q, k, v: looked(q, k, v, root=1))


@grouped_attention.wrong("divided by d_head itself")
def divided_too_much(x, qkv, output, n_heads, n_kv_heads, turn):
    return grouped(x, qkv, output, n_heads, n_kv_heads, turn, see=lambda q, k, v: looked(q, k, v, q.shape[-1]))


@grouped_attention.wrong("divided by the root of d_model")
def divided_by_the_width(x, qkv, output, n_heads, n_kv_heads, turn):
    root = x.shape[-1] ** 0.5
    return grouped(x, qkv, output, n_heads, n_kv_heads, turn, see=lambda q, k, v: looked(q, k, v, root))


@grouped_attention.wrong("nothing is turned")
def unturned(x, qkv, output, n_heads, n_kv_heads, turn):
    return grouped(x, qkv, output, n_heads, n_kv_heads, turn, turned=(0, 0, 0))


@grouped_attention.wrong("the keys are not turned")
def queries_only(x, qkv, output, n_heads, n_kv_heads, turn):
    return grouped(x, qkv, output, n_heads, n_kv_heads, turn, turned=(1, 0, 0))


@grouped_attention.wrong("the queries are not turned")
def keys_only(x, qkv, output, n_heads, n_kv_heads, turn):
    return grouped(x, qkv, output, n_heads, n_kv_heads, turn, turned=(0, 1, 0))


@grouped_attention.wrong("the values are turned, too")
def all_three(x, qkv, output, n_heads, n_kv_heads, turn):
    return grouped(x, qkv, output, n_heads, n_kv_heads, turn, turned=(1, 1, 1))


@grouped_attention.wrong("mixed from several tokens")
def viewed(x, qkv, output, n_heads, n_kv_heads, turn):
    d_head, (batch, n, _) = qkv.shape[0] // (n_heads + 2 * n_kv_heads), x.shape
    sizes = [n_heads * d_head, n_kv_heads * d_head, n_kv_heads * d_head]
    query, key, value = (r.reshape(batch, -1, n, d_head) for r in (x @ qkv.T).split(sizes, dim=-1))
    groups = n_heads // n_kv_heads
    key, value = turn(key).repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    return together(looked(turn(query), key, value), output)


@grouped_attention.wrong("picked from all over the row")
def strided(x, qkv, output, n_heads, n_kv_heads, turn):
    d_head, (batch, n, _) = qkv.shape[0] // (n_heads + 2 * n_kv_heads), x.shape
    sizes = [n_heads * d_head, n_kv_heads * d_head, n_kv_heads * d_head]
    parts = (r.reshape(batch, n, d_head, -1).permute(0, 3, 1, 2) for r in (x @ qkv.T).split(sizes, dim=-1))
    query, key, value = parts
    groups = n_heads // n_kv_heads
    key, value = turn(key).repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    return together(looked(turn(query), key, value), output)


@grouped_attention.wrong("without swapping the dimensions")
def put_back_as_they_are(x, qkv, output, n_heads, n_kv_heads, turn):
    query, key, value = pieces(x, qkv, n_heads, n_kv_heads)
    mixed = F.scaled_dot_product_attention(turn(query), turn(key), value, is_causal=True, enable_gqa=True)
    return mixed.reshape(*x.shape[:2], -1) @ output.T


@grouped_attention.wrong("it calls `attend` of course_lib")
def by_the_library(x, qkv, output, n_heads, n_kv_heads, turn):
    query, key, value = pieces(x, qkv, n_heads, n_kv_heads)
    return together(attention.attend(turn(query), turn(key), value)[0], output)


@grouped_attention.wrong("it returns the shape")
def without_the_output(x, qkv, output, n_heads, n_kv_heads, turn):
    query, key, value = pieces(x, qkv, n_heads, n_kv_heads)
    mixed = F.scaled_dot_product_attention(turn(query), turn(key), value, is_causal=True, enable_gqa=True)
    return mixed.transpose(1, 2).flatten(2)


@grouped_attention.wrong("it stops with ")
def three_equal_pieces(x, qkv, output, n_heads, n_kv_heads, turn):
    query, key, value = (x @ qkv.T).chunk(3, dim=-1)
    heads = [row.unflatten(-1, (n_heads, -1)).transpose(1, 2) for row in (query, key, value)]
    return together(looked(turn(heads[0]), turn(heads[1]), heads[2]), output)


@grouped_attention.wrong("x is added")
def with_the_stream(x, qkv, output, n_heads, n_kv_heads, turn):
    return x + step_by_step(x, qkv, output, n_heads, n_kv_heads, turn)


def not_written(scores, window):
    raise NotImplementedError()


@grouped_attention.wrong("it calls `not_written`, which is not done yet")
def with_an_earlier_part(x, qkv, output, n_heads, n_kv_heads, turn):
    see = lambda q, k, v: looked(q, k, v, soft=lambda scores: not_written(scores, None))  # noqa: E731
    return grouped(x, qkv, output, n_heads, n_kv_heads, turn, see=see)


# ---- feed_forward_half ---------------------------------------------------------------------------


@feed_forward_half.right
def in_small_steps(x, weight, eps, gate, up, down):
    size = torch.sqrt(x.pow(2).mean(dim=-1, keepdim=True) + eps)
    rows = x / size * weight
    opened = rows @ gate.T
    opened = opened * torch.sigmoid(opened)
    return x + (opened * (rows @ up.T)) @ down.T


@feed_forward_half.right
def with_pytorchs_functions(x, weight, eps, gate, up, down):
    rows = F.rms_norm(x, weight.shape, weight, eps)
    return x + F.linear(F.silu(F.linear(rows, gate)) * F.linear(rows, up), down)


@feed_forward_half.right
def number_by_number(x, weight, eps, gate, up, down):
    out = x.clone()
    for place in [(i, j) for i in range(x.shape[0]) for j in range(x.shape[1])]:
        row = x[place]
        row = weight * row * torch.rsqrt((row @ row) / len(row) + eps)
        out[place] += down @ (F.silu(gate @ row) * (up @ row))
    return out


def normal(x, weight, eps):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def network(rows, gate, up, down, bend=F.silu):
    return (bend(rows @ gate.T) * (rows @ up.T)) @ down.T


@feed_forward_half.wrong("the stream is lost: the result is added to x")
def no_residual(x, weight, eps, gate, up, down):
    return network(normal(x, weight, eps), gate, up, down)


@feed_forward_half.wrong("it calls `rms_norm`")
def the_librarys_norm(x, weight, eps, gate, up, down):
    return x + network(normalization.rms_norm(x, weight, eps), gate, up, down)


@feed_forward_half.wrong("added to the normalized rows")
def onto_the_normalized(x, weight, eps, gate, up, down):
    x = normal(x, weight, eps)
    return x + network(x, gate, up, down)


@feed_forward_half.wrong("x enters the network as it is")
def unnormalized(x, weight, eps, gate, up, down):
    return x + network(x, gate, up, down)


@feed_forward_half.wrong("it normalizes what comes out")
def normalized_result(x, weight, eps, gate, up, down):
    return x + normal(network(x, gate, up, down), weight, eps)


@feed_forward_half.wrong("which is post-norm")
def post_norm(x, weight, eps, gate, up, down):
    return normal(x + network(x, gate, up, down), weight, eps)


@feed_forward_half.wrong("as LayerNorm does")
def by_layer_norm(x, weight, eps, gate, up, down):
    return x + network(F.layer_norm(x, weight.shape, weight, None, eps), gate, up, down)


@feed_forward_half.wrong("by its root")
def no_root(x, weight, eps, gate, up, down):
    return x + network(x / (x.pow(2).mean(-1, keepdim=True) + eps) * weight, gate, up, down)


@feed_forward_half.wrong("not their sum")
def unit_length(x, weight, eps, gate, up, down):
    return x + network(x / (x.pow(2).sum(-1, keepdim=True) + eps).sqrt() * weight, gate, up, down)


@feed_forward_half.wrong("one mean for all tokens")
def one_mean(x, weight, eps, gate, up, down):
    return x + network(x / (x.pow(2).mean() + eps).sqrt() * weight, gate, up, down)


@feed_forward_half.wrong("its mean runs over the tokens")
def mean_of_tokens(x, weight, eps, gate, up, down):
    return x + network(x / (x.pow(2).mean(dim=1, keepdim=True) + eps).sqrt() * weight, gate, up, down)


@feed_forward_half.wrong("the norm's weight is left out")
def no_weight(x, weight, eps, gate, up, down):
    return x + network(normal(x, 1, eps), gate, up, down)


@feed_forward_half.wrong("1 + the norm's weight")
def gemma(x, weight, eps, gate, up, down):
    return x + network(normal(x, 1 + weight, eps), gate, up, down)


@feed_forward_half.wrong("eps is left out")
def no_eps(x, weight, eps, gate, up, down):
    return x + network(normal(x, weight, 0), gate, up, down)


@feed_forward_half.wrong("eps is added after the root")
def eps_outside(x, weight, eps, gate, up, down):
    return x + network(x / (x.pow(2).mean(-1, keepdim=True).sqrt() + eps) * weight, gate, up, down)


@feed_forward_half.wrong("its eps is always 1e-5")
def own_eps(x, weight, eps, gate, up, down):
    return x + network(normal(x, weight, 1e-5), gate, up, down)


@feed_forward_half.wrong("gate and up are swapped")
def swapped(x, weight, eps, gate, up, down):
    return x + network(normal(x, weight, eps), up, gate, down)


@feed_forward_half.wrong("sigmoid alone")
def glu(x, weight, eps, gate, up, down):
    return x + network(normal(x, weight, eps), gate, up, down, torch.sigmoid)


@feed_forward_half.wrong("passes a ReLU")
def relu(x, weight, eps, gate, up, down):
    return x + network(normal(x, weight, eps), gate, up, down, torch.relu)


@feed_forward_half.wrong("passes a GELU")
def gelu(x, weight, eps, gate, up, down):
    return x + network(normal(x, weight, eps), gate, up, down, F.gelu)


@feed_forward_half.wrong("the activation is on both")
def both_bent(x, weight, eps, gate, up, down):
    rows = normal(x, weight, eps)
    return x + (F.silu(rows @ gate.T) * F.silu(rows @ up.T)) @ down.T


@feed_forward_half.wrong("the activation comes after the product")
def bent_late(x, weight, eps, gate, up, down):
    rows = normal(x, weight, eps)
    return x + F.silu((rows @ gate.T) * (rows @ up.T)) @ down.T


@feed_forward_half.wrong("gate and up are added")
def added(x, weight, eps, gate, up, down):
    rows = normal(x, weight, eps)
    return x + (F.silu(rows @ gate.T) + rows @ up.T) @ down.T


@feed_forward_half.wrong("there is no activation")
def bilinear(x, weight, eps, gate, up, down):
    return x + network(normal(x, weight, eps), gate, up, down, lambda rows: rows)


@feed_forward_half.wrong("`up` is not used")
def gate_alone(x, weight, eps, gate, up, down):
    return x + F.silu(normal(x, weight, eps) @ gate.T) @ down.T


@feed_forward_half.wrong("it changes what it was given")
def in_place(x, weight, eps, gate, up, down):
    x += network(normal(x, weight, eps), gate, up, down)
    return x


# ---- run_layer -----------------------------------------------------------------------------------


@run_layer.right
def from_the_empty_cell(x, tensors, layer, settings):
    def weight(name):
        return tensors[f"blk.{layer}.{name}.weight"]

    def norm(rows, name):
        return rows / (rows.pow(2).mean(dim=-1, keepdim=True) + settings["eps"]).sqrt() * weight(name)

    n, n_heads, n_kv_heads = x.shape[1], settings["n_heads"], settings["n_kv_heads"]
    d_head = len(weight("attn_q")) // n_heads
    angles = rotation_angles(torch.arange(n), d_head, settings["theta"])
    rows = norm(x, "attn_norm")
    query = (rows @ weight("attn_q").T).view(len(x), n, n_heads, d_head).transpose(1, 2)
    key = (rows @ weight("attn_k").T).view(len(x), n, n_kv_heads, d_head).transpose(1, 2)
    value = (rows @ weight("attn_v").T).view(len(x), n, n_kv_heads, d_head).transpose(1, 2)
    query, key = rotate(query, angles, "neighbours"), rotate(key, angles, "neighbours")
    key = key.repeat_interleave(n_heads // n_kv_heads, dim=1)
    value = value.repeat_interleave(n_heads // n_kv_heads, dim=1)
    scores = query @ key.transpose(2, 3) / d_head**0.5
    future = torch.ones(n, n, dtype=torch.bool).triu(1)
    mixed = scores.masked_fill(future, -torch.inf).softmax(-1) @ value
    x = x + mixed.transpose(1, 2).reshape(len(x), n, -1) @ weight("attn_output").T
    rows = norm(x, "ffn_norm")
    return x + (F.silu(rows @ weight("ffn_gate").T) * (rows @ weight("ffn_up").T)) @ weight("ffn_down").T


@run_layer.right
def with_fused_operations(x, tensors, layer, settings):
    w = {name.split(".")[2]: tensor for name, tensor in tensors.items() if name.startswith(f"blk.{layer}.")}
    rows = F.rms_norm(x, x.shape[-1:], w["attn_norm"], settings["eps"])
    heads = [F.linear(rows, w[f"attn_{one}"]) for one in "qkv"]
    d_head = heads[0].shape[-1] // settings["n_heads"]
    query, key, value = (rows.unflatten(-1, (-1, d_head)).transpose(1, 2) for rows in heads)
    pair = torch.arange(0, d_head, 2)
    turn = torch.exp(1j * torch.arange(x.shape[1])[:, None] * settings["theta"] ** (-pair / d_head))

    def turned(rows):
        return torch.view_as_real(torch.view_as_complex(rows.unflatten(-1, (-1, 2)).contiguous()) * turn).flatten(-2)

    mixed = F.scaled_dot_product_attention(turned(query), turned(key), value, is_causal=True, enable_gqa=True)
    x = x + F.linear(mixed.transpose(1, 2).flatten(2), w["attn_output"])
    rows = F.rms_norm(x, x.shape[-1:], w["ffn_norm"], settings["eps"])
    return x + F.linear(F.silu(F.linear(rows, w["ffn_gate"])) * F.linear(rows, w["ffn_up"]), w["ffn_down"])


def layered(x, tensors, layer, settings, names="", pairs="neighbours", theta=None, eps=None, share=None, **other):
    """As `with_fused_operations`, with a slip or two. `names`: "attn_k attn_v" swaps these."""
    w = {name.split(".")[2]: tensor for name, tensor in tensors.items() if name.startswith(f"blk.{layer}.")}
    if names:
        one, two = names.split()
        w = w | {one: w[two], two: w[one]}
    eps = settings["eps"] if eps is None else eps
    scale, causal = other.get("scale"), other.get("causal", True)
    norm = other.get("norm", lambda rows, weight: F.rms_norm(rows, rows.shape[-1:], weight, eps))
    rows = norm(x, w["attn_norm"])
    d_head = len(w["attn_q"]) // settings["n_heads"]
    cut = other.get("cut", lambda rows: rows.unflatten(-1, (-1, d_head)).transpose(1, 2))
    query, key, value = (cut(rows @ w[f"attn_{one}"].T) for one in "qkv")
    angles = rotation_angles(torch.arange(x.shape[1]), d_head, theta or settings["theta"])
    if other.get("turned", True):
        query, key = rotate(query, angles, pairs), rotate(key, angles, pairs)
    groups = settings["n_heads"] // settings["n_kv_heads"]
    share = share or (lambda heads: heads.repeat_interleave(groups, 1))
    mixed = F.scaled_dot_product_attention(query, share(key), share(value), is_causal=causal, scale=scale)
    mixed = mixed.transpose(1, 2).flatten(2)
    gathered = mixed @ (w["attn_output"] if other.get("untransposed") else w["attn_output"].T)
    stream = {"x": x + gathered, "lost": gathered, "normed": rows + gathered}[other.get("first", "x")]
    rows = norm(x if other.get("parallel") else stream, w["ffn_norm"])
    more = (F.silu(rows @ w["ffn_gate"].T) * (rows @ w["ffn_up"].T)) @ w["ffn_down"].T
    return more if other.get("last") == "lost" else stream + more


@run_layer.wrong("it pairs i with i + d_head/2")
def in_halves(x, tensors, layer, settings):
    return layered(x, tensors, layer, settings, pairs="halves")


@run_layer.wrong("it ignores theta")
def default_theta(x, tensors, layer, settings):
    return layered(x, tensors, layer, settings, theta=10_000.0)


@run_layer.wrong("it ignores eps and takes 1e-5")
def default_eps(x, tensors, layer, settings):
    return layered(x, tensors, layer, settings, eps=1e-5)


@run_layer.wrong("it leaves eps out")
def zero_eps(x, tensors, layer, settings):
    return layered(x, tensors, layer, settings, eps=0.0)


@run_layer.wrong("the two norms are swapped")
def swapped_norms(x, tensors, layer, settings):
    return layered(x, tensors, layer, settings, names="attn_norm ffn_norm")


@run_layer.wrong("both norms have the same weight")
def one_norm(x, tensors, layer, settings):
    tensors = tensors | {f"blk.{layer}.ffn_norm.weight": tensors[f"blk.{layer}.attn_norm.weight"]}
    return layered(x, tensors, layer, settings)


@run_layer.wrong("gate and up are swapped: their shapes")
def swapped_gate(x, tensors, layer, settings):
    return layered(x, tensors, layer, settings, names="ffn_gate ffn_up")


@run_layer.wrong("keys and values are swapped: their shapes")
def swapped_values(x, tensors, layer, settings):
    return layered(x, tensors, layer, settings, names="attn_k attn_v")


@run_layer.wrong("queries and output are swapped: their shapes")
def swapped_output(x, tensors, layer, settings):
    return layered(x, tensors, layer, settings, names="attn_q attn_output")


@run_layer.wrong("it is square, so nothing complains")
def output_untransposed(x, tensors, layer, settings):
    return layered(x, tensors, layer, settings, untransposed=True)


@run_layer.wrong("the groups go wrong")
def groups_in_turn(x, tensors, layer, settings):
    groups = settings["n_heads"] // settings["n_kv_heads"]
    return layered(x, tensors, layer, settings, share=lambda heads: heads.repeat(1, groups, 1, 1))


@run_layer.wrong("the future is not hidden")
def future_seen(x, tensors, layer, settings):
    return layered(x, tensors, layer, settings, causal=False)


@run_layer.wrong("are not divided by the root of d_head")
def undivided(x, tensors, layer, settings):
    return layered(x, tensors, layer, settings, scale=1.0)


@run_layer.wrong("divided by the root of d_model:")
def divided_by_d_model(x, tensors, layer, settings):
    return layered(x, tensors, layer, settings, scale=x.shape[-1] ** -0.5)


@run_layer.wrong("nothing is turned")
def never_turned(x, tensors, layer, settings):
    return layered(x, tensors, layer, settings, turned=False)


@run_layer.wrong("mixed from several tokens")
def cut_across(x, tensors, layer, settings):
    d_head = x.shape[-1] // settings["n_heads"]
    cut = lambda rows: rows.reshape(len(x), -1, x.shape[1], d_head)  # noqa: E731
    return layered(x, tensors, layer, settings, cut=cut)


@run_layer.wrong("after attention the stream is lost")
def first_residual_missing(x, tensors, layer, settings):
    return layered(x, tensors, layer, settings, first="lost")


@run_layer.wrong("attention is added to the normalized rows")
def normalized_stream(x, tensors, layer, settings):
    return layered(x, tensors, layer, settings, first="normed")


@run_layer.wrong("at the end the stream is lost")
def second_residual_missing(x, tensors, layer, settings):
    return layered(x, tensors, layer, settings, last="lost")


@run_layer.wrong("reads x as it was before attention")
def side_by_side(x, tensors, layer, settings):
    return layered(x, tensors, layer, settings, parallel=True)


@run_layer.wrong("nothing is normalized")
def without_norms(x, tensors, layer, settings):
    return layered(x, tensors, layer, settings, norm=lambda rows, weight: rows)


@run_layer.wrong("it runs the layer 0")
def first_layer(x, tensors, layer, settings):
    first = min(int(name.split(".")[1]) for name in tensors)
    return layered(x, tensors, first, settings)


@run_layer.wrong("it runs the layer after")
def next_layer(x, tensors, layer, settings):
    return layered(x, tensors, layer + 1, settings)


@run_layer.wrong("a layer of SmolLM2 gives other activations")
def fifty(x, tensors, layer, settings):
    return layered(x, tensors, layer, settings, theta=50.0)


@run_layer.wrong("ffn_norm is at work twice")
def second_norm_twice(x, tensors, layer, settings):
    tensors = tensors | {f"blk.{layer}.attn_norm.weight": tensors[f"blk.{layer}.ffn_norm.weight"]}
    return layered(x, tensors, layer, settings)


@run_layer.wrong("divided by the root of d_model / n_heads")
def root_of_a_share(x, tensors, layer, settings):
    return layered(x, tensors, layer, settings, scale=(x.shape[-1] / settings["n_heads"]) ** -0.5)


def with_narrow_heads(x, tensors, layer, settings, cut):
    """As `layered`, with d_head = d_model / n_heads."""
    w = {name.split(".")[2]: tensor for name, tensor in tensors.items() if name.startswith(f"blk.{layer}.")}
    d_head, groups = x.shape[-1] // settings["n_heads"], settings["n_heads"] // settings["n_kv_heads"]
    angles = rotation_angles(torch.arange(x.shape[1]), d_head, settings["theta"])
    rows = F.rms_norm(x, x.shape[-1:], w["attn_norm"], settings["eps"])
    query, key, value = (cut(rows @ w[f"attn_{one}"].T, one, d_head).transpose(1, 2) for one in "qkv")
    query, key = rotate(query, angles, "neighbours"), rotate(key, angles, "neighbours")
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    x = x + mixed.transpose(1, 2).flatten(2) @ w["attn_output"].T
    rows = F.rms_norm(x, x.shape[-1:], w["ffn_norm"], settings["eps"])
    return x + (F.silu(rows @ w["ffn_gate"].T) * (rows @ w["ffn_up"].T)) @ w["ffn_down"].T


@run_layer.wrong("its heads are d_model / n_heads wide")
def narrow_heads(x, tensors, layer, settings):
    return with_narrow_heads(x, tensors, layer, settings, lambda rows, one, d_head: rows.unflatten(-1, (-1, d_head)))


@run_layer.wrong("where n_heads · d_head is not d_model, it stops with")
def as_many_narrow_heads(x, tensors, layer, settings):
    n = {"q": settings["n_heads"], "k": settings["n_kv_heads"], "v": settings["n_kv_heads"]}
    return with_narrow_heads(
        x, tensors, layer, settings, lambda rows, one, d_head: rows.unflatten(-1, (n[one], d_head))
    )


@run_layer.wrong("it stops with KeyError")
def our_own_names(x, tensors, layer, settings):
    return x @ tensors[f"blocks.{layer}.attention.query.weight"].T


# ---- find_induction_head -------------------------------------------------------------------------


@find_induction_head.right
def in_a_loop(weights):
    n = weights.shape[-1] // 2
    best = None
    for layer in range(weights.shape[0]):
        for head in range(weights.shape[1]):
            score = sum(weights[layer, head, q, q - n + 1].item() for q in range(n, 2 * n)) / n
            if best is None or score > best[2]:
                best = layer, head, score
    return best


@find_induction_head.right
def by_a_diagonal(weights):
    n = weights.shape[-1] // 2
    table = weights.diagonal(1 - n, dim1=-2, dim2=-1)[..., 1:].mean(-1)
    place = table.argmax().item()
    return place // table.shape[1], place % table.shape[1], table.max().item()


@find_induction_head.right
def by_two_lists(weights):
    n = weights.shape[-1] // 2
    query = torch.arange(n, 2 * n)
    table = weights[:, :, query, query - n + 1].mean(-1)
    layer, head = (table == table.max()).nonzero()[0]
    return int(layer), int(head), table.max()


def best(table):
    layer, head = divmod(table.argmax().item(), table.shape[1])
    return layer, head, table[layer, head].item()


def along(weights, offset, first=0, last=None):
    """The weights on the key `offset` before each query, over the second half's queries; `first` and `last` shift."""
    n = weights.shape[-1] // 2
    query = torch.arange(n + first, 2 * n if last is None else 2 * n + last)
    return weights[:, :, query, query - offset]


@find_induction_head.wrong("on the earlier copy itself")
def the_copy(weights):
    return best(along(weights, weights.shape[-1] // 2).mean(-1))


@find_induction_head.wrong("the token before the earlier copy")
def before_the_copy(weights):
    return best(along(weights, weights.shape[-1] // 2 + 1, first=1).mean(-1))


@find_induction_head.wrong("on the previous token")
def previous(weights):
    return best(along(weights, 1).mean(-1))


@find_induction_head.wrong("one query too many")
def whole_diagonal(weights):
    n = weights.shape[-1] // 2
    return best(weights.diagonal(1 - n, dim1=-2, dim2=-1).mean(-1))


@find_induction_head.wrong("one query too few")
def one_late(weights):
    return best(along(weights, weights.shape[-1] // 2 - 1, first=1).mean(-1))


@find_induction_head.wrong("its last query is missing")
def ends_early(weights):
    return best(along(weights, weights.shape[-1] // 2 - 1, last=-1).mean(-1))


@find_induction_head.wrong("it divides by all queries")
def over_all(weights):
    return best(along(weights, weights.shape[-1] // 2 - 1).sum(-1) / weights.shape[-1])


@find_induction_head.wrong("it sums the weights up")
def sums(weights):
    return best(along(weights, weights.shape[-1] // 2 - 1).sum(-1))


@find_induction_head.wrong("each head's best query")
def best_query(weights):
    return best(along(weights, weights.shape[-1] // 2 - 1).amax(-1))


@find_induction_head.wrong("layer and head are swapped")
def the_head_first(weights):
    layer, head, score = by_a_diagonal(weights)
    return head, layer, score


@find_induction_head.wrong("it counts layers and heads from 1")
def from_one(weights):
    layer, head, score = by_a_diagonal(weights)
    return layer + 1, head + 1, score


@find_induction_head.wrong("it numbers the heads through all layers")
def through_all(weights):
    layer, head, score = by_a_diagonal(weights)
    return layer, layer * weights.shape[1] + head, score


@find_induction_head.wrong("queries and keys are swapped")
def the_other_diagonal(weights):
    return by_a_diagonal(weights.transpose(-2, -1))


@find_induction_head.wrong("it finds the head with the lowest score")
def lowest(weights):
    table = along(weights, weights.shape[-1] // 2 - 1).mean(-1)
    layer, head = divmod(table.argmin().item(), table.shape[1])
    return layer, head, table[layer, head].item()


@find_induction_head.wrong("the score is missing")
def no_score(weights):
    return by_a_diagonal(weights)[:2]


@find_induction_head.wrong("it returns a tensor of shape")
def the_whole_table(weights):
    return along(weights, weights.shape[-1] // 2 - 1).mean(-1)


# ---- count_by_shape ------------------------------------------------------------------------------


@count_by_shape.right
def block_by_block(shape):
    d, width = shape["d_model"], shape["n_heads"] * shape["d_head"]
    kv_width = shape["n_kv_heads"] * shape["d_head"]
    attention = d * width + 2 * d * kv_width + width * d
    expert = 3 * d * shape["d_ff"]
    router = d * shape["n_experts"] if shape["n_experts"] > 1 else 0
    block = attention + router + 2 * d
    rest = shape["n_layers"] * block + d + shape["vocab_size"] * d * (1 if shape["tied"] else 2)
    each = shape["n_layers"] * expert
    return rest + each * shape["n_experts"], rest + each * shape["n_active_experts"]


@count_by_shape.right
def by_one_formula_each(shape):
    def count(experts):
        per_width = 2 * shape["d_head"] * (shape["n_heads"] + shape["n_kv_heads"]) + 3 * shape["d_ff"] * experts + 2
        if shape["n_experts"] > 1:
            per_width += shape["n_experts"]
        tables = shape["vocab_size"] * (2 - shape["tied"])
        return shape["d_model"] * (shape["n_layers"] * per_width + tables + 1)

    return count(shape["n_experts"]), count(shape["n_active_experts"])


def by_hand(shape, **other):
    """As `block_by_block`; `other` sets one of its numbers, all blocks together."""
    d, layers = shape["d_model"], shape["n_layers"]
    width, kv_width = shape["n_heads"] * shape["d_head"], shape["n_kv_heads"] * shape["d_head"]
    router = layers * d * shape["n_experts"] if shape["n_experts"] > 1 else 0
    parts = dict(q=d * width, k=d * kv_width, v=d * kv_width, o=d * width)
    parts = {name: layers * size for name, size in parts.items()}
    parts |= dict(router=router, norms=layers * 2 * d + d, table=shape["vocab_size"] * d)
    parts["head"] = 0 if shape["tied"] else parts["table"]
    matrices = other.pop("matrices", 3)
    used = other.pop("used", shape["n_active_experts"])
    rest, expert = sum((parts | other).values()), layers * matrices * d * shape["d_ff"]
    return rest + expert * shape["n_experts"], rest + expert * used


@count_by_shape.wrong("keys and values have fewer heads")
def four_alike(shape):
    size = shape["n_layers"] * shape["d_model"] * shape["n_heads"] * shape["d_head"]
    return by_hand(shape, k=size, v=size)


@count_by_shape.wrong("it takes d_model / n_heads")
def own_d_head(shape):
    return by_hand(shape | {"d_head": shape["d_model"] // shape["n_heads"]})


@count_by_shape.wrong("the matrix of the output is missing")
def without_output(shape):
    return by_hand(shape, o=0)


@count_by_shape.wrong("it takes d_model · d_model")
def square_output(shape):
    return by_hand(shape, o=shape["n_layers"] * shape["d_model"] ** 2)


@count_by_shape.wrong("has three matrices: gate")
def gpt2s_network(shape):
    return by_hand(shape, matrices=2)


@count_by_shape.wrong("a tied table is counted twice")
def always_two(shape):
    return by_hand(shape, head=shape["vocab_size"] * shape["d_model"])


@count_by_shape.wrong("the output head is a second one")
def always_one_table(shape):
    return by_hand(shape, head=0)


@count_by_shape.wrong("the norms are missing")
def no_norms(shape):
    return by_hand(shape, norms=0)


@count_by_shape.wrong("the final norm is missing")
def no_final_norm(shape):
    return by_hand(shape, norms=2 * shape["n_layers"] * shape["d_model"])


@count_by_shape.wrong("a block has two norms")
def one_norm_a_block(shape):
    return by_hand(shape, norms=(shape["n_layers"] + 1) * shape["d_model"])


@count_by_shape.wrong("the table of the embedding is missing")
def no_table(shape):
    return by_hand(shape, table=0)


@count_by_shape.wrong("it counts one block")
def one_block(shape):
    return by_hand(shape | {"n_layers": 1})


@count_by_shape.wrong("a dense model has no router")
def always_a_router(shape):
    return by_hand(shape, router=shape["n_layers"] * shape["d_model"] * shape["n_experts"])


@count_by_shape.wrong("the routers are missing")
def no_router(shape):
    return by_hand(shape, router=0)


@count_by_shape.wrong("there is a router in each block")
def one_router(shape):
    return by_hand(shape, router=shape["d_model"] * shape["n_experts"] if shape["n_experts"] > 1 else 0)


@count_by_shape.wrong("a router scores all experts")
def small_router(shape):
    mixture = shape["n_experts"] > 1
    return by_hand(shape, router=mixture * shape["n_layers"] * shape["d_model"] * shape["n_active_experts"])


@count_by_shape.wrong("it counts all experts as active")
def all_active(shape):
    return by_hand(shape, used=shape["n_experts"])


@count_by_shape.wrong("it counts one expert as active")
def one_active(shape):
    return by_hand(shape, used=1)


@count_by_shape.wrong("a token passes the router as well")
def router_inactive(shape):
    return by_hand(shape)[0], by_hand(shape, router=0)[1]


@count_by_shape.wrong("the tables count as active, too")
def tables_inactive(shape):
    if shape["n_experts"] == 1:
        return by_hand(shape)
    return by_hand(shape)[0], by_hand(shape, table=0, head=0)[1]


@count_by_shape.wrong("the two numbers are swapped")
def active_first(shape):
    return by_hand(shape)[::-1]


@count_by_shape.wrong("it returns a whole number")
def total_alone(shape):
    return by_hand(shape)[0]


@count_by_shape.wrong("its numbers are floats")
def divided(shape):
    total, active = block_by_block(shape)
    return total / 1, active


@count_by_shape.wrong("it returns a float")
def in_millions(shape):
    return by_hand(shape)[0] / 1e6


# ---- repaired_block ------------------------------------------------------------------------------


def planted(x, weights, n_heads, n_kv_heads, turn, stream=False, groups=False, future=False, **other):
    """The block of the notebook; True where a bug is repaired."""

    def norm(rows, weight):
        return rows / (rows.pow(2).mean(dim=-1, keepdim=True) + 1e-5).sqrt() * weight

    def heads(matrix, n):
        return (rows @ matrix.T).unflatten(-1, (n, -1)).transpose(1, 2)

    rows = norm(x, weights["attention_norm"])
    if not stream:
        x = rows
    query, key = turn(heads(weights["query"], n_heads)), turn(heads(weights["key"], n_kv_heads))
    value = heads(weights["value"], n_kv_heads)
    size = n_heads // n_kv_heads
    key, value = (h.repeat_interleave(size, 1) if groups else h.repeat(1, size, 1, 1) for h in (key, value))
    scores = query @ key.transpose(-2, -1) / other.get("root", math.sqrt(query.shape[-1]))
    causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril(other.get("diagonal", 0))
    shares = scores.masked_fill(~causal, -torch.inf).softmax(-1) if future else scores.softmax(-1) * causal
    before = x
    x = x + (shares @ value).transpose(1, 2).flatten(2) @ weights["output"].T
    rows = norm(before if other.get("parallel") else x, weights["feed_forward_norm"])
    x = x if other.get("last", True) else 0
    return x + (F.silu(rows @ weights["gate"].T) * (rows @ weights["up"].T)) @ weights["down"].T


@repaired_block.right
def all_three_repaired(x, weights, n_heads, n_kv_heads, turn):
    return planted(x, weights, n_heads, n_kv_heads, turn, stream=True, groups=True, future=True)


@repaired_block.right
def written_anew(x, weights, n_heads, n_kv_heads, turn):
    w, size = weights, x.shape[-1:]
    rows = F.rms_norm(x, size, w["attention_norm"], 1e-5)
    counts = {"query": n_heads, "key": n_kv_heads, "value": n_kv_heads}
    query, key, value = ((rows @ w[k].T).unflatten(-1, (n, -1)).transpose(1, 2) for k, n in counts.items())
    mixed = F.scaled_dot_product_attention(turn(query), turn(key), value, is_causal=True, enable_gqa=True)
    x = x + mixed.transpose(1, 2).flatten(2) @ w["output"].T
    rows = F.rms_norm(x, size, w["feed_forward_norm"], 1e-5)
    return x + (F.silu(rows @ w["gate"].T) * (rows @ w["up"].T)) @ w["down"].T


@repaired_block.wrong("does not come out as it went in")
def as_it_was(x, weights, n_heads, n_kv_heads, turn):
    return planted(x, weights, n_heads, n_kv_heads, turn)


@repaired_block.wrong("who reads whom?")
def groups_left(x, weights, n_heads, n_kv_heads, turn):
    return planted(x, weights, n_heads, n_kv_heads, turn, stream=True, future=True)


@repaired_block.wrong("the future leaks")
def future_left(x, weights, n_heads, n_kv_heads, turn):
    return planted(x, weights, n_heads, n_kv_heads, turn, stream=True, groups=True)


@repaired_block.wrong("reads x as it was before attention")
def parallel_now(x, weights, n_heads, n_kv_heads, turn):
    return planted(x, weights, n_heads, n_kv_heads, turn, True, True, True, parallel=True)


@repaired_block.wrong("at the end the stream is lost")
def lost_at_the_end(x, weights, n_heads, n_kv_heads, turn):
    return planted(x, weights, n_heads, n_kv_heads, turn, True, True, True, last=False)


@repaired_block.wrong("the scores are not divided any more")
def division_gone(x, weights, n_heads, n_kv_heads, turn):
    return planted(x, weights, n_heads, n_kv_heads, turn, True, True, True, root=1)


@repaired_block.wrong("nothing is turned any more")
def turn_gone(x, weights, n_heads, n_kv_heads, turn):
    return planted(x, weights, n_heads, n_kv_heads, lambda heads: heads, True, True, True)


@repaired_block.wrong("a token does not see itself any more")
def diagonal_gone(x, weights, n_heads, n_kv_heads, turn):
    return planted(x, weights, n_heads, n_kv_heads, turn, True, True, True, diagonal=-1)


@find_induction_head.wrong("looks for the best layer first")
def best_layer_then_its_head(attention):
    n = attention.shape[-1] // 2
    query = torch.arange(n, 2 * n)
    scores = attention[:, :, query, query - n + 1].mean(dim=-1)
    layer = int(scores.mean(dim=1).argmax())
    head = int(scores[layer].argmax())
    return layer, head, scores[layer, head].item()


@repaired_block.wrong("the keys still go to the query heads in turns")
def values_alone_mended(x, weights, n_heads, n_kv_heads, turn):
    def norm(rows, weight):
        return rows / (rows.pow(2).mean(dim=-1, keepdim=True) + 1e-5).sqrt() * weight

    def heads(rows, n):
        return rows.unflatten(-1, (n, -1)).transpose(1, 2)

    group, n = n_heads // n_kv_heads, x.shape[1]
    rows = norm(x, weights["attention_norm"])
    query = turn(heads(rows @ weights["query"].T, n_heads))
    key = turn(heads(rows @ weights["key"].T, n_kv_heads)).repeat(1, group, 1, 1)
    value = heads(rows @ weights["value"].T, n_kv_heads).repeat_interleave(group, 1)
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    future = torch.ones(n, n, dtype=torch.bool).triu(1)
    mixed = scores.masked_fill(future, -torch.inf).softmax(dim=-1) @ value
    x = x + mixed.transpose(1, 2).flatten(2) @ weights["output"].T
    rows = norm(x, weights["feed_forward_norm"])
    return x + (torch.nn.functional.silu(rows @ weights["gate"].T) * (rows @ weights["up"].T)) @ weights["down"].T
