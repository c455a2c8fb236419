"""Whole systems in the sandbox, under load and under faults, and benchmarks."""
