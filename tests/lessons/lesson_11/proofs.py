import math

import torch
import torch.nn.functional as F
from lessons.proof import Proof

# ---- sample_batch ---------------------------------------------------------------------------------

sample_batch = Proof("sample_batch")


@sample_batch.right
def by_stacking(tokens, batch_size, context_length, draw):
    starts = draw(len(tokens) - context_length, batch_size).tolist()
    inputs = torch.stack([tokens[s : s + context_length] for s in starts])
    targets = torch.stack([tokens[s + 1 : s + 1 + context_length] for s in starts])
    return inputs, targets


@sample_batch.right
def by_places(tokens, batch_size, context_length, draw):
    starts = draw(tokens.numel() - context_length, batch_size)
    windows = tokens[starts[:, None] + torch.arange(context_length + 1)]
    return windows[:, :-1], windows[:, 1:]


@sample_batch.right
def by_unfold(tokens, batch_size, context_length, draw):
    every = tokens.unfold(0, context_length + 1, 1)
    windows = every[draw(len(every), batch_size)]
    return windows[:, :context_length], windows[:, 1:]


@sample_batch.right
def one_number_at_a_time(tokens, batch_size, context_length, draw):
    rows = [[], []]
    for start in draw(len(tokens) - context_length, batch_size):
        for shift in (0, 1):
            rows[shift].append([int(tokens[start + shift + i]) for i in range(context_length)])
    return torch.tensor(rows[0]), torch.tensor(rows[1])


def cut(tokens, starts, n):
    return tokens[starts[:, None] + torch.arange(n)]


@sample_batch.wrong("the inputs themselves")
def not_shifted(tokens, batch_size, context_length, draw):
    inputs = cut(tokens, draw(len(tokens) - context_length, batch_size), context_length)
    return inputs, inputs.clone()


@sample_batch.wrong("the tokens *before*")
def the_wrong_way(tokens, batch_size, context_length, draw):
    windows = cut(tokens, draw(len(tokens) - context_length, batch_size), context_length + 1)
    return windows[:, 1:], windows[:, :-1]


@sample_batch.wrong("two places later")
def shifted_twice(tokens, batch_size, context_length, draw):
    starts = draw(len(tokens) - context_length, batch_size).tolist()
    longer = torch.cat((tokens, tokens[:1]))
    return (
        torch.stack([tokens[s : s + context_length] for s in starts]),
        torch.stack([longer[s + 2 : s + context_length + 2] for s in starts]),
    )


@sample_batch.wrong("moved on in a circle")
def rolled(tokens, batch_size, context_length, draw):
    inputs = cut(tokens, draw(len(tokens) - context_length, batch_size), context_length)
    return inputs, inputs.roll(-1, dims=1)


@sample_batch.wrong("each window has one target")
def one_target(tokens, batch_size, context_length, draw):
    starts = draw(len(tokens) - context_length, batch_size)
    return cut(tokens, starts, context_length), tokens[starts + context_length]


@sample_batch.wrong("one token too long")
def whole_windows(tokens, batch_size, context_length, draw):
    windows = cut(tokens, draw(len(tokens) - context_length, batch_size), context_length + 1)
    return windows, windows[:, 1:]


@sample_batch.wrong("one token too short")
def too_short(tokens, batch_size, context_length, draw):
    windows = cut(tokens, draw(len(tokens) - context_length, batch_size), context_length)
    return windows[:, :-1], windows[:, 1:]


@sample_batch.wrong("it gives the places")
def places(tokens, batch_size, context_length, draw):
    place = draw(len(tokens) - context_length, batch_size)[:, None] + torch.arange(context_length)
    return place, place + 1


@sample_batch.wrong("a window is a column")
def columns(tokens, batch_size, context_length, draw):
    inputs, targets = by_places(tokens, batch_size, context_length, draw)
    return inputs.T, targets.T


