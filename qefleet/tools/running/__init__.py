"""Running a project's own test suite, and reading what that leaves: JUnit XML, coverage."""
