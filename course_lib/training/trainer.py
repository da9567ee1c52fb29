"""The training loop: guess the next token, see how wrong the guess was, move every weight a little.

- counted in steps: the same seed, weights, machine and settings give the same losses, bit for bit
- stopped at any step, by a checkpoint or by Ctrl-C, and continued as if nothing had been
- AdamW with a learning rate that rises and falls, and gradients clipped to a length
- matrix products in bfloat16 where the machine is fast at it; the weights stay in float32
- a batch in several parts where it does not fit into memory, or over several processes (torchrun)
"""

import contextlib
import dataclasses
import math
import signal
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Integer
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from course_lib import device
from course_lib.arguments import SEEDS, Number, Whole, finite, path_of, refused, truth, whole
from course_lib.config import TransformerConfig
from course_lib.input_processing.batching import IDS
from course_lib.training.batches import check_batch, check_row, places_of, random_starts, windows
from course_lib.training.checkpoint import all_finite, damaged, plain_names, read_checkpoint, write_checkpoint
from course_lib.training.evaluation import check_model, loss
from course_lib.training.optimizer import BETAS, WEIGHT_DECAY, schedule
from course_lib.training.precision import Precision, pick_precision
from course_lib.training.processes import mean_over_processes, place
from course_lib.transformer_block.transformer import Transformer

MOST = 10**9  # steps, windows of a batch, …
LONGEST_GRADIENT = 1.0  # a longer one is scaled down to it


