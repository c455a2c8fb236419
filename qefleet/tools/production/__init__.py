"""Logs, incidents and reports from where the project runs."""
