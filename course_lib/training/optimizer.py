"""How a gradient moves a weight: AdamW, the learning rate's way up and down, and gradients that are too long.

The Trainer uses PyTorch's own AdamW and clipping, which do the same on all weights at once; the tests hold these here
against them.

Sources: Adam, Kingma & Ba 2014; its decoupled weight decay, Loshchilov & Hutter 2019; clipping, Pascanu et al. 2012.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from course_lib.arguments import Whole, whole

BETAS = (0.9, 0.99)
EPSILON = 1e-8
WEIGHT_DECAY = 0.01
WARM_UP = 0.05  # the part of all steps in which the learning rate rises


def adamw_step(
    parameter: Tensor,
    gradient: Tensor,
    mean: Tensor,
    mean_square: Tensor,
    step: int,
    learning_rate: float,
    betas: tuple[float, float] = BETAS,
    epsilon: float = EPSILON,
    weight_decay: float = WEIGHT_DECAY,
) -> tuple[Tensor, Tensor, Tensor]:
    """The parameter after one step of AdamW, and its two running averages. All tensors have the parameter's shape.

    `mean` and `mean_square` are the averages that the step before gave back, zeros before the first. `step` counts
    from 1.

    Raises:
        ValueError: step is less than 1.
    """
    if step < 1:
        raise ValueError(f"step must be at least 1, the first step, got {step}")
    beta, beta_square = betas
    mean = beta * mean + (1 - beta) * gradient
    mean_square = beta_square * mean_square + (1 - beta_square) * gradient**2
    # both began at zero, and are too small by what that first zero still weighs
    direction = mean / (1 - beta**step)
    size = (mean_square / (1 - beta_square**step)).sqrt()
    decayed = parameter - learning_rate * weight_decay * parameter
    return decayed - learning_rate * direction / (size + epsilon), mean, mean_square


class AdamW:
    """`adamw_step` on many parameters, each with its own two averages. `learning_rate` may be set before each step."""

    def __init__(
        self,
        parameters: Iterable[Tensor],
        learning_rate: float,
        betas: tuple[float, float] = BETAS,
        epsilon: float = EPSILON,
        weight_decay: float = WEIGHT_DECAY,
    ):
        self.parameters, self.learning_rate, self.steps = list(parameters), learning_rate, 0
        self.settings = dict(betas=betas, epsilon=epsilon, weight_decay=weight_decay)
        self.averages = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        """Move each parameter by its `.grad`; one without a gradient stays as it is."""
        self.steps += 1
        for number, parameter in enumerate(self.parameters):
            if parameter.grad is None:
                continue
            moved, *self.averages[number] = adamw_step(
                parameter, parameter.grad, *self.averages[number], self.steps, self.learning_rate, **self.settings
            )
            parameter.copy_(moved)

    def zero_grad(self) -> None:
        """Forget the gradients: backward() adds to what is there."""
        for parameter in self.parameters:
            parameter.grad = None


def clip_gradients(gradients: Sequence[Tensor], longest: float) -> tuple[list[Tensor], float]:
    """The gradients, and the length that they had together, as if they were one long vector.

    If that is more than `longest`, all are scaled down by one factor, so that their direction stays and their length
    becomes `longest`.

    Raises:
        ValueError: longest is not above 0.
    """
    if not longest > 0:
        raise ValueError(f"longest must be above 0, got {longest}")
    length = math.sqrt(sum(gradient.double().pow(2).sum().item() for gradient in gradients))
    factor = min(1.0, longest / (length + 1e-6))  # PyTorch adds the 1e-6, too
    return [gradient * factor for gradient in gradients], length


def schedule(step: Whole, steps: Whole, warm_up: Whole | None = None) -> float:
    """The part of the learning rate used in `step`: up in a straight line, then down along a half cosine to 0.

    Steps count from 0. It rises over `warm_up` steps, by default a twentieth of all.

    Raises:
        ValueError: step is not from 0 to steps, or warm_up is less than 1.
    """
    steps = whole("steps", steps, 1)
    step, warm_up = whole("step", step, 0, steps), None if warm_up is None else whole("warm_up", warm_up, 1)
    warm_up = max(1, round(WARM_UP * steps)) if warm_up is None else warm_up
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up + 1) / (steps - warm_up + 1)))