class Trainer:
    """A training run of `transformer` on `tokens`, in place; `run()` does its steps.

    `batch_size` windows of `context_length` tokens make one step. They begin anywhere; or, with `begin_with`, at that
    token, such as the mark before each story, so that what a guess needs is not cut off. They are computed in
    `accumulate` parts, one after the other, and shared among the processes of torchrun. The learning rate follows
    `schedule(step, steps)`.

    With `validation`, a row of other tokens, their loss is measured every `validate_every` steps and after the last,
    in float32. With `checkpoint`, a path, all that the run needs to go on is written there every `checkpoint_every`
    steps and whenever `run` ends.

    Attributes:
        losses: the loss of each, in nats per token, before its step was taken.
        validation_losses: (step, loss) for each measurement.
        until: the step at which the present `run` ends.

    Raises:
        ValueError: steps or a size is less than 1 or does not divide, the context is longer than the model's,
            `tokens` is too short, has ids that the model does not know, or does not have `begin_with`.
    """

    def __init__(
        self,
        transformer: Transformer,
        tokens: Integer[Tensor, " token"],
        *,
        steps: Whole,
        batch_size: Whole,
        context_length: Whole,
        learning_rate: Number = 3e-3,
        seed: Whole = 0,
        begin_with: Whole | None = None,
        validation: Integer[Tensor, " held_out"] | None = None,
        validate_every: Whole = 100,
        checkpoint: str | Path | None = None,
        checkpoint_every: Whole = 100,
        accumulate: Whole = 1,
        precision: Precision = "auto",
        progress: bool = True,
    ):
        self.rank, processes = place()
        counts = dict(
            steps=steps, batch_size=batch_size, accumulate=accumulate, validate_every=validate_every,
            checkpoint_every=checkpoint_every,
        )  # fmt: skip
        for name, value in counts.items():
            if (number := whole(name, value)) < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
            if number > MOST:
                raise ValueError(f"{name} must be at most {MOST:,}, got {number}")
            counts[name] = number
        steps, batch_size, accumulate, *_ = counts.values()
        context_length, seed = whole("context_length", context_length), whole("seed", seed, *SEEDS)
        begin_with = None if begin_with is None else whole("begin_with", begin_with, *IDS)
        learning_rate = finite("learning_rate", learning_rate, above=0, expected="above 0, such as 3e-3")
        if batch_size % (accumulate * processes):
            raise ValueError(
                f"batch_size must be a multiple of accumulate × processes, {accumulate} × {processes}, so that all "
                f"parts are equal, got {batch_size}"
            )
        for row in (tokens,) if validation is None else (tokens, validation):
            check_model(transformer, row, context_length)
        check_batch(batch_size, context_length)
        progress = truth("progress", progress)

        self.transformer, self.tokens, self.validation, self.progress = transformer, tokens, validation, progress
        self.device = transformer.device
        self.checkpoint = None if checkpoint is None else path_of("checkpoint", checkpoint)
        self.settings = counts | dict(
            context_length=context_length, learning_rate=learning_rate, seed=seed, begin_with=begin_with,
            precision=pick_precision(precision, self.device.type),
        )  # fmt: skip
        self.steps, self.until, self.processes = steps, steps, processes
        self._places = None if begin_with is None else places_of(begin_with, tokens, context_length)
        self.losses: list[float] = []
        self.validation_losses: list[tuple[int, float]] = []
        self.generator = torch.Generator().manual_seed(seed)  # on the CPU: it draws the same batches for any device
        self.optimizer = torch.optim.AdamW(
            transformer.parameters(), lr=learning_rate, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True
        )
        # averages the gradients over the processes as backward() finds them
        self._model = DistributedDataParallel(transformer) if processes > 1 else transformer

    @property
    def step(self) -> int:
        return len(self.losses)

    def run(self, until: Whole | None = None, watch: Callable[["Trainer"], None] | None = None) -> list[float]:
        """Train up to step `until`, by default the last; the losses of all steps so far. Call it again to go on.

        `watch(trainer)` is called after each step: it may draw a curve, or measure something. Ctrl-C, or the square
        in Jupyter, ends the run after the step that it meets: nothing is lost, and `run` goes on from there. (A second
        one ends it at once.)

        Raises:
            ValueError: until is not from 0 to the last step; or a loss or a gradient is no finite number. The model is
                then that of the step before, and no file is written.
            OSError: the checkpoint cannot be written.
        """
        until = self.steps if until is None else whole("until", until)
        if not 0 <= until <= self.steps:
            raise ValueError(f"until must be from 0 to the last step, {self.steps}, got {until}")
        if watch is not None and not callable(watch):
            raise refused("watch", "a function of the Trainer", watch)
        self.until = until
        quiet = not self.progress or self.rank > 0
        begun, was_training = self.step, self.transformer.training
        self.transformer.train()
        bar = tqdm(total=self.steps, initial=begun, disable=quiet, unit="step")
        try:
            with _interrupt_waits() as interrupted:
                while self.step < self.until:
                    self._one_step()
                    bar.set_postfix(loss=f"{self.losses[-1]:.3f}", refresh=False)
                    bar.update()
                    self._after_step()
                    if watch is not None:
                        watch(self)
                    if self._any_process(interrupted.is_set()):
                        break
        except KeyboardInterrupt:
            pass  # what was learned so far is kept
        finally:
            bar.close()
            self.transformer.train(was_training)
        if self.step < self.until and not quiet:
            print(f"stopped after step {self.step} of {self.steps}")
        if self.step > begun and self.checkpoint is not None:
            self.save()
        return list(self.losses)

    def _one_step(self) -> None:
        drawn_before = self.generator.get_state()
        try:
            for group in self.optimizer.param_groups:
                group["lr"] = self.settings["learning_rate"] * schedule(self.step, self.steps)
            error = self._gradients()
            length = torch.nn.utils.clip_grad_norm_(self.transformer.parameters(), LONGEST_GRADIENT)
            found, length = torch.stack((error, length.to(error))).tolist()  # the wait for a GPU
            if not (math.isfinite(found) and math.isfinite(length)):
                raise self._broke_down(f"the loss is {found:g}, and the gradient's length {length:g}")
            self.optimizer.step()
            self.losses.append(found)
        except BaseException:
            self.generator.set_state(drawn_before)  # a step that was not finished has drawn nothing
            raise

    def _broke_down(self, what: str) -> ValueError:
        kept = self.checkpoint is not None and self.checkpoint.exists()
        file = f"; {self.checkpoint} is as it was" if kept else ""
        return ValueError(
            f"training broke down after step {self.step}: {what}. A smaller learning_rate than "
            f"{self.settings['learning_rate']:g} helps{file}"
        )

    def _gradients(self) -> Tensor:
        """Fill every parameter's gradient with that of the mean loss over the whole batch, and give that loss."""
        context_length, parts = self.settings["context_length"], self.settings["accumulate"]
        batch_size = self.settings["batch_size"]
        starts = random_starts(self.tokens, batch_size, context_length, self.generator, self._places)
        mine = starts.chunk(self.processes)[self.rank]
        in_half = torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.settings["precision"] == "bfloat16"
        )
        self.optimizer.zero_grad()
        total = torch.zeros((), device=self.device)
        for number, part in enumerate(mine.chunk(parts)):
            inputs, targets = windows(self.tokens, part, context_length)
            with self._averaging(number == parts - 1):
                with in_half:
                    logits = self._model(inputs.to(self.device))  # (batch, position, vocab)
                    error = F.cross_entropy(logits.flatten(0, 1), targets.to(self.device).flatten()) / parts
                error.backward()
            total += error.detach()
        return mean_over_processes(total)

    def _averaging(self, wanted: bool) -> contextlib.AbstractContextManager:
        """Whether backward() averages the gradients over the processes: once a step, with its last part."""
        return contextlib.nullcontext() if wanted or self.processes == 1 else self._model.no_sync()

    def _any_process(self, stop: bool) -> bool:
        """Whether any process was told to stop: then all do, after the same step."""
        return mean_over_processes(torch.tensor(float(stop), device=self.device)).item() > 0

    def _after_step(self) -> None:
        every, last = self.settings["validate_every"], self.step == self.steps
        if self.validation is not None and self.rank == 0 and (self.step % every == 0 or last):
            measured = loss(self.transformer, self.validation, context_length=self.settings["context_length"])
            self.validation_losses.append((self.step, measured))
        if self.checkpoint is not None and self.step % self.settings["checkpoint_every"] == 0:
            self.save()

    # ---- in a file --------------------------------------------------------------------------------

    def save(self, path: str | Path | None = None) -> None:
        """Write all that the run needs to go on to `path`, by default `checkpoint`, in one atomic step.

        Raises:
            ValueError: neither path is given, or the weights are not finite numbers.
            OSError: the file cannot be written, or the disk is full; an older one there is untouched.
        """
        path = self.checkpoint if path is None else path_of("path", path)
        if path is None:
            raise ValueError("path must say where to save, since the Trainer was made without a checkpoint")
        if not self._is_sound():
            raise self._broke_down("from its weights no next step can be taken, since their numbers are not finite")
        if self.rank == 0:
            write_checkpoint(
                path,
                dict(
                    config=dataclasses.asdict(self.transformer.config),
                    weights=plain_names(self.transformer.state_dict()),
                    optimizer=self.optimizer.state_dict() | {"steps": len(self.losses)},
                    generator=self.generator.get_state(),
                    losses=self.losses,
                    validation_losses=self.validation_losses,
                    settings=self.settings,
                    tokens=_fingerprint(self.tokens),
                ),
            )

    def _is_sound(self) -> bool:
        """Whether the weights are finite numbers from which a next step could be taken, tried on one window."""
        plain = getattr(self.transformer, "_orig_mod", self.transformer)  # compiled, it would be compiled anew
        inputs, targets = windows(self.tokens, torch.tensor([0]), self.settings["context_length"])
        error = F.cross_entropy(plain(inputs.to(self.device)).flatten(0, 1), targets.to(self.device).flatten())
        gradients = torch.autograd.grad(error, list(plain.parameters()), allow_unused=True)
        length = torch.nn.utils.get_total_norm([gradient for gradient in gradients if gradient is not None])
        return all_finite(plain) and math.isfinite(error.item()) and math.isfinite(length.item())

    @classmethod
    def resume(
        cls,
        path: str | Path,
        tokens: Integer[Tensor, " token"],
        *,
        validation: Integer[Tensor, " held_out"] | None = None,
        on: torch.device | str | None = None,
        progress: bool = True,
    ) -> "Trainer":
        """The run that was saved at `path`, to go on with `run()`; it goes on saving there.

        `tokens` are those of the run, since a checkpoint does not hold the text. `on` is the device, by default
        `device.pick()`. On the same machine, with as many threads, the losses are those of a run without a break.

        Raises:
            FileNotFoundError: there is no file.
            ValueError: the file is damaged or no checkpoint, or `tokens` are others than the run's.
        """
        check_row(tokens)
        content, path, where = read_checkpoint(path), path_of("path", path), device.named(on)
        if content["tokens"] != _fingerprint(tokens):
            raise ValueError(
                f"tokens are not those that the run in {path} was trained on ({content['tokens'][0]} of them): "
                "hand in the same row, in the same order"
            )
        progress = truth("progress", progress)
        try:
            transformer = Transformer(TransformerConfig(**content["config"])).to(where)
            transformer.load_state_dict(content["weights"])
            trainer = cls(transformer, tokens, checkpoint=path, progress=progress, **content["settings"])
            if missing := trainer.settings.keys() - content["settings"].keys():
                raise ValueError(f"its settings lack {', '.join(missing)}")
            trainer._take_over(content["optimizer"]["state"])
            trainer.generator.set_state(content["generator"])
        except Exception as error:  # each part is of the right kind, and they do not belong together
            raise damaged(path, error) from error
        if validation is not None:
            check_model(transformer, validation, trainer.settings["context_length"])
        trainer.validation, trainer.losses = validation, content["losses"]
        trainer.validation_losses = content["validation_losses"]
        return trainer

    def _take_over(self, state: dict[int, dict[str, Tensor]]) -> None:
        """The optimizer's averages, from a file; PyTorch's fused step would read past the end of those that are short.

        Raises:
            ValueError: one has not its weight's shape.
        """
        shapes = [parameter.shape for parameter in self.transformer.parameters()]
        for number, averages in state.items():
            if {averages["exp_avg"].shape, averages["exp_avg_sq"].shape} != {shapes[number]}:
                raise ValueError("the averages of its optimizer do not fit its weights")
        self.optimizer.load_state_dict(self.optimizer.state_dict() | dict(state=state))


def _fingerprint(tokens: Integer[Tensor, " token"]) -> list[int]:
    """How many there are, and a checksum over a few thousand of them, evenly spread."""
    some = torch.linspace(0, len(tokens) - 1, min(len(tokens), 4096), dtype=torch.float64).long()
    return [len(tokens), zlib.crc32(tokens[some.to(tokens.device)].long().cpu().numpy().tobytes())]


@contextlib.contextmanager
def _interrupt_waits() -> Iterator[threading.Event]:
    """Inside, Ctrl-C sets the event and does nothing else, so that no step is cut in half; a second one interrupts."""
    interrupted = threading.Event()
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield interrupted  # signals come to the main thread alone, and some programs are set not to hear this one
        return

    def wait(number, frame):
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    signal.signal(signal.SIGINT, wait)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, usual)
