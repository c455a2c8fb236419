"""What measures: each tool runs a real program, parses its real output, and returns a typed value.

Plain async functions of a workspace; nothing here knows of workflows or models.
"""
