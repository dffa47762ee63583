"""``pytest tests/scenarios --rewrite`` writes the transcripts anew; expectations it never touches."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write the scenarios' transcripts anew")
