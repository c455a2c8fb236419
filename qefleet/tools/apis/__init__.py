"""What a project promises to others: its Python API and its OpenAPI descriptions."""
