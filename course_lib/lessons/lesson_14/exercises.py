"""Lesson 14: a conversation as the text that the model reads, and the whole forward pass, from ids to scores."""

from functools import partial

import torch
import torch.nn.functional as F

from course_lib.classroom.exercise import Exercise
from course_lib.input_processing.positions import rotation_angles
from course_lib.lessons.lesson_09 import exercises as lesson_09
from course_lib.lessons.tools import draw, shuffled, some

# ---- chat_prompt ----------------------------------------------------------------------------------

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"  # SmolLM2's default, in its template
WORDS = ("hill", "dog", "Who", "blue kite", "why?", "2 + 2", "Paris", "the red ball", "ran up", "äöü", "(no)")


def chat(
    messages, system,
    default=lambda messages: messages[0]["role"] != "system",
    one=lambda role, content: f"<|im_start|>{role}\n{content}<|im_end|>\n",
    opening=None, end="<|im_start|>assistant\n", chosen=lambda messages: messages,
):  # fmt: skip
    """The text; the keywords are somebody's slips."""
    start = (opening or one)("system", system) if default(messages) else ""
    text = start + "".join(one(message["role"], message["content"]) for message in chosen(messages))
    return text + (end(messages) if callable(end) else end)


def joined(between, end):
    """The messages with something *between* them, and so not after the last."""

    def formula(messages, system):
        first = [] if messages[0]["role"] == "system" else [{"role": "system", "content": system}]
        blocks = [f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>" for m in (*first, *messages)]
        return between.join(blocks) + end

    return formula


def default_each_time(messages, system):
    once = "" if messages[0]["role"] == "system" else f"<|im_start|>system\n{system}<|im_end|>\n"
    blocks = (once + chat([message], system, default=lambda _: False, end="") for message in messages)
    return "".join(blocks) + "<|im_start|>assistant\n"


def said(random, *roles):
    """A message of each role, in words that differ."""
    contents = shuffled(random, WORDS)
    return [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]


def one_question(chat_prompt, random):
    """one question: the default system message goes in front, and the assistant's turn is opened at the end"""
    chat_prompt.compare((said(random, "user"), f"You are number {draw(random, 2, 99)}.") for _ in range(3))


def own_system(chat_prompt, random):
    """messages that begin with a system message bring their own, and the default one stays away"""
    system = f"You are number {draw(random, 2, 99)}."
    chat_prompt.compare([(said(random, "system", "user"), system), (said(random, "system"), system)])


def several_turns(chat_prompt, random):
    """several turns, whoever spoke first or last; a system message further down is a message like any other"""
    turns = [
        ("user", "user"),
        ("user", "assistant", "assistant", "user", "user"),
        ("system", "system", "user"),
        ("assistant", "user"),
        ("user", "assistant", "user"),
        ("system", "user", "assistant"),
        ("user", "system", "user", "assistant"),
    ]
    chat_prompt.compare((said(random, *roles), f"You are number {draw(random, 2, 99)}.") for roles in turns)


def as_they_are(chat_prompt, random):
    """what was said stays as it is: spaces and line breaks at its ends, no words at all"""
    word, other = shuffled(random, WORDS)[:2]
    contents = [f"  {word}", f"{word}\n\n{other}\n", "", f"\n{other} "]
    chat_prompt.compare(([{"role": "user", "content": content}], "Be kind. ") for content in contents)
    odd = ("{}", "{content} {0}", "50% of $1", "%s", "a\\nb", ".*", "<|im_end|>", "<|im_start|>user", "</s>", "'\"")
    chat_prompt.compare(([{"role": "user", "content": content}], system) for content in odd for system in ("", content))
    typed = [
        {"role": role, "content": "<|im_end|>\n<|im_start|>system\n{}"} for role in ("system", "assistant", "user")
    ]
    chat_prompt.compare([(typed, "%d"), (typed[1:], ""), ([{"role": "system", "content": ""}, typed[2]], "Be kind.")])


CHAT_PROMPT = Exercise(
    name="chat_prompt",
    lesson="14",
    title="a conversation as the text that the model reads",
    oracle=chat,
    checks={"question": (one_question,), "conversation": (own_system, several_turns, as_they_are)},
    mistakes={
        "the default system message is missing: in front, unless the first message is a system message": partial(
            chat, default=lambda messages: False
        ),
        "the default system message goes in front of the messages' own: only where they begin with none": partial(
            chat, default=lambda messages: True
        ),
        "the default system message stays away where the assistant speaks first: it comes first there, too": partial(
            chat, default=lambda messages: messages[0]["role"] == "user"
        ),
        "it looks for a system message anywhere: the template looks at the first message alone": partial(
            chat, default=lambda messages: all(message["role"] != "system" for message in messages)
        ),
        "the default system message stands before every message: once, before the first": default_each_time,
        "the default system text stands there bare: it is a message, with markers and role": partial(
            chat, opening=lambda role, content: content + "\n"
        ),
        "the end is missing: `<|im_start|>assistant` and a line break, where the model goes on": partial(chat, end=""),
        "the assistant's turn is opened and closed again: the model is to write it": partial(
            chat, end="<|im_start|>assistant\n<|im_end|>\n"
        ),
        "the line break after the last `assistant` is missing: the model would have to begin with it": partial(
            chat, end="<|im_start|>assistant"
        ),
        "where the assistant spoke last, its turn is not opened again: the template opens it always": partial(
            chat, end=lambda messages: "" if messages[-1]["role"] == "assistant" else "<|im_start|>assistant\n"
        ),
        "`<|im_end|>` is missing behind the messages": partial(
            chat, one=lambda role, content: f"<|im_start|>{role}\n{content}\n"
        ),
        "the line break after `<|im_end|>` is missing": joined("", "<|im_start|>assistant\n"),
        "the line break after the last message's `<|im_end|>` is missing: it stands after each": joined(
            "\n", "<|im_start|>assistant\n"
        ),
        "the line breaks after `<|im_end|>` and after the last `assistant` are missing": joined(
            "", "<|im_start|>assistant"
        ),
        "there is a line break before `<|im_end|>`: it stands right behind what was said": partial(
            chat, one=lambda role, content: f"<|im_start|>{role}\n{content}\n<|im_end|>\n"
        ),
        "there are two line breaks between messages: one": joined("\n\n", "\n\n<|im_start|>assistant\n"),
        "a space stands behind the role: a line break": partial(
            chat, one=lambda role, content: f"<|im_start|>{role} {content}<|im_end|>\n"
        ),
        "a colon stands behind the role: a line break": partial(
            chat, one=lambda role, content: f"<|im_start|>{role}: {content}<|im_end|>\n"
        ),
        "nothing stands between role and text: a line break": partial(
            chat, one=lambda role, content: f"<|im_start|>{role}{content}<|im_end|>\n"
        ),
        "the role is missing: it stands behind `<|im_start|>`": partial(
            chat, one=lambda role, content: f"<|im_start|>\n{content}<|im_end|>\n"
        ),
        "every message is the user's: the role is the message's own": partial(
            chat,
            one=lambda role, content: f"<|im_start|>user\n{content}<|im_end|>\n",
            opening=lambda role, content: f"<|im_start|>system\n{content}<|im_end|>\n",
        ),
        "role and text have changed places": partial(
            chat, one=lambda role, content: f"<|im_start|>{content}\n{role}<|im_end|>\n"
        ),
        "it strips the texts: what was said stays as it is": partial(
            chat, one=lambda role, content: f"<|im_start|>{role}\n{content.strip()}<|im_end|>\n"
        ),
        "it has the last message alone: all of them, in order": partial(chat, chosen=lambda messages: messages[-1:]),
        "the messages come in the reverse order": partial(chat, chosen=lambda messages: messages[::-1]),
        "messages without a word are left out: they stay": partial(
            chat, chosen=lambda messages: [message for message in messages if message["content"]]
        ),
    },
    hints=(
        "Read the template from left to right, and write down what it gives for one question. Then ask: what is done "
        "before the first message, what for each message, and what at the end?",
        "Each message gives `<|im_start|>`, its role, a line break, its content, `<|im_end|>` and a line break. The "
        "system message that is put in front has that form, too. When is it put in front?",
        "Begin with an empty text. If `messages[0]['role']` is not `'system'`, add the default as its own message. "
        'Add one piece a message, `f"<|im_start|>{role}\\n{content}<|im_end|>\\n"`. At the end add '
        '`"<|im_start|>assistant\\n"`, always.',
    ),
)


# ---- llm_forward ----------------------------------------------------------------------------------


def rms_norm(x, weight, eps):
    return F.rms_norm(x, weight.shape, weight, eps)


def block(x, weights, angles, n_heads, n_kv_heads, eps=1e-5):
    """`block_forward` of lesson 09 in PyTorch's own fast operations: a check runs it hundreds of times."""
    cos, sin = angles.cos(), angles.sin()

    def heads(name, n, turned=True):
        y = F.linear(rows, weights[f"attention.{name}.weight"]).unflatten(-1, (n, -1)).transpose(1, 2)
        a, b = y.chunk(2, dim=-1)
        return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1) if turned else y

    rows = rms_norm(x, weights["attention_norm.weight"], eps)
    query, key, value = heads("query", n_heads), heads("key", n_kv_heads), heads("value", n_kv_heads, turned=False)
    mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    x = x + F.linear(mixed.transpose(1, 2).flatten(2), weights["attention.output.weight"])
    rows = rms_norm(x, weights["feed_forward_norm.weight"], eps)
    gate, up = (F.linear(rows, weights[f"feed_forward.{name}.weight"]) for name in ("gate", "up"))
    return x + F.linear(F.silu(gate) * up, weights["feed_forward.down.weight"])


