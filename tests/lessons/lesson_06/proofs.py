import math

import torch
import torch.nn.functional as F
from lessons.proof import Proof

# ---- split_heads ----------------------------------------------------------------------------------

split_heads = Proof("split_heads")


@split_heads.right
def two_steps(x, n_heads):
    batch, n, width = x.shape
    return x.reshape(batch, n, n_heads, width // n_heads).permute(0, 2, 1, 3)


@split_heads.right
def slices(x, n_heads):
    d_head = x.shape[-1] // n_heads
    return torch.stack([x[:, :, h * d_head : (h + 1) * d_head] for h in range(n_heads)], dim=1)


@split_heads.right
def chunks(x, n_heads):
    return torch.stack(x.chunk(n_heads, dim=-1)).transpose(0, 1)


@split_heads.wrong("the shape is right and the numbers are not")
def straight_to_the_shape(x, n_heads):
    batch, n, width = x.shape
    return x.view(batch, n_heads, n, width // n_heads)


@split_heads.wrong("a head takes every n_heads-th number")
def every_nth(x, n_heads):
    return torch.stack([x[:, :, h::n_heads] for h in range(n_heads)], dim=1)


@split_heads.wrong("heads still stand behind the positions")
def not_swapped(x, n_heads):
    return x.view(*x.shape[:2], n_heads, -1)


@split_heads.wrong("heads and d_head have changed places")
def as_wide_as_many(x, n_heads):
    batch, n, width = x.shape
    return x.view(batch, n, width // n_heads, n_heads).transpose(1, 2)


@split_heads.wrong("the heads stand before the texts")
def a_stack_of_chunks(x, n_heads):
    return torch.stack(x.chunk(n_heads, dim=-1))


@split_heads.wrong("position and d_head have changed places")
def on_its_side(x, n_heads):
    batch, n, width = x.shape
    return x.view(batch, n, n_heads, width // n_heads).permute(0, 2, 3, 1)


@split_heads.wrong("batch and heads are two dimensions")
def all_in_one_row(x, n_heads):
    return two_steps(x, n_heads).flatten(0, 1)


@split_heads.wrong("reverse order")
def last_head_first(x, n_heads):
    return two_steps(x, n_heads).flip(1)


@split_heads.wrong("it returns a list of")
def a_list(x, n_heads):
    return list(x.chunk(n_heads, dim=-1))


# ---- multi_head_attention -------------------------------------------------------------------------

multi_head_attention = Proof("multi_head_attention")


@multi_head_attention.right
def a_loop_over_heads(x, query_weight, key_weight, value_weight, output_weight, n_heads):
    n, d_head = x.shape[1], x.shape[2] // n_heads
    past = torch.tril(torch.ones(n, n)) == 1
    results = []
    for h in range(n_heads):
        mine = slice(h * d_head, (h + 1) * d_head)
        q, k, v = (x @ weight[mine].T for weight in (query_weight, key_weight, value_weight))
        scores = (q @ k.transpose(1, 2) / math.sqrt(d_head)).masked_fill(~past, float("-inf"))
        results.append(torch.softmax(scores, dim=-1) @ v)
    return torch.cat(results, dim=-1) @ output_weight.T


@multi_head_attention.right
def by_the_fused_operation(x, query_weight, key_weight, value_weight, output_weight, n_heads):
    q, k, v = (two_steps(F.linear(x, weight), n_heads) for weight in (query_weight, key_weight, value_weight))
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return F.linear(mixed.permute(0, 2, 1, 3).reshape(x.shape), output_weight)


@multi_head_attention.right
def by_einsum(x, query_weight, key_weight, value_weight, output_weight, n_heads):
    q, k, v = (two_steps(x @ weight.T, n_heads) for weight in (query_weight, key_weight, value_weight))
    n = x.shape[1]
    past = torch.ones(n, n, dtype=torch.bool).tril()
    scores = (torch.einsum("bhqd,bhkd->bhqk", q, k) * q.shape[-1] ** -0.5).masked_fill(~past, -math.inf)
    powers = torch.exp(scores - scores.amax(-1, keepdim=True))
    weights = powers / powers.sum(-1, keepdim=True)
    columns = two_steps(output_weight[None], n_heads)[0]  # each head's columns: (heads, d_model, d_head)
    return torch.einsum("bhqk,bhkd,hod->bqo", weights, v, columns)


def with_mistake(step):
    """A plausible solution in which one step is another: `step` is its name and what it does instead."""

    def attend(x, query_weight, key_weight, value_weight, output_weight, n_heads):
        batch, n, d_model = x.shape
        d_head = d_model // n_heads
        q, k, v = (
            (x @ w.T).view(batch, n, n_heads, d_head).transpose(1, 2) for w in (query_weight, key_weight, value_weight)
        )
        scores = (
            q @ k.transpose(-2, -1) / step.get("divisor", lambda *sizes: math.sqrt(sizes[0]))(d_head, d_model, n_heads)
        )
        past = torch.ones(n, n, dtype=torch.bool).tril()
        close = step.get("close", lambda scores, past: scores.masked_fill(~past, -torch.inf))
        weights = step.get("softmax", lambda scores: scores.softmax(-1))(close(scores, past))
        weights = step.get("afterwards", lambda weights, past: weights)(weights, past)
        merged = step.get("merge", lambda mixed: mixed.transpose(1, 2).flatten(2))(weights @ v)
        return merged @ output_weight.T

    return attend


WRONG_STEPS = {
    "no_mask": ("tokens see the future: the causal mask", {"close": lambda scores, past: scores}),
    "mask_turned_round": (
        "tokens see the future and not the past",
        {"close": lambda scores, past: scores.masked_fill(~past.T, -torch.inf)},
    ),
    "diagonal_masked": (
        "a token does not see itself",
        {"close": lambda scores, past: scores.masked_fill(~past.tril(-1), -torch.inf)},
    ),
    "masked_by_zero": ("the future's scores become 0", {"close": lambda scores, past: scores * past}),
    "masked_afterwards": (
        "the mask comes after the softmax",
        {"close": lambda scores, past: scores, "afterwards": lambda weights, past: weights * past},
    ),
    "not_divided": ("the scores are not divided", {"divisor": lambda d_head, d_model, n_heads: 1}),
    "divided_by_d_head": ("divided by d_head: by its root", {"divisor": lambda d_head, d_model, n_heads: d_head}),
    "multiplied": ("multiplied by √d_head", {"divisor": lambda d_head, d_model, n_heads: d_head**-0.5}),
    "divided_by_root_d_model": ("divided by √d_model", {"divisor": lambda d_head, d_model, n_heads: d_model**0.5}),
    "softmax_over_queries": ("the softmax runs over the queries", {"softmax": lambda scores: scores.softmax(-2)}),
    "merged_without_swapping": (
        "the merge forgets to swap back",
        {"merge": lambda mixed: mixed.reshape(len(mixed), mixed.shape[2], -1)},
    ),
    "merged_interleaved": (
        "the heads' numbers take turns after the merge",
        {"merge": lambda mixed: mixed.permute(0, 2, 3, 1).flatten(2)},
    ),
}
for name, (diagnosis, step) in WRONG_STEPS.items():
    function = with_mistake(step)
    function.__name__ = name
    multi_head_attention.wrong(diagnosis)(function)


@multi_head_attention.wrong("the matrices are stored as (out, in): it is")
def nothing_transposed(x, query_weight, key_weight, value_weight, output_weight, n_heads):
    return a_loop_over_heads(x, query_weight.T, key_weight.T, value_weight.T, output_weight.T, n_heads)


@multi_head_attention.wrong("the output matrix is stored as (out, in)")
def output_not_transposed(x, query_weight, key_weight, value_weight, output_weight, n_heads):
    return a_loop_over_heads(x, query_weight, key_weight, value_weight, output_weight.T, n_heads)


@multi_head_attention.wrong("queries, keys and values are made by x @ weight")
def inputs_not_transposed(x, query_weight, key_weight, value_weight, output_weight, n_heads):
    return a_loop_over_heads(x, query_weight.T, key_weight.T, value_weight.T, output_weight, n_heads)


@multi_head_attention.wrong("the output matrix is not used")
def not_mixed(x, query_weight, key_weight, value_weight, output_weight, n_heads):
    return a_loop_over_heads(x, query_weight, key_weight, value_weight, torch.eye(x.shape[-1]), n_heads)


@multi_head_attention.wrong("it adds x")
def with_the_residual(x, query_weight, key_weight, value_weight, output_weight, n_heads):
    return x + a_loop_over_heads(x, query_weight, key_weight, value_weight, output_weight, n_heads)


@multi_head_attention.wrong("there is one head whatever n_heads says")
def single(x, query_weight, key_weight, value_weight, output_weight, n_heads):
    return a_loop_over_heads(x, query_weight, key_weight, value_weight, output_weight, 1)


@multi_head_attention.wrong("queries and keys have changed places")
def exchanged(x, query_weight, key_weight, value_weight, output_weight, n_heads):
    return a_loop_over_heads(x, key_weight, query_weight, value_weight, output_weight, n_heads)


@multi_head_attention.wrong("what is mixed are the keys")
def keys_for_values(x, query_weight, key_weight, value_weight, output_weight, n_heads):
    return a_loop_over_heads(x, query_weight, key_weight, key_weight, output_weight, n_heads)


@multi_head_attention.wrong("what is mixed are the tokens' rows")
def no_values(x, query_weight, key_weight, value_weight, output_weight, n_heads):
    return a_loop_over_heads(x, query_weight, key_weight, torch.eye(x.shape[-1]), output_weight, n_heads)


def cut_at_once(join):
    def attend(x, query_weight, key_weight, value_weight, output_weight, n_heads):
        batch, n, d_model = x.shape
        q, k, v = (
            (x @ w.T).view(batch, n_heads, n, d_model // n_heads) for w in (query_weight, key_weight, value_weight)
        )
        return join(F.scaled_dot_product_attention(q, k, v, is_causal=True)) @ output_weight.T

    return attend


@multi_head_attention.wrong("cut at once into")
def viewed_both_ways(*given):
    return cut_at_once(lambda mixed: mixed.reshape(len(mixed), mixed.shape[2], -1))(*given)


@multi_head_attention.wrong("the split reads the numbers in a wrong order")
def viewed_in(*given):
    return cut_at_once(lambda mixed: mixed.transpose(1, 2).flatten(2))(*given)


@multi_head_attention.wrong("a head takes every n_heads-th number")
def interleaved(x, query_weight, key_weight, value_weight, output_weight, n_heads):
    batch, n, d_model = x.shape
    q, k, v = (
        (x @ w.T).view(batch, n, d_model // n_heads, n_heads).permute(0, 3, 1, 2)
        for w in (query_weight, key_weight, value_weight)
    )
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return mixed.permute(0, 2, 3, 1).flatten(2) @ output_weight.T


# ---- repeat_kv_heads ------------------------------------------------------------------------------

repeat_kv_heads = Proof("repeat_kv_heads")


@repeat_kv_heads.right
def on_the_spot(x, n_heads):
    return torch.repeat_interleave(x, n_heads // x.size(1), 1)


@repeat_kv_heads.right
def expanded(x, n_heads):
    batch, n_kv, n, d_head = x.shape
    return x[:, :, None].expand(batch, n_kv, n_heads // n_kv, n, d_head).reshape(batch, n_heads, n, d_head)


@repeat_kv_heads.right
def chosen_by_index(x, n_heads):
    return x[:, [h * x.shape[1] // n_heads for h in range(n_heads)]]


@repeat_kv_heads.wrong("the whole list of heads is repeated")
def tiled(x, n_heads):
    return x.repeat(1, n_heads // x.shape[1], 1, 1)


@repeat_kv_heads.wrong("each head is repeated n_heads times")
def too_often(x, n_heads):
    return x.repeat_interleave(n_heads, dim=1)


@repeat_kv_heads.wrong("nothing is repeated")
def unchanged(x, n_heads):
    return x


@repeat_kv_heads.wrong("each head is repeated kv_heads times")
def as_often_as_there_are(x, n_heads):
    return x.repeat_interleave(x.shape[1], dim=1)


@repeat_kv_heads.wrong("the first head serves all")
def first_for_all(x, n_heads):
    return x[:, :1].expand(-1, n_heads, -1, -1)


@repeat_kv_heads.wrong("the mean of the heads")
def mean_for_all(x, n_heads):
    return x.mean(1, keepdim=True).expand(-1, n_heads, -1, -1)


@repeat_kv_heads.wrong("the positions are repeated")
def positions(x, n_heads):
    return x.repeat_interleave(n_heads // x.shape[1], dim=2)


@repeat_kv_heads.wrong("the texts are repeated")
def texts(x, n_heads):
    return x.repeat_interleave(n_heads // x.shape[1], dim=0)


@repeat_kv_heads.wrong("a dimension too many")
def not_joined(x, n_heads):
    return torch.stack([x] * (n_heads // x.shape[1]), dim=2)


@repeat_kv_heads.wrong("the numbers of a row are repeated and cut anew")
def wider_then_cut(x, n_heads):
    batch, n_kv, n, d_head = x.shape
    return torch.cat([x] * (n_heads // n_kv), dim=-1).view(batch, n_heads, n, d_head)


# ---- kv_cache_bytes -------------------------------------------------------------------------------

kv_cache_bytes = Proof("kv_cache_bytes")


@kv_cache_bytes.right
def one_product(n_tokens, n_layers, d_model, n_heads, n_kv_heads, bytes_per_number=2):
    return n_tokens * n_layers * 2 * n_kv_heads * d_model // n_heads * bytes_per_number


@kv_cache_bytes.right
def two_tensors(n_tokens, n_layers, d_model, n_heads, n_kv_heads, bytes_per_number=2):
    keys = torch.empty(n_layers, n_kv_heads, n_tokens, d_model // n_heads, device="meta")
    return int((keys.numel() + keys.numel()) * bytes_per_number)


@kv_cache_bytes.wrong("it counts keys or values")
def keys_alone(n_tokens, n_layers, d_model, n_heads, n_kv_heads, bytes_per_number=2):
    return n_tokens * n_layers * n_kv_heads * (d_model // n_heads) * bytes_per_number


@kv_cache_bytes.wrong("queries are counted")
def three_tensors(n_tokens, n_layers, d_model, n_heads, n_kv_heads, bytes_per_number=2):
    return 3 * n_tokens * n_layers * n_kv_heads * (d_model // n_heads) * bytes_per_number


@kv_cache_bytes.wrong("it counts one layer")
def one_layer(n_tokens, n_layers, d_model, n_heads, n_kv_heads, bytes_per_number=2):
    return 2 * n_tokens * n_kv_heads * (d_model // n_heads) * bytes_per_number


@kv_cache_bytes.wrong("it counts one token")
def one_token(n_tokens, n_layers, d_model, n_heads, n_kv_heads, bytes_per_number=2):
    return 2 * n_layers * n_kv_heads * (d_model // n_heads) * bytes_per_number


@kv_cache_bytes.wrong("it counts numbers")
def numbers(n_tokens, n_layers, d_model, n_heads, n_kv_heads, bytes_per_number=2):
    return 2 * n_tokens * n_layers * n_kv_heads * (d_model // n_heads)


@kv_cache_bytes.wrong("each number takes 2 bytes, whatever")
def always_two(n_tokens, n_layers, d_model, n_heads, n_kv_heads, bytes_per_number=2):
    return 2 * n_tokens * n_layers * n_kv_heads * (d_model // n_heads) * 2


@kv_cache_bytes.wrong("it counts bits")
def bits(n_tokens, n_layers, d_model, n_heads, n_kv_heads, bytes_per_number=2):
    return 16 * n_tokens * n_layers * n_kv_heads * (d_model // n_heads) * bytes_per_number


@kv_cache_bytes.wrong("each head has d_model numbers")
def full_width_heads(n_tokens, n_layers, d_model, n_heads, n_kv_heads, bytes_per_number=2):
    return 2 * n_tokens * n_layers * n_kv_heads * d_model * bytes_per_number


@kv_cache_bytes.wrong("all d_model numbers are counted")
def all_heads(n_tokens, n_layers, d_model, n_heads, n_kv_heads, bytes_per_number=2):
    return 2 * n_tokens * n_layers * d_model * bytes_per_number


@kv_cache_bytes.wrong("one head is counted")
def one_head(n_tokens, n_layers, d_model, n_heads, n_kv_heads, bytes_per_number=2):
    return 2 * n_tokens * n_layers * (d_model // n_heads) * bytes_per_number


@kv_cache_bytes.wrong("the cache keeps rows, not pairs")
def squared(n_tokens, n_layers, d_model, n_heads, n_kv_heads, bytes_per_number=2):
    return 2 * n_tokens**2 * n_layers * n_kv_heads * (d_model // n_heads) * bytes_per_number


@kv_cache_bytes.wrong("it returns a float")
def by_division(n_tokens, n_layers, d_model, n_heads, n_kv_heads, bytes_per_number=2):
    return 2 * n_tokens * n_layers * n_kv_heads * (d_model / n_heads) * bytes_per_number


@multi_head_attention.wrong("NaN comes out where scores are large")
def without_a_maximum(x, query_weight, key_weight, value_weight, output_weight, n_heads):
    query, key, value = (
        (x @ weight.T).unflatten(-1, (n_heads, -1)).transpose(1, 2)
        for weight in (query_weight, key_weight, value_weight)
    )
    powers = (query @ key.mT / query.shape[-1] ** 0.5).exp().tril()
    return (powers / powers.sum(-1, keepdim=True) @ value).transpose(1, 2).flatten(2) @ output_weight.T
