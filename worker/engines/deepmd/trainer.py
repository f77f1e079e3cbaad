"""DeePMD-kit training, one step at a time, on top of DeePMD-kit's own Trainer."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, SupportsFloat

import torch
from deepmd.pt.train.training import Trainer
from deepmd.pt.utils.env import DEVICE
from deepmd.pt_expt.train.gradient import clip_grad_norm_
from deepmd.utils.stat_file import StatFileSpec

from app.engines import registry
from app.engines.seeds import DATA_ORDER_RULE, derive
from app.wire.transfer import TransferPlan
from worker import checkpoint, rng
from worker.audit import in_words
from worker.engines.base import Context
from worker.engines.deepmd import audit, generators, state, statistics, transfer
from worker.engines.deepmd import config as configs
from worker.engines.deepmd.config import DeepmdConfig
from worker.engines.deepmd.data import TaskData
from worker.engines.deepmd.sampler import Draws
from worker.failures import TrainingFailure, is_out_of_memory
from worker.ranks import Ranks
from worker.rundir import BaseSpec, RunDir, RunSpec
from worker.transfer import summary

Metrics = dict[str, SupportsFloat]

_CACHE_BYTES = 2 << 30
"""Host memory for decoded frames of all tasks and ranks together."""


class DeepmdTrainer:
    """One DeePMD training. See `worker.engines.base.EngineTrainer`."""

    def __init__(self, spec: RunSpec, context: Context) -> None:
        self._spec, self._context, self._ranks = spec, context, context.ranks
        self._run = RunDir(context.root)
        _check_device()
        self._order_seed = spec.seeds.get("data.order", derive(spec.seed, "data.order"))
        context.phase("data")
        self._config = configs.load(spec, self._run.data)
        self._training, self._validation = _open_data(self._config, self._order_seed, self._ranks)
        self._trainer = self._build()
        self._trainer.wrapper.train()
        self._task_seed = spec.seeds.get("data.tasks", derive(spec.seed, "data.tasks"))
        probabilities = list(self._trainer.model_prob) if self._config.is_multi_task else [1.0]
        self._task_draws = Draws(probabilities, self._task_seed, "task")
        self.total_steps = int(self._trainer.num_steps)
        training = self._config.document["training"]
        self.checkpoint_every = spec.checkpoints.every_steps or int(training["save_freq"])
        self.validate_every = int(training["disp_freq"]) if any(self._validation.values()) else 0
        seed = spec.seeds.get("training", derive(spec.seed, "training"))
        generators.seed(seed if self._ranks.is_main else derive(seed, f"rank.{self._ranks.rank}"))
        if spec.resume_step is not None:
            self._tell_fingerprint(
                self._trainer, "checkpoint", f"Weights of the checkpoint of step {spec.resume_step}."
            )

    def train_step(self, step: int) -> Metrics:
        """Do optimisation step `step` as DeePMD-kit 3.2.0 does (training.py, `step`), except for the data order."""
        index, number = self._task_draws.at((step - 1) * self._ranks.count + self._ranks.rank)
        task = self._config.tasks[index]
        try:
            return self._optimise(task, number)
        except Exception as error:
            if is_out_of_memory(error):
                raise self._out_of_memory(error, task, number) from error
            raise

    def _optimise(self, task: str, number: int) -> Metrics:
        trainer = self._trainer
        trainer.optimizer.zero_grad(set_to_none=True)
        inputs, labels = self._batch(task, number, is_train=True)
        rate = trainer.scheduler.get_last_lr()[0]
        _, loss, terms = trainer.wrapper(**inputs, cur_lr=rate, label=labels, task_key=task)
        loss.backward()
        self._ranks.mean_gradients(list(trainer.wrapper.parameters()))
        measured = self._named("train", task, {"loss": loss.detach(), **_reported(terms)})
        metrics = dict(self._ranks.mean({**measured, "train/loss": loss.detach()}))
        if trainer.gradient_max_norm > 0.0:
            metrics["train/grad_norm"] = clip_grad_norm_(trainer.wrapper.parameters(), trainer.gradient_max_norm)
        with torch.device(DEVICE):
            trainer.optimizer.step()
        trainer.scheduler.step()
        if trainer.model_ema is not None:
            trainer.model_ema.update(trainer.model)
        return _on_host_if_free({**metrics, "lr": float(rate)})

    def validate(self, step: int) -> Metrics:
        """Return the mean over `numb_btch` batches, weighted by atoms as DeePMD does.

        Which batches depends on the step alone, so that runs that validate more or less often agree where both do.
        """
        metrics: Metrics = {}
        self._trainer.wrapper.eval()
        try:
            with rng.preserved():
                for task, data in self._validation.items():
                    if data is not None:
                        metrics |= self._named("val", task, self._validate_task(task, data, step))
        finally:
            self._trainer.wrapper.train()
        return _on_host_if_free(metrics)

    def _validate_task(self, task: str, data: TaskData, step: int) -> dict[str, torch.Tensor]:
        batches = int(data.section.get("numb_btch", 1))
        first = step * batches
        rate = self._trainer.lr_schedule.value(step - 1)
        sums: dict[str, torch.Tensor] = {}
        atoms = 0
        for number in range(first, first + batches):
            inputs, labels = self._batch(task, number, is_train=False)
            _, loss, terms = self._trainer.wrapper(**inputs, cur_lr=rate, label=labels, task_key=task)
            weight = int((inputs["atype"] >= 0).sum())
            atoms += weight
            for key, value in {"loss": loss.detach(), **_reported(terms)}.items():
                sums[key] = sums.get(key, 0.0) + value * weight
        return {key: value / atoms for key, value in sums.items()}

    def rank_state(self) -> dict[str, Any]:
        """Return the states of the generators of this rank."""
        return state.of_generators()

    def save(self, directory: Path, step: int, others: Sequence[Mapping[str, Any]] = ()) -> dict[str, str]:
        """Write one file, usable with stock `dp --pt`."""
        name = f"{self._spec.file_stem}-step{step}.pt"
        state.save(self._trainer, directory / name, step, self._order_seed, self._spec, others)
        return {name: "checkpoint"}

    def restore(self, directory: Path) -> int:
        """Continue exactly where `save` was called."""
        return state.restore(self._trainer, state.read(state.find(directory)), self._order_seed, self._ranks)

    def fingerprint(self) -> str:
        """Return the digest of all weights and statistics buffers, `_extra_state` aside."""
        return _fingerprint(self._trainer)

    def generators(self, step: int) -> dict[str, str]:
        """Return the digests of DeePMD-kit's own generator and of the place in the order of the data."""
        place = [DATA_ORDER_RULE, self._order_seed, self._task_seed, step]
        return {"dp_random": rng.digest(generators.own_state()), "data order": rng.digest(place)}

    def non_finite_weight(self) -> str | None:
        """Return the name of a parameter that is not finite, or None."""
        return checkpoint.first_non_finite(dict(self._trainer.wrapper.named_parameters()))

    def _build(self) -> Trainer:
        """Let DeePMD construct everything: from a checkpoint, from a base as planned, or from scratch."""
        if self._spec.resume_step is not None:
            found = state.find(self._run.resume)
            self._config.document["model"] = state.model_section(state.read(found))
            return self._construct(restart_model=str(found))
        if self._spec.base is not None and self._spec.plan is not None:
            return self._build_from_base(self._spec.base, self._spec.plan)
        trainer = self._build_from_scratch()
        self._audit(trainer, None)
        self._tell_fingerprint(trainer, "init", "Weights before the first step.")
        return trainer

    def _build_from_base(self, base: BaseSpec, plan: TransferPlan) -> Trainer:
        """Construct a model by its own seeds and give it the base's weights; statistics only where the plan needs any."""
        if transfer.needs_statistics(plan):
            trainer = self._build_from_scratch()
        else:
            closest = self._measure_neighbours() if transfer.needs_neighbours(plan) else {}
            self._context.phase("model")
            trainer = self._construct(kind=transfer.TrainerWithoutStatistics)
            _set_closest(trainer, closest)
        self._audit(trainer, plan)
        self._tell_fingerprint(trainer, "init", "Weights by the job's own seeds, before the transfer.")
        self._context.phase("transfer")
        done = transfer.start_from(plan, self._run.base / base.file_name, trainer, self._config)
        self._context.event("transfer", *summary(done))
        self._tell_fingerprint(trainer, "transfer", f"Weights after the transfer from {plan.base}.")
        return trainer

    def _audit(self, trainer: Trainer, plan: TransferPlan | None) -> None:
        """Fail unless the seeds of the config alone decided what the model began with. One rank's is every rank's."""
        if not self._ranks.is_main:
            return
        findings = audit.check(trainer, self._config, self._spec.config["model"], plan)
        self._context.event("audit", *in_words(findings))

    def _tell_fingerprint(self, trainer: Trainer, stage: str, message: str) -> None:
        data = {"step": self._spec.resume_step or 0, "stage": stage, "sha256": _fingerprint(trainer)}
        self._context.event("fingerprint", message, data)

    def _measure_neighbours(self) -> dict[str, float]:
        self._context.phase("neighbours")
        key = _artifact_keys(self._spec).get(statistics.NEIGHBOURS)
        with self._ranks.main_first("neighbours"):
            return statistics.resolve_neighbours(self._config, self._context, key)

    def _build_from_scratch(self) -> Trainer:
        keys = _artifact_keys(self._spec)
        closest = self._measure_neighbours()
        self._context.phase("statistics")
        with self._ranks.main_first("statistics"):
            files = statistics.ensure_statistics(
                self._config.tasks,
                self._context,
                keys.get(statistics.STATISTICS),
                self._run.root / "work" / f"statistics-{self._ranks.rank}",
                lambda paths: _discard(self._construct(stat_files=paths, mode="update")),
            )
        self._context.phase("model")
        trainer = self._construct(stat_files=files, mode="read")
        _set_closest(trainer, closest)
        return trainer

    def _construct(
        self,
        *,
        stat_files: Mapping[str, Path] | None = None,
        mode: str = "update",
        restart_model: str | None = None,
        kind: Callable[..., Trainer] = Trainer,
    ) -> Trainer:
        """Construct DeePMD's Trainer from a copy of the config, with the random state that belongs to this job."""
        generators.seed(derive(self._spec.seed, "model"))
        document = deepcopy(self._config.document)
        specs = {task: StatFileSpec(str(path), mode) for task, path in (stat_files or {}).items()}
        make = partial(kind, document, restart_model=restart_model, shared_links=deepcopy(self._config.shared_links))
        training = {task: data.loader for task, data in self._training.items()}
        validation = {task: data.loader if data else None for task, data in self._validation.items()}
        if self._config.is_multi_task:
            return make(training, validation_data=validation, stat_file_spec=specs or None)
        only = configs.SINGLE_TASK
        return make(training[only], validation_data=validation[only], stat_file_spec=specs or None)

    def _batch(self, task: str, number: int, *, is_train: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return (inputs, labels) of a batch on the device, split by DeePMD's own rule."""
        data = self._training[task] if is_train else self._validation[task]
        assert data is not None
        source = iter([data.batch(number)])
        name = "training_data" if is_train else "validation_data"
        setattr(self._trainer, name, {task: source} if self._config.is_multi_task else source)
        inputs, labels, _ = self._trainer.get_data(is_train=is_train, task_key=task)
        return inputs, labels

    def _named(self, group: str, task: str, values: Mapping[str, SupportsFloat]) -> Metrics:
        suffix = f"/{task}" if self._config.is_multi_task else ""
        return {f"{group}/{key}{suffix}": value for key, value in values.items()}

    def _out_of_memory(self, error: Exception, task: str, number: int) -> TrainingFailure:
        batch = self._training[task].describe(number)
        hint = "Lower training_data.batch_size, or use a worker with more memory."
        return TrainingFailure("out-of-memory", f"Out of memory with a batch of {batch}: {error}", hint=hint)


def _open_data(config: DeepmdConfig, seed: int, ranks: Ranks) -> tuple[dict[str, TaskData], dict[str, TaskData | None]]:
    """Open training and validation data of every task."""
    training: dict[str, TaskData] = {}
    validation: dict[str, TaskData | None] = {}
    share = _CACHE_BYTES // (2 * len(config.tasks) * ranks.count)
    for task in config.tasks:
        section, types = config.data(task), config.model(task)["type_map"]
        training[task] = TaskData(section["training_data"], types, cache_bytes=share, order=(seed, task, "train"))
        held_out = section.get("validation_data")
        validation[task] = TaskData(held_out, types, cache_bytes=share, order=(seed, task, "val")) if held_out else None
    return training, validation


def _artifact_keys(spec: RunSpec) -> Mapping[str, str]:
    engine = registry.get(spec.engine)
    assert engine is not None
    return engine.artifact_keys(spec.config, spec.datasets)


def _check_device() -> None:
    """Fail early when DeePMD was imported for another device than this process has."""
    if DEVICE.type == "cuda" and not torch.cuda.is_available():
        hint = "Set DEVICE=cpu before the worker starts, or CUDA_VISIBLE_DEVICES to a GPU."
        raise TrainingFailure("configuration", "DeePMD-kit was set up for a GPU but none is visible.", hint=hint)


def _fingerprint(trainer: Trainer) -> str:
    """Return the digest of all weights and statistics buffers."""
    tensors = {name: value for name, value in trainer.wrapper.state_dict().items() if torch.is_tensor(value)}
    return checkpoint.fingerprint(tensors)


def _set_closest(trainer: Trainer, closest: Mapping[str, float]) -> None:
    """Let models know the smallest distance in their data (Å)."""
    for task, distance in closest.items():
        model = transfer.models(trainer)[task]
        model.min_nbor_dist = torch.tensor(distance, dtype=torch.float64, device=DEVICE)


def _discard(_: Trainer) -> None:
    """A trainer made for the statistics that it writes."""


def _reported(terms: Mapping[str, Any]) -> dict[str, Any]:
    """Return what DeePMD would display. Terms without labels come as the number NaN: those were not measured."""
    return {key: value for key, value in terms.items() if "l2_" not in key and isinstance(value, torch.Tensor)}


def _on_host_if_free(metrics: Metrics) -> Metrics:
    """Turn tensors that are on the host already into numbers; fetching them from a GPU here would stall it."""
    return {
        key: value.item() if isinstance(value, torch.Tensor) and not value.is_cuda else value
        for key, value in metrics.items()
    }
