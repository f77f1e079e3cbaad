"""The torch-free half of the toy engine, and how a process gets to know it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.engines import registry
from app.engines.base import DatasetFacts, DataUse, DataWords, EngineResolution
from app.wire.resolution import Origin


class ToyEngine:
    """Config: `steps`, `step_s`, `every` (steps between checkpoints) and `accident`, what goes wrong and when."""

    name = "toy"
    title = "Toy"
    trainer = "tests.faults.toy.trainer:main"
    tasks: Mapping[str, Any] = {}
    document = "toy.json"
    data_words = DataWords("Nothing", "Send nothing", "cairn dataset add")
    weights_words = "Nothing"
    has_fitting = False
    exports: Mapping[str, str] = {}
    metric_words: Mapping[str, Any] = {}
    library = "celery"  # any distribution that is installed: its version is shown

    def schema(self) -> dict[str, Any]:
        return {"type": "object"}

    def recognises(self, config: Mapping[str, Any]) -> bool:
        return "accident" in config

    def data_uses(self, config: Mapping[str, Any]) -> Iterator[DataUse]:
        return iter(())

    def resolve(
        self,
        config: Mapping[str, Any],
        *,
        root_seed: int,
        datasets: Mapping[str, DatasetFacts],
        start: Any,
        base: Any,
        ranks: int,
    ) -> EngineResolution:
        full = {"steps": 100, "step_s": 0.01, "every": 20, "accident": "", "accident_at": 0} | config
        origins = {f"/{key}": Origin(origin="explicit" if key in config else "default") for key in full}
        return EngineResolution(full, origins, {"walk": root_seed}, full["steps"])

    def checkpoint_interval(self, config: Mapping[str, Any]) -> int:
        return int(config["every"])

    def artifact_keys(self, config: Mapping[str, Any], dataset_digests: Mapping[str, str]) -> Mapping[str, str]:
        return {"toy": "ab" * 32}

    def file_stem(self, job_name: str, config: Mapping[str, Any], seed: int, digest: str) -> str:
        return f"toy-s{seed}-{digest[:6]}"

    def headline(self) -> Sequence[str]:
        return ("train/loss",)

    def metric_keys(self, config: Mapping[str, Any]) -> frozenset[str] | None:
        return None

    def learning_curve(
        self, config: Mapping[str, Any], steps: Sequence[int], columns: Mapping[str, Sequence[float | None]]
    ) -> Iterator[str]:
        return iter(())

    def ensemble_commands(self, config: Mapping[str, Any], files: Sequence[str]) -> Sequence[str]:
        return ()

    def component(self, tensor: str) -> str:
        return "net"

    def learning_curve_name(self) -> str:
        return "toy.out"


def install() -> None:
    """Make the toy engine one of those there are, in this process."""
    registry.ENGINES = (*registry.ENGINES, ToyEngine())
