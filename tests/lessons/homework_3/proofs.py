import math
import random as luck
import statistics
from collections import Counter

import torch
import torch.nn.functional as F
from lessons.proof import Proof

from course_lib.prediction import generation, sampling
from course_lib.training import loop

step_gradient = Proof("step_gradient")
train_to_floor = Proof("train_to_floor")
count_penalties = Proof("count_penalties")
forbid_repeats = Proof("forbid_repeats")
typical_tokens = Proof("typical_tokens")
top_n_sigma = Proof("top_n_sigma")
mirostat_step = Proof("mirostat_step")
run_with_cache = Proof("run_with_cache")
where_it_stops = Proof("where_it_stops")
paired_study = Proof("paired_study")

# ---- step_gradient -------------------------------------------------------------------------------


def copies(weights):
    return {name: weight.clone().requires_grad_() for name, weight in weights.items()}


@step_gradient.right
def backward_from_each_sum(weights, loss, pieces, longest):
    own, n = copies(weights), 0
    for piece in pieces:
        total, count = loss(own, piece)
        total.backward()
        n += count
    gradients = {name: weight.grad / n for name, weight in own.items()}
    size = sum(gradient.pow(2).sum() for gradient in gradients.values()) ** 0.5
    factor = min(1.0, longest / size.item())
    return {name: gradient * factor for name, gradient in gradients.items()}


@step_gradient.right
def with_pytorchs_clipping(weights, loss, pieces, longest):
    own = copies(weights)
    results = [loss(own, piece) for piece in pieces]
    (sum(total for total, _ in results) / sum(n for _, n in results)).backward()
    torch.nn.utils.clip_grad_norm_(own.values(), longest)
    return {name: weight.grad for name, weight in own.items()}


@step_gradient.right
def counted_beforehand(weights, loss, pieces, longest):
    n = sum(loss(weights, piece)[1] for piece in pieces)
    own = copies(weights)
    for piece in pieces:
        (loss(own, piece)[0] / n).backward()
    size = torch.linalg.vector_norm(torch.stack([weight.grad.norm() for weight in own.values()]))
    return {name: weight.grad * torch.clamp(longest / size, max=1.0) for name, weight in own.items()}


def pieced(weights, loss, pieces, longest, share, clip=True):
    """The gradient of the sum of share(total, n, all n) over the pieces."""
    own = copies(weights)
    counts = [loss(weights, piece)[1] for piece in pieces]
    for piece in pieces:
        total, n = loss(own, piece)
        share(total, n, counts).backward()
    if clip:
        torch.nn.utils.clip_grad_norm_(own.values(), longest)
    return {name: weight.grad for name, weight in own.items()}


@step_gradient.wrong("it takes the mean of the pieces' means")
def mean_of_means(weights, loss, pieces, longest):
    return pieced(weights, loss, pieces, longest, lambda total, n, counts: total / n / len(pieces))


@step_gradient.wrong("by the number of pieces: by the number of guesses")
def over_the_pieces(weights, loss, pieces, longest):
    return pieced(weights, loss, pieces, longest, lambda total, n, counts: total / len(pieces))


@step_gradient.wrong("it adds the losses up")
def the_sum(weights, loss, pieces, longest):
    return pieced(weights, loss, pieces, longest, lambda total, n, counts: total)


@step_gradient.wrong("it adds the pieces' means up")
def sum_of_means(weights, loss, pieces, longest):
    return pieced(weights, loss, pieces, longest, lambda total, n, counts: total / n)


@step_gradient.wrong("it has the last piece only")
def overwritten(weights, loss, pieces, longest):
    for piece in pieces:
        own = copies(weights)
        total, n = loss(own, piece)
        (total / n).backward()
    torch.nn.utils.clip_grad_norm_(own.values(), longest)
    return {name: weight.grad for name, weight in own.items()}


@step_gradient.wrong("it has the first piece only")
def returns_in_the_loop(weights, loss, pieces, longest):
    for piece in pieces:
        return backward_from_each_sum(weights, loss, [piece], longest)


@step_gradient.wrong("it does not clip")
def unclipped(weights, loss, pieces, longest):
    return pieced(weights, loss, pieces, longest, lambda total, n, counts: total / sum(counts), clip=False)


@step_gradient.wrong("it clips each weight's gradient by itself")
def each_tensor(weights, loss, pieces, longest):
    gradients = unclipped(weights, loss, pieces, longest)
    return {name: g * min(1.0, longest / g.norm().item()) for name, g in gradients.items()}


@step_gradient.wrong("it clips each piece's gradient")
def each_piece(weights, loss, pieces, longest):
    n, total = sum(loss(weights, piece)[1] for piece in pieces), None
    for piece in pieces:
        own = copies(weights)
        (loss(own, piece)[0] / n).backward()
        torch.nn.utils.clip_grad_norm_(own.values(), longest)
        total = {name: w.grad + (total[name] if total else 0) for name, w in own.items()}
    return total


@step_gradient.wrong("it scales a short gradient up")
def always_scaled(weights, loss, pieces, longest):
    gradients = unclipped(weights, loss, pieces, longest)
    size = sum(g.pow(2).sum() for g in gradients.values()).sqrt()
    return {name: g * longest / size for name, g in gradients.items()}


@step_gradient.wrong("it cuts the single numbers off")
def by_value(weights, loss, pieces, longest):
    return {name: g.clamp(-longest, longest) for name, g in unclipped(weights, loss, pieces, longest).items()}


def cut_by(gradients, longest, size):
    return {name: g * min(1.0, longest / size.item()) for name, g in gradients.items()}


@step_gradient.wrong("it takes the sum of the squares for the length")
def no_root(weights, loss, pieces, longest):
    gradients = unclipped(weights, loss, pieces, longest)
    return cut_by(gradients, longest, sum(g.pow(2).sum() for g in gradients.values()))


@step_gradient.wrong("it adds the lengths of the single tensors up")
def sum_of_lengths(weights, loss, pieces, longest):
    gradients = unclipped(weights, loss, pieces, longest)
    return cut_by(gradients, longest, sum(g.norm() for g in gradients.values()))


@step_gradient.wrong("it takes the largest number for the length")
def largest_number(weights, loss, pieces, longest):
    gradients = unclipped(weights, loss, pieces, longest)
    return cut_by(gradients, longest, max(g.abs().max() for g in gradients.values()))


@step_gradient.wrong("it goes downhill already")
def downhill(weights, loss, pieces, longest):
    return {name: -g for name, g in backward_from_each_sum(weights, loss, pieces, longest).items()}


@step_gradient.wrong("it stops with RuntimeError")
def without_copies(weights, loss, pieces, longest):
    for piece in pieces:
        loss(weights, piece)[0].backward()
    return {name: weight.grad for name, weight in weights.items()}


@step_gradient.wrong("the weights that it was given ask for gradients")
def no_copies(weights, loss, pieces, longest):
    guesses = 0
    for weight in weights.values():
        weight.requires_grad_()
    for piece in pieces:
        total, n = loss(weights, piece)
        total.backward()
        guesses += n
    gradients = {name: weight.grad / guesses for name, weight in weights.items()}
    size = math.sqrt(sum(one.pow(2).sum().item() for one in gradients.values()))
    return {name: one * min(1.0, longest / size) for name, one in gradients.items()}


