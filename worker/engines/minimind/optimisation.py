"""Gradients of micro-batches, summed over a window, then applied: AdamW, clipping, mixed precision."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.amp.grad_scaler import GradScaler
from transformers import PreTrainedModel

from app.engines.minimind.schedule import learning_rate
from worker.engines.minimind import model as models
from worker.engines.minimind.model import Section
from worker.ranks import ALONE, Ranks

Json = Any
Metrics = dict[str, torch.Tensor | float]


class Optimisation:
    """A model and all that changes it. `window` micro-batches have been summed and not been applied."""

    def __init__(
        self,
        model: PreTrainedModel,
        section: Section,
        training: Mapping[str, Json],
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        self._ranks = ranks
        self.model, self._section, self._training, self._device = model, section, training, device
        self.window = 0
        self._parameters = dict(model.named_parameters())
        self._optimizer = torch.optim.AdamW(
            self._parameters.values(),
            lr=training["learning_rate"],
            betas=tuple(training["betas"]),
            eps=training["eps"],
            weight_decay=training["weight_decay"],
        )
        self._dtype = _autocast_dtype(training["dtype"], device)
        self._scaler = GradScaler(device.type, enabled=self._dtype == torch.float16)

    def accumulate(self, tokens: torch.Tensor, positions: torch.Tensor, targets: torch.Tensor) -> Metrics:
        """Add the gradients of one micro-batch (each rows × length) to the window's and return its losses."""
        with self._autocast():
            loss, aux = self.losses(tokens, positions, targets)
        self._scaler.scale(loss if aux is None else loss + aux).backward()
        self.window += 1
        metrics: Metrics = {"train/loss": loss.detach()}
        return metrics if aux is None else {**metrics, "train/aux_loss": aux.detach()}

    def losses(
        self, tokens: torch.Tensor, positions: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the cross-entropy of a batch and, of a mixture of experts, the loss that balances them."""
        logits, routed = models.predict(self.model, tokens, positions)
        loss = models.cross_entropy(logits, targets)
        return loss, None if routed is None else models.balance(routed, self._section)

    @torch.no_grad()
    def evaluate(self, tokens: torch.Tensor, positions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropy of a batch, computed as in training; leaves nothing behind."""
        with self._autocast():
            return self.losses(tokens, positions, targets)[0]

    def apply(self, step: int, total_steps: int) -> Metrics:
        """Finish the window: change the weights by the mean of its gradients, at the learning rate of `step`."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self._training, step, total_steps)
        norm = self._finish_gradients()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        self.window = 0
        return {"train/grad_norm": norm}

    def _finish_gradients(self) -> torch.Tensor:
        """Turn the sums of a window into what is applied: unscaled, the mean of its micro-batches, clipped.

        Returns their norm before clipping. The ranks' sums are put together first: then all see the same infinities.
        """
        self._ranks.mean_gradients(list(self._parameters.values()))
        self._scaler.unscale_(self._optimizer)
        gradients = [one.grad for one in self._parameters.values() if one.grad is not None]
        torch._foreach_div_(gradients, float(self.window))
        limit = self._training["grad_clip"] or float("inf")
        return torch.nn.utils.clip_grad_norm_(self._parameters.values(), limit)

    def state(self) -> dict[str, Any]:
        """Return all but the weights and the generators: what has to be saved."""
        gradients = {name: one.grad for name, one in self._parameters.items() if one.grad is not None}
        return {
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "gradients": gradients,
            "window": self.window,
        }

    def gradients(self) -> dict[str, torch.Tensor]:
        """Return the gradients of the window so far, on the host."""
        return {name: one.grad.cpu() for name, one in self._parameters.items() if one.grad is not None}

    def load(self, saved: Mapping[str, Any], gradients: Mapping[str, torch.Tensor]) -> None:
        """Put back what `state` returned, with the gradients of this rank."""
        self._optimizer.load_state_dict(saved["optimizer"])
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(saved["scaler"])
        for name, gradient in gradients.items():
            parameter = self._parameters[name]
            parameter.grad = gradient.to(parameter.device, copy=True)
        self.window = int(saved["window"])

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self._device.type, self._dtype)


def _autocast_dtype(wanted: str, device: torch.device) -> torch.dtype | None:
    """Return what matrix products are computed in; None: float32, as always on the CPU."""
    if device.type == "cpu" or wanted == "float32":
        return None
    return torch.float16 if wanted == "float16" else torch.bfloat16
