"""The curve of a run: a loss that falls, seen while it falls."""

import base64
import math
import time
from collections.abc import Sequence

from matplotlib.figure import Figure

from course_lib.drawing.figures import WIDTH
from course_lib.drawing.style import CSS_PIXELS_PER_INCH, INK, MUTED, PHASES, course_style, png

BLUE = PHASES[3]


def smoothed(losses: Sequence[float], over: int) -> list[float]:
    """The mean of each loss and the up to `over` − 1 before it: a batch is small, and its loss jumps.

    Early, where the loss falls fast, at most a fifth of those so far, so that the mean does not lag behind.
    """
    sums, means = [0.0], []
    for number, value in enumerate(losses, 1):
        sums.append(sums[-1] + value)
        first = number - min(over, 1 + number // 5)
        means.append((sums[number] - sums[first]) / (number - first))
    return means


@course_style()
def loss_curve(
    losses: Sequence[float],
    title: str = "How far has the loss fallen?",
    *,
    floor: float | None = None,
    validation: Sequence[tuple[int, float]] = (),
    steps: int | None = None,
) -> Figure:
    """The loss of each step, and a smooth line through it; the last smoothed value stands beside its end.

    `floor` is the lowest loss there can be, such as the entropy of the text. `validation`: (step, loss) on text that
    was held out. `steps`: how many there will be, so that the axis stays while the curve grows. The first fiftieth of
    the steps may stand above the picture: else all that comes after would be flat.
    """
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.subplots()
    steps = max(len(losses), 1) if steps is None else steps
    if losses:
        place = range(1, len(losses) + 1)
        smooth = smoothed(losses, over=max(1, steps // 40))
        axes.plot(place, losses, color=BLUE.medium, linewidth=0.7)
        axes.plot(place, smooth, color=BLUE.strong)
        axes.annotate(
            f"{smooth[-1]:.2f}", (len(losses), smooth[-1]), xytext=(5, 4), textcoords="offset points",
            color=BLUE.strong, weight="bold", annotation_clip=False,
        )  # fmt: skip
        axes.set_ylim(0, max(losses[len(losses) // 50 :]) * 1.05)
    if validation:
        axes.plot(*zip(*validation, strict=True), color=INK, marker="o", markersize=4, linestyle=":", linewidth=1.2)
        axes.annotate("held-out text", validation[0], xytext=(0, 8), textcoords="offset points", color=INK, ha="center")
    if floor is not None:
        axes.axhline(floor, color=MUTED, linestyle="--", linewidth=1.2)
        axes.annotate(
            f"floor {floor:.2f}", (0, floor), xytext=(6, -5), textcoords="offset points", color=MUTED, va="top"
        )
    axes.set_xlim(0, steps * 1.02)
    axes.set(title=title, xlabel="step", ylabel="loss (nats per token)")
    return figure


class LiveCurve:
    """`trainer.run(watch=LiveCurve(floor=…))`: the curve below the cell, drawn anew every few seconds. One a cell."""

    def __init__(self, title: str = "How far has the loss fallen?", *, floor: float | None = None, every: float = 2.0):
        self.title, self.floor, self.every = title, floor, every  # every: seconds between two drawings
        self.drawn_at, self.handle = -math.inf, None

    def __call__(self, trainer) -> None:
        if time.monotonic() - self.drawn_at < self.every and trainer.step < trainer.until:
            return
        from IPython.display import display

        output, metadata = self.output(trainer)
        if self.handle is None:
            self.handle = display(output, metadata=metadata, raw=True, display_id=True)
        else:
            self.handle.update(output, metadata=metadata, raw=True)
        self.drawn_at = time.monotonic()

    def output(self, trainer) -> tuple[dict, dict]:
        """The picture with its text equivalent, as Jupyter wants them: data, metadata."""
        losses, steps = trainer.losses, trainer.steps
        figure = loss_curve(losses, self.title, floor=self.floor, validation=trainer.validation_losses, steps=steps)
        now = smoothed(losses, over=max(1, steps // 40))[-1]
        alt = f"The loss after {len(losses)} of {steps} steps: from {losses[0]:.2f} to {now:.2f} nats per token."
        data = base64.b64encode(png(figure)).decode("ascii")
        width = round(figure.get_figwidth() * CSS_PIXELS_PER_INCH)
        return {"image/png": data, "text/plain": alt}, {"image/png": {"alt": alt, "width": width}}