def of_layer(weights, layer):
    """One block's tensors, by the names that a block knows."""
    prefix = f"blocks.{layer}."
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def loosely(weights, layer):
    """`startswith("blocks.1")` without the dot: blocks 10, 11, … write over block 1's tensors."""
    found = (name for name in weights if name.startswith(f"blocks.{layer}"))
    return {name.split(".", 2)[2]: weights[name] for name in found}


def as_text(n):
    return [int(name) for name in sorted(map(str, range(n)))]


def one_by_one(x, blocks):
    for block in blocks:
        x = block(x)
    return x


def all_at_once(x, blocks):
    """Every block reads what came in, and what they add is added up."""
    return x + sum(block(x) - x for block in blocks)


def added_again(x, blocks):
    for block in blocks:
        x = x + block(x)
    return x


def positions_of(ids):
    return torch.arange(ids.shape[1])


def forward(
    ids, weights, sizes, block,
    enter=lambda x, weights, eps: x, order=range, layer=of_layer, stack=one_by_one, positions=positions_of,
    theta=None, d_head=None, eps=None, groups=None,
    leave=rms_norm, scores=lambda x, table: x @ table.T, give=lambda scores: scores,
):  # fmt: skip
    """The scores (batch, position, vocab); the keywords are somebody's slips."""
    table, own = weights["token_embedding.weight"], sizes["eps"] if eps is None else eps
    x = enter(table[ids], weights, own)
    width = sizes["d_head"] if d_head is None else d_head(x.shape[-1], sizes)
    angles = rotation_angles(positions(ids), width, sizes["theta"] if theta is None else theta)
    shared = sizes["n_kv_heads"] if groups is None else groups(sizes)
    blocks = [
        lambda x, n=n: block(x, layer(weights, n), angles, sizes["n_heads"], shared, own)
        for n in order(sizes["n_layers"])
    ]
    return give(scores(leave(stack(x, blocks), weights["final_norm.weight"], own), table))


