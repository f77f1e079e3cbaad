"""A transfer plan of tensors whose fates are settled: how many, and how much of each part comes from the base."""

from collections import Counter
from math import prod

from app.engines.base import Base
from app.wire.submission import Start
from app.wire.transfer import ComponentShare, FunctionChange, PlannedTensor, TransferPlan


def assembled(start: Start, base: Base, tensors: list[PlannedTensor], changes: list[FunctionChange]) -> TransferPlan:
    """Return the plan of tensors whose fates are settled, with counts and shares."""
    trained = [tensor for tensor in tensors if tensor.is_parameter and tensor.verb != "unused"]
    shares: dict[str, list[int]] = {}
    for tensor in trained:
        share = shares.setdefault(tensor.component, [0, 0])
        share[0] += prod(tensor.shape)
        share[1] += tensor.kept
    components = [ComponentShare(component=name, parameters=n, kept=kept) for name, (n, kept) in sorted(shares.items())]
    return TransferPlan(
        base=base.name,
        sha256=base.sha256,
        mode=start.mode,
        tensors=tensors,
        components=[share for share in components if share.parameters],
        parameters=sum(share.parameters for share in components),
        kept=sum(share.kept for share in components),
        counts=dict(Counter(tensor.verb for tensor in tensors)),
        function_changes=changes,
    )
