"""Lesson 11: a batch of windows, one step of AdamW, the learning rate of a step, and a training loop to repair."""

import inspect
import itertools
import math
from functools import partial

import torch

from course_lib.classroom.answers import same
from course_lib.classroom.exercise import Exercise, Wrong
from course_lib.lessons.tools import counted, crash_said, draw

# ---- sample_batch ---------------------------------------------------------------------------------


def sampled(
    tokens,
    batch_size,
    context_length,
    draw,
    room=0,  # starts more than there are, or fewer
    begin=lambda starts: starts,
    first=lambda window, n: window[:n],
    second=lambda window, n: window[1 : n + 1],
    whole=lambda inputs, targets: (inputs, targets),
):
    """A batch; each setting is a place for a slip."""
    starts = begin(draw(len(tokens) - context_length + room, batch_size))
    rows = [tokens[start : start + context_length + 2] for start in starts.tolist()]
    inputs = torch.stack([first(row, context_length) for row in rows])
    targets = torch.stack([second(row, context_length) for row in rows])
    return whole(inputs, targets)


def draws(*shares):
    """A `draw(high, n)` that gives the same numbers each time: these shares of `high`, one after the other."""

    def draw(high, n):
        return torch.tensor([int(shares[i % len(shares)] * high) for i in range(n)])

    return draw


def places(*starts):
    """A `draw(high, n)` that gives these starts, whatever `high` is."""

    def draw(high, n):
        return torch.tensor([starts[i % len(starts)] for i in range(n)])

    return draw


def long_row(random, n):
    """n token ids, all different, so that a window shows where it was cut out."""
    return torch.randperm(97, generator=random)[:n]


def before(tokens, batch_size, context_length, draw):
    """Targets are the tokens before."""
    inputs, targets = sampled(tokens, batch_size, context_length, draw)
    return targets, inputs


def one_too_long(tokens, batch_size, context_length, draw):
    starts = draw(len(tokens) - context_length, batch_size)
    windows = torch.stack([tokens[start : start + context_length + 1] for start in starts.tolist()])
    return windows, windows[:, 1:]


def in_a_row(tokens, batch_size, context_length, draw):
    """One start, and the windows one after the other from there."""
    start = int(draw(len(tokens) - context_length, 1))
    starts = [start + i * context_length for i in range(batch_size)]
    if starts[-1] + context_length >= len(tokens):
        raise IndexError
    return sampled(tokens, batch_size, context_length, lambda high, n: torch.tensor(starts))


def side_by_side(tokens, batch_size, context_length, draw):
    """The text cut into pieces, and the draw chooses among those."""
    pieces = (len(tokens) - 1) // context_length
    return sampled(tokens, batch_size, context_length, lambda high, n: context_length * draw(pieces, n))


def numbers_alone(tokens, batch_size, context_length, draw):
    starts = draw(len(tokens) - context_length, batch_size)
    inputs = starts[:, None] + torch.arange(context_length)
    return inputs, inputs + 1


def two_tensors(learner, random):
    """two tensors: the inputs, and the targets"""
    answer = learner.answer(long_row(random, 30), 2, 3, places(3, 1))
    if isinstance(answer, torch.Tensor):
        raise Wrong("it returns one tensor: the inputs and the targets are asked for, two tensors")


def one_window(learner, random):
    """one window: the targets are the same tokens, one place later"""
    n = draw(random, 3, 5)
    learner.compare(
        [
            (long_row(random, 9), 1, 2, places(2)),
            (long_row(random, 30), 1, n, places(draw(random, 2, 4))),
            (long_row(random, 60), 1, 2 * n, places(3)),
        ]
    )


def several_windows(learner, random):
    """several windows, each with a start of its own: (batch_size, context_length)"""
    draw_counted, calls = counted(places(1, 4))
    learner.answer(long_row(random, 30), 2, 3, draw_counted)
    if len(calls) > 1:
        raise Wrong(
            "it calls `draw` more than once: call draw once for all windows, it gives as many starts as are asked for",
            f"for one batch of 2 windows it called draw {len(calls)} times",
        )
    learner.compare(
        [
            (long_row(random, 30), 2, 3, places(1, 4)),
            (long_row(random, 60), 4, 5, places(7, 2, 9, 4)),
            (long_row(random, 90), 3, draw(random, 6, 8), places(8, draw(random, 1, 4), 6)),
        ]
    )


