"""What has changed between two versions, and which tests that could break."""
