"""Other processes: examples/cluster.py over Dask, and searches of scikit-learn over both."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_pickle
import pytest

import ncc

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))
import cluster  # noqa: E402

X = np.random.default_rng(2).random((50, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Of two processes, which share a cache: else each search compiles the same nets again."""
    pytest.importorskip("distributed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NCC_CACHE_DIR", str(tmp_path_factory.mktemp("shared")))
        patch.delenv("NCC_CACHE_SIZE")
        with cluster.cluster() as client:
            assert len(client.run(int)) == 2
            yield client


def test_the_example(client: Any, monkeypatch: pytest.MonkeyPatch,
                     capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["cluster.py", "--scheduler", client.scheduler.address,
                                      "--nets", "4", "--chunk", "2"])
    cluster.main()
    *same, last = capsys.readouterr().out.splitlines()
    assert same == [f"4 nets in {of} of 2: the same bits as here" for of in ("chunks",
                                                                             "populations")]
    guide = (EXAMPLES / "README.md").read_text()
    for line in same:
        assert line.replace("4", "12", 1).replace("2:", "3:") in guide
    best, worst = (int(word) for word in last.split() if word.isdigit())
    assert last.startswith("right of 360:") and 200 < worst <= best < 360


def test_populations_travel_in_few_bytes_and_answer_the_same_bits(client: Any) -> None:
    nets = list(cluster.mutants(7))
    pops = cluster.populations(nets, 3)
    assert [len(pop) for pop in pops] == [3, 3, 1]
    there = np.concatenate(cluster.in_chunks(client, cluster.outputs, pops, X, 1))
    assert [y.tobytes() for y in there] == [ncc.compile(net)(X).tobytes() for net in nets]
    assert len({y.tobytes() for y in there}) == 7
    assert len(pickle.dumps(pops[0])) < 16 * sum(net.n_edges for net in nets[:3])


@pytest.mark.slow
def test_searches_over_dask_and_joblib_are_those_of_one_process(client: Any) -> None:
    pytest.importorskip("sklearn")
    joblib = pytest.importorskip("joblib")
    from joblib.externals.loky import get_reusable_executor
    from sklearn.model_selection import GridSearchCV

    y = (X[:, 0] > X[:, 1]).astype(int)
    found = []
    for backend in ("sequential", "loky", "dask"):
        search = GridSearchCV(ncc.NetClassifier(hidden=4, epochs=3, random_state=0),
                              {"hidden": [4, (3, 3)], "lr": [0.01, 0.1]}, cv=2)
        jobs = {} if backend == "dask" else {"n_jobs": 1 if backend == "sequential" else 2}
        with joblib.parallel_config(backend=backend, **jobs):
            search.fit(X, y)
        found.append((search.cv_results_["mean_test_score"].tolist(), search.best_params_,
                      search.decision_function(X).tobytes()))
    get_reusable_executor().shutdown(wait=True)
    assert found[0] == found[1] == found[2]


def test_processes_of_a_cluster_compile_nothing(client: Any) -> None:
    fns = [ncc.compile(net) for net in cluster.mutants(5)]
    client.run(open_pickle.compile_nothing)
    try:
        there = cluster.in_chunks(client, cluster.outputs, fns, X, 2)
        with pytest.raises(AssertionError, match="LLVM is called"):
            client.submit(ncc.compile, next(cluster.mutants(1, seed=9)), tier="now").result()
    finally:
        client.run(open_pickle.compile_nothing, False)
    assert [y.tobytes() for y in there] == [fn(X).tobytes() for fn in fns]
    assert len({y.tobytes() for y in there}) == 5


def test_the_example_says_what_it_wants(tmp_path: Path) -> None:
    script = ("import sys; sys.modules['dask'] = sys.modules['dask.distributed'] = None; "
              f"sys.path.insert(0, {str(EXAMPLES)!r}); import cluster; "
              "sys.argv = ['cluster.py', '--nets', '0']; cluster.main()")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1 and "pip install 'ncc-compiler[dask]'" in done.stderr