def from_end_to_end(learner, random):
    """any start that has room for a window and the token after it, and no other: the first and the last one, too"""
    last = draws(0.0, 0.9999999)
    n = draw(random, 4, 8)
    learner.compare([(long_row(random, size), 2, length, last) for size, length in ((4, 3), (6, 2), (2, 1), (30, n))])
    learner.compare(
        [(long_row(random, 9), batch, length, draws(0.0, 0.5, 0.5)) for batch, length in ((1, 1), (4, 1), (5, 8))]
    )


PAST_THE_END = "a window runs past the end of the text: a start needs room for context_length tokens and one more"


SAMPLE_BATCH = Exercise(
    name="sample_batch",
    lesson="11",
    title="windows of a text, and the token that follows at each place",
    list_will_do=True,
    oracle=sampled,
    checks={
        "shift": (two_tensors, one_window),
        "batch": (several_windows,),
        "ends": (crash_said(from_end_to_end, ("equal size", "out of range", "out of bounds"), PAST_THE_END),),
    },
    mistakes={
        "the targets are the inputs themselves: asked is the token that comes *next*": partial(
            sampled, second=lambda row, n: row[:n]
        ),
        "the targets are the tokens *before*: asked is the one that comes next": before,
        "the targets are two places later: asked is the token that comes next": partial(
            sampled, second=lambda row, n: row[2 : n + 2]
        ),
        "the targets are the inputs moved on in a circle: the last target is the token after the window": partial(
            sampled, second=lambda row, n: row[:n].roll(-1)
        ),
        "each window has one target, the token after it: each of its places has one": partial(
            sampled, whole=lambda inputs, targets: (inputs, targets[:, -1])
        ),
        "the inputs are one token too long: the last one is a target alone": one_too_long,
        "the inputs are one token too short, and so are the targets": partial(
            sampled, first=lambda row, n: row[: n - 1], second=lambda row, n: row[1:n]
        ),
        "it gives the places of the tokens: the tokens that stand there are asked for": numbers_alone,
        "a window is a column: asked is (batch_size, context_length), a row for each window": partial(
            sampled, whole=lambda inputs, targets: (inputs.T, targets.T)
        ),
        "all windows stand in one long row: asked is (batch_size, context_length)": partial(
            sampled, whole=lambda inputs, targets: (inputs.flatten(), targets.flatten())
        ),
        "all windows have the same start: draw one for each": partial(
            sampled, begin=lambda starts: starts[:1].expand(len(starts))
        ),
        "the windows follow each other: draw a start for each": in_a_row,
        "the last possible start is never drawn: there are len(tokens) − context_length of them": partial(
            sampled, room=-1
        ),
        "the windows begin at multiples of context_length: any place may be a start": side_by_side,
        "the starts are sorted: leave them as they were drawn": partial(
            sampled, begin=lambda starts: starts.sort().values
        ),
        "the first token is never an input: starts count from 0": partial(
            sampled, begin=lambda starts: starts + 1, room=-1
        ),
    },
    hints=(
        "A start is a place in the text. From there a window takes context_length tokens as inputs. The targets are "
        "cut out in the same way, beginning one place later.",
        "The last window must still have a token after it. With 4 tokens and windows of 3 there is a single start, 0. "
        "So there are `len(tokens) - context_length` starts, and `draw` wants just this number.",
        "Draw `batch_size` starts. For each take `tokens[start : start + context_length]` and "
        "`tokens[start + 1 : start + 1 + context_length]`; `torch.stack` makes one tensor of a list of rows.",
    ),
)

# ---- adamw_update ---------------------------------------------------------------------------------


