"""What `qe up` runs: child processes, watched and started again, that die with it."""
