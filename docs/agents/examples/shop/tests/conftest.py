def pytest_configure(config):
    config.addinivalue_line("markers", "requirement(id): the requirement that a test stands for")