@sample_batch.wrong("in one long row")
def flat(tokens, batch_size, context_length, draw):
    inputs, targets = by_places(tokens, batch_size, context_length, draw)
    return torch.cat(list(inputs)), torch.cat(list(targets))


@sample_batch.wrong("all windows have the same start")
def one_start(tokens, batch_size, context_length, draw):
    start = draw(len(tokens) - context_length, 1).item()
    window = tokens[start : start + context_length + 1].repeat(batch_size, 1)
    return window[:, :-1], window[:, 1:]


@sample_batch.wrong("call draw once for all windows")
def one_draw_a_window(tokens, batch_size, context_length, draw):
    starts = [int(draw(len(tokens) - context_length, 1)) for _ in range(batch_size)]
    windows = torch.stack([tokens[s : s + context_length + 1] for s in starts])
    return windows[:, :-1], windows[:, 1:]


@sample_batch.wrong("at multiples of context_length")
def pieces(tokens, batch_size, context_length, draw):
    n = (len(tokens) - 1) // context_length
    inputs = tokens[: n * context_length].view(n, context_length)
    targets = tokens[1 : n * context_length + 1].view(n, context_length)
    chosen = draw(n, batch_size)
    return inputs[chosen], targets[chosen]


@sample_batch.wrong("the starts are sorted")
def in_order(tokens, batch_size, context_length, draw):
    starts = torch.tensor(sorted(draw(len(tokens) - context_length, batch_size).tolist()))
    windows = cut(tokens, starts, context_length + 1)
    return windows[:, :-1], windows[:, 1:]


@sample_batch.wrong("the last possible start is never drawn")
def one_start_less(tokens, batch_size, context_length, draw):
    windows = cut(tokens, draw(len(tokens) - context_length - 1, batch_size), context_length + 1)
    return windows[:, :-1], windows[:, 1:]


@sample_batch.wrong("runs past the end of the text")
def anywhere(tokens, batch_size, context_length, draw):
    return by_stacking(tokens, batch_size, context_length, lambda high, n: draw(len(tokens), n))


@sample_batch.wrong("starts count from 0")
def from_one(tokens, batch_size, context_length, draw):
    windows = cut(tokens, 1 + draw(len(tokens) - context_length - 1, batch_size), context_length + 1)
    return windows[:, :-1], windows[:, 1:]


@sample_batch.wrong("another answer each time")
def luck_of_its_own(tokens, batch_size, context_length, draw):
    starts = torch.randint(len(tokens) - context_length, (batch_size,))
    windows = cut(tokens, starts, context_length + 1)
    return windows[:, :-1], windows[:, 1:]


@sample_batch.wrong("it returns one tensor")
def windows_alone(tokens, batch_size, context_length, draw):
    return cut(tokens, draw(len(tokens) - context_length, batch_size), context_length + 1)


@sample_batch.right
def a_list_of_both(tokens, batch_size, context_length, draw):
    return list(by_places(tokens, batch_size, context_length, draw))


# ---- adamw_update ---------------------------------------------------------------------------------

adamw_update = Proof("adamw_update")


@adamw_update.right
def as_in_the_paper(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    m = betas[0] * mean + (1 - betas[0]) * gradient
    v = betas[1] * mean_square + (1 - betas[1]) * gradient**2
    m_hat, v_hat = m / (1 - betas[0] ** step), v / (1 - betas[1] ** step)
    decay = weight_decay if parameter.ndim > 1 else 0
    return parameter - learning_rate * (m_hat / (v_hat**0.5 + epsilon) + decay * parameter), m, v


@adamw_update.right
def by_lerp(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    m = torch.lerp(mean, gradient, 1 - betas[0])
    v = torch.lerp(mean_square, gradient.square(), 1 - betas[1])
    size = (v / (1 - betas[1] ** step)).sqrt().add(epsilon)
    moved = parameter.addcdiv(m, size, value=-learning_rate / (1 - betas[0] ** step))
    return moved - (parameter.dim() > 1) * learning_rate * weight_decay * parameter, m, v


@adamw_update.right
def by_pytorch(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    learned = torch.nn.Parameter(parameter.clone())
    decay = weight_decay if parameter.ndim >= 2 else 0.0
    optimizer = torch.optim.AdamW([learned], learning_rate, betas, epsilon, decay)
    state = {"step": torch.tensor(step - 1.0), "exp_avg": mean.clone(), "exp_avg_sq": mean_square.clone()}
    optimizer.state[learned] = state
    learned.grad = gradient.clone()
    optimizer.step()
    return learned.detach(), state["exp_avg"], state["exp_avg_sq"]


def averages(gradient, mean, mean_square, betas):
    return betas[0] * mean + (1 - betas[0]) * gradient, betas[1] * mean_square + (1 - betas[1]) * gradient**2


def finish(parameter, m, v, fair_m, fair_v, learning_rate, epsilon, weight_decay):
    kept = 1 - learning_rate * weight_decay * (parameter.ndim >= 2)
    return parameter * kept - learning_rate * fair_m / (fair_v.sqrt() + epsilon), m, v


@adamw_update.wrong("neither average is corrected")
def no_correction(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    m, v = averages(gradient, mean, mean_square, betas)
    return finish(parameter, m, v, m, v, learning_rate, epsilon, weight_decay)


@adamw_update.wrong("mean_square is not corrected")
def m_corrected(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    m, v = averages(gradient, mean, mean_square, betas)
    return finish(parameter, m, v, m / (1 - betas[0] ** step), v, learning_rate, epsilon, weight_decay)


@adamw_update.wrong("mean is not corrected")
def v_corrected(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    m, v = averages(gradient, mean, mean_square, betas)
    return finish(parameter, m, v, m, v / (1 - betas[1] ** step), learning_rate, epsilon, weight_decay)


@adamw_update.wrong("by 1 − beta in every step")
def always_first(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    m, v = averages(gradient, mean, mean_square, betas)
    return finish(parameter, m, v, m / (1 - betas[0]), v / (1 - betas[1]), learning_rate, epsilon, weight_decay)


@adamw_update.wrong("the correction multiplies")
def multiplied(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    m, v = averages(gradient, mean, mean_square, betas)
    fair = m * (1 - betas[0] ** step), v * (1 - betas[1] ** step)
    return finish(parameter, m, v, *fair, learning_rate, epsilon, weight_decay)


@adamw_update.wrong("it divides by beta^step")
def by_the_power(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    m, v = averages(gradient, mean, mean_square, betas)
    return finish(parameter, m, v, m / betas[0] ** step, v / betas[1] ** step, learning_rate, epsilon, weight_decay)


@adamw_update.wrong("counts steps from 0")
def one_less(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    m, v = averages(gradient, mean, mean_square, betas)
    late = torch.tensor(step - 1)
    fair = m / (1 - betas[0] ** late), v / (1 - betas[1] ** late)
    return finish(parameter, m, v, *fair, learning_rate, epsilon, weight_decay)


@adamw_update.wrong("it returns the averages corrected")
def corrected_for_good(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    m, v = averages(gradient, mean, mean_square, betas)
    m, v = m / (1 - betas[0] ** step), v / (1 - betas[1] ** step)
    return finish(parameter, m, v, m, v, learning_rate, epsilon, weight_decay)


@adamw_update.wrong("it goes up the slope")
def uphill(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    m, v = averages(gradient, mean, mean_square, betas)
    fair = -m / (1 - betas[0] ** step), v / (1 - betas[1] ** step)
    return finish(parameter, m, v, *fair, learning_rate, epsilon, weight_decay)


@adamw_update.wrong("it divides by the mean square")
def no_root(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    m, v = averages(gradient, mean, mean_square, betas)
    fair = m / (1 - betas[0] ** step), (v / (1 - betas[1] ** step)) ** 2
    return finish(parameter, m, v, *fair, learning_rate, epsilon, weight_decay)


@adamw_update.wrong("epsilon is under the root")
def epsilon_inside(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    m, v = averages(gradient, mean, mean_square, betas)
    fair = m / (1 - betas[0] ** step), v / (1 - betas[1] ** step) + epsilon
    return finish(parameter, m, v, *fair, learning_rate, 0.0, weight_decay)


@adamw_update.wrong("epsilon is missing")
def no_epsilon(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    return as_in_the_paper(parameter, gradient, mean, mean_square, step, learning_rate, betas, 0.0, weight_decay)


@adamw_update.wrong("not divided by the root")
def momentum_alone(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    m, v = averages(gradient, mean, mean_square, betas)
    return finish(parameter, m, v, m / (1 - betas[0] ** step), torch.ones_like(v), learning_rate, 0.0, weight_decay)


@adamw_update.wrong("this step's gradient alone")
def no_momentum(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    m, v = averages(gradient, mean, mean_square, betas)
    return finish(parameter, m, v, gradient, v / (1 - betas[1] ** step), learning_rate, epsilon, weight_decay)


@adamw_update.wrong("mean_square averages the gradient")
def not_squared(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    m = betas[0] * mean + (1 - betas[0]) * gradient
    v = betas[1] * mean_square + (1 - betas[1]) * gradient
    fair = m / (1 - betas[0] ** step), v / (1 - betas[1] ** step)
    return finish(parameter, m, v, *fair, learning_rate, epsilon, weight_decay)


@adamw_update.wrong("averages the mean's square")
def square_of_the_mean(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    m = betas[0] * mean + (1 - betas[0]) * gradient
    v = betas[1] * mean_square + (1 - betas[1]) * m**2
    fair = m / (1 - betas[0] ** step), v / (1 - betas[1] ** step)
    return finish(parameter, m, v, *fair, learning_rate, epsilon, weight_decay)


@adamw_update.wrong("beta is the share of the old")
def shares_swapped(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    m = (1 - betas[0]) * mean + betas[0] * gradient
    v = (1 - betas[1]) * mean_square + betas[1] * gradient**2
    fair = m / (1 - betas[0] ** step), v / (1 - betas[1] ** step)
    return finish(parameter, m, v, *fair, learning_rate, epsilon, weight_decay)


@adamw_update.wrong("the new gradient is added whole")
def heavy_ball(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    m, v = betas[0] * mean + gradient, betas[1] * mean_square + gradient**2
    fair = m / (1 - betas[0] ** step), v / (1 - betas[1] ** step)
    return finish(parameter, m, v, *fair, learning_rate, epsilon, weight_decay)


@adamw_update.wrong("the averages hold this step alone")
def forgets(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    nothing = torch.zeros_like(mean)
    return as_in_the_paper(parameter, gradient, nothing, nothing, step, learning_rate, betas, epsilon, weight_decay)


@adamw_update.wrong("the two betas change places")
def betas_swapped(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    second, first = betas
    return by_lerp(parameter, gradient, mean, mean_square, step, learning_rate, (first, second), epsilon, weight_decay)


@adamw_update.wrong("the learning rate is missing from the step")
def no_rate(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    m, v = averages(gradient, mean, mean_square, betas)
    fair = m / (1 - betas[0] ** step), v / (1 - betas[1] ** step)
    return finish(parameter, m, v, *fair, 1.0, epsilon, weight_decay * learning_rate)


@adamw_update.wrong("no weight decays")
def no_decay(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    return as_in_the_paper(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, 0.0)


@adamw_update.wrong("a vector decays, too")
def all_decay(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    m, v = averages(gradient, mean, mean_square, betas)
    fair_m, fair_v = m / (1 - betas[0] ** step), v / (1 - betas[1] ** step)
    parameter = parameter * (1 - learning_rate * weight_decay)
    return parameter - learning_rate * fair_m / (fair_v.sqrt() + epsilon), m, v


@adamw_update.wrong("a single number does not: only what has *two*")
def one_dimension_is_enough(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    decay = weight_decay if parameter.ndim >= 1 else 0.0
    return by_lerp(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, 0.0)[0] - (
        learning_rate * decay * parameter
    ), *averages(gradient, mean, mean_square, betas)


@adamw_update.wrong("a single row decays not")
def rows_counted(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    decay = weight_decay if parameter.ndim and len(parameter) > 1 and parameter[0].ndim else 0.0
    return as_in_the_paper(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, decay)


@adamw_update.wrong("Adam with L2")
def decay_in_the_gradient(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    if parameter.ndim > 1:
        gradient = gradient + weight_decay * parameter
    return as_in_the_paper(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, 0.0)


@adamw_update.wrong("the decay forgets the learning rate")
def decay_without_rate(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    decay = weight_decay / learning_rate
    return by_lerp(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, decay)


@adamw_update.wrong("makes the parameter larger")
def growth(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    return by_lerp(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, -weight_decay)


@adamw_update.wrong("takes the same number from each parameter")
def the_same_for_all(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    moved, m, v = by_lerp(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, 0.0)
    return moved - learning_rate * weight_decay * (parameter.ndim >= 2), m, v


@adamw_update.wrong("the decay comes after the step")
def decayed_last(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    moved, m, v = by_lerp(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, 0.0)
    return moved - learning_rate * weight_decay * (parameter.ndim >= 2) * moved, m, v


@adamw_update.wrong("it returns one tensor")
def the_parameter_alone(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    return by_lerp(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay)[0]


@adamw_update.wrong("it changes what it was given")
def in_place(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    mean.mul_(betas[0]).add_((1 - betas[0]) * gradient)
    mean_square.mul_(betas[1]).add_((1 - betas[1]) * gradient**2)
    fair = mean / (1 - betas[0] ** step), mean_square / (1 - betas[1] ** step)
    return finish(parameter, mean, mean_square, *fair, learning_rate, epsilon, weight_decay)


# ---- learning_rate_at -----------------------------------------------------------------------------

learning_rate_at = Proof("learning_rate_at")


@learning_rate_at.right
def in_three_cases(step, steps, warm_up, peak, lowest):
    if step < warm_up:
        return peak * (step + 1) / warm_up
    if step >= steps:
        return lowest
    part = (step - warm_up + 1) / (steps - warm_up + 1)
    return lowest + (peak - lowest) * (1 + math.cos(math.pi * part)) / 2


@learning_rate_at.right
def never_past_the_end(step, steps, warm_up, peak, lowest):
    part = (min(step, steps) + 1 - warm_up) / (steps + 1 - warm_up)
    if part <= 0:
        return (step + 1) * peak / warm_up
    return peak - (peak - lowest) * math.sin(math.pi / 2 * part) ** 2


@learning_rate_at.right
def by_pytorchs_scheduler(step, steps, warm_up, peak, lowest):
    from torch.optim import lr_scheduler

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    down = lr_scheduler.CosineAnnealingLR(optimizer, steps - warm_up + 1, lowest)
    if step < warm_up:
        return peak * (step + 1) / warm_up
    for _ in range(min(step, steps) - warm_up + 1):
        optimizer.step()
        down.step()
    return optimizer.param_groups[0]["lr"]


def cosine(part):
    return 0.5 * (1 + math.cos(math.pi * part))


def way(step, steps, warm_up):
    return (step - warm_up + 1) / (steps - warm_up + 1)


@learning_rate_at.wrong("the first step has a rate of 0")
def from_zero(step, steps, warm_up, peak, lowest):
    return peak * step / warm_up if step < warm_up else in_three_cases(step, steps, warm_up, peak, lowest)


@learning_rate_at.wrong("never reaches the peak")
def one_step_slower(step, steps, warm_up, peak, lowest):
    return peak * (step + 1) / (warm_up + 1) if step < warm_up else in_three_cases(step, steps, warm_up, peak, lowest)


@learning_rate_at.wrong("there is no warm-up")
def flat_first(step, steps, warm_up, peak, lowest):
    return peak if step < warm_up else in_three_cases(step, steps, warm_up, peak, lowest)


@learning_rate_at.wrong("the way up begins at the lowest rate")
def from_the_lowest(step, steps, warm_up, peak, lowest):
    if step < warm_up:
        return lowest + (peak - lowest) * (step + 1) / warm_up
    return in_three_cases(step, steps, warm_up, peak, lowest)


@learning_rate_at.wrong("it rises to 1")
def a_share(step, steps, warm_up, peak, lowest):
    return (step + 1) / warm_up if step < warm_up else in_three_cases(step, steps, warm_up, peak, lowest)


@learning_rate_at.wrong("begins one step late")
def two_peaks(step, steps, warm_up, peak, lowest):
    if step < warm_up or step >= steps:
        return in_three_cases(step, steps, warm_up, peak, lowest)
    return lowest + (peak - lowest) * cosine((step - warm_up) / (steps - warm_up))


@learning_rate_at.wrong("one step too short")
def lowest_at_last(step, steps, warm_up, peak, lowest):
    if step < warm_up or step >= steps:
        return in_three_cases(step, steps, warm_up, peak, lowest)
    return lowest + (peak - lowest) * cosine((step - warm_up + 1) / (steps - warm_up))


@learning_rate_at.wrong("forgets the warm-up")
def over_all_steps(step, steps, warm_up, peak, lowest):
    if step < warm_up or step >= steps:
        return in_three_cases(step, steps, warm_up, peak, lowest)
    return lowest + (peak - lowest) * cosine(step / steps)


@learning_rate_at.wrong("in a straight line")
def straight(step, steps, warm_up, peak, lowest):
    if step < warm_up or step >= steps:
        return in_three_cases(step, steps, warm_up, peak, lowest)
    return peak + (lowest - peak) * way(step, steps, warm_up)


@learning_rate_at.wrong("a quarter of a cosine")
def quarter(step, steps, warm_up, peak, lowest):
    if step < warm_up or step >= steps:
        return in_three_cases(step, steps, warm_up, peak, lowest)
    return lowest + (peak - lowest) * math.cos(math.pi * way(step, steps, warm_up) / 2)


@learning_rate_at.wrong("a whole cosine")
def up_again(step, steps, warm_up, peak, lowest):
    if step < warm_up or step >= steps:
        return in_three_cases(step, steps, warm_up, peak, lowest)
    return lowest + (peak - lowest) * cosine(2 * way(step, steps, warm_up))


@learning_rate_at.wrong("in degrees")
def degrees(step, steps, warm_up, peak, lowest):
    if step < warm_up or step >= steps:
        return in_three_cases(step, steps, warm_up, peak, lowest)
    return lowest + (peak - lowest) * (1 + math.cos(180 * way(step, steps, warm_up))) / 2


@learning_rate_at.wrong("from 1 to −1")
def raw_cosine(step, steps, warm_up, peak, lowest):
    if step < warm_up or step >= steps:
        return in_three_cases(step, steps, warm_up, peak, lowest)
    return lowest + (peak - lowest) * math.cos(math.pi * way(step, steps, warm_up))


@learning_rate_at.wrong("it falls to 0")
def to_zero(step, steps, warm_up, peak, lowest):
    if step < warm_up or step >= steps:
        return in_three_cases(step, steps, warm_up, peak, lowest)
    return peak * cosine(way(step, steps, warm_up))


@learning_rate_at.wrong("`lowest` is added to what falls from the peak")
def on_top(step, steps, warm_up, peak, lowest):
    if step < warm_up or step >= steps:
        return in_three_cases(step, steps, warm_up, peak, lowest)
    return lowest + peak * cosine(way(step, steps, warm_up))


@learning_rate_at.wrong("it is cut off at `lowest`")
def cut_off(step, steps, warm_up, peak, lowest):
    if step < warm_up or step >= steps:
        return in_three_cases(step, steps, warm_up, peak, lowest)
    return max(lowest, peak * cosine(way(step, steps, warm_up)))


@learning_rate_at.wrong("past the end it rises again")
def goes_on(step, steps, warm_up, peak, lowest):
    if step < warm_up:
        return in_three_cases(step, steps, warm_up, peak, lowest)
    return lowest + (peak - lowest) * cosine(way(step, steps, warm_up))


@learning_rate_at.wrong("past the end the rate is 0")
def over(step, steps, warm_up, peak, lowest):
    return 0.0 if step >= steps else in_three_cases(step, steps, warm_up, peak, lowest)


@learning_rate_at.wrong("as in the last step")
def stays_as_it_was(step, steps, warm_up, peak, lowest):
    return in_three_cases(min(step, steps - 1), steps, warm_up, peak, lowest)


# ---- repaired_training ----------------------------------------------------------------------------

repaired_training = Proof("repaired_training")


@repaired_training.right
def in_order_now(table, windows, learning_rate, longest):
    table = table.clone().requires_grad_()
    optimizer = torch.optim.SGD([table], lr=learning_rate)
    losses = []
    for window in windows:
        inputs, targets = window[:, :-1], window[:, 1:]
        log_p = table[inputs].log_softmax(dim=-1)
        loss = -log_p.gather(-1, targets[..., None]).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([table], longest)
        optimizer.step()
        losses.append(loss.item())
    return table.detach(), losses


@repaired_training.right
def with_cross_entropy(table, windows, learning_rate, longest):
    weights = torch.nn.Parameter(table.clone())
    losses = []
    for window in windows:
        loss = F.cross_entropy(weights[window[:, :-1]].flatten(0, 1), window[:, 1:].flatten())
        loss.backward()
        with torch.no_grad():
            length = weights.grad.norm()
            weights -= learning_rate * weights.grad * min(1.0, longest / float(length))
        weights.grad = None
        losses.append(float(loss))
    return weights.data, losses


@repaired_training.right
def by_the_formula(table, windows, learning_rate, longest):
    losses = []
    for window in windows:
        inputs, targets = window[:, :-1].flatten(), window[:, 1:].flatten()
        p = table[inputs].softmax(-1)
        losses.append(-p[torch.arange(len(p)), targets].log().mean().item())
        error = (p - F.one_hot(targets, len(table))) / len(p)
        gradient = torch.zeros_like(table).index_add(0, inputs, error)
        table = table - learning_rate * gradient / max(1.0, gradient.norm().item() / longest)
    return table, losses


def loop(table, windows, learning_rate, longest, bugs=(), mean=torch.Tensor.mean, **other):
    """The loop as the lesson has it; `bugs` names those that are still there."""
    table = table.clone().requires_grad_()
    optimizer = torch.optim.SGD([table], lr=learning_rate)
    losses = []
    for window in windows:
        inputs, targets = window[:, :-1], window[:, :-1] if "targets" in bugs else window[:, 1:]
        if "pair" in other:
            inputs, targets = other["pair"](window)
        log_p = table[inputs].log_softmax(dim=other.get("dim", 1 if "loss" in bugs else -1))
        loss = mean(-log_p.gather(-1, targets[..., None]))
        if "gradient" not in bugs:
            optimizer.zero_grad()
        (loss * other.get("sign", 1)).backward()
        if other.get("cleared_again"):
            table.grad.zero_()
        if "clipping" not in bugs and "clip" not in other:
            torch.nn.utils.clip_grad_norm_([table], longest)
        elif "clip" in other:
            other["clip"](table, longest)
        optimizer.step()
        if "clipping" in bugs:
            torch.nn.utils.clip_grad_norm_([table], longest)
        losses.append(loss.item())
    return table.detach(), losses


@repaired_training.wrong("say again the token that it has just read")
def as_it_was(table, windows, learning_rate, longest):
    return loop(table, windows, learning_rate, longest, ("targets", "loss", "gradient", "clipping"))


@repaired_training.wrong("with one place a window it is 0")
def three_left(table, windows, learning_rate, longest):
    return loop(table, windows, learning_rate, longest, ("loss", "gradient", "clipping"))


@repaired_training.wrong("the first step is right and the second is not")
def two_left(table, windows, learning_rate, longest):
    return loop(table, windows, learning_rate, longest, ("gradient", "clipping"))


@repaired_training.wrong("the table moves as far as before")
def one_left(table, windows, learning_rate, longest):
    return loop(table, windows, learning_rate, longest, ("clipping",))


@repaired_training.wrong("the targets are now the tokens *before*")
def shifted_back(table, windows, learning_rate, longest):
    return loop(table, windows, learning_rate, longest, pair=lambda window: (window[:, 1:], window[:, :-1]))


@repaired_training.wrong("from the last place of each window alone")
def last_place(table, windows, learning_rate, longest):
    return loop(table, windows, learning_rate, longest, pair=lambda window: (window[:, [-2]], window[:, [-1]]))


@repaired_training.wrong("softmax now runs over the windows")
def over_the_batch(table, windows, learning_rate, longest):
    return loop(table, windows, learning_rate, longest, dim=0)


@repaired_training.wrong("the table never moves")
def cleared_too_late(table, windows, learning_rate, longest):
    return loop(table, windows, learning_rate, longest, cleared_again=True)


@repaired_training.wrong("it clips each number by itself")
def clipped_by_value(table, windows, learning_rate, longest):
    return loop(
        table,
        windows,
        learning_rate,
        longest,
        clip=lambda table, longest: torch.nn.utils.clip_grad_value_([table], longest),
    )


@repaired_training.wrong("it makes every gradient `longest` long")
def always_as_long(table, windows, learning_rate, longest):
    def rescale(table, longest):
        table.grad = table.grad / table.grad.norm() * longest

    return loop(table, windows, learning_rate, longest, clip=rescale)


@repaired_training.wrong("the sum over the places")
def summed(table, windows, learning_rate, longest):
    return loop(table, windows, learning_rate, longest, mean=torch.Tensor.sum)


@repaired_training.wrong("the losses are one tensor")
def losses_as_tensors(table, windows, learning_rate, longest):
    table, losses = loop(table, windows, learning_rate, longest)
    return table, torch.tensor(losses)


@repaired_training.wrong("the losses are tensors")
def losses_not_yet_numbers(table, windows, learning_rate, longest):
    table, losses = loop(table, windows, learning_rate, longest)
    return table, [torch.tensor(loss) for loss in losses]


@repaired_training.wrong("the loss grows")
def ascends(table, windows, learning_rate, longest):
    return loop(table, windows, learning_rate, longest, sign=-1)


@repaired_training.wrong("the loss of the last step alone")
def last_loss(table, windows, learning_rate, longest):
    table, losses = loop(table, windows, learning_rate, longest)
    return table, losses[-1]


@adamw_update.wrong("decays only what has two dimensions")
def matrices_alone(parameter, gradient, mean, mean_square, step, learning_rate, betas, epsilon, weight_decay):
    mean = betas[0] * mean + (1 - betas[0]) * gradient
    mean_square = betas[1] * mean_square + (1 - betas[1]) * gradient**2
    if parameter.ndim == 2:
        parameter = parameter * (1 - learning_rate * weight_decay)
    root = (mean_square / (1 - betas[1] ** step)).sqrt() + epsilon
    return parameter - learning_rate * mean / (1 - betas[0] ** step) / root, mean, mean_square


@learning_rate_at.wrong("it rounds")
def to_six_digits(step, steps, warm_up, peak, lowest):
    if step < warm_up:
        return round(peak * (step + 1) / warm_up, 5)
    if step >= steps:
        return lowest
    part = (step - warm_up + 1) / (steps - warm_up + 1)
    return round(lowest + (peak - lowest) * 0.5 * (1 + math.cos(math.pi * part)), 5)
