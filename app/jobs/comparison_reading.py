"""Two jobs out of the database, compared: metrics in a stream, fingerprints from the timeline, configs, environments."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.engines import registry
from app.jobs import comparison as pure
from app.jobs import provenance, service
from app.jobs.metric_blocks import block_series
from app.jobs.metric_reading import Span, Within, spans
from app.jobs.metrics import decode
from app.jobs.series import Series, concatenate
from app.tables import Attempt, Event, Job, MetricBlock, MetricChunk
from app.tables.metrics import IS_UNMERGED
from app.wire.comparison import Comparison, EnvironmentDifference, Side

Execution = tuple[int, int]
"""Job and number of an attempt: of the job that is compared, or of a twin that it goes on from."""

BLOCKS_AT_ONCE = 8
"""Blocks that are fetched together: two megabytes."""


def compare(session: Session, left_id: int, right_id: int) -> Comparison:
    """Compare two jobs: all their steps, whatever state they are in. Memory does not grow with their length.

    Raises:
        NotFound: one of them does not exist.
    """
    left, right = (Run.of(session, service.get(session, job_id)) for job_id in (left_id, right_id))
    keys = sorted(left.keys & right.keys)
    metrics = pure.compare_metrics(keys, left.stream, right.stream)
    ours, theirs = left.fingerprints(), right.fingerprints()
    beginning, checkpoints = pure.pair_beginning(ours, theirs), pure.pair_checkpoints(ours, theirs)
    generators = pure.first_differing(pure.pair_generators(ours, theirs))
    fingerprint = pure.first_differing([*beginning, *checkpoints]) or generators
    verdict = pure.decide(left.side, right.side, metrics, fingerprint)
    divergence = metrics.divergence
    return Comparison(
        left=left.side,
        right=right.side,
        verdict=verdict,
        summary=pure.summarise(verdict, left.side, right.side, metrics, len(checkpoints), fingerprint),
        steps=metrics.steps,
        last_step=metrics.last,
        metrics=keys,
        divergence=divergence,
        first_differences=list(metrics.differences),
        only_left=sorted(left.keys - right.keys),
        only_right=sorted(right.keys - left.keys),
        uneven=list(metrics.uneven),
        checkpoints=len(checkpoints),
        beginning=beginning,
        fingerprint=fingerprint,
        generators=generators,
        config=provenance.diff(left.job, right.job).values,
        spec=pure.differing(*_specs(left, right)),
        environment=_environments(left, right, divergence.step if divergence else None),
        moves=[*_moves(left), *_moves(right)],
    )


def recorded_library(session: Session, job: Job) -> str | None:
    """Return the version of its engine's library that a job's newest execution ran with; None when none has told."""
    engine = registry.get(job.engine)
    environments = session.scalars(
        select(Attempt.environment)
        .where(Attempt.job_id == job.id, Attempt.environment.is_not(None))
        .order_by(Attempt.number.desc())
    )
    newest: dict[str, Any] = next((environment for environment in environments if environment), {})
    libraries = newest.get("libraries")
    version = libraries.get(engine.library) if engine and isinstance(libraries, dict) else None
    return version if isinstance(version, str) else None


@dataclass(frozen=True)
class Run:
    """A job's recorded history."""

    session: Session
    job: Job
    spans: list[Span]
    waiting: list[dict[str, Series]]
    """By span: what is not merged into blocks yet. Read before any block, so that a merge meanwhile loses nothing."""
    keys: frozenset[str]
    """What is compared of it."""

    @classmethod
    def of(cls, session: Session, job: Job) -> "Run":
        """Return a job's history."""
        counting = spans(session, job.id)
        waiting = [_waiting(session, span) for span in counting]
        merged = select(MetricBlock.key).where(MetricBlock.attempt_id.in_([span.attempt_id for span in counting]))
        keys = {*session.scalars(merged.distinct()), *(key for found in waiting for key in found)}
        compared = frozenset(key for key in keys if not key.startswith(pure.WALL_TIME))
        return cls(session, job, counting, waiting, compared)

    @property
    def side(self) -> Side:
        """Where the job stands."""
        job = self.job
        return Side.model_validate(
            {"job": job.id, "name": job.name, "state": job.state, "step": job.step, "total_steps": job.total_steps}
        )

    def stream(self, key: str) -> Iterator[Series]:
        """Yield a key's values in order of their steps, each attempt's from its start step on."""
        for span, waiting in zip(self.spans, self.waiting, strict=True):
            yield from _followed(self._blocks(_within(span), key), waiting.get(key))

    def _blocks(self, within: Within, key: str) -> Iterator[Series]:
        columns = MetricBlock.first_step, MetricBlock.last_step, MetricBlock.rows, MetricBlock.steps, MetricBlock.values
        query = select(*columns).where(within.of(MetricBlock), MetricBlock.key == key).order_by(MetricBlock.first_step)
        with self.session.execute(query, execution_options={"yield_per": BLOCKS_AT_ONCE}) as rows:
            for row in rows:
                series = within.cut(block_series(*row))
                if len(series):
                    yield series

    def fingerprints(self) -> pure.Fingerprints:
        """Return the digests on the timeline, as far as their attempts count."""
        beginning: dict[str, str] = {}
        for span, kind, data in self._told("fingerprint", "statistics"):
            digest = data.get("sha256")
            # An attempt that goes on from a checkpoint does not begin with the job's first weights.
            if isinstance(digest, str) and (kind == "statistics" or span.start == 0):
                beginning["statistics" if kind == "statistics" else str(data.get("stage", "init"))] = digest
        checkpoints: dict[int, str] = {}
        generators: dict[int, dict[str, str]] = {}
        for span, _, data in self._told("checkpoint"):
            step, digest = data.get("step"), data.get("fingerprint")
            if isinstance(step, int) and isinstance(digest, str) and step <= span.last:
                checkpoints[step], generators[step] = digest, data.get("generators", {})
        return pure.Fingerprints(cast("Any", beginning), checkpoints, generators)

    def _told(self, *kinds: str) -> Iterator[tuple[Span, str, dict[str, Any]]]:
        """Yield what the timelines have of some kinds, oldest first, with the attempt that it is of."""
        counting = {(span.job_id, span.number): span for span in self.spans}
        query = select(Event.job_id, Event.attempt, Event.kind, Event.data).where(
            Event.job_id.in_({span.job_id for span in self.spans}), Event.kind.in_(kinds)
        )
        for job_id, attempt, kind, data in self.session.execute(query.order_by(Event.id)):
            if (job_id, attempt) in counting:
                yield counting[job_id, attempt], kind, data

    def environments(self) -> dict[Execution, dict[str, Any]]:
        """Return what each attempt ran on, oldest first; attempts that did not tell are left out."""
        ids = [span.attempt_id for span in self.spans]
        query = select(Attempt.id, Attempt.environment).where(Attempt.id.in_(ids))
        known = {row.id: row.environment for row in self.session.execute(query)}
        told = {(span.job_id, span.number): known.get(span.attempt_id) for span in self.spans}
        return {execution: environment for execution, environment in told.items() if environment}

    def attempt_of(self, step: int | None) -> Execution | None:
        """Return the attempt whose values count at a step; the newest without a step."""
        found = [span for span in self.spans if step is None or span.start < step <= span.last]
        return (found[-1].job_id, found[-1].number) if found else None

    def spec(self) -> dict[str, Any]:
        """Return what, besides its config, decides what the job trains."""
        job = self.job
        return {
            "engine": job.engine,
            "library": recorded_library(self.session, job),
            "determinism": job.determinism,
            "seed": job.seed,
            "seeds": job.seeds,
            "start": job.start,
            "base": provenance.base_of(self.session, job)[1],
            "datasets": {
                f"{row.name}@{row.version}": row.digest for row in self.session.scalars(provenance.datasets_of(job))
            },
            "total_steps": job.total_steps,
        }


