"""MiniMind training, one micro-batch a step. See `worker.engines.base.EngineTrainer`."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsFloat

import torch

from app.engines.minimind.schedule import learning_rate
from app.engines.seeds import DATA_ORDER_RULE, derive
from worker import checkpoint, rng
from worker.audit import in_words
from worker.engines.base import Context
from worker.engines.minimind import audit, exports, materials, model, names, sampling, state, transfer
from worker.engines.minimind.optimisation import Optimisation
from worker.engines.minimind.order import RowOrder, fixed
from worker.engines.minimind.tokens import Rows
from worker.engines.minimind.weights import Weights
from worker.failures import TrainingFailure, is_out_of_memory
from worker.rundir import RunDir, RunSpec
from worker.transfer import summary

Json = Any
Metrics = dict[str, SupportsFloat]


class MinimindTrainer:
    """One MiniMind training."""

    def __init__(self, spec: RunSpec, context: Context) -> None:
        self._spec, self._context, self._ranks = spec, context, context.ranks
        self._section: dict[str, Json] = spec.config["model"]
        self._training: dict[str, Json] = spec.config["training"]
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        run = RunDir(context.root)
        saved = state.read(state.find(run.resume)) if spec.resume_step is not None else None
        context.phase("data")
        base = materials.base(spec, run) if saved is None else None
        with self._ranks.main_first("data"):
            found = materials.tokenizer(spec, context, run, base) if saved is None else state.tokenizer_of(saved)
            self._tokenizer = found
            self._rows, self._held_out = materials.rows(spec, context, run, self._tokenizer)
        seed = spec.seeds.get("training", derive(spec.seed, "training"))
        rng.seed_all(seed if self._ranks.is_main else derive(seed, f"rank.{self._ranks.rank}"))
        self._optimisation = self._build(base)
        self._order = RowOrder(self._rows.count, self._training["batch_size"], spec.config["data"]["seed"])
        self.total_steps = self._training["max_steps"] or -(
            -self._training["epochs"] * self._order.per_epoch // self._ranks.count
        )
        self._check_warmup()
        self.checkpoint_every = spec.checkpoints.every_steps or int(self._training["save_interval"])
        self._asks = bool(self._training["sample"]["max_new_tokens"])
        measures = self._asks or (self._held_out is not None and self._held_out.count > 0)
        self.validate_every = int(self._training["eval_interval"]) if measures else 0
        self._last_step_at = time.perf_counter()
        self._say_precision()
        if saved is None:
            self._begin(base)

    def train_step(self, step: int) -> Metrics:
        """Add the gradients of micro-batch `step`; at the end of a window of them, and of the training, apply them."""
        rows = self._order.batch((step - 1) * self._ranks.count + self._ranks.rank + 1)
        try:
            metrics: Metrics = {**self._ranks.mean(self._optimisation.accumulate(*self._batch(self._rows, rows)))}
            metrics["train/perplexity"] = torch.as_tensor(metrics["train/loss"]).exp()
            if step % self._training["accumulation_steps"] == 0 or step == self.total_steps:
                metrics |= self._optimisation.apply(step, self.total_steps)
        except Exception as error:
            if is_out_of_memory(error):
                raise self._out_of_memory(error, len(rows)) from error
            raise
        metrics["lr"] = learning_rate(self._training, step, self.total_steps)
        return _on_host_if_free({**metrics, "perf/tokens_per_s": self._speed(len(rows) * self._ranks.count)})

    def validate(self, step: int) -> Metrics:
        """Return the loss on rows held back, always the same ones, and let the model say something."""
        self._optimisation.model.train(False)
        try:
            with rng.preserved():
                found = self._measure() if self._held_out is not None and self._held_out.count else {}
                if self._asks:
                    self._say(step)
        finally:
            self._optimisation.model.train()
        self._last_step_at = time.perf_counter()
        return _on_host_if_free(found)

    def _measure(self) -> Metrics:
        assert self._held_out is not None, "only asked for when there is something to measure on"
        size, batches = self._training["batch_size"], self._training["eval_batches"]
        chosen = fixed(self._held_out.count, size * batches)
        losses, counts = [], []
        for start in range(0, len(chosen), size):
            batch = self._batch(self._held_out, chosen[start : start + size])
            counts.append((batch[2] != -100).sum())
            losses.append(self._optimisation.evaluate(*batch).double() * counts[-1])
        loss = torch.stack(losses).sum() / torch.stack(counts).sum()
        return {"val/loss": loss, "val/perplexity": loss.exp()}

    def _say(self, step: int) -> None:
        sample, stage = self._training["sample"], self._spec.config["stage"]
        text = sampling.say(
            self._optimisation.model, self._tokenizer, stage, sample["prompt"], sample["max_new_tokens"]
        )
        self._context.event("sample", text, {"step": step, "prompt": sample["prompt"], "text": text})

    def rank_state(self) -> dict[str, Any]:
        """Return the generators of this rank, and the gradients that it has summed and not applied."""
        return {"rng": rng.get_state(), "gradients": self._optimisation.gradients()}

    def save(self, directory: Path, step: int, others: Sequence[Mapping[str, Any]] = ()) -> dict[str, str]:
        """Write the full state, MiniMind's .pth and a Hugging Face directory."""
        stem = f"{self._spec.file_stem}-step{step}"
        tensors = names.tensors(self._optimisation.model)
        state.save(directory / f"{stem}.pt", self._optimisation, self._tokenizer, step, self._spec, others)
        exports.write_pth(tensors, self._section, directory / f"{stem}.pth")
        exports.write_directory(tensors, self._section, self._tokenizer, directory / f"{stem}-hf.zip")
        return {f"{stem}.pt": "checkpoint", f"{stem}.pth": "export", f"{stem}-hf.zip": "export"}

    def restore(self, directory: Path) -> int:
        """Continue exactly where `save` was called."""
        step = state.restore(state.read(state.find(directory)), self._optimisation, self._spec, self._ranks)
        self._tell_fingerprint("checkpoint", f"Weights of the checkpoint of step {step}.", step)
        return step

    def fingerprint(self) -> str:
        """Return the digest of all weights."""
        return checkpoint.fingerprint(names.tensors(self._optimisation.model))

    def generators(self, step: int) -> dict[str, str]:
        """Return the digest of the place in the order of the data."""
        return {"data order": rng.digest([DATA_ORDER_RULE, self._spec.config["data"]["seed"], step])}

    def non_finite_weight(self) -> str | None:
        """Return the name of a weight that is not finite, or None."""
        return checkpoint.first_non_finite(names.tensors(self._optimisation.model))

    def _build(self, base: Weights | None) -> Optimisation:
        self._context.phase("model")
        if self._spec.resume_step is not None:
            built = model.empty(self._section, self._device.type)
        else:
            built = model.build(self._section, self._device)
        built.train()
        return Optimisation(built, self._section, self._training, self._device, self._ranks)

    def _begin(self, base: Weights | None) -> None:
        """Check the weights that the seed decided, and take the base's as planned."""
        tensors, plan = names.tensors(self._optimisation.model), self._spec.plan
        if self._ranks.is_main:  # one rank's weights are every rank's
            self._context.event("audit", *in_words(audit.check(tensors, self._section, plan)))
        if base is None or plan is None:
            self._tell_fingerprint("init", "Weights before the first step.")
            return
        self._tell_fingerprint("init", "Weights by the job's own seeds, before the transfer.")
        self._context.phase("transfer")
        transfer.start_from(plan, base, tensors)
        self._context.event("transfer", *summary(plan))
        self._tell_fingerprint("transfer", f"Weights after the transfer from {plan.base}.")

    def _tell_fingerprint(self, stage: str, message: str, step: int = 0) -> None:
        self._context.event("fingerprint", message, {"step": step, "stage": stage, "sha256": self.fingerprint()})

    def _batch(self, rows: Rows, chosen: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return tokens, positions and targets of rows on the device."""
        tokens, positions, targets = (self._on_device(torch.from_numpy(array)) for array in rows.take(chosen))
        return tokens, positions, targets

    def _on_device(self, tensor: torch.Tensor) -> torch.Tensor:
        if self._device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self._device, non_blocking=True)

    def _speed(self, rows: int) -> float:
        """Return tokens a second since the step before; on a GPU, which lags behind, right in the long run only."""
        now = time.perf_counter()
        took, self._last_step_at = now - self._last_step_at, now
        return rows * self._rows.row_length / took

    def _check_warmup(self) -> None:
        """Refuse a warm-up that never ends, where the number of steps was not known when the job was submitted."""
        warmup = self._training["warmup_steps"]
        if warmup >= self.total_steps:
            message = f"training.warmup_steps is {warmup}, but the data make only {self.total_steps} steps."
            raise TrainingFailure("configuration", message, hint="Warm up for less than the whole training.")

    def _say_precision(self) -> None:
        dtype = self._training["dtype"]
        if self._device.type == "cpu" and dtype != "float32":
            message = f"training.dtype {dtype} is for GPUs: this worker has none, and trains in float32."
            self._context.event("warning", message, {"dtype": "float32"})

    def _out_of_memory(self, error: Exception, rows: int) -> TrainingFailure:
        batch = f"{rows} rows of {self._rows.row_length} tokens"
        hint = "Lower training.batch_size and raise training.accumulation_steps as much, or lower training.max_seq_len."
        return TrainingFailure("out-of-memory", f"Out of memory with a batch of {batch}: {error}", hint=hint)


def _on_host_if_free(metrics: Metrics) -> Metrics:
    """Turn tensors that are on the host already into numbers; fetching them from a GPU here would stall it."""
    return {
        key: value.item() if isinstance(value, torch.Tensor) and not value.is_cuda else value
        for key, value in metrics.items()
    }
