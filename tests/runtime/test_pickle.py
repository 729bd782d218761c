"""Pickles carry code: what opens without a compile, what must be compiled again, and damage."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_pickle
import pytest

import ncc
from ncc.machine import cache, helpers, llvm
from ncc.machine.cache import Entry
from ncc.machine.threads import WORKER
from ncc.runtime import compiled, skip_dead

NET = """N 06
00
01
02
03 tanh 00:0.5,01:-1.25,02:0.3 +0.1
04 sigmoid 00:1,03:0.25
05 00 mul 03:1,04:2 +-0.7
"""
X = np.random.default_rng(7).standard_normal((300, 3)).astype(np.float32)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The triples that LLVM compiles something for."""
    seen: list[str] = []
    module = llvm.Machine.module

    def counted(self: llvm.Machine, text: str) -> Any:
        seen.append(self.target.triple)
        return module(self, text)

    monkeypatch.setattr(llvm.Machine, "module", counted)
    return seen


def bits(arrays: list[Any]) -> list[bytes]:
    return [np.asarray(a).tobytes() for a in arrays]


def in_workers(thing: Any, folder: Path, count: int = 1, x: Any = X) -> list[list[bytes]]:
    """What `count` processes at once say, in which nothing can be compiled and no cache is used."""
    (folder / "pickle").write_bytes(pickle.dumps((thing, x)))
    script = Path(open_pickle.__file__)
    workers = [subprocess.Popen([sys.executable, script, "pickle", f"{k}"], cwd=folder)
               for k in range(count)]
    assert [worker.wait(120) for worker in workers] == [0] * count
    return [bits(pickle.loads((folder / f"{k}").read_bytes())) for k in range(count)]


# ---- a worker of the same machine and version


@pytest.mark.parametrize("how", [
    {}, {"dtype": "f64", "opt": 0, "threads": 2},
    {"passes": {"form": "table", "batch_form": "table"}, "numerics": "strict"},
    {"passes": {"embedded": True, "params": np.linspace(-1, 1, 9)}}],
    ids=["", "f64", "table", "embedded"])
def test_a_worker_compiles_nothing(how: dict[str, Any], tmp_path: Path,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncc.machine.native.PRODUCTS_A_THREAD", 0)
    fn = ncc.Compiled(ncc.parse(NET).graph, **how)
    expected = bits(open_pickle.answers(fn, X))
    assert in_workers(fn, tmp_path) == [expected]


def test_workers_at_once_compile_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("NCC_CACHE_SIZE")
    fn = ncc.compile(Path(__file__).parents[2] / "examples/digits.nal", cache=False)
    x = np.random.default_rng(0).random((40, 64)).astype(np.float32)
    expected = bits(open_pickle.answers(fn, x))
    assert in_workers(fn, tmp_path, 4, x) == [expected] * 4
    assert not (tmp_path / "cache").exists()


def test_samples_that_leave_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skip_dead, "EDGES_TO_CROSS", 0)
    monkeypatch.setattr(skip_dead, "cuts", lambda graph: [1])
    fn = ncc.compile(ncc.parse(NET.replace("tanh", "relu")), skip_dead=True)
    assert len(fn._parts) == 2  # type: ignore[attr-defined]
    expected = bits(open_pickle.answers(fn, X))
    assert fn._carried().keys() >= {"piece 0", "piece 1"}
    monkeypatch.setattr(llvm.Machine, "module", open_pickle.refuse)
    assert bits(open_pickle.answers(pickle.loads(pickle.dumps(fn)), X)) == expected


def test_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    model = ncc.torch.module(ncc.parse(NET))
    before = len(pickle.dumps(model))
    expected = bits(open_pickle.answers(model, X))
    data = pickle.dumps(model)
    assert len(data) > before
    del model
    gc.collect()  # with its code, which modules of one net share
    monkeypatch.setattr(llvm.Machine, "module", open_pickle.refuse)
    assert bits(open_pickle.answers(pickle.loads(data), X)) == expected


def test_estimators(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    model = ncc.NetClassifier(hidden=5, epochs=3, random_state=0).fit(X, X[:, 0] > 0)
    expected = bits(open_pickle.answers(model, X))
    monkeypatch.setattr(llvm.Machine, "module", open_pickle.refuse)
    assert bits(open_pickle.answers(pickle.loads(pickle.dumps(model)), X)) == expected


# ---- another machine, another version


@pytest.mark.parametrize("other", ["a CPU", "a version of ncc"])
def test_others_compile_it_again(other: str, calls: list[str], monkeypatch: pytest.MonkeyPatch
                                 ) -> None:
    fn = ncc.compile(ncc.parse(NET))
    expected = bits(open_pickle.answers(fn, X))
    data = pickle.dumps(fn)
    calls.clear()
    assert bits(open_pickle.answers(pickle.loads(data), X)) == expected and not calls
    if other == "a CPU":
        lacks = replace(llvm.host(), features=llvm.host().features + ",-fxsr")
        for module in (compiled, helpers):
            monkeypatch.setattr(module, "host", lambda: lacks)
    else:
        monkeypatch.setattr(cache, "_compiler", lambda: b"another compiler")
    helpers.CALL.forget()
    assert bits(open_pickle.answers(pickle.loads(data), X)) == expected
    assert len(calls) == 3  # forward, backward, and what calls them
    calls.clear()
    monkeypatch.undo()
    helpers.CALL.forget()
    calls.clear()


def test_code_under_another_name_is_not_run(calls: list[str]) -> None:
    """Neither another net's under its own name, nor under this one's."""
    fn, other = ncc.compile(ncc.parse(NET)), ncc.compile(ncc.parse(NET.replace("tanh", "relu")))
    expected = fn(X).tobytes()
    mine, foreign = fn._library.carried(), other._library.carried()
    assert mine is not None and foreign is not None and mine[0] != foreign[0]
    for code in (foreign, (mine[0], foreign[1])):
        made, given = fn.__reduce__()
        calls.clear()
        assert made(*given, brought={"forward": code})(X).tobytes() == expected and calls


def test_a_pickle_without_code_opens() -> None:
    """As ncc 0.2.0 wrote them, and where ncc cannot read its sources."""
    fn = ncc.compile(ncc.parse(NET))
    made, given = fn.__reduce__()
    assert made(*given, brought=None)(X).tobytes() == fn(X).tobytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "_compiler", lambda: None)
        bare = ncc.compile(ncc.parse(NET))
        assert bare._carried()["forward"] is None
        assert pickle.loads(pickle.dumps(bare))(X).tobytes() == fn(X).tobytes()


# ---- what travels


def test_what_is_compiled_travels(calls: list[str]) -> None:
    """Backward functions once there are some, from process to process, wanted there or not."""
    fn = ncc.compile(ncc.parse(NET))
    bare = len(pickle.dumps(fn))
    expected = bits(open_pickle.answers(fn, X))
    assert len(pickle.dumps(fn)) > bare
    calls.clear()
    again = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(fn))))
    assert bits(open_pickle.answers(again, X)) == expected and not calls
    assert again._brought == {} and again._carried().keys() == fn._carried().keys()


def test_copies_compile_nothing(calls: list[str]) -> None:
    fn = ncc.compile(ncc.parse(NET), threads=2)
    expected = bits(open_pickle.answers(fn, X))
    calls.clear()
    for made in (copy.copy(fn), copy.deepcopy(fn)):
        assert bits(open_pickle.answers(made, X)) == expected
        made.params = np.zeros(9)
        assert bits(open_pickle.answers(fn, X)) == expected
    assert not calls


def test_helpers_are_the_machines() -> None:
    """Those that a pickle brings are taken where they are what would be compiled."""
    for helper in (helpers.CALL, WORKER):
        fresh = helpers.Helper(helper.symbols, helper._text)
        fresh.bring(helper.carried())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(llvm.Machine, "module", open_pickle.refuse)
            assert fresh.loaded().addresses.keys() == set(helper.symbols)
        fresh.forget()
        assert fresh.loaded().addresses.keys() == set(helper.symbols)


# ---- damage


def damaged(data: bytes) -> list[bytes]:
    """Bits turned over and ends cut off, all over the data."""
    random = np.random.default_rng(0)
    found = [data[:size] for size in random.integers(0, len(data), 20)]
    for at in random.integers(0, len(data), 60):
        found.append(data[:at] + bytes([data[at] ^ 1 << int(random.integers(8))]) + data[at + 1 :])
    return [*found, b"", data + b"\0", data[::-1]]


def unpacked(data: bytes) -> bytes | None:
    try:
        return zlib.decompress(data)
    except zlib.error:
        return None


def test_damaged_code_is_compiled_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NCC_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("NCC_CACHE_SIZE")  # from which what is damaged comes quickly
    fn = ncc.compile(ncc.parse(NET))
    expected = bits(open_pickle.answers(fn, X))
    made, given = fn.__reduce__()
    loads = cache.lookup
    found: list[str] = []
    monkeypatch.setattr(cache, "lookup", lambda name: found.append(name) or loads(name))
    for which in ("forward", "backward"):
        name, code = made.keywords["brought"][which]
        for data in damaged(code):
            found.clear()
            brought = {**made.keywords["brought"], which: (name, data)}
            again = made(*given, brought=brought)
            assert bits(open_pickle.answers(again, X)) == expected
            # It is taken where it still unpacks to the same: zlib passes over what stands behind
            # the end, and over bits that mean nothing.
            assert found == ([] if unpacked(data) == unpacked(code) else [name])


def test_a_damaged_entry_is_none() -> None:
    table = np.arange(99, dtype=np.uint8)
    whole = cache.carried(Entry(b"\x00code\n\xff" * 50, {"exports": ["f"]}, {"t": table}, "a" * 64))
    assert whole is not None
    entry = cache.brought(whole, "a" * 64)
    assert entry is not None and entry.facts == {"exports": ["f"]} and entry.name == "a" * 64
    assert entry.code == b"\x00code\n\xff" * 50 and np.array_equal(entry.tables["t"], table)
    assert cache.brought(whole, "b" * 64) is None and cache.brought(None, "a" * 64) is None
    assert cache.brought(whole, None) is None
    for data in damaged(whole[1]):
        found = cache.brought(("a" * 64, data), "a" * 64)
        assert found is None or found.code == entry.code
    assert cache.carried(Entry(b"code", {})) is None


@pytest.mark.parametrize("change", [
    lambda g: {"sources": g.sources + 100}, lambda g: {"starts": g.starts[::-1].copy()},
    lambda g: {"weights": g.weights + 1000}])
def test_a_damaged_net_is_an_error(change: Callable[[Any], dict[str, Any]]) -> None:
    fn = ncc.compile(ncc.parse(NET))
    made, (graph, *given) = fn.__reduce__()
    with pytest.raises(ncc.NccError, match="E301"):
        made(graph.with_(**change(graph)), *given)
