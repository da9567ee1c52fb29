"""Homework 3: training to a known floor, six samplers, a KV cache, when to stop, and a study with its error."""

import contextlib
import copy
import functools
import math
import statistics
from bisect import bisect
from collections import defaultdict
from itertools import accumulate, combinations

import torch
from torch.nn.functional import cross_entropy, silu

from course_lib.classroom import guard
from course_lib.classroom.exercise import Exercise, Wrong
from course_lib.config import TransformerConfig
from course_lib.input_processing.positions import rotate, rotation_angles
from course_lib.lessons.tools import draw, shuffled, some, vectors
from course_lib.text_worlds.hill_world import CHILDREN, DEEDS, DOERS
from course_lib.transformer_block.transformer import Transformer

# ---- the gradient of one step --------------------------------------------------------------------

PADDING = -100  # a target that is not to be guessed, as PyTorch's cross_entropy has it


def summed(gradients):
    return {name: sum(gradient[name] for gradient in gradients) for name in gradients[0]}


def length(gradient, measure=torch.linalg.vector_norm):
    return measure(torch.cat([one.flatten() for one in gradient.values()]))


def scaled_to(gradient, longest, measure=length):
    return {name: one * (longest / measure(gradient)) for name, one in gradient.items()}


def clipped(gradient, longest, measure=length):
    return scaled_to(gradient, longest, measure) if measure(gradient) > longest else gradient


def clipped_one_by_one(gradient, longest):
    return {name: clipped({name: one}, longest)[name] for name, one in gradient.items()}


def of_all(n, counts):
    """The weight of a piece's summed loss in the mean over all guesses of the step."""
    return 1 / sum(counts) if sum(counts) else math.nan


def of_its_piece(n, counts):
    return 1 / n / len(counts) if n else math.nan


def stepping(weight=of_all, clip=clipped, each=lambda gradient, longest: gradient, pick=lambda pieces: pieces):
    def answer(weights, loss, pieces, longest):
        gradients, counts = [], []
        for piece in pick(pieces):
            own = {name: one.detach().clone().requires_grad_() for name, one in weights.items()}
            total, n = loss(own, piece)
            gradients.append(dict(zip(own, torch.autograd.grad(total, list(own.values())), strict=True)))
            counts.append(n)
        parts = [
            each({name: one * weight(n, counts) for name, one in gradient.items()}, longest)
            for gradient, n in zip(gradients, counts, strict=True)
        ]
        return clip(summed(parts), longest)

    return answer


step_gradient = stepping()


def next_words(weights, piece):
    """The loss of a tiny model that guesses each next word from the word before it, and how often it guesses."""
    inputs, targets = piece
    logits = weights["table"][inputs] @ weights["head"]
    return cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum"), int((targets != PADDING).sum())


