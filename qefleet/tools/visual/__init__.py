"""Pages in a browser, and their pictures."""
