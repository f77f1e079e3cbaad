"""The seed tree: one root seed, one derived seed per component name; above it, in a group, one root per replica."""

import hashlib

RULE = "cairn-seed-v1"
"""Name of the derivation rule. Its output for a given root and name never changes; a new rule gets a new name."""


def derive(root: int, name: str) -> int:
    """Return the seed of component `name`, in [0, 2**31), as a pure function of the root seed.

    SHA-256 over `"cairn-seed-v1:<root>:<name>"`; the first four bytes, big-endian, with the top bit cleared. Names are
    the component's own (`model.descriptor`, `data.order`), so adding a component never moves another one's seed. In a
    group of replicas the root of replica i, counted from 1, is `derive(root of the group, "replica.<i>")`.
    """
    digest = hashlib.sha256(f"{RULE}:{root}:{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF
