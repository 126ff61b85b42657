"""Compiled kernels: 16-lane float32 vectors in Numba, one `step_many` a cell. See learn.py."""