def adamw(
    parameter,
    gradient,
    mean,
    mean_square,
    step,
    learning_rate,
    betas,
    epsilon,
    weight_decay,
    sees=lambda parameter, gradient, decay: gradient,
    mix=lambda beta, old, new: beta * old + (1 - beta) * new,
    square=lambda gradient, mean: gradient * gradient,
    unbias=lambda average, beta, step: average / (1 - beta**step),
    unbias_square=None,
    size=lambda fair, epsilon: fair.sqrt() + epsilon,
    direction=lambda fair, gradient: fair,
    decays=lambda parameter: parameter.ndim >= 2,
    decayed=lambda parameter, rate, decay: parameter * (1 - rate * decay),
    move=lambda parameter, rate, towards: parameter - rate * towards,
    whole=lambda parameter, mean, mean_square, fair, fair_square: (parameter, mean, mean_square),
):
    """One step; each setting is a place for a slip."""
    weight_decay = weight_decay if decays(parameter) else 0.0
    gradient = sees(parameter, gradient, weight_decay)
    mean = mix(betas[0], mean, gradient)
    mean_square = mix(betas[1], mean_square, square(gradient, mean))
    fair, fair_square = unbias(mean, betas[0], step), (unbias_square or unbias)(mean_square, betas[1], step)
    towards = direction(fair, gradient) / size(fair_square, epsilon)
    parameter = move(decayed(parameter, learning_rate, weight_decay), learning_rate, towards)
    return whole(parameter, mean, mean_square, fair, fair_square)


def adamw_slip(change=lambda arguments: arguments, **settings):
    return lambda *arguments: adamw(*change(arguments), **settings)


def numbers(random, *shape, low=0.4, high=2.0):
    """Numbers of either sign, none of them near 0."""
    sizes = low + (high - low) * torch.rand(shape, generator=random)
    return sizes * (1 - 2 * torch.randint(0, 2, shape, generator=random))


def one_step(random, *shape, step=1, decay=0.0, epsilon=0.1):
    """Arguments in which every mistake shows: large rates, and averages that are not yet settled."""
    rate = (0.1, 0.2, 0.3)[draw(random, 0, 2)]
    betas = ((0.7, 0.9), (0.8, 0.95), (0.6, 0.9))[draw(random, 0, 2)]
    gradient = numbers(random, *shape)
    if step == 1:
        mean, mean_square = torch.zeros(shape), torch.zeros(shape)
    else:
        mean = -gradient * (0.2 + 0.2 * torch.rand(shape, generator=random))
        mean_square = 0.1 + 0.4 * torch.rand(shape, generator=random)
    return numbers(random, *shape, low=1.0), gradient, mean, mean_square, step, rate, betas, epsilon, decay


def three_tensors(learner, random):
    """three tensors: the parameter, and both averages"""
    answer = learner.answer(*one_step(random, 2))
    if isinstance(answer, torch.Tensor):
        raise Wrong(
            "it returns one tensor: the parameter and both averages are asked for, the next step needs them all"
        )


def first_step(learner, random):
    """the first step, from averages of 0"""
    learner.compare([one_step(random, n) for n in (1, 2, 3)])


def later_steps(learner, random):
    """later steps, with the averages that the steps before have left"""
    last = draw(random, 4, 6)
    learner.compare([one_step(random, n, step=step) for n, step in ((1, 2), (2, 3), (4, last))])


def matrices_decay(learner, random):
    """a matrix decays: as it was, it shrinks, and neither average hears of it"""
    shapes = ((1, 1), (1, 2), (2, 3), (2, 1, 2), (1, 2, 1, 2))
    learner.compare([one_step(random, *s, step=n, decay=0.5) for n, s in zip((1, 3, 5, 2, 4), shapes, strict=True)])


def vectors_do_not(learner, random):
    """a vector, as in a norm, does not decay, nor does a single number"""
    learner.compare([one_step(random, *shape, step=3, decay=0.5) for shape in ((2,), (5,), ())])


def no_gradient(learner, random):
    """where no gradient ever came, nothing moves, and nothing is divided by 0"""
    parameter, _, nothing, _, _, *settings = one_step(random, 3, epsilon=1e-8)
    learner.compare([(parameter, nothing, nothing, nothing, step, *settings) for step in (1, 7)])


def tiny_gradients(learner, random):
    """gradients as small as epsilon, and a step that is far along"""
    inputs = []
    for size, epsilon, step in ((1e-8, 1e-8, 1), (3e-7, 1e-8, 4), (1e-4, 1e-8, 2001)):
        parameter, gradient, mean, mean_square, _, rate, _, _, decay = one_step(random, 3, step=step)
        inputs.append(
            (parameter, size * gradient, size * mean, size**2 * mean_square, step, rate, (0.9, 0.999), epsilon, decay)
        )
    learner.compare(inputs)


def counted_from_0(average, beta, step):
    return average / (1 - torch.tensor(beta) ** (step - 1))


def as_it_is(average, beta, step):
    return average


def decay_last(*arguments):
    parameter, mean, mean_square = adamw(*arguments[:8], 0.0)
    shrinks = arguments[5] * arguments[8] if parameter.ndim >= 2 else 0.0
    return parameter * (1 - shrinks), mean, mean_square


ADAMW_UPDATE = Exercise(
    name="adamw_update",
    lesson="11",
    title="one step of AdamW, where matrices decay and vectors do not",
    list_will_do=True,
    oracle=adamw,
    checks={
        "step": (three_tensors, first_step, later_steps, no_gradient, tiny_gradients),
        "decay": (matrices_decay, vectors_do_not),
    },
    mistakes={
        "it decays only what has two dimensions: whatever has more decays, too": lambda *arguments: adamw(
            *arguments[:-1], arguments[-1] * (arguments[0].ndim == 2)
        ),
        "neither average is corrected: they began at 0, and are still too small. Divide by 1 − beta^step": adamw_slip(
            unbias=as_it_is
        ),
        "mean_square is not corrected: divide it by 1 − beta^step, with the second beta": adamw_slip(
            unbias_square=as_it_is
        ),
        "mean is not corrected: divide it by 1 − beta^step, with the first beta": adamw_slip(
            unbias=as_it_is, unbias_square=lambda average, beta, step: average / (1 - beta**step)
        ),
        "each average is divided by 1 − beta in every step: by 1 − beta to the power of `step`": adamw_slip(
            unbias=lambda average, beta, step: average / (1 - beta)
        ),
        "the correction multiplies by 1 − beta^step: divide, the averages are too small": adamw_slip(
            unbias=lambda average, beta, step: average * (1 - beta**step)
        ),
        "it divides by beta^step: 1 − beta^step is what the gradients weigh so far": adamw_slip(
            unbias=lambda average, beta, step: average / beta**step
        ),
        "the correction counts steps from 0, and 1 − beta^0 is 0: `step` is 1 in the first step": adamw_slip(
            unbias=counted_from_0
        ),
        "it returns the averages corrected: that is for this step's use, the next one goes on from the averages "
        "themselves": adamw_slip(
            whole=lambda parameter, mean, mean_square, fair, fair_square: (parameter, fair, fair_square)
        ),
        "it goes up the slope: the step is subtracted": adamw_slip(
            move=lambda parameter, rate, towards: parameter + rate * towards
        ),
        "it divides by the mean square: by its root": adamw_slip(size=lambda fair, epsilon: fair + epsilon),
        "epsilon is under the root: it is added to the root": adamw_slip(
            size=lambda fair, epsilon: (fair + epsilon).sqrt()
        ),
        "epsilon is missing: a gradient of 0 in every step would make 0 / 0": adamw_slip(
            size=lambda fair, epsilon: fair.sqrt()
        ),
        "the step is not divided by the root of the mean square": adamw_slip(
            size=lambda fair, epsilon: torch.ones_like(fair)
        ),
        "it goes by this step's gradient alone: its running mean is the direction": adamw_slip(
            direction=lambda fair, gradient: gradient
        ),
        "mean_square averages the gradient: its *square* is asked for": adamw_slip(
            square=lambda gradient, mean: gradient
        ),
        "mean_square averages the mean's square: the square of the gradient is asked for": adamw_slip(
            square=lambda gradient, mean: mean * mean
        ),
        "old and new change places in the averages: beta is the share of the old": adamw_slip(
            mix=lambda beta, old, new: (1 - beta) * old + beta * new
        ),
        "the new gradient is added whole: its share is 1 − beta": adamw_slip(
            mix=lambda beta, old, new: beta * old + new
        ),
        "the averages hold this step alone: of the old ones, beta stays": adamw_slip(
            mix=lambda beta, old, new: (1 - beta) * new
        ),
        "the two betas change places: the first is that of the mean": adamw_slip(
            lambda arguments: (*arguments[:6], arguments[6][::-1], *arguments[7:])
        ),
        "the learning rate is missing from the step": adamw_slip(
            move=lambda parameter, rate, towards: parameter - towards
        ),
        "no weight decays: a matrix does": adamw_slip(decays=lambda parameter: False),
        "a vector decays, too: only what has two or more dimensions": adamw_slip(decays=lambda parameter: True),
        "a vector decays, and a single number does not: only what has *two* or more dimensions decays": adamw_slip(
            decays=lambda parameter: parameter.ndim >= 1
        ),
        "a single row decays not, though it is a matrix: what counts is the number of dimensions": adamw_slip(
            decays=lambda parameter: parameter.ndim >= 2 and len(parameter) > 1
        ),
        "the decay is added to the gradient and goes through both averages, which is Adam with L2: AdamW shrinks the "
        "parameter itself": adamw_slip(
            sees=lambda parameter, gradient, decay: gradient + decay * parameter,
            decayed=lambda parameter, rate, decay: parameter,
        ),
        "the decay forgets the learning rate: a step takes learning_rate · weight_decay of the parameter": adamw_slip(
            decayed=lambda parameter, rate, decay: parameter * (1 - decay)
        ),
        "the decay makes the parameter larger: it shrinks": adamw_slip(
            decayed=lambda parameter, rate, decay: parameter * (1 + rate * decay)
        ),
        "the decay takes the same number from each parameter: it takes a share of it": adamw_slip(
            decayed=lambda parameter, rate, decay: parameter - rate * decay
        ),
        "the decay comes after the step: it is a share of the parameter as it was": decay_last,
    },
    hints=(
        "Three things, one after the other: both averages take the new gradient in; what they would be if they had not "
        "begun at 0; then the parameter shrinks, if it is a matrix, and takes its step.",
        "`mean = betas[0] * mean + (1 - betas[0]) * gradient`, and mean_square likewise. For the step, and for nothing "
        "else, divide each by 1 less its beta to the power of `step`.",
        "The step is learning_rate · corrected mean / (√(corrected mean square) + epsilon). Before it, the parameter "
        "loses learning_rate · weight_decay of itself if `parameter.ndim >= 2`. Write `mean = …`, not `mean *= …`.",
    ),
)

# ---- learning_rate_at -----------------------------------------------------------------------------


def rate_at(
    step,
    steps,
    warm_up,
    peak,
    lowest,
    up=lambda step, warm_up: (step + 1) / warm_up,
    down=lambda step, steps, warm_up: (step - warm_up + 1) / (steps - warm_up + 1),
    bend=lambda part: 0.5 * (1 + math.cos(math.pi * part)),
    scale=lambda share, peak, lowest: lowest + (peak - lowest) * share,
    after=lambda share: 0.0,
):
    """Each setting is a place for a slip."""
    if step < warm_up:
        return peak * up(step, warm_up)
    if step >= steps:
        return scale(after(bend(down(step, steps, warm_up))), peak, lowest)
    return scale(bend(down(step, steps, warm_up)), peak, lowest)


def run_of(random):
    """(steps, warm_up, peak, lowest) of a run, the rates such that a share of one is none of the other."""
    warm_up = draw(random, 3, 6)
    peak = draw(random, 3, 9) * 10.0
    return warm_up + draw(random, 7, 12), warm_up, peak, peak * draw(random, 2, 4) / 10


def rising(learner, random):
    """the way up: equal steps, the first above 0, and the last of the warm-up has the peak"""
    given = []
    for run in (run_of(random), run_of(random)):
        given += [(step, *run) for step in (0, 1, run[1] - 1)]
    learner.compare(given)


