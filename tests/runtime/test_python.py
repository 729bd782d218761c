"""The package from outside: what `import ncc` promises."""

from __future__ import annotations

import copy
import ctypes
import gc
import io
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import ncc
from ncc import cli
from ncc.driver.settings import Settings
from ncc.ir.ssa import DTYPES
from ncc.machine import native as library
from ncc.machine import threads as crew
from ncc.machine.helpers import CALL
from ncc.runtime import compiled as runtime
from ncc.training.step import TrainStep

NET = """N 06
00
01
02
03 tanh 00:0.5,01:-1.25,02:0.3 +0.1
04 sigmoid 00:1,03:0.25
05 00 mul 03:1,04:2 +
"""
FULL = NET.replace(" +\n", " +-0.7\n")
RNG = np.random.default_rng(7)
X = RNG.standard_normal((300, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def fn():
    return ncc.compile(ncc.parse(FULL))


@pytest.fixture(scope="module")
def y():
    graph = ncc.parse(FULL).graph
    return graph.run(X, graph.values)


# ---- nets


def test_a_net_says_what_it_is():
    net = ncc.parse(FULL)
    assert (net.n_neurons, net.n_edges, net.n_params) == (6, 7, 9)
    assert (net.inputs, net.outputs) == ([0, 1, 2], [5])
    assert net.params.dtype == np.float64
    assert net.params.tolist() == [0.5, -1.25, 0.3, 0.1, 1, 0.25, 1, 2, -0.7]
    with pytest.raises(ValueError, match="read-only"):  # a net does not change
        net.params[:] = 0
    assert net.params[0] == 0.5
    assert ncc.parse(NET).params is None
    assert ncc.parse("N 02\n00\n01 0 00:=2\n").params.shape == (0,)


def test_formats_and_options_of_parse(tmp_path):
    assert ncc.parse("001\n001\n000\n", format="nam").inputs == [0, 1]
    assert ncc.parse("N 03\n00 02\n01 02\n", format="nel", activation="relu").n_edges == 2
    assert ncc.parse(FULL, outputs="03,05").outputs == [3, 5]
    graph = ncc.parse(str(ncc.parse(FULL).graph), format="graph")
    assert str(graph.graph) == str(ncc.parse(FULL).graph)
    path = tmp_path / "net.nal"
    path.write_text(FULL)
    for where in (path, str(path)):
        assert ncc.load(where).n_params == 9
    assert ncc.load(path, format="nal", outputs="04").outputs == [4]
    assert np.array_equal(ncc.compile(path)(X), ncc.compile(ncc.load(path))(X))


def test_errors_say_where(tmp_path):
    bad = tmp_path / "bad.nal"
    bad.write_text("N 03\n00\n01\n02 03 00,07\n")
    with pytest.raises(ncc.NccError) as caught:
        ncc.load(bad)
    error = caught.value
    assert (error.file, error.line, error.column) == (str(bad), 4, 10)
    assert "07" in error.message and "\n" not in error.message
    assert str(error).startswith(f"{bad}:4:10: error[")
    assert str(error).splitlines()[2] == " " * 11 + "^^"
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and again.status == error.status == 1
    assert (again.file, again.line, again.column, again.code) == (
        error.file, error.line, error.column, error.code)
    with pytest.raises(ncc.NccError) as caught:
        ncc.parse("N 01\nx\n")
    assert (caught.value.file, caught.value.line) == ("<text>", 2)
    for path in (tmp_path / "none.nal", tmp_path):
        with pytest.raises(ncc.NccError) as caught:
            ncc.load(path, format="nal")
        assert caught.value.line is None and "cannot read" in caught.value.message


@pytest.mark.parametrize("call", [
    lambda: ncc.parse(FULL, format="zip"), lambda: ncc.parse(FULL, activation="zork"),
    lambda: ncc.parse(FULL, outputs="99"), lambda: ncc.compile(ncc.parse(FULL), dtype="f16"),
    lambda: ncc.compile(ncc.parse(FULL), form="zork"), lambda: ncc.load("no/ending"),
    lambda: ncc.parse("N 02\n00\n01 0 00:\ud800\n"), lambda: ncc.parse(""),
    lambda: ncc.parse(str(ncc.parse(FULL).graph), format="graph", outputs="03"),
])
def test_wrong_requests_are_ncc_errors(call):
    with pytest.raises(ncc.NccError):
        call()


def test_wrong_arguments():
    net = ncc.parse(FULL)
    with pytest.raises(TypeError, match="fomr"):
        ncc.compile(net, fomr="table")
    for wrong in ({"opt": 4}, {"opt": -1}, {"threads": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ncc.compile(net, **wrong)


DTYPE_NAMES = [
    ("f32", ["f32", "float32", "single", "f4", np.float32, np.dtype("f")]),
    ("f64", ["f64", "float64", "double", np.float64, float, np.dtype("float64")]),
]


@pytest.mark.parametrize("name, given", [(name, g) for name, all_ in DTYPE_NAMES for g in all_])
def test_dtypes_by_any_name(name, given):
    net = ncc.parse(FULL)
    fn = ncc.compile(net, dtype=given)
    assert fn.dtype == name and fn([1, 2, 3]).dtype == DTYPES[name]
    assert pickle.loads(pickle.dumps(fn)).dtype == name
    fitted, _ = ncc.fit(net, X[:4], X[:4, :1], dtype=given, epochs=1)
    assert fitted.dtype == name
    trainer = TrainStep(net.graph, "mse", "sgd", settings=Settings(given))
    assert trainer.params.shape == (net.n_params,)


@pytest.mark.parametrize("given", ["f16", "float", int, np.float16, ">f4", object, 32, [],
                                   np.zeros(2, np.float32), ncc.Net])
def test_other_dtypes_are_refused(given):
    """`float` as a word is C's; as Python's type it is float64."""
    for call in (lambda: ncc.compile(ncc.parse(FULL), dtype=given),
                 lambda: ncc.fit(ncc.parse(FULL), X[:4], X[:4, :1], dtype=given)):
        with pytest.raises(ncc.NccError, match="no dtype") as caught:
            call()
        assert (caught.value.code, caught.value.status) == ("E603", 2)


# ---- calls


@pytest.mark.parametrize("how", [{}, {"opt": 0}, {"opt": 3}, {"form": "table"},
                                 {"batch_form": "table"}, {"numerics": "strict"},
                                 {"dtype": "f64"}, {"threads": 2}])
def test_single_and_batch_have_the_interpreters_bits(how):
    net = ncc.parse(FULL)
    compiled = ncc.compile(net, **how)
    dtype, numerics = how.get("dtype", "f32"), how.get("numerics", compiled.numerics)
    expected = net.graph.run(X, net.params, dtype, numerics)
    got = compiled(X)
    assert got.shape == (300, 1) and got.dtype == expected.dtype
    assert np.array_equal(got, expected)
    one = compiled(X[5])
    assert one.shape == (1,) and one.dtype == expected.dtype
    assert np.array_equal(one, expected[5])
    assert np.array_equal(compiled(X[5:6]), expected[5:6])


def test_arrays_of_every_layout_and_type(fn, y):
    wide = np.zeros((300, 7), np.float32)
    wide[:, 1:4] = X
    unaligned = np.frombuffer(b"_" + X.tobytes(), np.uint8)[1:].view(np.float32).reshape(300, 3)
    frozen = X.copy()
    frozen.flags.writeable = False
    for x in (wide[:, 1:4], np.asfortranarray(X), X[::-1][::-1], unaligned, frozen,
              X.astype(np.float64), X.astype(">f4"), X.tolist(), X.astype(object),
              np.ma.masked_array(X), np.repeat(X, 2, axis=0)[::2]):
        assert np.array_equal(fn(x), y)
        assert np.array_equal(fn(x[3]), y[3])
    assert not unaligned.flags.aligned
    integers = np.arange(6).reshape(2, 3)
    assert np.array_equal(fn(integers), fn(integers.astype(np.float32)))
    assert np.array_equal(fn(integers > 2), fn((integers > 2).astype(np.float16)))
    before = X.copy()
    fn(X)
    assert np.array_equal(X, before)


def test_no_copy_where_dtype_and_layout_fit(fn, y, monkeypatch):
    seen = []
    real = fn._batch
    monkeypatch.setattr(fn, "_batch", lambda n, x, *rest: (seen.append(x), real(n, x, *rest))[1])
    for x in (X, X[7:200]):
        fn(x)
        assert seen.pop() == x.ctypes.data
    fn(X[:, ::-1])
    assert seen.pop() != X.ctypes.data


def test_one_sample_of_many_inputs_is_not_copied(monkeypatch):
    inputs = "".join(f"{i:03x}\n" for i in range(0x500))
    edges = ",".join(f"{i:03x}:0.{i + 1}" for i in range(0x500))
    net = ncc.parse(f"N 501\n{inputs}500 tanh {edges}\n")
    compiled = ncc.compile(net)
    assert len(net.inputs) > runtime.COPIED
    x = np.linspace(-1, 1, 0x500, dtype=np.float32)
    y = net.graph.run(x, net.params)
    monkeypatch.setattr(compiled, "_desk", None)
    for given in (x, x.astype(np.float64), np.repeat(x, 2)[::2]):
        assert np.array_equal(compiled(given), y)
    seen = []
    real = compiled._single
    monkeypatch.setattr(compiled, "_single", lambda *a: (seen.append(a[0]), real(*a))[1])
    compiled(x)
    assert ctypes.addressof(seen[0]) == x.ctypes.data


def test_one_sample_of_a_net_whose_weights_are_in_the_code(y):
    graph = ncc.parse(FULL).graph
    for form in ("straight", "table"):
        fixed = ncc.Compiled(graph, passes={"params": graph.values, "embedded": True,
                                            "form": form, "batch_form": form})
        assert fixed._library.n_packed is None
        assert np.array_equal(fixed(X[3]), y[3]) and np.array_equal(fixed(X), y)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers")
def test_a_signal_handler_may_call_what_it_interrupts(fn, y):
    calls = []

    def handler(number, frame):
        calls.append(np.array_equal(fn(X[1]), y[1]))

    fn(X[0])  # a first call makes code, slower than the timer
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
        until = time.perf_counter() + 30
        while len(calls) < 1000 and time.perf_counter() < until:
            assert np.array_equal(fn(X[0]), y[0])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(calls) >= 1000 and all(calls)


def test_zero_rows_and_results_that_stay(fn, y):
    empty = fn(np.zeros((0, 3), np.float32))
    assert empty.shape == (0, 1) and empty.dtype == np.float32
    assert fn(np.zeros((0, 3))).shape == (0, 1)
    a = fn(X)
    kept = a.copy()
    fn(-X)
    assert np.array_equal(a, kept) and a.flags.writeable and a.flags.owndata


@pytest.mark.parametrize("x, shape", [
    (np.zeros(2), "(2,)"), (np.zeros((3, 2)), "(3, 2)"), (np.zeros((1, 1, 3)), "(1, 1, 3)"),
    (0.5, "()"), ([], "(0,)"), (np.zeros((3, 0)), "(3, 0)"), (np.zeros((0, 4)), "(0, 4)"),
])
def test_wrong_shapes_name_both(fn, x, shape):
    with pytest.raises(ValueError) as caught:
        fn(x)
    message = str(caught.value)
    assert f"shape {shape}" in message and "(3,)" in message and "(batch, 3)" in message


@pytest.mark.parametrize("x", [["a", "b", "c"], [[1, 2, 3], [4]], [1j, 2, 3], None,
                               [None, "x", 2]])
def test_what_is_no_real_array_is_refused(fn, x):
    with pytest.raises((ValueError, TypeError)):
        fn(x)


def test_nan_and_infinities_are_data(fn):
    x = np.array([[np.nan, 0, 0], [np.inf, 0, 0], [-np.inf, 0, 0]], np.float32)
    got = fn(x)
    assert np.isnan(got[0, 0]) and np.isfinite(got[1:]).all()


def test_nets_without_inputs_and_with_inputs_as_outputs():
    constant = ncc.compile(ncc.parse("N 02\n00 0 +=1\n01 0 00:2\n"))
    assert constant(np.zeros((3, 0))).tolist() == [[2], [2], [2]]
    assert constant([]).tolist() == [2]
    through = ncc.compile(ncc.parse("N 02\n00\n01 0 00:2\n", outputs="01,00"))
    assert through([[3], [4]]).tolist() == [[6, 3], [8, 4]]


# ---- parameters


def test_params_can_be_read_and_set(y):
    net = ncc.parse(NET)
    compiled = ncc.compile(net)
    assert compiled.params is None
    for x in (X, X[0]):
        with pytest.raises(ValueError, match="9 parameters and 1 of them have no value"):
            compiled(x)
    values = ncc.parse(FULL).params.copy()
    compiled.params = values
    assert np.array_equal(compiled(X), y) and np.array_equal(compiled(X[4]), y[4])
    assert compiled.params.dtype == np.float64 and np.array_equal(compiled.params, values)
    given = values.copy()
    values[:] = 0  # copied in
    assert np.array_equal(compiled(X), y)
    kept = compiled.params
    for change in (lambda p: p.__setitem__(0, 0), lambda p: p.sort(), lambda p: p.fill(1),
                   lambda p: p.__iadd__(1), lambda p: p[2:5].fill(0)):
        with pytest.raises(ValueError, match="read-only"):
            change(compiled.params)
    assert np.array_equal(compiled(X), y)
    compiled.params = compiled.params * 2
    assert np.array_equal(kept, given) and np.array_equal(compiled.params, 2 * given)
    compiled.params = [0] * 8 + [2]
    assert compiled(X[0]).tolist() == [2]
    assert np.array_equal(ncc.compile(net, ncc.parse(FULL).params)(X), y)
    assert np.array_equal(ncc.compile(net, params=ncc.parse(FULL).params.tolist())(X), y)
    assert ncc.compile(ncc.parse(FULL)).params.tolist() == ncc.parse(FULL).params.tolist()


@pytest.mark.parametrize("wrong, message", [
    (np.zeros(8), r"\(8,\).*\(9,\)"), (np.zeros((9, 1)), r"\(9, 1\).*\(9,\)"), (1.0, r"\(\)"),
    ([0] * 8 + [np.nan], "not finite"), ([np.inf] + [0] * 8, "not finite"),
    ([1e300] + [0] * 8, "overflows f32"), ([1j] + [0] * 8, "complex"),
])
def test_wrong_params_change_nothing(wrong, message, y):
    compiled = ncc.compile(ncc.parse(FULL))
    with pytest.raises(ValueError, match=message):
        compiled.params = wrong
    assert np.array_equal(compiled(X), y)
    with pytest.raises(ValueError, match=message):
        ncc.compile(ncc.parse(FULL), wrong)


def test_f64_takes_what_f32_cannot():
    compiled = ncc.compile(ncc.parse(FULL), dtype="f64")
    compiled.params = [1e300] + [0] * 8
    assert compiled.params[0] == 1e300


# ---- threads


@pytest.mark.parametrize("form", ["straight", "table", "shared"])
def test_threads_do_not_change_a_bit(form):
    net = ncc.parse(FULL)
    for rows in (0, 1, 63, 64, 129, 300):
        results = [ncc.compile(net, threads=t, batch_form=form)(X[:rows]) for t in (0, 1, 3, 8)]
        assert all(np.array_equal(results[0], r) for r in results)


@pytest.mark.parametrize("threads", [1, 2])
def test_eight_threads_call_at_once(threads):
    table = ncc.compile(ncc.parse(FULL), form="table", batch_form="table", threads=threads)
    expected = table(X)
    gate = threading.Barrier(8)

    def work(k):
        gate.wait()
        for r in range(60):
            at = (37 * k + r) % 300
            if not np.array_equal(table(X[at]), expected[at]):
                return False
            if not np.array_equal(table(X[at:]), expected[at:]):
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_a_call_owns_the_code_that_it_goes_through():
    """Each of the threads that make a process's first call at once may have made its own."""
    fn = ncc.compile(ncc.parse(FULL))
    expected = fn(X[0]).tobytes()
    made = weakref.ref(CALL.loaded())
    CALL.forget()
    gc.collect()
    assert made() is not None
    assert fn(X[0]).tobytes() == expected


def test_threads_are_started_once():
    library = ncc.compile(ncc.parse(FULL))._library
    seen = [[], []]
    for _ in range(40):
        library.at_once(lambda k, first, last: seen[k].append(threading.current_thread()),
                        [(0, 1), (1, 2)])
    assert [len(found) for found in seen] == [40, 40]
    assert set(seen[0]) == {threading.current_thread()}
    assert threading.current_thread() not in seen[1]
    assert len(set(seen[1])) <= (os.cpu_count() or 1)


@pytest.mark.parametrize("looks", [1, 5000])
def test_workers_are_found_awake_and_asleep(looks, monkeypatch):
    """With one look each, all go to sleep at once, and who waits naps."""
    monkeypatch.setattr(crew, "LOOKS", looks)
    one, three = (ncc.compile(ncc.parse(FULL), threads=t, batch_form="table") for t in (1, 3))
    for k in range(60):
        x = X[k:] * np.float32(k)
        assert np.array_equal(three(x), one(x))
        time.sleep(k % 3 * 2e-4)
    assert len(crew._idle) <= (os.cpu_count() or 1)


def test_an_interrupt_waits_for_the_workers(monkeypatch):
    """They write to memory of the caller's, who goes when they have ended."""
    fn = ncc.compile(ncc.parse(FULL), threads=2)
    x = np.tile(X, (3000, 1))
    expected = fn(x)
    worker = crew.hire() or crew.Worker(0)
    while worker._box[2]:
        time.sleep(1e-4)
    time.sleep(0.05)  # it is asleep
    naps = []

    def nap(seconds):
        naps.append(seconds)
        if len(naps) == 1:
            raise KeyboardInterrupt
        if len(naps) == 2:
            worker._wake.put(None)

    y = np.zeros_like(expected)
    work = fn._library.work("forward_batch")
    worker._box[2] = 1  # so that `post` does not wake it
    worker.post(fn._library.addresses["forward_batch"],
                (len(x), x.ctypes.data, fn._arguments[0], y.ctypes.data, work.ctypes.data))
    monkeypatch.setattr(crew.time, "sleep", nap)
    with pytest.raises(KeyboardInterrupt):
        worker.join()
    assert np.array_equal(y, expected) and len(naps) >= 2
    crew.release(worker)
    assert np.array_equal(fn(x), expected)


def test_who_finds_no_worker_does_it_all(monkeypatch):
    fn = ncc.compile(ncc.parse(FULL), threads=2)
    expected = fn(X)
    monkeypatch.setattr(library, "hire", lambda: None)
    assert np.array_equal(fn(X), expected)


def test_no_vector_is_cut_between_threads():
    library_ = ncc.compile(ncc.parse(FULL))._library
    for n in (0, 1, 63, 64, 127, 128, 300, 1000, 1024, 4097):
        for threads in (1, 2, 3, 8):
            parts = library.shares(n, threads, library_)
            assert parts[0][0] == 0 and parts[-1][1] == n and len(parts) <= threads
            assert all(a[1] == b[0] and b[0] % 32 == 0 for a, b in pairwise(parts))
            assert n == 0 or all(first < last for first, last in parts)


ENDING = """import atexit, os, numpy as np, ncc
net = ncc.parse("N 05\\n00\\n" + "".join(f"{j:02x} tanh 00:1\\n" for j in range(1, 5)))
one, two = ncc.compile(net), ncc.compile(net, threads=2)
x = np.linspace(-1, 1, 3_000_000, dtype=np.float32)[:, None]
two._library.at_once(lambda k, first, last: None, [(0, 1), (1, 2)])
ncc.machine.native.PRODUCTS_A_THREAD = 0
two(x[:256])
same = lambda: np.array_equal(one(x), two(x))
child = os.fork()
if child == 0:
    os._exit(0 if same() else 1)
atexit.register(lambda: print(same()))
print(same(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_threads_work_in_a_fork_and_as_the_process_ends():
    out = subprocess.run([sys.executable, "-W", "ignore", "-c", ENDING], capture_output=True,
                         text=True, timeout=100)
    assert (out.stdout, out.stderr) == ("True 0\nTrue\n", "")


def test_a_call_sees_the_old_parameters_or_the_new():
    compiled = ncc.compile(ncc.parse("N 05\n00\n" + "".join(
        f"{j:02x} 0 00:1\n" for j in range(1, 5))), batch_form="table", form="table")
    x = np.ones((64, 1), np.float32)
    stop = threading.Event()
    seen = []

    def read():
        while not stop.is_set():
            seen.append(np.unique(compiled(x)).tolist() + np.unique(compiled(x[0])).tolist())

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for k in range(400):
        compiled.params = [k] * 4
    stop.set()
    for reader in readers:
        reader.join()
    assert seen and all(len(s) == 2 for s in seen)


def test_the_gil_is_released():
    wide = "".join(f"{j:03x} tanh {','.join(f'{i:03x}:0.1' for i in range(64))}\n"
                   for j in range(64, 320))
    compiled = ncc.compile(ncc.parse("N 140\n" + "".join(f"{j:03x}\n" for j in range(64)) + wide))
    x = np.ones((60000, 64), np.float32)

    def ticks_inside():
        """Whether this thread ran in the middle of a call in another."""
        inside, ticks = [], []

        def call():
            start = time.perf_counter()
            compiled(x)
            inside.extend((start, time.perf_counter()))

        worker = threading.Thread(target=call)
        worker.start()
        while worker.is_alive():
            ticks.append(time.perf_counter())
            time.sleep(0.0005)
        start, end = inside
        third = (end - start) / 3
        return any(start + third < t < end - third for t in ticks)

    # Were the lock held, it never would. Where a call is too short or this thread waits, it may not
    # the first time.
    assert any(ticks_inside() for _ in range(50))


# ---- pickles, copies, files


@pytest.mark.parametrize("how", [{}, {"dtype": "f64", "opt": 0, "threads": 2},
                                 {"form": "table", "numerics": "strict"}])
def test_pickles(how):
    made = ncc.compile(ncc.parse(FULL), **how)
    made.params = np.linspace(-1, 1, 9)
    for again in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made), copy.copy(made)):
        assert np.array_equal(again.params, made.params)
        assert np.array_equal(again(X), made(X)) and again(X).dtype == made(X).dtype
        assert (again.opt, again.threads, again.numerics) == (made.opt, made.threads, made.numerics)
    empty = pickle.loads(pickle.dumps(ncc.compile(ncc.parse(NET), **how)))
    assert empty.params is None
    net = pickle.loads(pickle.dumps(ncc.parse(FULL)))
    assert str(net.graph) == str(ncc.parse(FULL).graph)


class Names(pickle.Unpickler):
    """The modules of ncc's that a pickle names."""

    def __init__(self, data):
        super().__init__(io.BytesIO(data))
        self.found = set()

    def find_class(self, module, name):
        self.found |= {module} if module.split(".")[0] == "ncc" else set()
        return super().find_class(module, name)


def test_a_pickle_names_the_doors_of_the_house_and_no_room():
    """Files may be moved from room to room: what was pickled before can still be read."""
    net = ncc.parse(FULL)
    trained, history = ncc.fit(net, X, X[:, :1], epochs=2, validation=0.25)
    for value in (net, trained, history, ncc.compile(net, skip_dead=True), history.state):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            names = Names(pickle.dumps(value, protocol))
            assert type(names.load()) is type(value) and names.found == {"ncc"}


@pytest.mark.parametrize("door", ["torch", "sklearn"])
def test_a_pickle_of_an_extra_names_its_door(door):
    pytest.importorskip(door)
    made = (ncc.torch.module(ncc.parse(FULL)) if door == "torch" else
            ncc.NetRegressor(epochs=1, random_state=0).fit(X, X[:, 0]))
    names = Names(pickle.dumps(made))
    assert type(names.load()) is type(made) and names.found == {"ncc", f"ncc.{door}"}


def test_a_pickle_opens_in_another_process(fn, y, tmp_path):
    (tmp_path / "fn").write_bytes(pickle.dumps(fn))
    np.save(tmp_path / "x.npy", X)
    code = ("import numpy, pickle, sys; f = pickle.load(open('fn', 'rb'));"
            "numpy.save('y.npy', f(numpy.load('x.npy')))")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)
    assert np.array_equal(np.load(tmp_path / "y.npy"), y)


def test_save_gives_an_object_and_its_header(fn, y, tmp_path):
    fn.save(tmp_path / "2 nets.o")
    fn.save(str(tmp_path / "again.o"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2 nets.h", "2 nets.o", "again.h",
                                                          "again.o"]
    header = (tmp_path / "2 nets.h").read_text()
    assert "void n2_nets_forward(" in header and "N2_NETS_PARAMS" in header
    subprocess.run(["cc", "-shared", "-o", "net.so", "again.o"], cwd=tmp_path, check=True)
    library = ctypes.CDLL(str(tmp_path / "net.so"))
    room = (ctypes.c_char * 65536)()
    at = ctypes.addressof(room) + -ctypes.addressof(room) % 64
    params, got = fn.params.astype(np.float32), np.zeros((300, 1), np.float32)
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    library.again_pack(pointer(params.ctypes.data), pointer(at))
    for k in range(300):
        library.again_forward(pointer(X[k].ctypes.data), pointer(at), pointer(got[k].ctypes.data),
                              pointer(at + 4096))
    assert np.array_equal(got, y)
    got[:] = 0
    library.again_forward_batch(size(300), pointer(X.ctypes.data), pointer(at),
                                pointer(got.ctypes.data), pointer(at + 4096))
    assert np.array_equal(got, y)
    moved, dy = np.zeros_like(params), np.ones_like(y)
    library.again_backward_batch(size(300), pointer(X.ctypes.data), pointer(at),
                                 pointer(dy.ctypes.data), None, pointer(moved.ctypes.data),
                                 pointer(at + 4096))
    assert np.array_equal(moved, fn.vjp(X)[1](dy)[1]) and np.any(moved)
    with pytest.raises(ncc.NccError, match="cannot write"):
        fn.save(tmp_path / "none" / "net.o")


ENDINGS = ("o", "so", "c", "h", "ll", "s", "bc", "ssa", "plan", "graph", "fwd", "bwd", "matrix",
           "dot")


@pytest.mark.parametrize("ending", ENDINGS)
def test_save_writes_what_build_emits(ending, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kind = {"o": "obj", "so": "shared", "h": "header", "ll": "llvm", "s": "asm"}.get(ending, ending)
    made = ncc.compile(ncc.parse(NET))
    made.params = np.linspace(-1, 1, 9)
    made.save("net.nal")
    Path("built").mkdir()
    options = ["--emit", kind, "--cpu", "native", "-o", f"built/net.{ending}"]
    assert cli.main(["build", "net.nal", *options]) == 0
    Path("net.nal").unlink()
    made.save(f"net.{ending}")
    found = sorted(p.name for p in tmp_path.iterdir() if p.is_file())
    assert found == sorted(p.name for p in Path("built").iterdir())
    for name in found:
        if ending != "so":  # the linker writes the names of its files into it
            assert Path(name).read_bytes() == Path("built", name).read_bytes()
    if ending == "so":
        assert ctypes.CDLL("./net.so").net_forward


@pytest.mark.parametrize("ending", ["nal", "nel", "graph"])
def test_save_writes_a_net_that_is_read_back(ending, fn, y, tmp_path):
    path = tmp_path / f"net.{ending}"
    fn.save(path)
    again = ncc.load(path)
    assert np.array_equal(again.params, fn.params)
    assert np.array_equal(ncc.compile(again)(X), y)


def test_save_as_a_matrix_is_refused_where_it_cannot_say_it_all(fn, tmp_path):
    with pytest.raises(ncc.NccError, match=r"\.nam cannot express"):
        fn.save(tmp_path / "net.nam")
    plain = ncc.compile(ncc.parse("001\n001\n000\n", format="nam"), [1, 1])
    plain.graph = plain.graph.with_(values=np.full(2, np.nan))
    plain._params = None
    plain.save(tmp_path / "net.nam")
    assert ncc.load(tmp_path / "net.nam").n_edges == 2


@pytest.mark.parametrize("name", ["net", "net.", "net.zip", "net.O", "net.ast", ".o", "net.npy"])
def test_save_refuses_other_endings_with_the_list(fn, name, tmp_path):
    with pytest.raises(ncc.NccError) as caught:
        fn.save(tmp_path / name)
    assert (caught.value.code, caught.value.status) == ("E604", 2)
    assert all(f".{e}" in str(caught.value).split("help: ")[1].split() for e in (*ENDINGS, "nal"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ["o", "c", "h", "so", "ll"])
def test_save_with_the_weights_in_the_code(ending, tmp_path):
    graph = ncc.parse(FULL).graph
    fixed = ncc.Compiled(graph, passes={"params": graph.values, "embedded": True})
    fixed.save(tmp_path / f"net.{ending}")
    if ending in "och":
        text = (tmp_path / f"net.{'c' if ending == 'c' else 'h'}").read_text()
        assert "net_forward(const float *x, float *y, void *work)" in text
        assert "_pack(" not in text and "_backward(" not in text


# ---- representations, warnings


def test_repr_says_what_there_is_and_compiles_nothing(monkeypatch):
    net = ncc.parse(FULL)
    assert repr(net) == "Net(6 neurons, 7 edges, 9 parameters, 3 inputs, 1 outputs)"
    made = ncc.compile(net, numerics="strict", form="table", batch_form="straight")
    empty = ncc.compile(ncc.parse(NET), dtype="f64", threads=2, numerics="strict", form="straight",
                        batch_form="table", skip_dead=True)
    monkeypatch.setattr(runtime, "Build", None)
    assert repr(made) == ("Compiled(3 inputs -> 1 outputs, 6 neurons, 7 edges, 9 parameters, "
                          "f32 strict, one sample table, batch straight)")
    assert repr(empty) == ("SkipDead(3 inputs -> 1 outputs, 6 neurons, 7 edges, 9 parameters "
                           "without values, f64 strict, one sample straight, batch table, "
                           "2 threads)")


def test_repr_is_that_of_the_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("NCC_CACHE_DIR", str(tmp_path / "cache"))
    assert repr(ncc.compile(ncc.parse(FULL))) == repr(ncc.compile(ncc.parse(FULL)))


@pytest.mark.parametrize("how", [{}, {"threads": 2}, {"skip_dead": True}, {"dtype": "f64"}])
def test_our_own_lines_do_not_warn(how, monkeypatch):
    """Whatever the values, and whatever numpy is told to do about them."""
    monkeypatch.setattr(library, "PRODUCTS_A_THREAD", 0)
    huge = np.array([[1e300, -1e300, 1e-320], [np.nan, np.inf, -np.inf], [5e-324, 0, 3e38]])
    calls = [lambda f: f(huge), lambda f: f(huge[0]), lambda f: f(huge.tolist()),
             lambda f: f(np.zeros((0, 3))), lambda f: f(np.zeros((0, 3), np.float32)),
             lambda f: f(huge.astype(np.longdouble)), lambda f: f(huge.astype(object)),
             lambda f: f.vjp(huge)[1](np.full((3, 1), 1e300)),
             lambda f: f.vjp(huge[1])[1](np.ones(1)),
             lambda f: f.vjp(np.zeros((0, 3)))[1](np.zeros((0, 1))),
             lambda f: f.vjp(np.full((300, 3), 1e30))[1](np.full((300, 1), 2e36)),
             lambda f: setattr(f, "params", np.full(9, 5e-324)), lambda f: f.vjp(huge)]
    compiled = ncc.compile(ncc.parse(FULL), **how)
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        for call in calls:
            call(compiled)
        with pytest.raises(ValueError, match="not finite|overflows"):
            compiled.params = np.full(9, 1e300 if how.get("dtype") != "f64" else np.inf)


def test_a_dropped_function_gives_its_memory_back():
    made = ncc.compile(ncc.parse(FULL))
    got = made(X)
    kept = got.copy()
    del made
    for _ in range(5):
        ncc.compile(ncc.parse(FULL))(X)
    assert np.array_equal(got, kept)


def test_the_door_exports_what_it_says():
    assert sorted(ncc.__all__) == sorted(set(ncc.__all__))
    assert all(hasattr(ncc, name) for name in ncc.__all__)
    assert Path(ncc.__file__).with_name("py.typed").exists()


def test_an_error_names_the_module_that_users_import_it_from():
    with pytest.raises(ncc.NccError) as caught:
        ncc.parse("N 01\n00 rellu 00\n")
    assert "".join(traceback.format_exception_only(caught.value)).startswith("ncc.NccError: ")
    assert pickle.loads(pickle.dumps(ncc.NccError)) is ncc.NccError
