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
from app.wire.comparison import Comparison, EnvironmentDifference, Side

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
        spec=pure.differing(left.spec(), right.spec()),
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
        """Yield what the timeline has of some kinds, oldest first, with the attempt that it is of."""
        counting = {span.number: span for span in self.spans}
        query = select(Event.kind, Event.attempt, Event.data).where(Event.job_id == self.job.id, Event.kind.in_(kinds))
        for kind, attempt, data in self.session.execute(query.order_by(Event.id)):
            if attempt in counting:
                yield counting[attempt], kind, data

    def environments(self) -> dict[int, dict[str, Any]]:
        """Return what each attempt ran on, by number, oldest first; attempts that did not tell are left out."""
        rows = self.session.execute(
            select(Attempt.number, Attempt.environment).where(Attempt.job_id == self.job.id).order_by(Attempt.number)
        )
        return {number: environment for number, environment in rows if environment}

    def attempt_of(self, step: int | None) -> int | None:
        """Return the number of the attempt whose values count at a step; of the newest without a step."""
        found = [span.number for span in self.spans if step is None or span.start < step <= span.last]
        return found[-1] if found else None

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


def _within(span: Span) -> Within:
    return Within(span.attempt_id, span.start + 1 if span.start else None, span.last)


def _waiting(session: Session, span: Span) -> dict[str, Series]:
    within = _within(span)
    query = select(MetricChunk.data).where(within.of(MetricChunk), ~MetricChunk.merged).order_by(MetricChunk.seq)
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
    return _between(left, ours, right, theirs) if ours and theirs else None


def _environment(run: Run, step: int | None) -> tuple[int, dict[str, Any]] | None:
    known = run.environments()
    number = run.attempt_of(step)
    if step is None and number not in known:
        number = max(known, default=None)
    return (number, known[number]) if number is not None and number in known else None


def _moves(run: Run) -> Iterator[EnvironmentDifference]:
    for before, after in pairwise(run.environments().items()):
        found = _between(run, before, run, after)
        if found.differences:
            yield found


def _between(
    left: Run, ours: tuple[int, dict[str, Any]], right: Run, theirs: tuple[int, dict[str, Any]]
) -> EnvironmentDifference:
    return EnvironmentDifference(
        left_job=left.job.id,
        left_attempt=ours[0],
        right_job=right.job.id,
        right_attempt=theirs[0],
        differences=pure.differing(ours[1], theirs[1]),
    )