@step_gradient.wrong("divides by the number of guesses after that")
def clipped_too_early(weights, loss, pieces, longest):
    own, guesses = copies(weights), 0
    for piece in pieces:
        total, n = loss(own, piece)
        total.backward()
        guesses += n
    torch.nn.utils.clip_grad_norm_(own.values(), longest)
    return {name: weight.grad / guesses for name, weight in own.items()}


@step_gradient.wrong("and a dict is asked for")
def as_a_list(weights, loss, pieces, longest):
    return list(backward_from_each_sum(weights, loss, pieces, longest).values())


# ---- train_to_floor ------------------------------------------------------------------------------


def windows(tokens, context, batch=16):
    starts = torch.randint(len(tokens) - context, (batch, 1))
    rows = tokens[starts + torch.arange(context + 1)]
    return rows[:, :-1], rows[:, 1:]


def risen_and_fallen(step, steps):
    return min(1.0, (step + 1) / (0.05 * steps)) * (1 + math.cos(math.pi * step / steps)) / 2


def trained(
    make_model,
    tokens,
    context,
    budget,
    rate,
    get=windows,
    forget=True,
    sign=1,
    spend=1.0,
    move=True,
):
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.01)
    steps = int(spend * (budget // (16 * context)))
    for step in range(steps):
        inputs, targets = get(tokens, context)
        loss = sign * F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        if forget:
            optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate * risen_and_fallen(step, steps)
        if move:
            optimizer.step()
    return model


@train_to_floor.right
def by_adamw(make_model, tokens, context, budget, rate):
    return trained(make_model, tokens, context, budget, rate)


@train_to_floor.right
def with_a_scheduler_and_in_two_pieces(make_model, tokens, context, budget, rate):
    model = make_model()
    steps = budget // (12 * context)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / 20) * max(0.01, 1 - step / steps)
    )
    rows = tokens[: (len(tokens) - 1) // context * context].view(-1, context)
    following = tokens[1 : rows.numel() + 1].view(-1, context)
    order = torch.randperm(len(rows))
    for step in range(steps):
        places = order[torch.arange(12 * step, 12 * step + 12) % len(order)]
        model.zero_grad()
        for some in places.split(6):
            (F.cross_entropy(model(rows[some]).mT, following[some]) / 2).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()
    return model


@train_to_floor.right
def by_forward_itself(make_model, tokens, context, budget, rate):
    class Called(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, ids):
            return self.model.forward(ids)

    return trained(lambda: Called(make_model()), tokens, context, budget, rate).model


@train_to_floor.wrong("each step's gradient is added to those of all steps before it")
def never_zeroed(make_model, tokens, context, budget, rate):
    return trained(make_model, tokens, context, budget, rate, forget=False)


@train_to_floor.wrong("the word that it has just read")
def not_shifted(make_model, tokens, context, budget, rate):
    def get(tokens, context):
        inputs, _ = windows(tokens, context)
        return inputs, inputs

    return trained(make_model, tokens, context, budget, rate, get)


@train_to_floor.wrong("the word that came before")
def shifted_backwards(make_model, tokens, context, budget, rate):
    return trained(make_model, tokens, context, budget, rate, lambda *given: windows(*given)[::-1])


@train_to_floor.wrong("no weight of the model has moved")
def without_a_step(make_model, tokens, context, budget, rate):
    return trained(make_model, tokens, context, budget, rate, move=False)


@train_to_floor.wrong("the model comes back as it was made")
def untrained(make_model, tokens, context, budget, rate):
    return make_model()


@train_to_floor.wrong("worse than one that gives each word the same chance")
def uphill(make_model, tokens, context, budget, rate):
    return trained(make_model, tokens, context, budget, rate, sign=-1)


@train_to_floor.wrong("the same windows again and again")
def one_batch(make_model, tokens, context, budget, rate):
    batch = windows(tokens, context)
    return trained(make_model, tokens, context, budget, rate, lambda tokens, context: batch)


@train_to_floor.wrong("it stops early")
def too_few_steps(make_model, tokens, context, budget, rate):
    return trained(make_model, tokens, context, budget, rate, spend=0.2)


@train_to_floor.wrong("reads more than it may")
def beyond_the_budget(make_model, tokens, context, budget, rate):
    return trained(make_model, tokens, context, budget, rate, spend=2.0)


@train_to_floor.wrong("in a made-up language")
def with_a_tiny_rate(make_model, tokens, context, budget, rate):
    return trained(make_model, tokens, context, budget, rate / 100)


@train_to_floor.wrong("it calls `train` of course_lib")
def by_the_library(make_model, tokens, context, budget, rate):
    model = make_model()
    loop.train(model, tokens, steps=budget // (16 * context), batch_size=16, context_length=context, progress=False)
    return model


@train_to_floor.wrong("a list of 1")
def the_losses(make_model, tokens, context, budget, rate):
    trained(make_model, tokens, context, budget, rate, spend=0.5)
    return [0.0]


@train_to_floor.wrong("another model than one that")
def a_model_of_its_own(make_model, tokens, context, budget, rate):
    return torch.nn.Linear(3, 3)


# ---- count_penalties -----------------------------------------------------------------------------


@count_penalties.right
def by_bincount(logits, ids, frequency, presence):
    counts = torch.bincount(ids, minlength=len(logits))
    return logits - frequency * counts - presence * (counts > 0)


@count_penalties.right
def one_by_one(logits, ids, frequency, presence):
    found = logits.clone()
    for id, count in Counter(ids.tolist()).items():
        found[id] -= count * frequency + presence
    return found


@count_penalties.right
def by_adding_at_indices(logits, ids, frequency, presence):
    found = logits.index_add(0, ids, torch.full((len(ids),), -frequency))
    return found.index_add(0, ids.unique(), torch.full((len(ids.unique()),), -presence))


def counted(logits, ids):
    return torch.bincount(ids, minlength=len(logits))


@count_penalties.wrong("loses `frequency` once")
def assigned_at_once(logits, ids, frequency, presence):
    found = logits.clone()
    found[ids] -= frequency
    found[ids] -= presence
    return found


@count_penalties.wrong("for each time that a token came: once is enough")
def presence_again_and_again(logits, ids, frequency, presence):
    found = logits.clone()
    for id in ids.tolist():
        found[id] -= frequency + presence
    return found


@count_penalties.wrong("frequency and presence are swapped")
def mixed_up(logits, ids, frequency, presence):
    return by_bincount(logits, ids, presence, frequency)


@count_penalties.wrong("the penalties are added")
def rewarded(logits, ids, frequency, presence):
    return by_bincount(logits, ids, -frequency, -presence)


@count_penalties.wrong("every token loses `presence`")
def all_of_them(logits, ids, frequency, presence):
    return logits - frequency * counted(logits, ids) - presence


@count_penalties.wrong("only the last token")
def the_last_one(logits, ids, frequency, presence):
    return by_bincount(logits, ids[-1:], frequency, presence)


@count_penalties.wrong("the share of the text")
def shares(logits, ids, frequency, presence):
    counts = counted(logits, ids)
    return logits - frequency * counts / max(1, len(ids)) - presence * (counts > 0)


@count_penalties.wrong("`presence` is left out")
def frequency_alone(logits, ids, frequency, presence):
    return logits - frequency * counted(logits, ids)


@count_penalties.wrong("`frequency` is left out")
def presence_alone(logits, ids, frequency, presence):
    return logits - presence * (counted(logits, ids) > 0)


@count_penalties.wrong("the penalty grows with the score")
def in_proportion(logits, ids, frequency, presence):
    counts = counted(logits, ids)
    return logits * (1 - frequency * counts - presence * (counts > 0))


@count_penalties.wrong("the first time is free")
def from_the_second_time(logits, ids, frequency, presence):
    counts = counted(logits, ids)
    return logits - frequency * (counts - 1).clamp(min=0) - presence * (counts > 0)


@count_penalties.wrong("it changes what it was given")
def in_place(logits, ids, frequency, presence):
    for id in ids.tolist():
        logits[id] -= frequency
    return logits


@count_penalties.wrong("it calls `repetition_penalty`")
def the_other_penalty(logits, ids, frequency, presence):
    return sampling.repetition_penalty(logits, ids, 1 + frequency)


# ---- forbid_repeats ------------------------------------------------------------------------------


@forbid_repeats.right
def place_by_place(logits, ids, n):
    found, text = logits.clone(), ids.tolist()
    if len(text) < n:
        return found
    begun = text[len(text) - n + 1 :]
    for i in range(len(text) - n + 1):
        if text[i : i + n - 1] == begun:
            found[text[i + n - 1]] = -math.inf
    return found


@forbid_repeats.right
def by_windows(logits, ids, n):
    if len(ids) < n:
        return logits.clone()
    rows = ids.unfold(0, n, 1)
    same = (rows[:, :-1] == ids[len(ids) - n + 1 :]).all(dim=1)
    return logits.index_fill(0, rows[same, -1], -torch.inf)


@forbid_repeats.right
def by_a_dict(logits, ids, n):
    text, after = ids.tolist(), {}
    for i in range(len(text) - n + 1):
        after.setdefault(tuple(text[i : i + n - 1]), set()).add(text[i + n - 1])
    begun = tuple(text[max(0, len(text) - n + 1) :])
    mask = torch.tensor([id in after.get(begun, ()) for id in range(len(logits))])
    return torch.where(mask, -torch.inf, logits)


def without(logits, forbidden, score=-math.inf):
    found = logits.clone()
    for id in forbidden:
        found[id] = score
    return found


def after_beginnings(ids, size):
    """The tokens after each place where the last `size` tokens stand."""
    text = ids.tolist()
    if len(text) < size:
        return []
    begun = text[len(text) - size :]
    return [text[i + size] for i in range(len(text) - size) if text[i : i + size] == begun]


@forbid_repeats.wrong("it compares the last n tokens")
def one_more(logits, ids, n):
    return without(logits, after_beginnings(ids, n))


@forbid_repeats.wrong("it compares the last n − 2 tokens")
def one_less(logits, ids, n):
    return without(logits, after_beginnings(ids, max(0, n - 2)))


@forbid_repeats.wrong("it finds the first earlier place only")
def the_first_place(logits, ids, n):
    return without(logits, after_beginnings(ids, n - 1)[:1])


@forbid_repeats.wrong("it finds the last earlier place only")
def the_last_place(logits, ids, n):
    return without(logits, after_beginnings(ids, n - 1)[-1:])


@forbid_repeats.wrong("it looks at every n-th place only")
def cut_into_pieces(logits, ids, n):
    text = ids.tolist()
    if len(text) < n:
        return logits.clone()
    begun = text[len(text) - n + 1 :]
    rows = [text[i : i + n] for i in range(0, len(text) - n + 1, n)]
    return without(logits, [row[-1] for row in rows if row[:-1] == begun])


@forbid_repeats.wrong("it leaves the last place out")
def a_range_one_short(logits, ids, n):
    text = ids.tolist()
    begun = text[len(text) - (n - 1) :] if len(text) >= n else None
    return without(logits, [text[i + n - 1] for i in range(len(text) - n) if text[i : i + n - 1] == begun])


@forbid_repeats.wrong("it ignores the order")
def as_sets(logits, ids, n):
    text = ids.tolist()
    if len(text) < n:
        return logits.clone()
    begun = Counter(text[len(text) - n + 1 :])
    rows = [text[i : i + n] for i in range(len(text) - n + 1)]
    return without(logits, [row[-1] for row in rows if Counter(row[:-1]) == begun])


@forbid_repeats.wrong("it forbids every token of the text")
def all_that_came(logits, ids, n):
    return without(logits, ids.tolist())


@forbid_repeats.wrong("the token with which the repetition began")
def the_beginning(logits, ids, n):
    found = after_beginnings(ids, n - 1)
    return without(logits, found if n == 1 else [ids[len(ids) - n + 1]] if found else [])


@forbid_repeats.wrong("with n = 1 it forbids nothing")
def a_negative_nothing(logits, ids, n):
    text = ids.tolist()
    begun = text[-(n - 1) :]
    rows = [text[i : i + n] for i in range(len(text) - n + 1)]
    return without(logits, [row[-1] for row in rows if row[: n - 1] == begun])


@forbid_repeats.wrong("gets the score 0")
def zeroed(logits, ids, n):
    return without(logits, after_beginnings(ids, n - 1), 0.0)


@forbid_repeats.wrong("it forbids all the others")
def the_others(logits, ids, n):
    return without(logits, set(range(len(logits))) - set(after_beginnings(ids, n - 1)))


@forbid_repeats.wrong("it returns a list of")
def the_forbidden_ones(logits, ids, n):
    return sorted(set(after_beginnings(ids, n - 1)))


# ---- typical_tokens ------------------------------------------------------------------------------


@typical_tokens.right
def sorted_and_put_back(logits, mass):
    log_p = torch.log_softmax(logits, dim=-1)
    p = log_p.exp()
    entropy = -(p * log_p).nansum()
    order = (-log_p - entropy).abs().argsort()
    before = p[order].cumsum(-1) - p[order]
    kept = order[before < mass]
    found = torch.full_like(logits, -torch.inf)
    found[kept] = logits[kept]
    return found


@typical_tokens.right
def one_after_the_other(logits, mass):
    p = logits.double().softmax(-1).tolist()
    usual = -sum(one * math.log(one) for one in p if one > 0)
    ranked = sorted((abs(-math.log(one) - usual), id) for id, one in enumerate(p) if one > 0)
    found, held = torch.full((len(p),), -math.inf), 0.0
    for _, id in ranked:
        found[id] = logits[id]
        held += p[id]
        if held >= mass:
            break
    return found


def kept_until(logits, mass, key, first_above=True):
    """Tokens in the order of their key, until they hold mass."""
    p = logits.softmax(-1)
    order = key(p).argsort(stable=True)
    held = p[order].cumsum(-1)
    kept = order[(held - p[order] < mass) if first_above else (held <= mass)]
    return torch.full_like(logits, -torch.inf).scatter(-1, kept, logits[kept])


def usual(p):
    return torch.special.entr(p).sum()


def apart(p):
    return (-p.log() - usual(p)).abs()


@typical_tokens.wrong("as top-p does")
def without_the_absolute_value(logits, mass):
    return kept_until(logits, mass, lambda p: -p.log() - usual(p))


@typical_tokens.wrong("it drops the token that crosses `mass`")
def below_the_mass(logits, mass):
    return kept_until(logits, mass, apart, first_above=False)


@typical_tokens.wrong("it keeps one token too many")
def one_too_many(logits, mass):
    p = logits.softmax(-1)
    order = apart(p).argsort(stable=True)
    held = p[order].cumsum(-1)
    last = int((held < mass).sum()) + 1
    kept = order[: last + 1]
    return torch.full_like(logits, -torch.inf).scatter(-1, kept, logits[kept])


@typical_tokens.wrong("it begins with the tokens farthest")
def farthest_first(logits, mass):
    return kept_until(logits, mass, lambda p: -apart(p).nan_to_num(posinf=1e9))


@typical_tokens.wrong("it takes the plain mean of the surprises")
def not_weighed(logits, mass):
    def key(p):
        bits = -p.log()
        return (bits - bits[bits.isfinite()].mean()).abs()

    return kept_until(logits, mass, key)


@typical_tokens.wrong("it compares probabilities with their mean")
def on_probabilities(logits, mass):
    return kept_until(logits, mass, lambda p: (p - (p * p).sum()).abs())


@typical_tokens.wrong("what stays is not put back in place")
def left_sorted(logits, mass):
    p = logits.softmax(-1)
    order = apart(p).argsort(stable=True)
    held = p[order].cumsum(-1)
    return logits.masked_fill(held - p[order] >= mass, -torch.inf)


@typical_tokens.wrong("gets the score 0")
def zeros(logits, mass):
    return sorted_and_put_back(logits, mass).nan_to_num(neginf=0.0)


@typical_tokens.wrong("it gives probabilities")
def softmaxed(logits, mass):
    return sorted_and_put_back(logits, mass).softmax(-1)


@typical_tokens.wrong("its 0 · −∞ is NaN")
def nothing_times_infinity(logits, mass):
    log_p = logits.log_softmax(-1)
    p = log_p.exp()
    order = (-log_p + (p * log_p).sum()).abs().argsort(stable=True)
    before = p[order].cumsum(-1) - p[order]
    kept = order[before < mass]
    return torch.full_like(logits, -torch.inf).scatter(-1, kept, logits[kept])


@typical_tokens.wrong("it calls `top_p`")
def by_the_nucleus(logits, mass):
    return sampling.top_p(logits, mass)


# ---- top_n_sigma ---------------------------------------------------------------------------------


@top_n_sigma.right
def with_a_mask(logits, n):
    finite = logits[logits.isfinite()]
    return logits.masked_fill(logits < finite.max() - n * finite.std(correction=0), -torch.inf)


@top_n_sigma.right
def in_plain_python(logits, n):
    values = [value for value in logits.tolist() if value > -math.inf]
    line = max(values) - n * statistics.pstdev(values)
    return torch.tensor([value if value >= line - 1e-9 else -math.inf for value in logits.tolist()])


@top_n_sigma.right
def by_the_mean_of_squares(logits, n):
    finite = logits > -torch.inf
    mean = logits[finite].mean()
    sigma = (logits[finite] - mean).square().mean().sqrt()
    return torch.where(logits >= logits.max() - n * sigma, logits, -torch.inf)


def sigma_of(logits, correction=0):
    return logits[logits.isfinite()].std(correction=correction)


def over(logits, line):
    return torch.where(logits >= line, logits, -torch.inf)


@top_n_sigma.wrong("it counts from the mean")
def below_the_mean(logits, n):
    return over(logits, logits[logits.isfinite()].mean() - n * sigma_of(logits))


@top_n_sigma.wrong("it counts up from the mean")
def above_the_mean(logits, n):
    return over(logits, logits[logits.isfinite()].mean() + n * sigma_of(logits))


@top_n_sigma.wrong("it takes the variance")
def variance(logits, n):
    return over(logits, logits.max() - n * logits[logits.isfinite()].var(correction=0))


@top_n_sigma.wrong("it ignores n")
def always_one(logits, n):
    return over(logits, logits.max() - sigma_of(logits))


@top_n_sigma.wrong("it takes n itself for the distance")
def n_alone(logits, n):
    return over(logits, logits.max() - n)


@top_n_sigma.wrong("less one")
def pytorchs_default(logits, n):
    return over(logits, logits.max() - n * sigma_of(logits, 1))


@top_n_sigma.wrong("it works on probabilities")
def of_probabilities(logits, n):
    p = logits.softmax(-1)
    return torch.where(p >= p.max() - n * p.std(correction=0), logits, -torch.inf)


@top_n_sigma.wrong("leave −∞ out of it")
def of_all(logits, n):
    return over(logits, logits.max() - n * logits.std(correction=0))


@top_n_sigma.wrong("below NaN lies nothing")
def nothing_below_nan(logits, n):
    return logits.masked_fill(logits < logits.max() - n * logits.std(correction=0), -torch.inf)


@top_n_sigma.wrong("a logit on the line stays")
def strictly_above(logits, n):
    return torch.where(logits > logits.max() - n * sigma_of(logits), logits, -torch.inf)


@top_n_sigma.wrong("gets the score 0")
def zero_below(logits, n):
    return torch.where(logits >= logits.max() - n * sigma_of(logits), logits, 0.0)


@top_n_sigma.wrong("it keeps what lies below the line")
def the_wrong_side(logits, n):
    return torch.where(logits < logits.max() - n * sigma_of(logits), logits, -torch.inf)


# ---- mirostat_step -------------------------------------------------------------------------------


@mirostat_step.right
def cut_draw_steer(logits, mu, tau, eta, draw):
    bits = -logits.log_softmax(-1) / math.log(2)
    closed = bits > mu
    closed[logits.argmax()] = False
    kept = logits.masked_fill(closed, -torch.inf)
    id = draw(kept)
    return id, mu - eta * (-kept.log_softmax(-1)[id].item() / math.log(2) - tau)


@mirostat_step.right
def on_sorted_probabilities(logits, mu, tau, eta, draw):
    order = logits.argsort(descending=True)
    p = logits.softmax(-1)[order]
    n = max(1, int((p >= 2.0**-mu).sum()))
    kept = torch.full_like(logits, -torch.inf)
    kept[order[:n]] = logits[order[:n]]
    id = draw(kept)
    return id, mu - eta * (-torch.log2(kept.softmax(-1)[id]).item() - tau)


def a_step(logits, mu, tau, eta, draw, limit=None, observed=None, see=None, seen=None, one=True):
    """limit: the largest surprise in bits; observed(kept, id): surprise; see: what draw gets."""
    bits = -torch.log2(logits.softmax(-1))
    stays = bits <= (mu if limit is None else limit)
    if one:
        stays[logits.argmax()] = True
    kept = torch.where(stays, logits, -torch.inf)
    id = draw(kept if see is None else see(kept))
    surprise = -torch.log2(kept.softmax(-1)[id]).item() if observed is None else observed(kept, id)
    return id, mu - eta * (surprise - tau)


@mirostat_step.wrong("it measures in nats")
def natural(logits, mu, tau, eta, draw):
    closed = -logits.log_softmax(-1) > mu
    closed[logits.argmax()] = False
    kept = logits.masked_fill(closed, -torch.inf)
    id = draw(kept)
    return id, mu - eta * (-kept.log_softmax(-1)[id].item() - tau)


@mirostat_step.wrong("it rules out by nats and steers by bits")
def cut_by_nats(logits, mu, tau, eta, draw):
    return a_step(logits, mu, tau, eta, draw, limit=mu / math.log(2))


@mirostat_step.wrong("it rules out by bits and steers by nats")
def steered_by_nats(logits, mu, tau, eta, draw):
    return a_step(logits, mu, tau, eta, draw, observed=lambda kept, id: -kept.log_softmax(-1)[id].item())


@mirostat_step.wrong("surprise before the cut")
def before_the_cut(logits, mu, tau, eta, draw):
    whole = -torch.log2(logits.softmax(-1))
    return a_step(logits, mu, tau, eta, draw, observed=lambda kept, id: whole[id].item())


@mirostat_step.wrong("it steers the wrong way")
def the_wrong_way(logits, mu, tau, eta, draw):
    id, new = cut_draw_steer(logits, mu, tau, eta, draw)
    return id, 2 * mu - new


@mirostat_step.wrong("it forgets tau")
def no_target(logits, mu, tau, eta, draw):
    return cut_draw_steer(logits, mu, 0.0, eta, draw)


@mirostat_step.wrong("it forgets eta")
def all_the_way(logits, mu, tau, eta, draw):
    return cut_draw_steer(logits, mu, tau, 1.0, draw)


@mirostat_step.wrong("mu stays as it was")
def no_steering(logits, mu, tau, eta, draw):
    return cut_draw_steer(logits, mu, tau, 0.0, draw)


@mirostat_step.wrong("the new mu starts from tau")
def from_the_target(logits, mu, tau, eta, draw):
    id, new = cut_draw_steer(logits, mu, tau, eta, draw)
    return id, new - mu + tau


@mirostat_step.wrong("it rules out what surprises less")
def surprises_only(logits, mu, tau, eta, draw):
    bits = -torch.log2(logits.softmax(-1))
    kept = logits.masked_fill(bits < mu, -torch.inf)
    kept[logits.argmax()] = logits.max()
    id = draw(kept)
    return id, mu - eta * (-torch.log2(kept.softmax(-1)[id]).item() - tau)


@mirostat_step.wrong("it draws from all tokens")
def never_cut(logits, mu, tau, eta, draw):
    return a_step(logits, mu, tau, eta, draw, see=lambda kept: logits)


@mirostat_step.wrong("`draw` gets probabilities")
def gives_probabilities(logits, mu, tau, eta, draw):
    return a_step(logits, mu, tau, eta, draw, see=lambda kept: kept.softmax(-1))


@mirostat_step.wrong("it takes the likeliest token")
def greedily(logits, mu, tau, eta, draw):
    return cut_draw_steer(logits, mu, tau, eta, lambda kept: int(kept.argmax()))


@mirostat_step.wrong("it rules out every token")
def nothing_left(logits, mu, tau, eta, draw):
    return a_step(logits, mu, tau, eta, draw, one=False)


@mirostat_step.wrong("whose surprise is mu itself is ruled out")
def from_mu_on(logits, mu, tau, eta, draw):
    closed = -logits.log_softmax(-1) / math.log(2) >= mu
    closed[logits.argmax()] = False
    left = logits.masked_fill(closed, -torch.inf)
    id = draw(left)
    return id, mu - eta * (-left.log_softmax(-1)[id].item() / math.log(2) - tau)


@mirostat_step.right
def in_64_bits(logits, mu, tau, eta, draw):
    left = logits.clone()
    for id, surprise in enumerate((-logits.log_softmax(-1)).tolist()):
        if surprise / math.log(2) > mu and id != logits.argmax():
            left[id] = -math.inf
    id = draw(left)
    return id, mu - eta * (-math.log2(left.softmax(-1)[id].item()) - tau)


@mirostat_step.wrong("the two answers are swapped")
def mu_first(logits, mu, tau, eta, draw):
    return cut_draw_steer(logits, mu, tau, eta, draw)[::-1]


@mirostat_step.wrong("the new mu is missing")
def id_alone(logits, mu, tau, eta, draw):
    return cut_draw_steer(logits, mu, tau, eta, draw)[0]


# ---- run_with_cache ------------------------------------------------------------------------------


@run_with_cache.right
def layer_by_layer(ids, cache, model):
    n_kept = cache[0][0].shape[1] if cache else 0
    positions = torch.arange(n_kept, n_kept + len(ids))
    x, longer = model["embed"](ids), []
    for number, (read, write) in enumerate(model["layers"]):
        query, key, value = read(x)
        query, key = model["turn"](query, positions), model["turn"](key, positions)
        if cache:
            key = torch.cat([cache[number][0], key], dim=1)
            value = torch.cat([cache[number][1], value], dim=1)
        longer.append((key, value))
        scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1 + n_kept)
        x = write(x, scores.masked_fill(hidden, -torch.inf).softmax(-1) @ value)
    return model["unembed"](x), longer


@run_with_cache.right
def token_by_token(ids, cache, model):
    cache, rows = list(cache), []
    for id in ids:
        x, longer = model["embed"](id[None]), []
        for number, (read, write) in enumerate(model["layers"]):
            query, key, value = read(x)
            old = cache[number] if cache else (key[:, :0], value[:, :0])
            place = torch.tensor([old[0].shape[1]])
            keys = torch.cat([old[0], model["turn"](key, place)], 1)
            values = torch.cat([old[1], value], 1)
            weights = torch.einsum("hqd,hkd->hqk", model["turn"](query, place), keys).div(keys.shape[-1] ** 0.5)
            x = write(x, weights.softmax(-1) @ values)
            longer.append((keys, values))
        cache = longer
        rows.append(model["unembed"](x))
    return torch.cat(rows), cache


@run_with_cache.right
def with_pytorchs_attention(ids, cache, model):
    x, longer = model["embed"](ids), []
    for number, (read, write) in enumerate(model["layers"]):
        query, key, value = read(x)
        n_kept = cache[number][0].shape[1] if cache else 0
        places = n_kept + torch.arange(len(ids))
        keys, values = model["turn"](key, places), value
        if n_kept:
            keys, values = (torch.cat(pair, 1) for pair in zip(cache[number], (keys, values), strict=True))
        visible = torch.arange(n_kept + len(ids)) <= places[:, None]
        mixed = F.scaled_dot_product_attention(model["turn"](query, places), keys, values, attn_mask=visible)
        x = write(x, mixed)
        longer.append((keys, values))
    return model["unembed"](x), longer


def ran(ids, cache, model, start=None, hide=None, join=None, store=None, layer=None, turn=(1, 1, 0), root=True):
    """As the right ones; start(n_kept), hide(n_new, n_kept), join(old, new), store(old, new, joined), layer(number)."""
    n_kept = cache[0][0].shape[1] if cache else 0
    places = (n_kept if start is None else start(n_kept)) + torch.arange(len(ids))
    x, longer = model["embed"](ids), []
    for number, (read, write) in enumerate(model["layers"]):
        query, *new = (model["turn"](one, places) if yes else one for one, yes in zip(read(x), turn, strict=True))
        old = cache[number if layer is None else layer(number)] if cache else [one[:, :0] for one in new]
        joined = [torch.cat([a, b], 1) if join is None else join(a, b) for a, b in zip(old, new, strict=True)]
        scores = query @ joined[0].transpose(-2, -1) / (query.shape[-1] ** 0.5 if root else 1)
        if hide is None:
            hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1 + scores.shape[-1] - len(ids))
        else:
            hidden = hide(len(ids), scores.shape[-1])
        x = write(x, scores.masked_fill(hidden, -torch.inf).softmax(-1) @ joined[1])
        own = cache[number] if cache else [one[:, :0] for one in new]
        longer.append(tuple(joined) if store is None else tuple(map(store, own, new)))
    return model["unembed"](x), longer


@run_with_cache.wrong("as if the text began with them")
def from_position_0(ids, cache, model):
    return ran(ids, cache, model, start=lambda n_kept: 0)


@run_with_cache.wrong("one position too far")
def too_far(ids, cache, model):
    return ran(ids, cache, model, start=lambda n_kept: n_kept + 1)


@run_with_cache.wrong("one position too early")
def too_early(ids, cache, model):
    return ran(ids, cache, model, start=lambda n_kept: max(0, n_kept - 1))


@run_with_cache.wrong("lines the queries up with the first keys")
def top_left(ids, cache, model):
    return ran(ids, cache, model, hide=lambda n, n_all: torch.ones(n, n_all).tril() == 0)


@run_with_cache.wrong("nothing is hidden")
def no_mask(ids, cache, model):
    return ran(ids, cache, model, hide=lambda n, n_all: torch.zeros(n, n_all, dtype=torch.bool))


@run_with_cache.wrong("a new token does not see itself")
def the_past_alone(ids, cache, model):
    return ran(ids, cache, model, hide=lambda n, n_all: torch.ones(n, n_all).tril(n_all - n - 1) == 0)


@run_with_cache.wrong("the cache is not read")
def only_the_new(ids, cache, model):
    return ran(ids, cache, model, join=lambda old, new: new)


@run_with_cache.wrong("the new keys and values come before the old ones")
def new_ones_first(ids, cache, model):
    return ran(ids, cache, model, join=lambda old, new: torch.cat([new, old], 1))


@run_with_cache.wrong("every layer reads the first layer's")
def one_cache_for_all(ids, cache, model):
    return ran(ids, cache, model, layer=lambda number: 0)


@run_with_cache.wrong("the new keys and values are not kept")
def cache_as_it_was(ids, cache, model):
    return ran(ids, cache, model, store=lambda old, new: old)


@run_with_cache.wrong("has the new keys and values only")
def the_new_ones_alone(ids, cache, model):
    return ran(ids, cache, model, store=lambda old, new: new)


def turned_again(ids, cache, model, kept_raw):
    x, longer = model["embed"](ids), []
    for number, (read, write) in enumerate(model["layers"]):
        query, key, value = read(x)
        n_kept = cache[number][0].shape[1] if cache else 0
        places = n_kept + torch.arange(len(ids))
        key = key if kept_raw else model["turn"](key, places)
        keys = torch.cat([cache[number][0], key], 1) if cache else key
        values = torch.cat([cache[number][1], value], 1) if cache else value
        seen = model["turn"](keys, torch.arange(keys.shape[1]))
        scores = model["turn"](query, places) @ seen.transpose(-2, -1) / key.shape[-1] ** 0.5
        visible = torch.ones(scores.shape[-2:], dtype=torch.bool).tril(n_kept)
        x = write(x, scores.masked_fill(~visible, -torch.inf).softmax(-1) @ values)
        longer.append((keys, values))
    return model["unembed"](x), longer


@run_with_cache.wrong("are turned once more")
def turned_twice(ids, cache, model):
    return turned_again(ids, cache, model, kept_raw=False)


@run_with_cache.wrong("as they are before turning")
def kept_unturned(ids, cache, model):
    return turned_again(ids, cache, model, kept_raw=True)


@run_with_cache.wrong("the keys are not turned")
def queries_only(ids, cache, model):
    return ran(ids, cache, model, turn=(1, 0, 0))


@run_with_cache.wrong("the queries are not turned")
def keys_only(ids, cache, model):
    return ran(ids, cache, model, turn=(0, 1, 0))


@run_with_cache.wrong("nothing is turned")
def no_positions(ids, cache, model):
    return ran(ids, cache, model, turn=(0, 0, 0))


@run_with_cache.wrong("the values are turned, too")
def all_three(ids, cache, model):
    return ran(ids, cache, model, turn=(1, 1, 1))


@run_with_cache.wrong("not divided by the root of d_head")
def not_divided(ids, cache, model):
    return ran(ids, cache, model, root=False)


@run_with_cache.wrong("keys and values come back swapped")
def values_first(ids, cache, model):
    logits, longer = layer_by_layer(ids, cache, model)
    return logits, [(values, keys) for keys, values in longer]


@run_with_cache.wrong("as a list: they are a tuple")
def in_lists(ids, cache, model):
    logits, longer = layer_by_layer(ids, cache, model)
    return logits, [list(pair) for pair in longer]


@run_with_cache.wrong("it gives the last token's logits only")
def last_row(ids, cache, model):
    logits, longer = layer_by_layer(ids, cache, model)
    return logits[-1:], longer


@run_with_cache.wrong("the new cache is missing")
def no_cache_back(ids, cache, model):
    return layer_by_layer(ids, cache, model)[0]


@run_with_cache.wrong("it changes what it was given")
def in_the_old_list(ids, cache, model):
    logits, longer = layer_by_layer(ids, cache, model)
    cache[:] = longer
    return logits, cache


# ---- where_it_stops ------------------------------------------------------------------------------


@where_it_stops.right
def four_questions(ids, pieces, end_ids, stops, longest, loop):
    text, said = "", []
    for id in ids:
        if id in end_ids:
            return text, "end"
        said.append(id)
        text += pieces[id]
        found = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
        if found:
            return text[: min(found)[1]], "stop"
        for m in range(1, len(said) // 3 + 1):
            if 3 * m >= loop and said[-m:] == said[-2 * m : -m] == said[-3 * m : -2 * m]:
                return text, "loop"
        if len(said) == longest:
            return text, "length"
    return text, None


@where_it_stops.right
def letter_by_letter(ids, pieces, end_ids, stops, longest, loop):
    text, count, runs = "", 0, Counter()
    for count, id in enumerate(ids):
        if id in end_ids:
            return text, "end"
        for letter in pieces[id]:
            text += letter
            done = [stop for stop in stops if text.endswith(stop)]
            if done:
                return text.removesuffix(max(done, key=len)), "stop"
        for m in range(1, count + 1):  # how many of the last ids are the same as m places before them
            runs[m] = runs[m] + 1 if ids[count] == ids[count - m] else 0
            if runs[m] >= 2 * m and 3 * m >= loop:
                return text, "loop"
        if count + 1 >= longest:
            return text, "length"
    return text, None


def a_loop(said, loop, times=3, sizes=None, wide=None):
    wide = wide or (lambda m: times * m >= loop)
    return any(wide(m) and said[-times * m :] == said[-m:] * times for m in sizes or range(1, len(said) // times + 1))


def stopped(ids, pieces, end_ids, stops, longest, loop, **other):
    """As the first right answer; `other` says what is done otherwise."""
    text, said = "", []
    for id in ids:
        if id in other.get("ends", end_ids):
            return text + (pieces[id] if other.get("say_end") else ""), "end"
        said.append(id)
        text += pieces[id]
        if other.get("length_first") and len(said) == longest:
            return text, "length"
        if other.get("loop_first") and a_loop(said, loop):
            return text, "loop"
        place = other.get("search", earliest_end)(text, stops, pieces[id])
        if place:
            return other.get("cut", lambda text, start, end: text[:start])(text, *place), "stop"
        if id in other.get("late_ends", ()):
            return text.removesuffix(pieces[id]), "end"
        if other.get("length_second") and len(said) == longest:
            return text, "length"
        if other.get("circle", a_loop)(said, loop):
            return text, "loop"
        if other.get("full", lambda said, text: len(said) == longest + other.get("later", 0))(said, text):
            return text, "length"
    return text, other.get("run_out")


def earliest_end(text, stops, piece=None):
    found = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    return min(found)[::-1] if found else None


@where_it_stops.wrong("it looks for a stop string in single tokens")
def token_by_token_only(ids, pieces, end_ids, stops, longest, loop):
    def search(text, stops, piece):
        place = earliest_end(piece, stops)
        return place and tuple(len(text) - len(piece) + one for one in place)

    return stopped(ids, pieces, end_ids, stops, longest, loop, search=search)


@where_it_stops.wrong("the text of the end token is in the answer")
def says_the_mark(ids, pieces, end_ids, stops, longest, loop):
    return stopped(ids, pieces, end_ids, stops, longest, loop, say_end=True)


@where_it_stops.wrong("it knows the first of the end ids only")
def first_mark(ids, pieces, end_ids, stops, longest, loop):
    return stopped(ids, pieces, end_ids, stops, longest, loop, ends=end_ids[:1])


@where_it_stops.wrong("it goes on after an end id")
def no_marks(ids, pieces, end_ids, stops, longest, loop):
    return stopped(ids, pieces, end_ids, stops, longest, loop, ends=())


@where_it_stops.wrong("only where a stop string ends with a token")
def by_endswith(ids, pieces, end_ids, stops, longest, loop):
    def search(text, stops, piece):
        found = [(len(text) - len(stop), len(text)) for stop in stops if text.endswith(stop)]
        return min(found) if found else None

    return stopped(ids, pieces, end_ids, stops, longest, loop, search=search)


@where_it_stops.wrong("the stop string is still in the answer")
def with_the_stop_string(ids, pieces, end_ids, stops, longest, loop):
    return stopped(ids, pieces, end_ids, stops, longest, loop, cut=lambda text, start, end: text[:end])


@where_it_stops.wrong("the whole text so far is the answer")
def with_the_last_token(ids, pieces, end_ids, stops, longest, loop):
    return stopped(ids, pieces, end_ids, stops, longest, loop, cut=lambda text, start, end: text)


@where_it_stops.wrong("it cuts at the stop string that begins first")
def the_first_beginning(ids, pieces, end_ids, stops, longest, loop):
    def search(text, stops, piece):
        found = [(text.find(stop), text.find(stop) + len(stop)) for stop in stops if stop in text]
        return min(found) if found else None

    return stopped(ids, pieces, end_ids, stops, longest, loop, search=search)


@where_it_stops.wrong("it takes the stop string that stands first in the list")
def the_first_listed(ids, pieces, end_ids, stops, longest, loop):
    def search(text, stops, piece):
        for stop in stops:
            if stop in text:
                return text.index(stop), text.index(stop) + len(stop)

    return stopped(ids, pieces, end_ids, stops, longest, loop, search=search)


@where_it_stops.wrong("of two stop strings that end together it takes the shorter one")
def the_shorter(ids, pieces, end_ids, stops, longest, loop):
    def search(text, stops, piece):
        found = [(text.find(stop) + len(stop), -text.find(stop)) for stop in stops if stop in text]
        return (-min(found)[1], min(found)[0]) if found else None

    return stopped(ids, pieces, end_ids, stops, longest, loop, search=search)


@where_it_stops.wrong("one token more than `longest`")
def one_more_token(ids, pieces, end_ids, stops, longest, loop):
    return stopped(ids, pieces, end_ids, stops, longest, loop, later=1)


@where_it_stops.wrong("one token less than `longest`")
def one_token_less(ids, pieces, end_ids, stops, longest, loop):
    return stopped(ids, pieces, end_ids, stops, longest, loop, later=-1)


@where_it_stops.wrong("it counts characters")
def in_characters(ids, pieces, end_ids, stops, longest, loop):
    return stopped(ids, pieces, end_ids, stops, longest, loop, full=lambda said, text: len(text) >= longest)


@where_it_stops.wrong("it no longer looks for a stop string")
def length_before_stop(ids, pieces, end_ids, stops, longest, loop):
    return stopped(ids, pieces, end_ids, stops, longest, loop, length_first=True)


@where_it_stops.wrong("at its length it looks for no loop")
def length_before_loop(ids, pieces, end_ids, stops, longest, loop):
    return stopped(ids, pieces, end_ids, stops, longest, loop, length_second=True)


@where_it_stops.wrong("it looks for a loop before it looks for a stop string")
def loop_before_stop(ids, pieces, end_ids, stops, longest, loop):
    return stopped(ids, pieces, end_ids, stops, longest, loop, loop_first=True)


@where_it_stops.wrong("in the text of an end token")
def stop_before_end(ids, pieces, end_ids, stops, longest, loop):
    return stopped(ids, pieces, end_ids, stops, longest, loop, ends=(), late_ends=end_ids)


@where_it_stops.wrong("of a stop string that comes twice")
def by_rindex(ids, pieces, end_ids, stops, longest, loop):
    def search(text, stops, piece):
        found = [(text.rindex(stop) + len(stop), text.rindex(stop)) for stop in stops if stop in text]
        return min(found)[::-1] if found else None

    return stopped(ids, pieces, end_ids, stops, longest, loop, search=search)


@where_it_stops.wrong("two rounds are no loop yet")
def two_rounds(ids, pieces, end_ids, stops, longest, loop):
    def circle(said, loop):
        return any(3 * m >= loop and said[-2 * m :] == said[-m:] * 2 for m in range(1, len(said) // 2 + 1))

    return stopped(ids, pieces, end_ids, stops, longest, loop, circle=circle)


@where_it_stops.wrong("nothing has ended the text, the reason is None")
def always_a_reason(ids, pieces, end_ids, stops, longest, loop):
    return stopped(ids, pieces, end_ids, stops, longest, loop, run_out="length")


@where_it_stops.wrong("there was no end id: the reason is None")
def the_end_of_the_list(ids, pieces, end_ids, stops, longest, loop):
    return stopped(ids, pieces, end_ids, stops, longest, loop, run_out="end")


@where_it_stops.wrong("a loop of a single token only")
def one_token_loops(ids, pieces, end_ids, stops, longest, loop):
    return stopped(
        ids,
        pieces,
        end_ids,
        stops,
        longest,
        loop,
        circle=lambda said, loop: len(said) > 2 and a_loop(said, loop, 3, [1]),
    )


@where_it_stops.wrong("twice in a row is no loop yet")
def twice(ids, pieces, end_ids, stops, longest, loop):
    return stopped(ids, pieces, end_ids, stops, longest, loop, circle=lambda said, loop: a_loop(said, loop, 2))


@where_it_stops.wrong("it waits for a fourth time")
def four_times(ids, pieces, end_ids, stops, longest, loop):
    return stopped(ids, pieces, end_ids, stops, longest, loop, circle=lambda said, loop: a_loop(said, loop, 4))


@where_it_stops.wrong("it ignores `loop`")
def any_loop(ids, pieces, end_ids, stops, longest, loop):
    return stopped(ids, pieces, end_ids, stops, longest, loop, circle=lambda said, loop: a_loop(said, 0))


@where_it_stops.wrong("its loops are longer than `loop`")
def longer_loops(ids, pieces, end_ids, stops, longest, loop):
    return stopped(ids, pieces, end_ids, stops, longest, loop, circle=lambda said, loop: a_loop(said, loop + 1))


@where_it_stops.wrong("it compares one round with `loop`")
def by_the_round(ids, pieces, end_ids, stops, longest, loop):
    return stopped(ids, pieces, end_ids, stops, longest, loop, circle=lambda said, loop: a_loop(said, 3 * loop))


@where_it_stops.wrong("it sees no loop")
def no_loops(ids, pieces, end_ids, stops, longest, loop):
    return stopped(ids, pieces, end_ids, stops, longest, loop, circle=lambda said, loop: False)


@where_it_stops.wrong("text and reason are swapped")
def reason_first(ids, pieces, end_ids, stops, longest, loop):
    return four_questions(ids, pieces, end_ids, stops, longest, loop)[::-1]


@where_it_stops.wrong("it gives the text alone")
def text_alone(ids, pieces, end_ids, stops, longest, loop):
    return four_questions(ids, pieces, end_ids, stops, longest, loop)[0]


@where_it_stops.wrong("it calls `stop_at`")
def by_stop_at(ids, pieces, end_ids, stops, longest, loop):
    return "".join(generation.stop_at((pieces[id] for id in ids), stops)), "stop"


# ---- paired_study --------------------------------------------------------------------------------


def share(ids, n):
    found = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return 1 - len(set(found)) / len(found) if found else 0.0


@paired_study.right
def with_statistics(before, after, n):
    ones, others = [share(ids, n) for ids in before], [share(ids, n) for ids in after]
    differences = [other - one for one, other in zip(ones, others, strict=True)]
    difference = statistics.fmean(differences)
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    verdict = "less" if difference < -2 * error else "more" if difference > 2 * error else "open"
    return dict(
        before=statistics.fmean(ones),
        after=statistics.fmean(others),
        difference=difference,
        error=error,
        verdict=verdict,
    )


@paired_study.right
def with_tensors(before, after, n):
    def shares(texts):
        found = []
        for ids in texts:
            seen, again = set(), 0
            for gram in zip(*(ids[i:] for i in range(n)), strict=False):
                again += gram in seen
                seen.add(gram)
            found.append(again / max(1, len(ids) - n + 1))
        return torch.tensor(found, dtype=torch.float64)

    one, other = shares(before), shares(after)
    apart = other - one
    error = (apart.var(correction=1) / len(apart)).sqrt().item()
    mean = apart.mean().item()
    verdict = "open" if abs(mean) <= 2 * error else ("more" if mean > 0 else "less")
    found = {"before": one.mean().item(), "after": other.mean().item(), "difference": mean}
    return found | {"error": error, "verdict": verdict}


def study(before, after, n, measure=share, mean=None, error=None, sign=1, bound=2, names=("less", "more", "open")):
    ones, others = [measure(ids, n) for ids in before], [measure(ids, n) for ids in after]
    first, second = (statistics.fmean(ones), statistics.fmean(others)) if mean is None else (mean(before), mean(after))
    differences = [b - a for a, b in zip(ones, others, strict=True)]
    difference = sign * (second - first)
    apart = statistics.stdev(differences) / len(ones) ** 0.5 if error is None else error(ones, others, differences)
    verdict = names[0] if difference < -bound * apart else names[1] if difference > bound * apart else names[2]
    return dict(before=first, after=second, difference=difference, error=apart, verdict=verdict)


@paired_study.wrong("it throws all texts together")
def all_in_one(before, after, n):
    def mean(texts):
        found = [tuple(ids[i : i + n]) for ids in texts for i in range(len(ids) - n + 1)]
        return 1 - len(set(found)) / len(found)

    return study(before, after, n, mean=mean)


@paired_study.wrong("it gives the share of different n-grams")
def distinct(before, after, n):
    return study(before, after, n, measure=lambda ids, n: 1 - share(ids, n))


@paired_study.wrong("it looks at single tokens")
def of_tokens(before, after, n):
    return study(before, after, n, measure=lambda ids, n: share(ids, 1) if len(ids) >= n else 0.0)


@paired_study.wrong("it divides by the number of tokens")
def over_tokens(before, after, n):
    def measure(ids, n):
        found = {tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)}
        return 1 - (len(found) + n - 1) / len(ids) if len(ids) >= n else 0.0

    return study(before, after, n, measure=measure)


@paired_study.wrong("it divides the number of different n-grams by the number of tokens")
def over_the_length(before, after, n):
    def measure(ids, n):
        if len(ids) < n:
            return 0.0
        return 1 - len({tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)}) / len(ids)

    return study(before, after, n, measure=measure)


@paired_study.wrong("the first time is no repetition yet")
def both_copies(before, after, n):
    def measure(ids, n):
        found = Counter(tuple(ids[i : i + n]) for i in range(len(ids) - n + 1))
        return sum(count for count in found.values() if count > 1) / max(1, len(ids) - n + 1)

    return study(before, after, n, measure=measure)


@paired_study.wrong("its n-grams do not overlap")
def in_blocks(before, after, n):
    def measure(ids, n):
        found = [tuple(ids[i : i + n]) for i in range(0, len(ids) - n + 1, n)]
        return 1 - len(set(found)) / len(found) if found else 0.0

    return study(before, after, n, measure=measure)


@paired_study.wrong("its mean weighs a long text more")
def weighed(before, after, n):
    def mean(texts):
        sizes = [max(0, len(ids) - n + 1) for ids in texts]
        return sum(share(ids, n) * size for ids, size in zip(texts, sizes, strict=True)) / sum(sizes)

    return study(before, after, n, mean=mean)


@paired_study.wrong("the difference has the wrong sign")
def before_minus_after(before, after, n):
    return study(before, after, n, sign=-1)


@paired_study.wrong("its error is that of two groups")
def two_groups(before, after, n):
    def error(ones, others, differences):
        return math.sqrt(statistics.variance(ones) / len(ones) + statistics.variance(others) / len(others))

    return study(before, after, n, error=error)


@paired_study.wrong("it gives the standard deviation of the differences")
def deviation(before, after, n):
    return study(before, after, n, error=lambda ones, others, differences: statistics.stdev(differences))


@paired_study.wrong("by the number of pairs: by the root of that")
def without_the_root(before, after, n):
    return study(before, after, n, error=lambda ones, others, apart: statistics.stdev(apart) / len(apart))


@paired_study.wrong("here it is the number less one")
def of_a_population(before, after, n):
    return study(before, after, n, error=lambda ones, others, apart: statistics.pstdev(apart) / len(apart) ** 0.5)


@paired_study.wrong("it decides at one standard error")
def one_error(before, after, n):
    return study(before, after, n, bound=1)


@paired_study.wrong("it decides by the difference alone")
def by_the_sign(before, after, n):
    return study(before, after, n, bound=0)


@paired_study.wrong("less and more are swapped")
def the_other_way_round(before, after, n):
    return study(before, after, n, names=("more", "less", "open"))


@paired_study.wrong("its share is 0, not 1")
def all_of_nothing(before, after, n):
    return study(before, after, n, measure=lambda ids, n: share(ids, n) if len(ids) >= n else 1.0)


@paired_study.wrong("it stops with ZeroDivisionError")
def divides_by_nothing(before, after, n):
    def measure(ids, n):
        found = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
        return 1 - len(set(found)) / len(found)

    return study(before, after, n, measure=measure)


@paired_study.wrong("it gives another answer each time")
def by_luck(before, after, n):
    return with_statistics(before, after, n) | {"error": luck.random()}


@paired_study.wrong("it returns a text")
def verdict_alone(before, after, n):
    return with_statistics(before, after, n)["verdict"]


@paired_study.wrong("nearer than two standard errors")
def at_1_8(before, after, n):
    return study(before, after, n, bound=1.8)


@paired_study.wrong("farther away than two standard errors")
def at_2_5(before, after, n):
    return study(before, after, n, bound=2.5)
