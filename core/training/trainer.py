"""The loop that every stage runs in: steps, checkpoints, resumption, records and a plot.

What a step does depends only on the seed and its number, so a checkpoint holds no random state and
no place in the data: parameters, optimiser and the number are enough to go on with the same run.
"""

import ctypes
import json
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.optim import AdamW

from ..backbone import best_device, best_dtype
from ..errors import ExtraMissingError, InputError
from .plot import plot_run
from .settings import TrainingSettings
from .stage import Stage

try:
    from torch.utils.tensorboard import SummaryWriter
except ImportError as error:
    raise ExtraMissingError("training records to tensorboard: pip install 'compressed-memory[training]'") from error

_log = logging.getLogger(__name__)

CHECKPOINT, SETTINGS, METRICS = "checkpoint.safetensors", "settings.json", "metrics.jsonl"
_FREE_TO_CHANGE = {"save_every", "evaluate_every", "noting_processes"}


@dataclass(frozen=True)
class Finished:
    """Where a run stands."""

    step: int
    steps: int
    interrupted: bool


def accelerator(precision: Literal["bf16", "no"] | None = None) -> Accelerator:
    """Return what spreads the work over processes and devices.

    Args:
        precision: of the passes; ``None``: bf16 where the hardware has it.
    """
    precision = precision or ("bf16" if best_dtype(best_device()) == torch.bfloat16 else "no")
    # A step may leave an adapter out, such as the compressor's when only notes are read.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(mixed_precision=precision, kwargs_handlers=[unused], cpu=not torch.cuda.is_available())


