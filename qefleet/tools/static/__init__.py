"""What a project's own sources tell without being run."""