def falling(learner, random):
    """the way down: half a cosine, from the peak to the lowest rate, which the step after the last would have"""
    given = []
    for steps, warm_up, *rates in (run_of(random), run_of(random)):
        given += [(step, steps, warm_up, *rates) for step in (warm_up, warm_up + 1, (steps + warm_up) // 2, steps - 1)]
    learner.compare(given)


def without_warm_up(learner, random):
    """a warm-up of 1 step begins at the peak"""
    steps, _, *rates = run_of(random)
    learner.compare([(step, steps, 1, *rates) for step in (0, 1, steps - 1)])


def past_the_end(learner, random):
    """past the end it stays at the lowest rate"""
    steps, *rest = run_of(random)
    learner.compare([(steps + more, steps, *rest) for more in (0, 1, draw(random, 3, 9))])


def as_in_training(learner, random):
    """rates as they are in use, down to 0 or hardly down at all"""
    steps, warm_up, *_ = run_of(random)
    rates = ((3e-4, 3e-5), (1e-6, 0.0), (2e-3, 2e-3), (5e-5, 4.9e-5))
    learner.compare(
        [(step, steps, warm_up, *two) for two in rates for step in (0, warm_up - 1, warm_up, steps - 1, steps)]
    )


LEARNING_RATE_AT = Exercise(
    name="learning_rate_at",
    lesson="11",
    title="warm-up, then half a cosine down to a lowest rate",
    oracle=rate_at,
    tolerance=0.0,
    checks={"up": (rising,), "down": (falling, without_warm_up), "end": (past_the_end, as_in_training)},
    mistakes={
        "it rounds: rates of 0.0003 and less are in use": lambda step, steps, *rest: (
            round(rate_at(step, steps, *rest), 5) if step < steps else rate_at(step, steps, *rest)
        ),
        "the first step has a rate of 0, and learns nothing: (step + 1) / warm_up": partial(
            rate_at, up=lambda step, warm_up: step / warm_up
        ),
        "the warm-up never reaches the peak: its last step, warm_up − 1, has it": partial(
            rate_at, up=lambda step, warm_up: (step + 1) / (warm_up + 1)
        ),
        "there is no warm-up: the first steps rise to the peak": partial(rate_at, up=lambda step, warm_up: 1.0),
        "the way up begins at the lowest rate: the first step has 1 / warm_up of the peak": lambda step, *run: (
            rate_at(step, *run) if step >= run[1] else run[3] + (run[2] - run[3]) * (step + 1) / run[1]
        ),
        "it rises to 1: the warm-up rises to the peak": lambda step, *run: (
            rate_at(step, *run) if step >= run[1] else (step + 1) / run[1]
        ),
        "the way down begins one step late: step warm_up − 1 has the peak, and the next one is below it": partial(
            rate_at, down=lambda step, steps, warm_up: (step - warm_up) / (steps - warm_up)
        ),
        "the way down is one step too short: not the last step has the lowest rate, but the one after it": partial(
            rate_at, down=lambda step, steps, warm_up: (step - warm_up + 1) / (steps - warm_up)
        ),
        "the way down forgets the warm-up: it begins where that ends": partial(
            rate_at, down=lambda step, steps, warm_up: step / steps
        ),
        "it falls in a straight line: half a cosine is asked for": partial(rate_at, bend=lambda part: 1 - part),
        "a quarter of a cosine: it should leave the peak slowly, and arrive slowly": partial(
            rate_at, bend=lambda part: math.cos(math.pi / 2 * part)
        ),
        "the angle is in degrees, and Python's cosine wants radians: π · part": partial(
            rate_at, bend=lambda part: 0.5 * (1 + math.cos(180 * part))
        ),
        "a whole cosine, which rises again: half of it is asked for, π · part": partial(
            rate_at, bend=lambda part: 0.5 * (1 + math.cos(2 * math.pi * part))
        ),
        "the cosine from 1 to −1: moved and scaled, it goes from 1 to 0": partial(
            rate_at, bend=lambda part: math.cos(math.pi * part)
        ),
        "past the end the rate is 0: it stays at `lowest`": lambda step, steps, *run: (
            rate_at(step, steps, *run) if step < steps else 0.0
        ),
        "it falls to 0: to `lowest`": partial(rate_at, scale=lambda share, peak, lowest: peak * share),
        "`lowest` is added to what falls from the peak: what falls is the difference of the two": partial(
            rate_at, scale=lambda share, peak, lowest: lowest + peak * share
        ),
        "it is cut off at `lowest`: the cosine itself should end there": partial(
            rate_at, scale=lambda share, peak, lowest: max(lowest, peak * share)
        ),
        "past the end it rises again: it stays at `lowest`": partial(rate_at, after=lambda share: share),
        "past the end it is as in the last step: `lowest` is asked for": lambda step, steps, *run: rate_at(
            min(step, steps - 1), steps, *run
        ),
    },
    hints=(
        "Three cases, by `step`: before `warm_up`, before `steps`, and from there on. The lesson's schedule has two of "
        "them, and falls to 0.",
        "How far along the way down is a step? 0 at step warm_up − 1, which has the peak, and 1 at step `steps`: "
        "(step − warm_up + 1) / (steps − warm_up + 1).",
        "`0.5 * (1 + math.cos(math.pi * part))` goes from 1 to 0 as `part` goes from 0 to 1. Of peak − lowest, that "
        "share is left on top of `lowest`.",
    ),
)

# ---- repaired_training ----------------------------------------------------------------------------


def training(
    table,
    windows,
    learning_rate,
    longest,
    cut=lambda window: (window[:, :-1], window[:, 1:]),
    dim=-1,
    old=lambda gradient: 0,
    clip=lambda gradient, longest: gradient * min(1.0, longest / (gradient.norm().item() + 1e-6)),
    clip_after=lambda gradient, longest: gradient,
    mean=torch.mean,
    whole=lambda table, losses: (table, losses),
    sign=1,
):
    """The loop of the exercise without its bugs, its gradient by formula; each setting is a place for a slip."""
    table, gradient, losses = table.double(), torch.zeros(table.shape, dtype=torch.float64), []
    for window in windows:
        inputs, targets = cut(window)
        log_p = table[inputs].log_softmax(dim)
        nats = -log_p.gather(-1, targets[..., None])
        wanted = (
            torch.zeros_like(log_p).scatter(-1, targets[..., None], 1.0) * mean(torch.ones_like(nats)) / nats.numel()
        )
        error = sign * (log_p.exp() * wanted.sum(dim, keepdim=True) - wanted)
        gradient = old(gradient) + torch.zeros_like(table).index_put((inputs,), error, accumulate=True)
        gradient = clip(gradient, longest)
        table = table - learning_rate * gradient
        gradient = clip_after(gradient, longest)
        losses.append(mean(nats).item())
    return whole(table.float(), losses)


CLIPPED = inspect.signature(training).parameters["clip"].default


def as_it_came(gradient, longest):
    return gradient


# the four bugs of the lesson's loop, each with the symptom that its part of the check names
PLANTED = {
    "targets": (
        dict(cut=lambda window: (window[:, :-1], window[:, :-1])),
        "the targets: it learns to say again the token that it has just read, and not the one that comes next",
    ),
    "loss": (
        dict(dim=1),
        "the loss: with one place a window it is 0, whatever the table says. The probabilities that sum to 1 are not "
        "those of the tokens that can come next",
    ),
    "gradient": (
        dict(old=lambda gradient: gradient),
        "the gradient: the first step is right and the second is not, for it still has the first one's gradient in it",
    ),
    "clipping": (
        dict(clip=as_it_came, clip_after=CLIPPED),
        "the clipping: however small `longest` is, the table moves as far as before",
    ),
}


def still_there(answers):
    """Which of the planted bugs explain all answers, as a set of their names; None where no choice of them does."""
    for n in range(1 + len(PLANTED)):
        for names in itertools.combinations(PLANTED, n):
            settings = {key: value for name in names for key, value in PLANTED[name][0].items()}
            if all(same(answer, training(*copies(given), **settings)) for given, answer in answers):
                return set(names)
    return None


def copies(given):
    return tuple(value.clone() if isinstance(value, torch.Tensor) else value for value in given)


def runs(random):
    """Small trainings in which each bug, and each choice of them, comes to something else."""
    for vocab, steps, batch, n in ((3, 2, 2, 3), (4, 3, 2, 4)):
        table = torch.randn(vocab, vocab, generator=random)
        windows = torch.randint(vocab, (steps, batch, n), generator=random)
        windows[:, :, 1] = (windows[:, :, 0] + 1) % vocab  # never the same token twice: targets and inputs differ
        yield table, windows, 2.0, 0.1
    yield table, windows, 0.5, 2.0  # no gradient of a mean is as long as that: nothing here is clipped


def plain_losses(learner, given):
    """A loss that is still a tensor equals its number, but holds on to all that it was computed from."""
    _, losses = learner.answer(*given)
    if any(isinstance(loss, torch.Tensor) for loss in losses):
        raise Wrong("the losses are tensors: a list of plain numbers, as before. `loss.item()` is the number")


def without(bug):
    """The check that this bug is gone, whichever of the others are still there."""

    def check(learner, random):
        given = list(runs(random))
        there = still_there([(arguments, learner.answer(*arguments)) for arguments in given])
        if there is None:
            learner.compare(given)
        elif bug in there:
            raise Wrong(PLANTED[bug][1])
        elif bug == "loss":
            plain_losses(learner, given[0])

    check.__doc__ = SAYS[bug]
    return check


SAYS = {
    "targets": "the targets are the tokens that come next",
    "loss": "the loss is −ln of a probability among all tokens that can come next",
    "gradient": "each step goes by the gradient of its own batch",
    "clipping": "the gradient is clipped before the step is made",
}

REPAIRED_TRAINING = Exercise(
    name="repaired_training",
    lesson="11",
    title="a training loop with four planted bugs, repaired",
    oracle=training,
    checks={bug: (without(bug),) for bug in PLANTED},
    mistakes={
        "the targets are now the tokens *before*: asked is what comes next": partial(
            training, cut=lambda window: (window[:, 1:], window[:, :-1])
        ),
        "it learns from the last place of each window alone: every place has a next token": partial(
            training, cut=lambda window: (window[:, -2:-1], window[:, -1:])
        ),
        "softmax now runs over the windows of the batch: over the tokens that can come next is asked for": partial(
            training, dim=0
        ),
        "the gradient is cleared after it was computed, and the table never moves": lambda *arguments: (
            arguments[0],
            [training(arguments[0], window[None], *arguments[2:])[1][0] for window in arguments[1]],
        ),
        "it clips each number by itself: the gradient as a whole is made shorter, and keeps its direction": partial(
            training, clip=lambda gradient, longest: gradient.clamp(-longest, longest)
        ),
        "it makes every gradient `longest` long: a shorter one stays as it is": partial(
            training, clip=lambda gradient, longest: gradient / gradient.norm() * longest
        ),
        "the loss is the sum over the places: it was the mean, and rightly": partial(training, mean=torch.sum),
        "the losses are one tensor: a list of numbers, as before": partial(
            training, whole=lambda table, losses: (table, torch.tensor(losses))
        ),
        "it gives the loss of the last step alone: a list of them all": partial(
            training, whole=lambda table, losses: (table, losses[-1])
        ),
        "the loss grows: the sign of the gradient has changed": partial(training, sign=-1),
    },
    hints=(
        "Go through the loop line by line and say what each name holds, with its shape: (batch, place) ids, "
        "(batch, place, vocab) scores. What has to be shifted? Over which of the three does softmax run?",
        "The order of a step: clear the old gradient, compute the new one, clip it, move. PyTorch *adds* a new "
        "gradient to what is there, and `optimizer.step()` uses what is there at that moment.",
        "Four changes: `targets = window[:, 1:]`; `log_softmax(dim=-1)`; `optimizer.zero_grad()` before "
        "`loss.backward()`; and the clipping between `backward()` and `step()`.",
    ),
)

EXERCISES = (SAMPLE_BATCH, ADAMW_UPDATE, LEARNING_RATE_AT, REPAIRED_TRAINING)