def steps(random, all_sizes, longest=1e3):
    """Inputs: of each step the pieces with so many guesses, in rows of six with padding at the end."""
    for sizes in all_sizes:
        pieces = []
        for size in sizes:
            rows = max(1, -(-size // 6))
            words = torch.randint(5, (rows, 7), generator=random)
            inputs, targets = words[:, :-1].clone(), words[:, 1:].clone()
            targets.flatten()[size:] = PADDING
            pieces.append((inputs, targets))
        yield {"table": 2 * vectors(random, 5, 3), "head": 2 * vectors(random, 3, 5)}, next_words, pieces, longest


def all_pieces(step, random):
    """the gradient of the mean over all guesses, of a batch in one piece or in several of unequal size"""
    step.compare(steps(random, [(2,), (5,), (1, 4), (12, 3, 1, 6)]))


def empty_piece(step, random):
    """also where a piece has nothing to guess"""
    step.compare(steps(random, [(3, 0), (0, 5, 2)]))


def too_long(step, random):
    """a gradient that is too long is scaled down, all weights together; one that is short enough stays as it is"""
    inputs = []
    for sizes, part in (((4,), 0.5), ((3, 8), 0.3), ((4,), 2.0), ((1, 6), 1.3)):
        [(weights, loss, pieces, longest)] = steps(random, [sizes])
        whole = length(step_gradient(weights, loss, pieces, longest)).item()
        inputs.append((weights, loss, pieces, part * whole))
    step.compare(inputs)


def weights_as_given(step, random):
    """the weights that it was given ask for no gradients afterwards: its copies do"""
    [(weights, *others)] = steps(random, [(3, 2)])
    given = copy.deepcopy(weights)
    tensors = list(given.values())
    guard.call(step.function, (given, *others), step.left, step.sink)
    if any(tensor.requires_grad or tensor.grad is not None for tensor in tensors):
        raise Wrong("the weights that it was given ask for gradients afterwards: only its own copies should")


def clipped_before_division(weights, loss, pieces, longest):
    guesses = sum(loss(weights, piece)[1] for piece in pieces)
    of_the_sum = stepping(lambda n, counts: 1.0)(weights, loss, pieces, longest)
    return {name: one / guesses for name, one in of_the_sum.items()}


STEP_GRADIENT = Exercise(
    name="step_gradient",
    lesson="hw3",
    title="the gradient of one step, from a batch in pieces",
    oracle=step_gradient,
    may_call=(),
    checks={"gradient": (all_pieces, empty_piece, too_long, weights_as_given)},
    mistakes={
        "it takes the mean of the pieces' means: a piece with few guesses weighs as much as one with many": stepping(
            of_its_piece
        ),
        "it divides the sum of all losses by the number of pieces: by the number of guesses": stepping(
            lambda n, counts: 1 / len(counts)
        ),
        "it adds the losses up: the mean over all guesses is asked for": stepping(lambda n, counts: 1.0),
        "it adds the pieces' means up": stepping(lambda n, counts: 1 / n if n else math.nan),
        "it has the last piece only: the gradients of all pieces add up": stepping(pick=lambda pieces: pieces[-1:]),
        "it has the first piece only: the gradients of all pieces add up": stepping(pick=lambda pieces: pieces[:1]),
        "the sum of the last piece's losses alone is divided by all guesses: the gradients of all pieces add up": (
            stepping(lambda n, counts: 1 / sum(counts) if n == counts[-1] else 0.0)
        ),
        "it does not clip: a gradient longer than `longest` is scaled down to it": stepping(
            clip=lambda gradient, longest: gradient
        ),
        "it clips each weight's gradient by itself: the length is that of all together": stepping(
            clip=clipped_one_by_one
        ),
        "it clips each piece's gradient, and they are added up after that": stepping(
            each=clipped, clip=lambda gradient, longest: gradient
        ),
        "it scales a short gradient up: what is shorter than `longest` stays as it is": stepping(clip=scaled_to),
        "it cuts the single numbers off at `longest`: scale the whole gradient, so that its direction stays": stepping(
            clip=lambda gradient, longest: {name: one.clamp(-longest, longest) for name, one in gradient.items()}
        ),
        "it takes the sum of the squares for the length: the length is its root": stepping(
            clip=lambda gradient, longest: clipped(gradient, longest, lambda g: length(g) ** 2)
        ),
        "it adds the lengths of the single tensors up: the length is the root of the sum of all squares": stepping(
            clip=lambda gradient, longest: clipped(
                gradient, longest, lambda g: sum(torch.linalg.vector_norm(one) for one in g.values())
            )
        ),
        "it takes the largest number for the length: the length is the root of the sum of all squares": stepping(
            clip=lambda gradient, longest: clipped(gradient, longest, lambda g: length(g, lambda all: all.abs().max()))
        ),
        "it clips the gradient of the sum, and divides by the number of guesses after that: divide first": (
            clipped_before_division
        ),
        "it goes downhill already: the gradient itself is asked for, with its sign": lambda *given: {
            name: -one for name, one in step_gradient(*given).items()
        },
    },
    hints=(
        "First copies of the weights that want gradients: `weight.clone().requires_grad_()`. For each piece the loss "
        "of these copies, then backward; their `.grad` adds up from piece to piece by itself. Division comes later.",
        "Backward from each piece's *summed* loss, and count all guesses. When all pieces are through, divide each "
        "`.grad` by that count. Who divides inside the loop by the piece's own count makes a mean of means.",
        "The length: the root of the sum of all squares, over all numbers of all tensors. If it is more than "
        "`longest`, multiply each gradient by longest / length, the same factor for all.",
    ),
)

# ---- training to the floor -----------------------------------------------------------------------

NEAR = {"a made-up language": 8, "Hill World": 10}  # percent above the floor that are near enough


class TableModel(torch.nn.Module):
    """A row of logits for each word: all that a language needs in which the next word hangs on the last one alone."""

    def __init__(self, words):
        super().__init__()
        self.table = torch.nn.Parameter(torch.zeros(words, words))

    def forward(self, ids):
        return self.table[ids]


@contextlib.contextmanager
def one_thread():
    """Models as small as these train no faster with more, and a mark should not hang on how many there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def watched(make):
    """`make_model` for the learner, and the models that it made: each with what it has read, and how it came about."""
    made = []

    def reading(model):
        """The model's class, with a forward that counts; a hook would not see who calls `model.forward` itself."""

        class Reading(type(model)):
            def forward(self, ids, *others, **named):
                if torch.is_grad_enabled():
                    model.read += ids.numel()
                    model.windows += len(ids)
                    model.different |= {row.numpy().tobytes() for row in ids.cpu()}
                return super().forward(ids, *others, **named)

        return Reading

    def make_model():
        model = make()
        model.__class__ = reading(model)
        model.born = [parameter.detach().clone() for parameter in model.parameters()]
        model.read, model.windows, model.different = 0, 0, set()
        model.piling, model.piled = 0, 0  # backward passes in a row that added to an earlier gradient; the longest row
        first = next(model.parameters())

        def arrives(gradient):
            model.arrived = gradient.detach().clone()

        def is_kept(parameter):
            model.piling = 0 if torch.equal(parameter.grad, model.arrived) else model.piling + 1
            model.piled = max(model.piled, model.piling)

        first.register_hook(arrives)
        first.register_post_accumulate_grad_hook(is_kept)
        made.append(model)
        return model

    return make_model, made


@torch.no_grad()
def on_unseen(model, ids, nats, context, past):
    """Mean losses over the guesses from more than `past` words, and the floor; `nats` are −ln of each word's chance.

    The losses are those of the next word, of the word before, and of the next word if the one just read is ruled out
    (no word comes twice in a row).
    """
    model.eval()
    starts = torch.arange(1, len(ids) - context, context - past)
    places = starts[:, None] + torch.arange(context)
    log_p = model(ids[places])[:, past:].log_softmax(-1)
    places = places[:, past:]
    others = log_p.scatter(-1, ids[places][..., None], -torch.inf)

    def loss(logits, targets):
        return cross_entropy(logits.flatten(0, 1), targets.flatten()).item()

    after, before = ids[places + 1], ids[places - 1]
    return loss(log_p, after), nats[places + 1].mean().item(), loss(log_p, before), loss(others, after)


def judge(model, made, where, budget, unseen):
    """Raises `Wrong` for the first thing that keeps the model from the floor."""
    if not hasattr(model, "born"):
        raise Wrong("it returns another model than one that `make_model()` makes")
    read = sum(one.read for one in made)
    if not read:
        raise Wrong("the model comes back as it was made: it has read nothing from which it could learn")
    if read > budget:
        raise Wrong(f"its model reads more than it may: {read:,} tokens, and the budget is {budget:,}")
    if all(map(torch.equal, model.born, model.parameters())):
        raise Wrong("no weight of the model has moved: what makes them move after `backward()`?")
    loss, floor, before, among_others = on_unseen(model, *unseen)
    by_chance = math.log(len(next(model.parameters())))
    if math.isnan(loss):
        raise Wrong("the loss of the model that it returns is NaN (not a number)")
    if model.piled > 50:
        raise Wrong("each step's gradient is added to those of all steps before it: they have to be set to zero")
    if loss > by_chance > before:
        raise Wrong("the model has learned to say the word that came before: its target is the one that comes next")
    if loss > by_chance > among_others - 0.3:
        raise Wrong("the model has learned to say the word that it has just read: its target is the one after it")
    if loss > by_chance:
        raise Wrong("the model is worse than one that gives each word the same chance: does it go up the gradient?")
    if len(model.different) < model.windows / 2:
        raise Wrong(
            "it trains on the same windows again and again: draw them from all over the tokens",
            f"{len(model.different):,} of the {model.windows:,} windows that it has read are different ones",
        )
    if read < budget / 2:
        raise Wrong(f"it stops early: its model has read {read:,} tokens, and it may read {budget:,}")
    excess = 100 * (loss / floor - 1)
    if not excess <= NEAR[where]:
        raise Wrong(
            f"in {where} the model that it returns is still too far above the floor",
            f"its loss is {excess:.0f}% above it, and at most {NEAR[where]}% are asked for",
        )


def language(random, words):
    """The chances of each next word. No word comes twice in a row, none is dull, and read backwards it is another."""
    while True:
        chances = (2 * vectors(random, words, words)).fill_diagonal_(-torch.inf).softmax(-1)
        often = torch.linalg.matrix_power(chances, 64)[0]  # how often each word comes
        pairs = often[:, None] * chances
        backwards = pairs.T / often[:, None]  # what a model learns that guesses the word before
        entropy, confused = (-torch.special.xlogy(pairs, of).sum() for of in (chances, backwards))
        if entropy > 1 and confused > math.log(words) + 0.5:
            return chances


@one_thread()
def made_up_language(train, random):
    """a language made up for the check, in which the next word hangs on the last one: within 8% of its floor"""
    words, n, context = 8, 24_000, 8
    chances = language(random, words)
    heaped = [[*accumulate(row[:-1]), 1.0] for row in chances.tolist()]

    def spoken(n):
        said = [0]
        for luck in torch.rand(n - 1, generator=random).tolist():
            said.append(bisect(heaped[said[-1]], luck))
        return torch.tensor(said)

    make_model, made = watched(functools.partial(TableModel, words))
    tokens, unseen = spoken(n), spoken(4_000)
    nats = torch.cat([torch.zeros(1), -chances[unseen[:-1], unseen[1:]].log()])
    given = (make_model, tokens, context, 20_000, 0.1)
    try:
        model = train.answer(*given)
        if not isinstance(model, torch.nn.Module):
            train.compare([given])
        judge(model, made, "a made-up language", 20_000, (unseen, nats, context, 1))
    except Wrong as wrong:
        train.made[wrong.sentence] = train_to_floor  # Hill World takes seconds: not before this is right
        raise


@functools.cache
def deeds():
    """Hill World's sentences in which somebody does something: their words; of each its ids, and −ln of each word's
    chance; and the chances of the sentences."""
    sentences = {}
    for who, p in DOERS.items():
        name, rows = (who, DEEDS["child"]) if who in CHILDREN else (f"the {who}", DEEDS[who])
        for deed, places in rows.items():
            for place, q in places.items():
                sentences[tuple(f"{name} {deed} the {place} .".split())] = p / len(rows) * q
    begun = defaultdict(float)
    for sentence, p in sentences.items():
        for end in range(len(sentence) + 1):
            begun[sentence[:end]] += p
    words = sorted({word for sentence in sentences for word in sentence})
    ids = {word: id for id, word in enumerate(words)}
    listed = [
        (
            [ids[word] for word in sentence],
            [math.log(begun[sentence[:end]] / begun[sentence[: end + 1]]) for end in range(len(sentence))],
        )
        for sentence in sentences
    ]
    return words, listed, torch.tensor(list(sentences.values()))


def told(random, n_sentences):
    """Sentences drawn one by one: their ids in a row, and −ln of each word's chance."""
    _, listed, chances = deeds()
    chosen = [listed[i] for i in torch.multinomial(chances, n_sentences, True, generator=random).tolist()]
    ids, nats = ([one for sentence in part for one in sentence] for part in zip(*chosen, strict=True))
    return torch.tensor(ids), torch.tensor(nats)


def small_transformer():
    n_words = len(deeds()[0])
    shape = dict(d_model=48, n_layers=1, n_heads=4, n_kv_heads=4, d_head=12, d_ff=192)
    return Transformer(TransformerConfig(vocab_size=n_words, context_length=24, **shape))


@one_thread()
def hill_world(train, random):
    """Hill World, who did what where, with a small transformer: within 10% of the floor"""
    if train.made:
        raise Wrong(next(iter(train.made)))
    make_model, made = watched(small_transformer)
    tokens, _ = told(random, 24_000)
    model = train.answer(make_model, tokens, 24, 160_000, 0.01)
    judge(model, made, "Hill World", 160_000, (*told(random, 1_200), 24, 12))


def train_to_floor(make_model, tokens, context, budget, rate):
    return make_model()  # what comes back is looked at, not compared: only its kind is


TRAIN_TO_FLOOR = Exercise(
    name="train_to_floor",
    lesson="hw3",
    title="a model trained to the floor of its language, within a budget",
    oracle=train_to_floor,
    may_call=(),
    checks={"floor": (made_up_language, hill_world)},
    hints=(
        "The loop of lesson 11: a batch of windows from random places, each with the same window one token later as "
        "targets; logits, loss, gradients to zero, backward, step. `torch.optim.AdamW` may be used. How many steps "
        "does the budget pay for?",
        "Sixteen windows a batch make 16 · context tokens a step, so there are budget // (16 · context) steps. Smaller "
        "steps at the end bring the loss down from where it hovers: let the rate fall to 0 on the way.",
        "A rate for each step: rise over the first twentieth of the steps, then fall along half a cosine, "
        "rate · (1 + cos(π · done)) / 2, where `done` goes from 0 to 1. Set it before the step: "
        '`for group in optimizer.param_groups: group["lr"] = …`. Clip the gradient to a length of 1.',
    ),
    seconds=90.0,  # on a machine of two cores it takes two or three
)

# ---- six samplers --------------------------------------------------------------------------------


def counts_of(logits, ids):
    return torch.bincount(ids, minlength=len(logits))


def penalising(
    counts=counts_of, often=lambda n: n, once=lambda n: n > 0, take=lambda logits, penalty: logits - penalty
):
    def answer(logits, ids, frequency, presence):
        n = counts(logits, ids)
        return take(logits, frequency * often(n) + presence * once(n))

    return answer


count_penalties = penalising()


def written(random, length, words=6):
    """Ids of which one comes several times and the last two are not the same; two words never come."""
    ids = torch.randint(words - 2, (length,), generator=random)
    ids[1:3] = ids[0]
    ids[-1] = (ids[0] + 1) % (words - 2)
    return torch.randperm(words, generator=random)[ids]


def both_penalties(penalise, random):
    """each token of the text loses `frequency` for each time that it came, and `presence` for having come at all"""
    lengths = (4, 5, 7, 12)
    penalise.compare((2 * vectors(random, 6), written(random, n), 0.3 + 0.1 * n, 0.25) for n in lengths)


def one_penalty(penalise, random):
    """also where one of the two is 0, or negative: then what came is favoured"""
    pairs = ((0.7, 0.0), (0.0, 0.6), (-0.4, 0.0), (0.3, -0.8))
    penalise.compare((2 * vectors(random, 6), written(random, 6), *pair) for pair in pairs)


def no_text_yet(penalise, random):
    """at the beginning, with no text yet, nothing changes; a score of −∞ stays"""
    nothing, ruled_out = torch.zeros(0, dtype=torch.long), 2 * vectors(random, 6)
    ruled_out[draw(random, 0, 5)] = -torch.inf
    penalise.compare([(vectors(random, 4), nothing, 0.5, 0.2), (ruled_out, torch.arange(6), 0.5, 0.2)])


COUNT_PENALTIES = Exercise(
    name="count_penalties",
    lesson="hw3",
    title="frequency and presence penalty",
    oracle=count_penalties,
    may_call=(),
    checks={"penalties": (both_penalties, one_penalty, no_text_yet)},
    mistakes={
        "a token that came three times loses `frequency` once: it loses it three times": penalising(
            often=lambda n: n > 0
        ),
        "it takes `presence` off for each time that a token came: once is enough": penalising(once=lambda n: n),
        "frequency and presence are swapped: frequency goes by the number of times": penalising(
            often=lambda n: n > 0, once=lambda n: n
        ),
        "the penalties are added: they are taken off": penalising(take=lambda logits, penalty: logits + penalty),
        "every token loses `presence`: only those that came lose it": penalising(once=lambda n: torch.ones(len(n))),
        "only the last token of the text is penalised: all of them are": penalising(
            lambda logits, ids: counts_of(logits, ids[-1:])
        ),
        "it takes the share of the text that a token has: the number of times is meant": penalising(
            lambda logits, ids: counts_of(logits, ids), often=lambda n: n / n.sum().clamp(min=1)
        ),
        "`presence` is left out": penalising(once=lambda n: 0 * n),
        "`frequency` is left out": penalising(often=lambda n: 0 * n),
        "the penalty grows with the score: it is subtracted, and the score has no part in it": penalising(
            take=lambda logits, penalty: logits * (1 - penalty)
        ),
        "the first time is free: frequency counts every time, the first one too": penalising(
            often=lambda n: (n - 1).clamp(min=0)
        ),
    },
    hints=(
        "First a row of counts, one for each token of the vocabulary: how often does it occur in `ids`?",
        "`torch.bincount(ids, minlength=len(logits))` counts; a loop over `ids.tolist()` does, too. Mind that "
        "`scores[ids] -= 1` takes 1 off once, even for a token that stands in `ids` three times.",
        "Two terms are taken off: frequency · counts, and presence · (counts > 0). No branch is needed for an empty "
        "text, where all counts are 0.",
    ),
)


def places_of(ids, begun):
    """Where the tokens `begun` stand in ids, with a token after them."""
    size = len(begun)
    return [i for i in range(len(ids) - size) if ids[i : i + size] == begun]


def repeated_by(ids, n):
    """The tokens that would complete n tokens that are there already."""
    begun = ids[len(ids) - (n - 1) :] if len(ids) >= n - 1 else None
    return [ids[i + n - 1] for i in places_of(ids, begun)] if begun is not None else []


def forbidding(find=repeated_by, forbid=lambda logits, mask: logits.masked_fill(mask, -torch.inf)):
    def answer(logits, ids, n):
        mask = torch.zeros(len(logits), dtype=torch.bool)
        mask[find(ids.tolist(), n)] = True
        return forbid(logits, mask)

    return answer


forbid_repeats = forbidding()


def of_longer(by):
    def find(ids, n):
        if n + by < 1:
            raise IndexError  # such a slip is none here
        return repeated_by(ids, n + by)

    return find


def slice_of_nothing(ids, n):
    """ids[-0:] is the whole text, and not nothing."""
    return repeated_by(ids, n) if n > 1 else []


def in_any_order(ids, n):
    begun = sorted(ids[len(ids) - (n - 1) :]) if len(ids) >= n - 1 else None
    return [ids[i + n - 1] for i in range(len(ids) - n + 1) if sorted(ids[i : i + n - 1]) == begun]


def in_steps(ids, n):
    begun = ids[len(ids) - (n - 1) :] if len(ids) >= n - 1 else None
    return [ids[i + n - 1] for i in range(0, len(ids) - n + 1, n) if ids[i : i + n - 1] == begun]


def one_place_short(ids, n):
    begun = ids[len(ids) - (n - 1) :] if len(ids) >= n - 1 else None
    return [ids[i + n - 1] for i in range(len(ids) - n) if ids[i : i + n - 1] == begun]


def one_of(which):
    def find(ids, n):
        found = repeated_by(ids, n)
        return found[which : which + 1 or None]

    return find


def first_of_them(ids, n):
    begun = ids[len(ids) - (n - 1) :] if len(ids) >= n - 1 else []
    return [begun[0] for _ in places_of(ids, begun)] if begun else repeated_by(ids, n)


def texts(random, all_n, length=14, alphabet=3, words=8):
    """Texts of few words, so that many n-grams come again; several tokens are forbidden, at different places."""
    for n in all_n:
        while True:
            ids = torch.randint(alphabet, (length,), generator=random).tolist()
            found = repeated_by(ids, n)
            if len(set(found)) > 1 and found[0] != found[-1] and set(found) != set(ids):
                break
        names = torch.randperm(words, generator=random)
        yield 2 * vectors(random, words), names[torch.tensor(ids)], n


def repeats(forbid, random):
    """a token that would complete n tokens which the text has already gets −∞; all others stay"""
    ids = torch.tensor([0, 1, 2, 2, 1, 0, 3, 0, 1])  # 0 1 is begun: after the first one stood 2, and 1 0 is another
    names = torch.randperm(6, generator=random)
    forbid.compare([(vectors(random, 6), names[ids], 3), *texts(random, (2, 2, 3, 3, 2, 3))])


def overlapping(forbid, random):
    """also where the two beginnings overlap: after a a, with n = 2, a is forbidden"""
    inputs = []
    for ids, n in (([0, 0], 2), ([1, 0, 0], 2), ([0, 0, 0], 3), ([1, 0, 1, 0, 1], 4)):
        names = torch.randperm(5, generator=random)
        inputs.append((2 * vectors(random, 5), names[torch.tensor(ids)], n))
    forbid.compare(inputs)


def longer_ones(forbid, random):
    """also for longer sequences"""
    forbid.compare(texts(random, (4, 5), length=80))


def single_tokens(forbid, random):
    """n = 1: each token that came is forbidden"""
    one, two = torch.randperm(5, generator=random)[:2]
    drawn = [torch.randint(5, (size,), generator=random) for size in (2, 4, 6)]
    forbid.compare((2 * vectors(random, 7), ids, 1) for ids in (torch.stack([one, two, one]), *drawn))


def too_short(forbid, random):
    """a text that is too short to repeat anything forbids nothing"""
    sizes = ((0, 1), (0, 3), (1, 3), (1, 2), (2, 4))
    forbid.compare((vectors(random, 5), torch.randperm(5, generator=random)[:size], n) for size, n in sizes)


FORBID_REPEATS = Exercise(
    name="forbid_repeats",
    lesson="hw3",
    title="no n tokens twice",
    oracle=forbid_repeats,
    may_call=(),
    checks={"repeats": (repeats, overlapping, longer_ones, single_tokens, too_short)},
    mistakes={
        "it compares the last n tokens: the last n − 1 are begun, and the next token completes them": forbidding(
            of_longer(1)
        ),
        "it compares the last n − 2 tokens: the last n − 1 are begun, and the next token completes them": forbidding(
            of_longer(-1)
        ),
        "it finds the first earlier place only: the same beginning may stand at several": forbidding(one_of(0)),
        "it finds the last earlier place only: the same beginning may stand at several": forbidding(one_of(-1)),
        "it looks at every n-th place only: n tokens may begin anywhere": forbidding(in_steps),
        "it leaves the last place out: the last i is len(ids) − n, where the two beginnings may overlap": forbidding(
            one_place_short
        ),
        "it ignores the order: the last n − 1 tokens have to stand there in the same order": forbidding(in_any_order),
        "it forbids every token of the text, whatever stands before it": forbidding(lambda ids, n: ids),
        "it forbids the token with which the repetition began: the one that would complete it is meant": forbidding(
            first_of_them
        ),
        "with n = 1 it forbids nothing: `ids[-0:]` is the whole text, not its empty end": forbidding(slice_of_nothing),
        "what is forbidden gets the score 0, and e to the power of 0 is 1: −∞ it must be": forbidding(
            forbid=lambda logits, mask: logits * ~mask
        ),
        "it forbids all the others": forbidding(forbid=lambda logits, mask: logits.masked_fill(~mask, -torch.inf)),
        "it says which tokens are forbidden; the logits are asked for": lambda logits, ids, n: repeated_by(
            ids.tolist(), n
        ),
    },
    hints=(
        "What is begun: the last n − 1 tokens. Look for each place in the text where the same n − 1 tokens stand in a "
        "row. The token after them is forbidden.",
        "Lists are compared whole: `ids[i : i + n - 1] == begun`. Which i has a token at i + n − 1? Those from 0 to "
        "len(ids) − n.",
        "Count `begun` from the front: it starts at len(ids) − (n − 1). With n = 1 that is len(ids), and `begun` is "
        "empty: then it stands everywhere, and every token is forbidden. If the text is shorter than n, nothing is.",
    ),
)


def entropy_of(log_p):
    return -(log_p.exp() * log_p).nansum()


def from_entropy(log_p):
    """How far each token's surprise is from the mean surprise."""
    return (-log_p - entropy_of(log_p)).abs()


def keeping_mass(order=from_entropy, reached=lambda before, mass: before < mass, put_back=True, out=-torch.inf):
    def answer(logits, mass):
        log_p = logits.log_softmax(-1)
        ranked = order(log_p).argsort(stable=True)
        p = log_p.exp()[ranked]
        kept = reached(p.cumsum(-1) - p, mass)
        mask = torch.zeros_like(kept).scatter(-1, ranked, kept) if put_back else kept
        return logits.masked_fill(~mask, out)

    return answer


typical_tokens = keeping_mass()


def one_too_few(logits, mass):
    log_p = logits.log_softmax(-1)
    ranked = from_entropy(log_p).argsort(stable=True)
    kept = log_p.exp()[ranked].cumsum(-1) <= mass
    return logits.masked_fill(~torch.zeros_like(kept).scatter(-1, ranked, kept), -torch.inf)


def plain_mean(log_p):
    return (-log_p + log_p[log_p.isfinite()].mean()).abs()


def from_mean_probability(log_p):
    return (log_p.exp() - (log_p.exp() ** 2).sum()).abs()


def distributions(random, masses, words=9, closed=0, unlike=(lambda log_p: -log_p,)):
    """Logits whose kept tokens no rounding can change, and not those that other orders keep; `closed` are ruled out."""
    for mass in masses:
        while True:
            logits = 1.8 * vectors(random, words)
            logits[torch.randperm(words, generator=random)[:closed]] = -torch.inf
            distance, p = from_entropy(logits.log_softmax(-1)), logits.softmax(-1)
            ranked = distance.argsort()[: words - closed]
            clear = distance[ranked].diff().min() > 0.02 and (p[ranked].cumsum(-1) - mass).abs().min() > 0.02
            kept = [keeping_mass(order)(logits, mass) for order in (from_entropy, *unlike)] if clear else []
            if kept and not any(torch.equal(*two) for two in combinations(kept, 2)):
                break
        yield logits, mass


def typical_ones(keep, random):
    """the tokens whose surprise is nearest to the mean surprise, until they hold `mass`; the others get −∞"""
    others = (lambda log_p: -log_p, plain_mean, from_mean_probability)
    keep.compare(distributions(random, (0.2, 0.5, 0.3, 0.7, 0.4, 0.6), unlike=others))


def some_closed(keep, random):
    """also where some tokens are ruled out already"""
    keep.compare(distributions(random, (0.3, 0.5, 0.6), closed=3))


def small_mass(keep, random):
    """a small `mass` still keeps one token"""
    keep.compare(distributions(random, (0.01, 0.01, 0.001)))


TYPICAL_TOKENS = Exercise(
    name="typical_tokens",
    lesson="hw3",
    title="typical sampling",
    oracle=typical_tokens,
    may_call=(),
    checks={"kept": (typical_ones, some_closed, small_mass)},
    mistakes={
        "it keeps the likeliest tokens, as top-p does: how far −ln p is from its mean counts, on either side": (
            keeping_mass(lambda log_p: -log_p)
        ),
        "it drops the token that crosses `mass`: the one that reaches it stays": one_too_few,
        "it keeps one token too many: it stops when `mass` is reached": keeping_mass(
            reached=lambda before, mass: torch.cat([torch.ones(1, dtype=torch.bool), before[:-1] < mass])
        ),
        "it begins with the tokens farthest from the mean surprise: the nearest come first": keeping_mass(
            lambda log_p: -from_entropy(log_p).nan_to_num(posinf=1e9)
        ),
        "it takes the plain mean of the surprises: likely tokens count more, each as much as its probability": (
            keeping_mass(plain_mean)
        ),
        "it compares probabilities with their mean: surprises are compared, −ln p": keeping_mass(from_mean_probability),
        "what stays is not put back in place: after sorting, a place is a rank, and no token": keeping_mass(
            put_back=False
        ),
        "what is ruled out gets the score 0, and e to the power of 0 is 1: −∞ it must be": keeping_mass(out=0.0),
        "it gives probabilities; the logits are asked for": lambda logits, mass: typical_tokens(logits, mass).softmax(
            -1
        ),
        "where a token is ruled out, its 0 · −∞ is NaN, and so is the mean surprise": keeping_mass(
            lambda log_p: (-log_p + (log_p.exp() * log_p).sum()).abs()
        ),
    },
    hints=(
        "Four steps: the surprises −ln p, their mean (each weighs as much as its p), the distances from it, and the "
        "tokens in the order of their distance until their probabilities reach `mass`.",
        "`argsort` of the distances gives the order. Running sums: `cumsum` of the probabilities in that order. A "
        "token stays if those *before* it hold less than `mass`; so the first always stays.",
        "A token that is ruled out has p = 0 and −ln p = ∞; leave 0 · ∞ out of the mean (`nansum`). And back: "
        "`order[kept]` are the ids of those that stay. Begin with a row of −∞ and put their logits in.",
    ),
)


def spread(logits, less=0):
    """The standard deviation of the logits that are not ruled out; the squares' sum is divided by their number."""
    finite = logits[logits.isfinite()]
    return ((finite - finite.mean()).square().sum() / (len(finite) - less)).sqrt()


def above(line, keep=lambda logits, line: logits >= line, out=-torch.inf):
    def answer(logits, n):
        return logits.masked_fill(~keep(logits, line(logits, n)), out)

    return answer


top_n_sigma = above(lambda logits, n: logits.max() - n * spread(logits))


def bells(random, all_n, words=10, closed=0):
    """Logits of which none lies near the line; some stay and some go."""
    for n in all_n:
        while True:
            logits = 2 * vectors(random, words) + draw(random, -3, 3)
            logits[torch.randperm(words, generator=random)[:closed]] = -torch.inf
            line = logits.max() - n * spread(logits)
            kept = int((logits >= line).sum())
            if (logits - line).abs().min() > 0.05 and 1 < kept < words - closed - 1:
                break
        yield logits, n


def near_the_top(keep, random):
    """what lies within n standard deviations of the largest logit stays; the others get −∞"""
    few = []
    while len(few) < 4:  # of few tokens more would stay if the squares' sum were divided by one less
        [(logits, n)] = bells(random, some(random, (0.7, 1.0, 1.3), 1), words=5)
        if int((logits >= logits.max() - n * spread(logits, less=1)).sum()) > int((top_n_sigma(logits, n) > -99).sum()):
            few.append((logits, n))
    keep.compare([*few, *bells(random, (1.0, 1.5, 0.7, 2.0, 1.0, 1.5, 0.5, 1.2, 1.8, 1.0, 0.8, 1.4))])


def closed_ones(keep, random):
    """tokens that are ruled out already have no part in the standard deviation"""
    keep.compare(bells(random, (0.5, 0.7, 1.2), closed=3))


def all_alike(keep, random):
    """where all logits are the same, all stay; where one is left, it stays"""
    one = torch.full((4,), -torch.inf)
    one[draw(random, 0, 3)] = 1.5
    keep.compare([(torch.full((5,), 2.0), 1.0), (one, 1.0)])


TOP_N_SIGMA = Exercise(
    name="top_n_sigma",
    lesson="hw3",
    title="top-nσ",
    oracle=top_n_sigma,
    may_call=(),
    checks={"kept": (near_the_top, closed_ones, all_alike)},
    mistakes={
        "it counts from the mean: n standard deviations below the *largest* logit is the line": above(
            lambda logits, n: logits[logits.isfinite()].mean() - n * spread(logits)
        ),
        "it counts up from the mean: n standard deviations below the *largest* logit is the line": above(
            lambda logits, n: logits[logits.isfinite()].mean() + n * spread(logits)
        ),
        "it takes the variance: the standard deviation is its root": above(
            lambda logits, n: logits.max() - n * spread(logits) ** 2
        ),
        "it ignores n": above(lambda logits, n: logits.max() - spread(logits)),
        "it takes n itself for the distance: n standard deviations": above(lambda logits, n: logits.max() - n),
        "it divides by the number of tokens less one: here it is the number itself, `correction=0`": above(
            lambda logits, n: logits.max() - n * spread(logits, less=1)
        ),
        "it works on probabilities: the logits themselves are meant": above(
            lambda logits, n: logits.softmax(-1).max() - n * logits.softmax(-1).std(correction=0),
            lambda logits, line: logits.softmax(-1) >= line,
        ),
        "where a token is ruled out, the standard deviation becomes NaN: leave −∞ out of it": above(
            lambda logits, n: logits.max() - n * logits.std(correction=0)
        ),
        "where a token is ruled out, σ is NaN; below NaN lies nothing, so all stay: take the σ of the others": above(
            lambda logits, n: logits.max() - n * logits.std(correction=0), lambda logits, line: ~(logits < line)
        ),
        "where all logits are the same, nothing stays: a logit on the line stays": above(
            lambda logits, n: logits.max() - n * spread(logits), lambda logits, line: logits > line
        ),
        "what is ruled out gets the score 0, and e to the power of 0 is 1: −∞ it must be": above(
            lambda logits, n: logits.max() - n * spread(logits), out=0.0
        ),
        "it keeps what lies below the line": above(
            lambda logits, n: logits.max() - n * spread(logits), lambda logits, line: logits < line
        ),
    },
    hints=(
        "Two numbers first: the largest logit, and the standard deviation. Their difference, n times the second off "
        "the first, is a line. What lies below it gets −∞.",
        "PyTorch's `std` divides by the number less one unless it is told otherwise: `std(correction=0)`.",
        "`logits[logits.isfinite()]` are those that are not ruled out. A logit that lies exactly on the line stays: "
        "think of five equal logits, whose standard deviation is 0.",
    ),
)


def surprise(logits):
    return -logits.log_softmax(-1) / math.log(2)  # bits


def mirostatic(
    measure=surprise,
    keep=lambda bits, mu: bits <= mu,
    at_least_one=True,
    observed=lambda logits, kept, id: surprise(kept)[id],
    step=lambda mu, bits, tau, eta: mu - eta * (bits - tau),
    shown=lambda kept: kept,
    choose=lambda logits, shown, draw: draw(shown),
    result=lambda id, mu: (id, mu),
):
    def answer(logits, mu, tau, eta, draw):
        stay = keep(measure(logits), mu)
        if at_least_one:
            stay[logits.argmax()] = True
        kept = logits.masked_fill(~stay, -torch.inf)
        id = choose(logits, shown(kept), draw)
        return result(id, float(step(mu, observed(logits, kept, id), tau, eta)))

    return answer


mirostat_step = mirostatic()


def likeliest(logits):
    return int(logits.argmax())


def unlikeliest(logits):
    """The least likely of those that are not ruled out."""
    return int(logits.masked_fill(logits == -torch.inf, torch.inf).argmin())


def second(logits):
    """The second in rank, or the first if it is alone."""
    best = logits.topk(2)
    return int(best.indices[1 if best.values[1] > -torch.inf else 0])


def moods(random, rules, low=1.2, high=4.0, words=8):
    """Logits and a bound that lies well between the surprises of two tokens, measured in bits and in nats."""
    for rule in rules:
        while True:
            logits, mu = 1.6 * vectors(random, words), low + (high - low) * torch.rand((), generator=random).item()
            bits = surprise(logits).sort().values
            kept, kept_in_nats = (int((unit * bits <= mu).sum()) for unit in (1, math.log(2)))
            clear = (bits - mu).abs().min() > 0.05 and 2 < kept < kept_in_nats < words
            if (
                clear and (surprise(logits) > mu).nonzero()[0] != logits.argmin()
            ):  # of those ruled out, another is first
                break
        tau, eta = 1.0 + torch.rand((), generator=random).item(), some(random, (0.1, 0.3, 0.5), 1)[0]
        yield logits, mu, tau, eta, rule


def a_step(step, random):
    """what surprises more than mu bits is ruled out, one of the rest is drawn, and mu goes after tau"""
    step.compare(moods(random, (unlikeliest, likeliest, second, unlikeliest, second, unlikeliest, likeliest)))


def tight(step, random):
    """also where mu is so small that nothing would be left: the likeliest token stays"""
    inputs = []
    for rule, mu in ((unlikeliest, 0.01), (second, -0.5), (likeliest, 0.005)):
        inputs.append((vectors(random, 6), mu, 2.0, 0.2, rule))
    step.compare(inputs)


def at_mu(step, random):
    """a token whose surprise is mu itself is still allowed"""
    inputs = []
    for n, bits in ((2, 1.0), (4, 2.0), (2, 1.0)):
        logits = torch.full((7,), draw(random, -2, 2) - 200.0)  # so unlikely that the sum of all is n, exactly
        logits[torch.randperm(7, generator=random)[:n]] += 200.0
        mu = bits + 3e-8  # what rounding can add in 64 bits, and in 32 bits nothing
        inputs.append((logits, mu, 0.5 + torch.rand((), generator=random).item() / 4, 0.2, second))
    step.compare(inputs)


MIROSTAT_STEP = Exercise(
    name="mirostat_step",
    lesson="hw3",
    title="one step of Mirostat",
    oracle=mirostat_step,
    may_call=(),
    checks={"step": (a_step, tight, at_mu)},
    mistakes={
        "it measures in nats: surprise is counted in bits here, −log₂ p": mirostatic(
            lambda logits: -logits.log_softmax(-1), observed=lambda logits, kept, id: -kept.log_softmax(-1)[id]
        ),
        "it rules out by nats and steers by bits: both are bits": mirostatic(lambda logits: -logits.log_softmax(-1)),
        "it rules out by bits and steers by nats: both are bits": mirostatic(
            observed=lambda logits, kept, id: -kept.log_softmax(-1)[id]
        ),
        "it measures the drawn token's surprise before the cut: among those that are left, it is less": mirostatic(
            observed=lambda logits, kept, id: surprise(logits)[id]
        ),
        "it steers the wrong way: after too much surprise, mu goes down": mirostatic(
            step=lambda mu, bits, tau, eta: mu + eta * (bits - tau)
        ),
        "it forgets tau: mu moves by the difference between surprise and target": mirostatic(
            step=lambda mu, bits, tau, eta: mu - eta * bits
        ),
        "it forgets eta: mu moves by a part of the difference": mirostatic(
            step=lambda mu, bits, tau, eta: mu - (bits - tau)
        ),
        "mu stays as it was": mirostatic(step=lambda mu, bits, tau, eta: mu),
        "the new mu starts from tau: it starts from mu": mirostatic(
            step=lambda mu, bits, tau, eta: tau - eta * (bits - tau)
        ),
        "it rules out what surprises less than tau bits, not mu": mirostatic(keep=lambda bits, mu: bits >= mu),
        "it draws from all tokens: those that surprise more than mu are ruled out first": mirostatic(
            choose=lambda logits, shown, draw: draw(logits)
        ),
        "`draw` gets probabilities: it takes logits": mirostatic(shown=lambda kept: kept.softmax(-1)),
        "it takes the likeliest token: `draw` says which": mirostatic(
            choose=lambda logits, shown, draw: int(logits.argmax())
        ),
        "where mu is small it rules out every token: the likeliest has to stay": mirostatic(at_least_one=False),
        "a token whose surprise is mu itself is ruled out: it is still allowed": mirostatic(
            keep=lambda bits, mu: bits < mu
        ),
        "the two answers are swapped: the id comes first": mirostatic(result=lambda id, mu: (mu, id)),
        "the new mu is missing: the id and mu are asked for": mirostatic(result=lambda id, mu: id),
    },
    hints=(
        "Three steps. Surprises of all tokens in bits, and −∞ for those above mu. Then `draw`. Then the surprise of "
        "what was drawn, and the new mu.",
        "`-logits.log_softmax(-1) / math.log(2)` are the surprises in bits. Put the likeliest token back after the "
        "cut, whatever its surprise: it is at `logits.argmax()`.",
        "After the cut the probabilities of those left are larger: a second `log_softmax`, of the cut logits, gives "
        "the surprise that counts. mu − eta · (surprise − tau): after a surprise above tau, mu is smaller.",
    ),
)

# ---- a KV cache ----------------------------------------------------------------------------------


def rms(x, weight):
    return x / (x.pow(2).mean(dim=-1, keepdim=True) + 1e-5).sqrt() * weight


def small_model(random, n_layers=2, n_heads=2, d_head=4, words=11):
    """A small random transformer, taken apart into the functions that the learner gets."""
    d_model = n_heads * d_head

    def matrix(d_out, d_in):
        return vectors(random, d_out, d_in) * 1.2 / d_in**0.5

    def layer():
        names = ("query", "key", "value", "output")
        weights = {name: matrix(d_model, d_model) for name in names}
        up, gate, down = matrix(2 * d_model, d_model), matrix(2 * d_model, d_model), matrix(d_model, 2 * d_model)
        first, last = (1 + vectors(random, d_model) / 3 for _ in range(2))

        def read(x):
            rows = rms(x, first)
            return tuple((rows @ weights[name].T).unflatten(-1, (n_heads, -1)).transpose(0, 1) for name in names[:3])

        def write(x, mixed):
            x = x + mixed.transpose(0, 1).flatten(1) @ weights["output"].T
            rows = rms(x, last)
            return x + (silu(rows @ gate.T) * (rows @ up.T)) @ down.T

        return read, write

    table = vectors(random, words, d_model)

    def embed(ids):
        return table[ids]

    def turn(rows, positions):
        return rotate(rows, rotation_angles(positions, d_head, 40.0), "halves")

    def unembed(x):
        return rms(x, 1.0) @ table.T

    return {"embed": embed, "layers": [layer() for _ in range(n_layers)], "turn": turn, "unembed": unembed}


def in_order(n_new, n_all):
    """The mask: each new token sees everything that was kept, and the new ones up to itself."""
    return torch.ones(n_new, n_all, dtype=torch.bool).tril(n_all - n_new)


def appended(old, new):
    return new if old is None else torch.cat([old, new], dim=1)


def running(
    start=lambda n_kept: n_kept,
    see=in_order,
    add=appended,
    read_from=lambda layer: layer,
    turned=("query", "key"),
    turn_all=False,
    divide=True,
    keeps=lambda old, new, all: all,
    pair=lambda keys, values: (keys, values),
    rows=lambda logits: logits,
):
    def answer(ids, cache, model):
        n_new, n_kept = len(ids), cache[0][0].shape[1] if cache else 0
        positions = torch.arange(n_new) + start(n_kept)
        x, kept = model["embed"](ids), []
        for number, (read, write) in enumerate(model["layers"]):
            names = ("query", "key", "value")
            found = dict(zip(names, read(x), strict=True))
            found |= {name: model["turn"](found[name], positions) for name in turned}
            old = cache[read_from(number)] if cache else (None, None)
            keys, values = (add(one, found[name]) for one, name in zip(old, names[1:], strict=True))
            seen = model["turn"](keys, torch.arange(keys.shape[1])) if turn_all else keys
            scores = found["query"] @ seen.transpose(-2, -1) / (found["query"].shape[-1] ** 0.5 if divide else 1)
            weights = scores.masked_fill(~see(n_new, keys.shape[1]), -torch.inf).softmax(-1)
            x = write(x, weights @ values)
            own = cache[number] if cache else (None, None)
            new = (found["key"], found["value"])
            kept.append(pair(*(keeps(*three) for three in zip(own, new, (keys, values), strict=True))))
        return rows(model["unembed"](x)), kept

    return answer


run_with_cache = running()


def kept_states(random, n_kept, n_new, **shape):
    """A model, a cache with so many tokens, and new ones."""
    model = small_model(random, **shape)
    ids = torch.randint(11, (n_kept + n_new,), generator=random)
    cache = run_with_cache(ids[:n_kept], [], model)[1] if n_kept else []
    return ids[n_kept:], cache, model


def nothing_kept(run, random):
    """an empty cache: a text from its beginning, all at once"""
    run.compare([kept_states(random, 0, 3, n_layers=1), kept_states(random, 0, 4)])


def one_new_token(run, random):
    """one new token after those that are kept: it stands after them, and sees them all"""
    run.compare([kept_states(random, 2, 1, n_layers=1), kept_states(random, 4, 1, n_layers=3)])


def several_new_tokens(run, random):
    """several new tokens at once: each sees what is kept, and the new ones up to itself"""
    run.compare([kept_states(random, 2, 2, n_layers=1), kept_states(random, 4, 3)])


def piece_by_piece(run, random):
    """a text in pieces of any size gives the logits of the whole text, within 1e-4"""
    for sizes in ((3, 1, 1), (1, 3, 2)):
        ids, _, model = kept_states(random, 0, sum(sizes))
        whole, _ = run_with_cache(ids, [], model)
        cache, pieces = [], []
        for piece in ids.split(list(sizes)):
            answer = run.answer(piece, cache, model)
            if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], torch.Tensor)):
                run.compare([(piece, cache, model)])
            pieces.append(answer[0])
            cache = answer[1]
        shapes = [tuple(piece.shape) for piece in pieces]
        if shapes != [(size, whole.shape[1]) for size in sizes]:
            raise Wrong("its logits have another shape than (new, vocab)", f"in pieces of {sizes}: {shapes}")
        apart = (torch.cat(pieces) - whole).abs().max().item()
        if not apart < 1e-4:
            raise Wrong(
                "a text in pieces gives other logits than the whole text at once",
                f"in pieces of {', '.join(map(str, sizes))} tokens they differ by up to {apart:.3g}",
            )


RUN_WITH_CACHE = Exercise(
    name="run_with_cache",
    lesson="hw3",
    title="a model that runs new tokens alone, with a KV cache",
    oracle=run_with_cache,
    may_call=("positions",),
    checks={"cache": (nothing_kept, one_new_token, several_new_tokens, piece_by_piece)},
    mistakes={
        "the new tokens are turned as if the text began with them: they stand after those that are kept": running(
            start=lambda n_kept: 0
        ),
        "the new tokens are turned one position too far: the first one's position is the number of those kept": running(
            start=lambda n_kept: n_kept + 1
        ),
        "the new tokens are turned one position too early: the first one's position is the number of those kept": (
            running(start=lambda n_kept: max(n_kept - 1, 0))
        ),
        "the mask lines the queries up with the first keys: the new tokens are the last ones": running(
            see=lambda n_new, n_all: torch.ones(n_new, n_all, dtype=torch.bool).tril()
        ),
        "nothing is hidden: of several new tokens, each sees itself and those before it": running(
            see=lambda n_new, n_all: torch.ones(n_new, n_all, dtype=torch.bool)
        ),
        "a new token does not see itself": running(
            see=lambda n_new, n_all: torch.ones(n_new, n_all, dtype=torch.bool).tril(n_all - n_new - 1)
        ),
        "the cache is not read: the new tokens see only one another": running(add=lambda old, new: new),
        "the new keys and values come before the old ones: they go to the end": running(
            add=lambda old, new: new if old is None else torch.cat([new, old], dim=1)
        ),
        "every layer reads the first layer's keys and values: each has its own": running(read_from=lambda layer: 0),
        "the new keys and values are not kept: the cache comes back as it was": running(
            keeps=lambda old, new, all: new[:, :0] if old is None else old
        ),
        "the cache that comes back has the new keys and values only": running(keeps=lambda old, new, all: new),
        "the keys that were kept are turned once more: they were turned when they came": running(turn_all=True),
        "the keys are kept as they are before turning, and the others in the cache are turned": running(
            turned=("query",), turn_all=True
        ),
        "the keys are not turned: queries and keys both are": running(turned=("query",)),
        "the queries are not turned: queries and keys both are": running(turned=("key",)),
        "nothing is turned: queries and keys both are": running(turned=()),
        "the values are turned, too: positions concern the scores alone": running(turned=("query", "key", "value")),
        "the scores are not divided by the root of d_head": running(divide=False),
        "keys and values come back swapped: (keys, values)": running(pair=lambda keys, values: (values, keys)),
        "keys and values come back as a list: they are a tuple, (keys, values)": running(
            pair=lambda keys, values: [keys, values]
        ),
        "it gives the last token's logits only: one row for each new token is asked for": running(
            rows=lambda logits: logits[-1:]
        ),
        "the new cache is missing: logits and cache are asked for": lambda *given: run_with_cache(*given)[0],
    },
    hints=(
        "Layer by layer: `read` gives queries, keys and values of the new tokens; turn queries and keys; put the keys "
        "and values behind the kept ones; let the queries attend to all of them; `write`. Collect the longer keys and "
        "values in a new list.",
        "How many are kept: `cache[0][0].shape[1]`, or 0 if the cache is empty. The new tokens stand at that position "
        "and after. `torch.cat([old, new], dim=1)`: the dimensions are (heads, position, d_head).",
        "The mask has a row for each new token and a column for each key, old and new. New token i sees the columns "
        "up to n_kept + i: that is `torch.ones(n_new, n_all, dtype=torch.bool).tril(n_kept)`. Everything else as in "
        "lesson 05: divide by √d_head, −∞, softmax, times the values.",
    ),
)

