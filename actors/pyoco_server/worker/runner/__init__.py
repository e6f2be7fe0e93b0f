"""The runner: the child process in which a slot has flows executed, and the slot's handle on it.

`handle` is the worker's side, with `options`, `inbox`, `guarded` and `catalog`, which know trio; the others
run in the child, which imports as little as it can, so that a slot is ready soon after its child died.
"""
