"""What every test shares: the `--slow` switch, the hypothesis profile, the helpers' folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from ncc.cli import main

# `--import-mode=importlib` leaves sys.path alone, so the helper modules in
# support/ are put within reach here, once, before any test module is imported.
sys.path[:0] = [str(Path(__file__).parent / "support")]

# Derandomized: the same commit runs the same examples, and no run writes an example database
# into the checkout. `--hypothesis-profile=hunt` looks for new ones.
settings.register_profile(
    "ci", derandomize=True, deadline=None, max_examples=30, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("hunt", parent=settings.get_profile("ci"), derandomize=False,
                          max_examples=2000)
settings.load_profile("ci")


@pytest.fixture(autouse=True, scope="session")
def no_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The tests are of the compiler, not of what an earlier run of it made: objects are neither
    taken from a cache nor kept (the size 0), and the user's own is out of reach."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NCC_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("NCC_CACHE_SIZE", "0")
        yield


@pytest.fixture(autouse=True, scope="session")
def threads_for_small_nets() -> Iterator[None]:
    """As many threads as are asked for, however little there is to do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ncc.machine.native.WORK", 0)
        yield


@pytest.fixture
def ncc_(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command: (status, standard output, standard error); never a traceback."""

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(w) for w in words])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return call


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, too")
    parser.addoption("--bless", action="store_true",
                     help="write what the passes give now into tests/cases, to be read in the diff")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow; run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)