# ---- when to stop --------------------------------------------------------------------------------


def complete_first(text, stops):
    """(start, end) of the stop string that is complete first; of two that end together, the longer one."""
    found = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    return min(found)[::-1] if found else None


def begins_first(text, stops):
    found = [(text.find(stop), text.find(stop) + len(stop)) for stop in stops if stop in text]
    return min(found) if found else None


def listed_first(text, stops):
    return next(((text.find(stop), text.find(stop) + len(stop)) for stop in stops if stop in text), None)


def shorter_of_two(text, stops):
    found = [(text.find(stop) + len(stop), -text.find(stop)) for stop in stops if stop in text]
    return (-min(found)[1], min(found)[0]) if found else None


def last_place(text, stops):
    found = [(text.rfind(stop) + len(stop), text.rfind(stop)) for stop in stops if stop in text]
    return min(found)[::-1] if found else None


def at_the_end(text, stops):
    found = [(len(text) - len(stop), len(text)) for stop in stops if text.endswith(stop)]
    return min(found) if found else None


def circling(times=3, wide=lambda size, times, loop: size * times >= loop, sizes=lambda n: range(1, n + 1)):
    def found(ids, loop):
        return any(
            wide(size, times, loop) and len(ids) >= times * size and ids[-times * size :] == ids[-size:] * times
            for size in sizes(len(ids))
        )

    return found


