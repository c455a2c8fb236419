"""The sandbox's own side: what is process 1 in there, and the program that installs a project.

`start.py` begins, and everything here runs under the worker's interpreter with `-I -S`, with nothing but the
standard library and this package; `install.py` alone runs under the target's interpreter, as one file.
Every millisecond here is paid in each run.
"""