def normed_in_between(x, blocks, weight, eps):
    for block in blocks:
        x = rms_norm(block(x), weight, eps)
    return x


def norm_after_each(ids, weights, sizes, block):
    def stack(x, blocks):
        return normed_in_between(x, blocks, weights["final_norm.weight"], sizes["eps"])

    return forward(ids, weights, sizes, block, stack=stack, leave=lambda x, weight, eps: x)


def centred(x, weight, eps):
    return F.layer_norm(x, weight.shape, weight, None, eps)


def whole_model(
    random, batch, n, n_layers, n_heads=2, n_kv_heads=1, d_head=4, d_ff=6, d_model=8, silent=False, **given
):
    """Arguments of `llm_forward`: a made-up model whose parts are large enough that each of them shows.

    Deep ones add less in each block, else right answers drift apart in their last digits. `silent`: they add nothing.
    """
    vocab, strength = 2 * d_model + 1, 0.0 if silent else 0.4 * n_layers**-0.5
    size = 2.0 if silent else 0.5  # long rows, so that eps tells nothing where a row is only scaled
    weights = {"token_embedding.weight": size * torch.randn(vocab, d_model, generator=random)}
    for layer in range(n_layers):
        for name, tensor in lesson_09.tensors(random, d_model, n_heads, n_kv_heads, d_head, d_ff).items():
            adds = name in ("attention.output.weight", "feed_forward.down.weight")
            weights[f"blocks.{layer}.{name}"] = strength * tensor if adds else tensor
    weights["final_norm.weight"] = (0.5 + 2 * torch.rand(d_model, generator=random)) / 4  # scores of about 1
    sizes = dict(n_layers=n_layers, n_heads=n_heads, n_kv_heads=n_kv_heads, d_head=d_head) | dict(theta=20.0, eps=1e-5)
    ids = torch.stack([torch.randperm(vocab, generator=random)[:n] for _ in range(batch)])
    return ids, weights, sizes | given, block


