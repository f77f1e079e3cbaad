"""Reads points: one JSON list of [x, y]."""

import json

from app.engines.intake.pack import pack
from app.engines.intake.report import ARCHIVE_NAME, Order, Outcome, Report, refuse
from app.wire.datasets import DatasetSummary


def take_in(order: Order, report: Report) -> Outcome:
    points = json.loads(order.source.read_bytes())
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise refuse("no-points", "This is no list of points.", "Send [[x, y], …].")
    data = json.dumps(points).encode()
    digest = pack([("points.json", len(data), iter([data]))], order.work / ARCHIVE_NAME)
    return Outcome(digest=digest, warnings=report.warnings, summary=DatasetSummary(extra={"points": len(points)}))
