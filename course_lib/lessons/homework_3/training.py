"""Homework 3, training: the gradient of one step, and a training that reaches the floor."""

import contextlib
import copy
import functools
import math
from bisect import bisect
from collections import defaultdict
from itertools import accumulate

import torch
from torch.nn.functional import cross_entropy

from course_lib.classroom import guard
from course_lib.classroom.exercise import Exercise, Wrong
from course_lib.config import TransformerConfig
from course_lib.lessons.tools import vectors
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