in_circles = circling()


def stopping(
    ends=lambda id, end_ids: id in end_ids,
    with_its_end="",
    search=complete_first,
    looks_from=lambda text, piece: 0,
    cut=lambda text, start, end: text[:start],
    circles=in_circles,
    full=lambda count, text, longest: count == longest,
    order=("stop", "loop", "length"),
    run_out=None,
    end_last=False,
):
    def answer(ids, pieces, end_ids, stops, longest, loop):
        text = ""
        for count, id in enumerate(ids, 1):
            if ends(id, end_ids):
                return text + (pieces[id] if with_its_end else ""), "end"
            text += pieces[id]
            first = looks_from(text, pieces[id])
            place = search(text[first:], stops)
            now = {
                "stop": place is not None,
                "loop": circles(ids[:count], loop),
                "length": full(count, text, longest),
            }
            if end_last and id in end_ids and not now["stop"]:
                return text.removesuffix(pieces[id]), "end"
            for reason in order:
                if now[reason]:
                    if reason == "stop":
                        return cut(text, first + place[0], first + place[1]), "stop"
                    return text, reason
        return text, run_out

    return answer


where_it_stops = stopping()

SAID = (" the", " dog", " ran", " up", " hill", ".", " and", " saw", " a", " cat", ",", " then", " it", " slept")
MARKS = ("<|end|>", "<|turn|>", "\n", "\nUs", "er:", " ST", "OP", "!\n\nUser: why", "Us", "er", ":")
FAR = 99  # no loop is so long


def vocabulary(random):
    """Ids in no order, and the text of each; `name(…)` gives the ids of some texts."""
    ids = torch.randperm(60, generator=random).tolist()[: len(SAID + MARKS)]
    by_text = dict(zip(SAID + MARKS, ids, strict=True))
    return {id: text for text, id in by_text.items()}, lambda *texts: [by_text[text] for text in texts]


def at_an_end(stop, random):
    """an end id ends the text, whichever of them it is, and its own text is not said"""
    inputs = []
    for n in (2, 4, 6):
        pieces, name = vocabulary(random)
        said, (end, turn) = shuffled(random, name(*SAID)), name("<|end|>", "<|turn|>")
        for mark in (end, turn):
            inputs.append(([*said[:n], mark, *said[n:8]], pieces, [end, turn], [], 20, FAR))
        inputs.append(([turn, *said[:3]], pieces, [end], ["\nUser:"], 20, FAR))
    stop.compare(inputs)


def at_a_stop_string(stop, random):
    """a stop string ends the text before itself; it may begin in one token and end within another"""
    inputs = []
    for tokens, string in (
        (("\nUs", "er:"), "\nUser:"),
        (("\n", "Us", "er", ":"), "\nUser:"),
        ((" ST", "OP"), "STOP"),
        (("!\n\nUser: why",), "\nUser:"),
        (("\n", "!\n\nUser: why"), "User"),
        (("er", " ST", "OP"), "STOP"),
    ):
        pieces, name = vocabulary(random)
        said = shuffled(random, name(*SAID))
        n = draw(random, 2, 5)
        inputs.append(([*said[:n], *name(*tokens), *said[n:9]], pieces, name("<|end|>"), [string], 20, FAR))
    stop.compare(inputs)