class Trainer:
    """One run of one stage in one folder."""

    def __init__(self, stage: Stage[Any], settings: TrainingSettings, out: Path, spread: Accelerator) -> None:
        """
        Args:
            stage: on the device already, its trained parameters in fp32.
            out: the run's folder, made if it is not there.
        """
        self.stage, self.settings, self.out, self._spread = stage, settings, out, spread
        self.parameters = {name: p for name, p in stage.named_parameters() if p.requires_grad}
        if not self.parameters:
            raise InputError(f"stage {settings.stage!r} has nothing to train: give an adapter, or another stage")
        if settings.batch % spread.num_processes:
            raise InputError(
                f"batch={settings.batch} cannot be shared by {spread.num_processes} processes: make it a multiple"
            )
        self._optimizer = AdamW(self.parameters.values(), lr=settings.learning_rate, weight_decay=0.0)
        self._step = 0
        self._seconds = 0.0
        self._board: SummaryWriter | None = None

    # ---- running ----

    def run(self, *, resume: bool = False, minutes: float = math.inf) -> Finished:
        """Train up to the last step, or for ``minutes``, or until interrupted; a checkpoint is left in each case.

        Raises:
            InputError: the folder holds a run already and ``resume`` is not set, or one with other settings.
        """
        self._begin(resume)
        if self._spread.is_main_process:
            self._board = SummaryWriter(str(self.out / "tensorboard"), purge_step=self._step)
        wrapped = self._spread.prepare(self.stage) if self._spread.num_processes > 1 else self.stage
        until = time.monotonic() + 60 * minutes
        with _interruptible() as interrupted, self._progress() as advance:
            if self._step == 0:
                self._record({"step": 0, **self._evaluated()})
            while self._step < self.settings.steps and not self._any(interrupted() or time.monotonic() >= until):
                start = time.perf_counter()
                measured = self._one_step(wrapped)
                self._step += 1
                self._seconds += time.perf_counter() - start
                self._record({"step": self._step, "seconds": round(self._seconds, 2), **measured})
                last = self._step == self.settings.steps
                if last or self._step % self.settings.evaluate_every == 0:
                    self._record({"step": self._step, **self._evaluated()})
                if last or self._step % self.settings.save_every == 0:
                    self._save()
                advance(self._step, measured)
            stopped = interrupted()
        self._save()
        if self._board is not None:
            self._board.close()
        return Finished(self._step, self.settings.steps, stopped)

    def _one_step(self, wrapped: nn.Module) -> dict[str, float]:
        spread, step = self._spread, self._step
        rate = self.settings.learning_rate * schedule(step, self.settings.warmup, self.settings.steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        pieces = self.stage.work(step, spread.process_index, spread.num_processes)
        sums: dict[str, float] = {}
        for number, piece in enumerate(pieces):
            # Gradients are exchanged once a step, with the last piece.
            quiet = spread.no_sync(wrapped) if number + 1 < len(pieces) else nullcontext()
            with quiet, spread.autocast():
                loss, measured = wrapped(piece)
                # Exchanging takes the mean over processes; the loss of a step is their sum.
                spread.backward(loss * spread.num_processes)
            for name, value in {"loss": float(loss.detach()), **measured}.items():
                sums[name] = sums.get(name, 0.0) + value
        norm = spread.clip_grad_norm_(list(self.parameters.values()), self.settings.clip)
        if not math.isfinite(float(norm)):
            raise FloatingPointError(f"the gradient of step {step} is {float(norm)}: lower --learning-rate")
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        _return_freed_memory()
        totals = self._over_processes(sums)
        return {**totals, "gradient_norm": float(norm), "learning_rate": rate}

    def _over_processes(self, sums: dict[str, float]) -> dict[str, float]:
        if self._spread.num_processes == 1:
            return sums
        names = sorted(sums)
        values = torch.tensor([sums[name] for name in names], device=self._spread.device)
        return dict(zip(names, self._spread.reduce(values, "sum").tolist(), strict=True))

    def _any(self, here: bool) -> bool:
        """Whether any process wants to stop: all stop after the same step."""
        if self._spread.num_processes == 1:
            return here
        return bool(self._spread.reduce(torch.tensor([float(here)], device=self._spread.device), "sum").item())

    def _evaluated(self) -> dict[str, float]:
        self.stage.eval()
        with torch.no_grad(), self._spread.autocast():
            return {f"held_out_{name}": value for name, value in self.stage.evaluate().items()}

    # ---- the run's folder ----

    def _begin(self, resume: bool) -> None:
        held = self.out / SETTINGS
        if held.is_file() and not resume:
            raise InputError(f"{self.out} holds a run already: add --resume to go on with it, or give another --out")
        if held.is_file():
            # What an older release did not set is as it is by default.
            begun = TrainingSettings(**json.loads(held.read_text())).model_dump(mode="json")
            differences = _differences(begun, self.settings.model_dump(mode="json"))
            if differences:
                raise InputError(f"{self.out} was begun with other settings: {'; '.join(differences)}")
        # No process may write what another has still to look for.
        self._spread.wait_for_everyone()
        if self._spread.is_main_process:
            self.out.mkdir(parents=True, exist_ok=True)
            held.write_text(self.settings.model_dump_json(indent=1) + "\n")
        if resume and (self.out / CHECKPOINT).is_file():
            self._load()
        self._forget_records_after(self._step or -1)  # without a step done, step 0 is measured again
        self._spread.wait_for_everyone()

    def _save(self) -> None:
        if not self._spread.is_main_process:
            return
        tensors = {f"parameter.{name}": p.detach().cpu().contiguous() for name, p in self.parameters.items()}
        for name, parameter in self.parameters.items():
            for part, value in self._optimizer.state.get(parameter, {}).items():
                tensors[f"{part}.{name}"] = torch.as_tensor(value).detach().cpu().contiguous()
        scratch = self.out / (CHECKPOINT + ".tmp")
        save_file(tensors, scratch, {"step": str(self._step), "seconds": str(self._seconds)})
        os.replace(scratch, self.out / CHECKPOINT)
        self.stage.save(self.out / "adapters")
        plot_run(self.out / METRICS, self.out / "curve.png")

    def _load(self) -> None:
        with safe_open(self.out / CHECKPOINT, framework="pt") as held, torch.no_grad():
            names = set(held.keys())
            missing = [n for n in self.parameters if f"parameter.{n}" not in names]
            if missing:
                raise InputError(f"{self.out / CHECKPOINT} has no {missing[0]}: it is of another model or stage")
            for name, parameter in self.parameters.items():
                parameter.copy_(held.get_tensor(f"parameter.{name}"))
                if f"exp_avg.{name}" in names:
                    self._optimizer.state[parameter] = {
                        "step": held.get_tensor(f"step.{name}"),
                        **{
                            part: held.get_tensor(f"{part}.{name}").to(parameter.device)
                            for part in ("exp_avg", "exp_avg_sq")
                        },
                    }
            self._step, self._seconds = int(held.metadata()["step"]), float(held.metadata()["seconds"])

    def _forget_records_after(self, step: int) -> None:
        """Drop what a killed run recorded after its checkpoint: those steps are done again."""
        file = self.out / METRICS
        if self._spread.is_main_process and file.is_file():
            # The last line may have been cut off; only what ends in a line end is a record.
            whole = file.read_text().rpartition("\n")[0]
            kept = [line for line in whole.splitlines() if json.loads(line)["step"] <= step]
            scratch = file.with_suffix(".tmp")
            scratch.write_text("".join(line + "\n" for line in kept))
            os.replace(scratch, file)

    def _record(self, values: dict[str, float]) -> None:
        if not self._spread.is_main_process:
            return
        with (self.out / METRICS).open("a") as file:
            file.write(json.dumps(values) + "\n")
        for name, value in values.items():
            if name != "step" and self._board is not None:
                self._board.add_scalar(name, value, int(values["step"]))

    @contextmanager
    def _progress(self) -> Iterator[Callable[[int, dict[str, float]], None]]:
        columns = (
            TextColumn(self.settings.stage),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[measured]}"),
        )
        console = Console(stderr=True)
        with Progress(*columns, console=console, disable=not self._spread.is_main_process) as progress:
            task = progress.add_task("", total=self.settings.steps, completed=self._step, measured="")

            def advance(step: int, measured: dict[str, float]) -> None:
                shown = " ".join(f"{name} {value:.3g}" for name, value in measured.items() if name != "learning_rate")
                progress.update(task, completed=step, measured=shown)

            yield advance


def schedule(step: int, warmup: int, steps: int) -> float:
    """Return the learning rate of ``step`` over its highest: a straight rise, then a cosine down to a tenth."""
    if step < warmup:
        return (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return 0.55 + 0.45 * math.cos(math.pi * min(1.0, share))


def _return_freed_memory() -> None:
    """Give freed pages back to the system: glibc keeps a graph's thousands of odd-sized tensors, and a long run on a
    CPU grew to 20 GB that held 1."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a request to stop after the step; a second one stops at once."""
    asked = False

    def ask(*_: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        _log.warning("stopping after this step; press Ctrl-C again to stop at once")

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


def _differences(held: dict[str, Any], given: dict[str, Any]) -> list[str]:
    return [
        f"{name} {held.get(name)!r}, not {value!r}"
        for name, value in given.items()
        if name not in _FREE_TO_CHANGE and held.get(name) != value
    ]
