"""``--record``: rewrite the expected output instead of comparing with it."""


def pytest_addoption(parser):
    parser.addoption("--record", action="store_true", help="rewrite tests/golden/expected")
