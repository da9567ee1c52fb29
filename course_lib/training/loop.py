"""Training in one call, for the lessons that need a trained model and are about something else."""

from jaxtyping import Integer
from torch import Tensor

from course_lib.arguments import Whole
from course_lib.training.evaluation import loss
from course_lib.training.optimizer import schedule
from course_lib.training.trainer import Trainer
from course_lib.transformer_block.transformer import Transformer

__all__ = ["loss", "schedule", "train"]


def train(
    transformer: Transformer,
    tokens: Integer[Tensor, " token"],
    *,
    steps: Whole,
    batch_size: Whole,
    context_length: Whole,
    learning_rate: float = 3e-3,
    seed: Whole = 0,
    progress: bool = True,
) -> list[float]:
    """Train in place with AdamW (Loshchilov & Hutter 2019), in float32; the loss of each step, in nats per token.

    The learning rate rises over the first twentieth of the steps and then falls along a half cosine to zero. `seed`
    draws the batches: the same seed, weights and machine give the same losses. Interrupting (Ctrl-C, or the square in
    Jupyter) ends the training early: the model keeps what it has learned, and the losses so far come back.

    Raises:
        ValueError: steps or a size is less than 1, the context is longer than the model's, `tokens` is too short, or
            has ids that the model does not know; or training breaks down: a loss or a gradient is no finite number.
    """
    settings = dict(steps=steps, batch_size=batch_size, context_length=context_length, learning_rate=learning_rate)
    return Trainer(transformer, tokens, **settings, seed=seed, precision="float32", progress=progress).run()
