"""What every test shares: the quick run and the whole one, hypothesis' profiles, the helpers'
folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from ncc.cli import main

# `--import-mode=importlib` leaves sys.path alone, so the helper modules in
# support/ are put within reach here, once, before any test module is imported.
sys.path[:0] = [str(Path(__file__).parent / "support")]
from tiers import each_choice, may_skip  # noqa: E402

# Derandomized: the same commit runs the same examples, and no run writes an example database
# into the checkout. `--hypothesis-profile=hunt` looks for new ones.
settings.register_profile(
    "quick", derandomize=True, deadline=None, max_examples=6, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("slow", parent=settings.get_profile("quick"), max_examples=30)
settings.register_profile("hunt", parent=settings.get_profile("quick"), derandomize=False,
                          max_examples=2000)


@pytest.fixture(autouse=True, scope="session")
def no_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The tests are of the compiler, not of what an earlier run of it made: objects are neither
    taken from a cache nor kept (the size 0), and the user's own is out of reach."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NCC_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("NCC_CACHE_SIZE", "0")
        yield


@pytest.fixture(autouse=True, scope="session")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Commands that tests start find the bytecode of what they import, which is half of their
    start, whatever the environment says of it: in one folder for all workers of this run."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPYCACHEPREFIX", str(folder / "bytecode"))
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        yield


@pytest.fixture(autouse=True, scope="session")
def threads_for_small_nets() -> Iterator[None]:
    """As many threads as are asked for, however little there is to do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ncc.machine.native.PRODUCTS_A_THREAD", 0)
        yield


@pytest.fixture(autouse=True, scope="module")
def forms_of_any_cost(request: pytest.FixtureRequest) -> Iterator[None]:
    """Forms that tests ask for, to see that all give the same, are not refused for the time that
    they take to compile, but where the refusal is what is tested."""
    with pytest.MonkeyPatch.context() as patch:
        if Path(request.fspath).stem not in ("test_limits", "test_bench"):
            patch.setattr("ncc.machine.limits.UNNOTICED", float("inf"))
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
    parser.addoption("--slow", action="store_true",
                     help="run everything: whole grids, the tests marked slow, and more of the "
                          "random nets")
    parser.addoption("--no-skips", action="store_true",
                     help="a test that is skipped for want of something to install fails")
    parser.addoption("--bless", action="store_true",
                     help="write what the passes give now into tests/cases, to be read in the diff")


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("--hypothesis-profile"):
        settings.load_profile("slow" if config.getoption("--slow") else "quick")


def pytest_report_header(config: pytest.Config) -> str:
    return "all tests" if config.getoption("--slow") else "quick tests only; --slow runs them all"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is slow, unless it is asked for, or named: `test_file.py::test_name`."""
    if config.getoption("--slow") or any("::" in word for word in config.args):
        return
    kept = set(quick(items))
    if left_out := [item for item in items if item not in kept]:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item in kept]


def quick(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    """The items that are not slow. Of a test marked `each_choice`, or `each_choice("dtype",
    "form")`, these are as few as have each value of each parameter, or of those that it names."""
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("slow") is None:
            tests.setdefault(item.nodeid.split("[")[0], []).append(item)
    for cases in tests.values():
        mark = cases[0].get_closest_marker("each_choice")
        if mark is None:
            yield from cases
            continue
        params = [case.callspec.params for case in cases]  # type: ignore[attr-defined]
        chosen = each_choice([[of[name] for name in mark.args or of] for of in params])
        yield from [case for k, case in enumerate(cases) if k in chosen]


def skipped(report: pytest.TestReport | pytest.CollectReport, config: pytest.Config) -> None:
    """With --no-skips, make of a skip that need not be a failure."""
    if not (config.getoption("--no-skips") and report.skipped) or hasattr(report, "wasxfail"):
        return
    assert isinstance(report.longrepr, tuple)
    reason = report.longrepr[2].removeprefix("Skipped: ")
    if not may_skip(reason):
        report.outcome = "failed"
        report.longrepr = f"skipped, where everything is to run: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport,
                                                              pytest.TestReport]:
    report = yield
    skipped(report, item.config)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[
        None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    skipped(report, collector.config)
    return report
