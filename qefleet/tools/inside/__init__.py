"""Programs that run inside the sandbox, under the target's own Python, beside code that nobody trusts.

They know the standard library, pytest, coverage and Hypothesis, and nothing of this project: each is
copied into the sandbox as a file, reads `/qe/spec.json`, and leaves JSON under `/out`.
"""
