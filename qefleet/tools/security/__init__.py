"""Weaknesses, secrets and known vulnerabilities, and what a project has accepted of them."""