def _specs(left: Run, right: Run) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the specs of two jobs, without the number of steps where only one of them has found it out."""
    specs = left.spec(), right.spec()
    if not all(spec["total_steps"] for spec in specs):
        for spec in specs:
            del spec["total_steps"]
    return specs


def _within(span: Span) -> Within:
    return Within(span.attempt_id, span.start + 1 if span.start else None, span.last)


def _waiting(session: Session, span: Span) -> dict[str, Series]:
    within = _within(span)
    query = select(MetricChunk.data).where(within.of(MetricChunk), IS_UNMERGED).order_by(MetricChunk.seq)
    parts: dict[str, list[Series]] = {}
    for data in session.scalars(query):
        for key, series in decode(data).columns.items():
            parts.setdefault(key, []).append(within.cut(series))
    joined = {key: concatenate(found) for key, found in parts.items()}
    return {key: series for key, series in joined.items() if len(series)}


def _followed(blocks: Iterator[Series], waiting: Series | None) -> Iterator[Series]:
    """Yield blocks, then what waits; what of the blocks lies beyond its first step, because it came late, joined with it."""
    if waiting is None:
        yield from blocks
        return
    held: list[Series] = []
    for series in blocks:
        if int(series.steps[-1]) < int(waiting.steps[0]):
            yield series
        else:
            held.append(series)
    yield concatenate([*held, waiting])


def _environments(left: Run, right: Run, step: int | None) -> EnvironmentDifference | None:
    """Return what the attempts that made a step, else the newest that told, ran on differs in."""
    ours, theirs = _environment(left, step), _environment(right, step)
    return _between(ours, theirs) if ours and theirs else None


def _environment(run: Run, step: int | None) -> tuple[Execution, dict[str, Any]] | None:
    known = run.environments()
    execution = run.attempt_of(step)
    if step is None and execution not in known:
        execution = next(reversed(known), None)
    return (execution, known[execution]) if execution in known else None


def _moves(run: Run) -> Iterator[EnvironmentDifference]:
    for before, after in pairwise(run.environments().items()):
        found = _between(before, after)
        if found.differences:
            yield found


def _between(ours: tuple[Execution, dict[str, Any]], theirs: tuple[Execution, dict[str, Any]]) -> EnvironmentDifference:
    return EnvironmentDifference(
        left_job=ours[0][0],
        left_attempt=ours[0][1],
        right_job=theirs[0][0],
        right_attempt=theirs[0][1],
        differences=pure.differing(ours[1], theirs[1]),
    )