def at_one_of_several(stop, random):
    """of several stop strings, or places of one, what is complete first; of two that end together, the longer one"""
    inputs = []
    for tokens, strings in (
        (("\nUs", "er:"), ["\nUser:", "Us"]),
        ((" ST", "OP", "\nUs", "er:"), ["\nUser:", "STOP"]),
        (("!\n\nUser: why",), ["!\n\nUser: w", "User"]),
        ((" ST", "OP"), ["OP", " STOP", "STOP"]),
        (("\nUs", "er:"), ["er:", "\nUser:"]),
        (("!\n\nUser: why",), ["\n"]),  # twice in one token
    ):
        pieces, name = vocabulary(random)
        said = shuffled(random, name(*SAID))
        n = draw(random, 1, 4)
        inputs.append(([*said[:n], *name(*tokens), *said[n:9]], pieces, name("<|end|>"), strings, 20, FAR))
    stop.compare(inputs)


def at_its_length(stop, random):
    """after `longest` tokens it ends; where nothing ends it, it may go on: None"""
    inputs = []
    for n in (1, 3, 7):
        pieces, name = vocabulary(random)
        said, stops = shuffled(random, name(*SAID)), ["\nUser:"]
        inputs.append((said[:n], pieces, name("<|end|>"), stops, 12, FAR))
        inputs.append((said[:12], pieces, name("<|end|>"), stops, n, FAR))
        for last in (["\nUs", "er:"], ["!\n\nUser: why"]):  # the last token that it may say completes a stop string
            ids = [*said[:n], *name(*last), *said[:4]]
            inputs.append((ids, pieces, name("<|end|>"), stops, n + len(last), FAR))
    stop.compare(inputs)


def in_a_loop(stop, random):
    """when it says the same tokens three times in a row, at least `loop` tokens together, it ends"""
    inputs = []
    for size, loop in ((1, 3), (2, 6), (2, 3), (4, 6), (1, 6), (3, 4), (1, 12), (3, 10), (2, 8)):
        pieces, name = vocabulary(random)
        said = shuffled(random, name(*SAID))
        block = said[:size]
        inputs.append(([*said[9:12], *block * 7, *block * 7], pieces, name("<|end|>"), [], 40, loop))
        twice, again = [*said[9:11], *block * 2, *said[11:]], [*block, said[6], *block * 2, *said[7:9]]
        inputs.append((twice, pieces, name("<|end|>"), [], 40, 3))
        inputs.append((again, pieces, name("<|end|>"), [], 40, 3))
    stop.compare(inputs)


def at_several_reasons(stop, random):
    """where one token gives several reasons, the first one in the list counts: end, stop, loop, length"""
    inputs = []
    for size in (1, 2, 3):
        pieces, name = vocabulary(random)
        said = shuffled(random, name(*SAID))
        block, first = said[:size], said[9 : 9 + draw(random, 1, 3)]
        ids, longest = [*first, *block * 3, *said[4:8]], len(first) + 3 * size
        thrice = "".join(pieces[id] for id in block * 3)
        inputs.append((ids, pieces, name("<|end|>"), [], longest, 3))  # a loop, and as long as it may be
        inputs.append((ids, pieces, name("<|end|>"), [thrice], 40, 3))  # a stop string, and a loop
        inputs.append((ids, pieces, name("<|end|>"), [thrice], longest, 3))
        inputs.append(([*first, *name("<|turn|>"), *said[4:8]], pieces, name("<|turn|>"), ["<|turn|>"], 40, 3))
    stop.compare(
        inputs,
        {
            "at its length it looks for no loop: where one token gives both, the loop counts": stopping(
                order=("stop", "length", "loop")
            ),
            "it looks for a loop before it looks for a stop string: where one token gives both, that counts": (
                stopping(order=("loop", "stop", "length"))
            ),
            "it looks for a stop string in the text of an end token, which is not said: the end counts": stopping(
                ends=lambda id, end_ids: False, end_last=True
            ),
        },
    )


WHERE_IT_STOPS = Exercise(
    name="where_it_stops",
    lesson="hw3",
    title="when a text is at its end, and why",
    oracle=where_it_stops,
    may_call=(),
    checks={"rule": (at_an_end, at_a_stop_string, at_one_of_several, at_its_length, in_a_loop, at_several_reasons)},
    mistakes={
        "the text of the end token is in the answer: it is a mark, and nothing that is said": stopping(
            with_its_end="yes"
        ),
        "it knows the first of the end ids only": stopping(ends=lambda id, end_ids: id in end_ids[:1]),
        "it goes on after an end id": stopping(ends=lambda id, end_ids: False),
        "it looks for a stop string in single tokens: it may begin in one and end in another": stopping(
            looks_from=lambda text, piece: len(text) - len(piece)
        ),
        "it stops only where a stop string ends with a token: it may end within one": stopping(search=at_the_end),
        "the stop string is still in the answer: the text ends before it": stopping(
            cut=lambda text, start, end: text[:end]
        ),
        "the whole text so far is the answer: it ends before the stop string": stopping(
            cut=lambda text, start, end: text
        ),
        "it cuts at the stop string that begins first: the one that is complete first counts": stopping(
            search=begins_first
        ),
        "it takes the stop string that stands first in the list: the one that is complete first counts": stopping(
            search=listed_first
        ),
        "of a stop string that comes twice it takes the last place: the text ends before the first one": stopping(
            search=last_place
        ),
        "of two stop strings that end together it takes the shorter one": stopping(search=shorter_of_two),
        "it says one token more than `longest`": stopping(full=lambda count, text, longest: count > longest),
        "it says one token less than `longest`": stopping(full=lambda count, text, longest: count == longest - 1),
        "it counts characters: `longest` is a number of tokens": stopping(
            full=lambda count, text, longest: len(text) >= longest
        ),
        "in the last token that it may say, it no longer looks for a stop string": stopping(
            order=("length", "stop", "loop")
        ),
        "where the ids run out and nothing has ended the text, the reason is None": stopping(run_out="length"),
        "where the ids run out there was no end id: the reason is None": stopping(run_out="end"),
        "it sees a loop of a single token only: several tokens may come again and again": stopping(
            circles=circling(sizes=lambda n: [1])
        ),
        "two rounds are no loop yet, though three of them would be long enough": stopping(
            circles=circling(times=2, wide=lambda size, times, loop: 3 * size >= loop)
        ),
        "twice in a row is no loop yet: three times": stopping(circles=circling(times=2)),
        "it waits for a fourth time: three times are a loop": stopping(circles=circling(times=4)),
        "it ignores `loop`: the three times together have to be at least so many tokens": stopping(
            circles=circling(wide=lambda size, times, loop: True)
        ),
        "its loops are longer than `loop`: exactly `loop` tokens are enough": stopping(
            circles=circling(wide=lambda size, times, loop: size * times > loop)
        ),
        "it compares one round with `loop`: the three rounds together count": stopping(
            circles=circling(wide=lambda size, times, loop: size >= loop)
        ),
        "it sees no loop": stopping(circles=lambda ids, loop: False),
        "text and reason are swapped: the text comes first": lambda *given: where_it_stops(*given)[::-1],
        "it gives the text alone: the reason is asked for, too": lambda *given: where_it_stops(*given)[0],
    },
    hints=(
        "A loop over the ids, and in it four questions in this order: an end id? Then, with the token's text added: a "
        "stop string complete? A loop? As many tokens as allowed?",
        "Look for stop strings in the whole text so far: they do not care about borders between tokens. For each that "
        "is in it, `start = text.find(stop)` and its end, `start + len(stop)`. The smallest (end, start) is the one.",
        "A loop, for each size m from 1: the last 3 · m ids are equal to the last m ids times three, "
        "`ids[-3 * m:] == ids[-m:] * 3`, and there are so many. Look only at the ids so far, and at sizes with "
        "3 · m ≥ loop.",
    ),
)

