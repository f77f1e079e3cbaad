"""The seed tree: one root seed, one derived seed per component name; above it, in a group, one root per replica."""

import hashlib

RULE = "cairn-seed-v1"
"""Name of the derivation rule. Its output for a given root and name never changes; a new rule gets a new name."""

DATA_ORDER_RULE = "cairn-order-v1"
"""Name of the rule by which a seed orders data (`worker.order`). What it yields never changes; a new rule gets a new name.
Stored in checkpoints, and part of the key of every artifact whose content it decides."""


def derive(root: int, name: str) -> int:
    """Return the seed of component `name`, in [0, 2**31), as a pure function of the root seed.

    SHA-256 over `"cairn-seed-v1:<root>:<name>"`; the first four bytes, big-endian, with the top bit cleared. Names are
    the component's own (`model.descriptor`, `data.order`), so adding a component never moves another one's seed. In a
    group of replicas the root of replica i, counted from 1, is `derive(root of the group, "replica.<i>")`.
    """
    digest = hashlib.sha256(f"{RULE}:{root}:{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF
