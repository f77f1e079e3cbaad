"""A third engine, whole and tiny: fits a polynomial to points. Nothing outside this directory knows of it.

What it takes to add an engine (docs/engines.md); it passes the tests that every engine passes, and trains in real processes.
"""