# ---- a study -------------------------------------------------------------------------------------


def grams(ids, n):
    return [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]


def repeated_share(ids, n):
    """The share of its n-grams that it had said before."""
    found = grams(ids, n)
    return 1 - len(set(found)) / len(found) if found else 0.0


def with_both_copies(ids, n):
    found = grams(ids, n)
    return sum(found.count(gram) > 1 for gram in found) / len(found) if found else 0.0


def without_overlap(ids, n):
    found = [tuple(ids[i : i + n]) for i in range(0, len(ids) - n + 1, n)]
    return 1 - len(set(found)) / len(found) if found else 0.0


def paired_error(before, after):
    return statistics.stdev(b - a for a, b in zip(before, after, strict=True)) / len(before) ** 0.5


def unpaired_error(before, after):
    return ((statistics.variance(before) + statistics.variance(after)) / len(before)) ** 0.5


def verdict_of(difference, error, times=2):
    if difference + times * error < 0:
        return "less"
    return "more" if difference - times * error > 0 else "open"


def one_mean(texts, shares, n):
    return statistics.mean(shares)


def studying(
    measure=repeated_share, mean=one_mean, error=paired_error, sign=1, decide=verdict_of, short=lambda share: share
):
    def answer(before, after, n):
        shares = [
            [measure(ids, n) if len(ids) >= n else short(0.0) for ids in continuations]
            for continuations in (before, after)
        ]
        means = [mean(texts, own, n) for texts, own in zip((before, after), shares, strict=True)]
        difference, apart = sign * (means[1] - means[0]), error(*shares)
        return dict(
            before=means[0], after=means[1], difference=difference, error=apart, verdict=decide(difference, apart)
        )

    return answer


paired_study = studying()


def pooled(texts, shares, n):
    found = [gram for ids in texts for gram in grams(ids, n)]
    return 1 - len(set(found)) / len(found)


def weighed_by_length(texts, shares, n):
    sizes = [len(grams(ids, n)) for ids in texts]
    return sum(share * size for share, size in zip(shares, sizes, strict=True)) / sum(sizes)


def swapped(difference, error):
    return {"less": "more", "more": "less", "open": "open"}[verdict_of(difference, error)]


def continuations(random, alphabets, longest=14):
    """One text for each size of alphabet: the smaller it is, the more is repeated."""
    return [torch.randint(size, (draw(random, longest - 6, longest),), generator=random).tolist() for size in alphabets]


def studies(random, wanted, n=2, pairs=5):
    """A study whose verdict is the wanted one, with room on both sides of the border, and numbers that differ."""
    sizes = {"less": (2, 6), "more": (6, 2), "open": (3, 3), "nearly": (3, 4)}[wanted]
    while True:
        before, after = (continuations(random, [size] * pairs) for size in sizes)
        found = paired_study(before, after, n)
        errors = found["difference"] / found["error"] if found["error"] else 0.0
        fits = {"less": errors < -2.3, "more": errors > 2.3, "open": abs(errors) < 0.8, "nearly": -1.8 < errors < -1.2}
        shares = [repeated_share(ids, n) for ids in (*before, *after)]
        if fits[wanted] and abs(found["difference"]) > 0.02 and len(set(shares)) > 4:
            return before, after, n


def numbers(study, random):
    """the share of repeated n-grams in each text, its mean before and after, and the mean difference"""
    small = [[0, 1, 0, 1, 2], [2, 2, 2, 2, 1, 0]], [[0, 1, 2, 0], [1, 1, 0, 2, 2]], 2
    study.compare([small, *(studies(random, wanted, n) for wanted, n in (("less", 2), ("open", 1), ("more", 3)))])


def verdicts(study, random):
    """the standard error of the differences, and the verdict: less, more, or open"""
    wanted = (("nearly", 2), ("less", 2), ("nearly", 3), ("more", 2), ("open", 2), ("nearly", 2))
    study.compare(studies(random, *one) for one in wanted)


def no_difference(study, random):
    """where nothing differs, it is open"""
    texts = continuations(random, (2, 3, 4))
    study.compare([(texts, texts, 2)])


def short_ones(study, random):
    """a text that is shorter than n repeats nothing"""
    before, after = continuations(random, (2, 2, 3)), continuations(random, (3, 2, 2))
    study.compare([([*before, [1]], [*after, [2, 1]], 2), ([[], *before], [*after, [1, 1]], 3)])


PAIRED_STUDY = Exercise(
    name="paired_study",
    lesson="hw3",
    title="a study of one claim, with its error",
    oracle=paired_study,
    may_call=(),
    checks={"numbers": (numbers, verdicts, no_difference, short_ones)},
    mistakes={
        "it gives the share of different n-grams: the share of repeated ones is 1 minus that": studying(
            lambda ids, n: 1 - repeated_share(ids, n)
        ),
        "it looks at single tokens, whatever n is": studying(lambda ids, n: repeated_share(ids, 1)),
        "it divides by the number of tokens: there are n − 1 n-grams fewer": studying(
            lambda ids, n: 1 - (len(set(grams(ids, n))) + n - 1) / len(ids)
        ),
        "it divides the number of different n-grams by the number of tokens: by that of all n-grams": studying(
            lambda ids, n: 1 - len(set(grams(ids, n))) / len(ids)
        ),
        "the first time is no repetition yet: of two alike, one is repeated": studying(with_both_copies),
        "its n-grams do not overlap: one begins at each token": studying(without_overlap),
        "it throws all texts together: each text has its own share, and then comes the mean": studying(mean=pooled),
        "its mean weighs a long text more: each text counts once": studying(mean=weighed_by_length),
        "the difference has the wrong sign: after minus before": studying(sign=-1),
        "its error is that of two groups: these are pairs, and the spread of their differences counts": studying(
            error=unpaired_error
        ),
        "it gives the standard deviation of the differences: divide it by the root of their number": studying(
            error=lambda before, after: paired_error(before, after) * len(before) ** 0.5
        ),
        "it divides the standard deviation by the number of pairs: by the root of that": studying(
            error=lambda before, after: paired_error(before, after) / len(before) ** 0.5
        ),
        "its standard deviation divides by the number of pairs: here it is the number less one": studying(
            error=lambda before, after: paired_error(before, after) * ((len(before) - 1) / len(before)) ** 0.5
        ),
        "it decides at one standard error: it takes two": studying(
            decide=lambda difference, error: verdict_of(difference, error, 1)
        ),
        "it decides by the difference alone: within two standard errors it is open": studying(
            decide=lambda difference, error: verdict_of(difference, error, 0)
        ),
        "less and more are swapped": studying(decide=swapped),
        "a text that is shorter than n has nothing that it could repeat: its share is 0, not 1": studying(
            short=lambda share: 1.0
        ),
    },
    hints=(
        "First one text: the list of its n-grams, as tuples. How many are there, and how many different ones "
        "(`set`)? What is missing between the two numbers was repeated.",
        "Then the pairs: one difference for each, after minus before. Their mean is the difference, and "
        "`statistics.stdev` of them, divided by the root of their number, is its standard error.",
        "The verdict is a matter of two comparisons: is the difference below minus twice its error, or above twice its "
        "error? Else it is open. A text with no n-gram at all has the share 0: do not divide by 0.",
    ),
)

EXERCISES = (
    STEP_GRADIENT,
    TRAIN_TO_FLOOR,
    COUNT_PENALTIES,
    FORBID_REPEATS,
    TYPICAL_TOKENS,
    TOP_N_SIGMA,
    MIROSTAT_STEP,
    RUN_WITH_CACHE,
    WHERE_IT_STOPS,
    PAIRED_STUDY,
)