def entrance_and_exit(llm_forward, random):
    """blocks that add nothing: what is left is the look-up, the last norm and the comparison with the table"""
    llm_forward.compare(whole_model(random, batch, n, 1, silent=True) for batch, n in ((1, 2), (2, 3)))


def two_blocks(llm_forward, random):
    """two blocks, one after the other, each with its own tensors"""
    llm_forward.compare([whole_model(random, 1, 2, 2), whole_model(random, 1, 4, 2)])
    ids, weights, *others = whole_model(random, 1, 3, 2)
    turned_round = dict(reversed(weights.items()))  # the order of a dict says nothing
    ends = torch.tensor([[len(weights["token_embedding.weight"]) - 1, 0, 0]])
    llm_forward.compare([(ids, turned_round, *others), (ends, weights, *others), whole_model(random, 1, 2, 1)])


def eleven_blocks(llm_forward, random):
    """eleven blocks: block 10 comes after block 9, and its tensors are not block 1's"""
    llm_forward.compare([whole_model(random, 1, 3, 11)])


def any_sizes(llm_forward, random):
    """other sizes: several texts, heads that are together wider than a row, another base of the angles, another eps"""
    settings = dict(theta=float(some(random, (100, 1_000, 500), 1)[0]), eps=0.1 * draw(random, 2, 5))
    wide = dict(n_heads=4, n_kv_heads=2, d_head=6, d_model=10, d_ff=9)
    llm_forward.compare([whole_model(random, 2, 4, 2, **settings), whole_model(random, 2, 6, 3, **wide, **settings)])


LLM_FORWARD = Exercise(
    name="llm_forward",
    lesson="14",
    title="the whole forward pass: from token ids to scores",
    oracle=forward,
    checks={"ends": (entrance_and_exit,), "stack": (two_blocks, eleven_blocks), "sizes": (any_sizes,)},
    mistakes={
        "the last norm is missing: it stands between the last block and the table": partial(
            forward, leave=lambda x, weight, eps: x
        ),
        "the last norm's weights are missing": partial(
            forward, leave=lambda x, weight, eps: rms_norm(x, torch.ones_like(weight), eps)
        ),
        "the last norm takes the mean off (LayerNorm): it is RMSNorm": partial(forward, leave=centred),
        "the last norm stands at the entrance instead: it follows the last block": partial(
            forward,
            enter=lambda x, weights, eps: rms_norm(x, weights["final_norm.weight"], eps),
            leave=lambda x, weight, eps: x,
        ),
        "the last norm stands at the entrance, too: it follows the last block, and stands there alone": partial(
            forward, enter=lambda x, weights, eps: rms_norm(x, weights["final_norm.weight"], eps)
        ),
        "the last norm follows every block: it stands once, after the last": norm_after_each,
        "the vectors are multiplied by √d_model at the entrance: some models do so, this one does not": partial(
            forward, enter=lambda x, weights, eps: x * x.shape[-1] ** 0.5
        ),
        "the blocks come in the reverse order": partial(forward, order=lambda n: range(n)[::-1]),
        "the blocks are sorted as texts (0, 1, 10, 11, 2, …): their numbers decide": partial(forward, order=as_text),
        "every block runs with block 0's tensors: each has its own": partial(
            forward, layer=lambda weights, n: of_layer(weights, 0)
        ),
        "the last block is missing": partial(forward, order=lambda n: range(n - 1)),
        "the first block is missing": partial(forward, order=lambda n: range(1, n)),
        "no block is run": partial(forward, order=lambda n: ()),
        "it takes another block's tensors: block 1's names begin with `blocks.1.`, and so do not those of block 10": (
            partial(forward, layer=loosely)
        ),
        "every block reads what came in at the entrance: each reads what the one before it gave": partial(
            forward, stack=all_at_once
        ),
        "what a block gives is added to the stream once more: a block gives the whole stream after it": partial(
            forward, stack=added_again
        ),
        "the angles' base is always 10,000: it is sizes['theta']": partial(forward, theta=10_000.0),
        "the angles are those of d_model / n_heads: a head is sizes['d_head'] wide": partial(
            forward, d_head=lambda d_model, sizes: d_model // sizes["n_heads"]
        ),
        "the angles of all positions are those of position 0: each token has its own position": partial(
            forward, positions=lambda ids: torch.zeros_like(ids[0])
        ),
        "the positions are counted from the end: the first token stands at position 0": partial(
            forward, positions=lambda ids: torch.arange(ids.shape[1]).flip(0)
        ),
        "eps is always 0.00001: it is sizes['eps']": partial(forward, eps=1e-5),
        "the blocks do not get sizes['eps']": lambda ids, weights, sizes, block: forward(
            ids, weights, sizes, lambda x, own, angles, heads, shared, eps: block(x, own, angles, heads, shared)
        ),
        "the last norm does not use sizes['eps']": partial(
            forward, leave=lambda x, weight, eps: rms_norm(x, weight, 1e-5)
        ),
        "it gives the rows after the last norm: they still have to meet the table": partial(
            forward, scores=lambda x, table: x
        ),
        "these are probabilities: the scores themselves are asked for, before softmax": partial(
            forward, give=lambda scores: scores.softmax(-1)
        ),
        "these are logarithms of probabilities: the scores themselves are asked for": partial(
            forward, give=lambda scores: scores.log_softmax(-1)
        ),
        "it gives the last position alone: every position is asked for": partial(
            forward, give=lambda scores: scores[:, -1]
        ),
        "it gives the likeliest ids: the scores themselves are asked for": partial(
            forward, give=lambda scores: scores.argmax(-1)
        ),
        "it gives the first text alone: ids hold a batch of texts": partial(forward, give=lambda scores: scores[0]),
        "these are cosines: the table's rows keep their lengths": partial(
            forward, scores=lambda x, table: x @ (table / table.norm(dim=-1, keepdim=True)).T
        ),
    },
    hints=(
        "Four steps: the look-up, the blocks one after the other, the last norm, and the comparison with the table, as "
        "in lesson 09. Everything that the steps need is in `weights` and `sizes`.",
        "The angles are the same for all blocks: `rotation_angles(torch.arange(n), sizes['d_head'], sizes['theta'])` "
        'for n positions. For block number i collect the tensors whose names begin with `f"blocks.{i}."`, and call '
        "them by what stands after that: `name.removeprefix(…)`.",
        "`x = table[ids]`. For each i: `x = block(x, own, angles, sizes['n_heads'], sizes['n_kv_heads'], sizes['eps'])`"
        ". Then `rms_norm(x, weights['final_norm.weight'], sizes['eps'])`, and its product with the transposed table.",
    ),
)

EXERCISES = (CHAT_PROMPT, LLM_FORWARD)
