"""Dead samples: the pieces of a net are the net, and leaving samples out changes no bit."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from nets import inputs_for, nets, to_nal
from reference import Net

import ncc
from ncc.cli import main
from ncc.ir.graph import Graph
from ncc.machine.native import Library
from ncc.runtime import skip_dead as dead
from ncc.runtime.compiled import Compiled
from ncc.runtime.skip_dead import SkipDead, cuts, pieces


def bits(a: Any) -> bytes:
    """NaN payloads aside."""
    array = np.asarray(a)
    return bytes(np.where(np.isnan(array), np.array(np.nan, array.dtype), array).tobytes())


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut after every level, however little it saves."""
    monkeypatch.setattr(dead, "EDGES_TO_CROSS", 0)
    monkeypatch.setattr(dead, "GROWTH", 1)


def layers(width: int, depth: int, bias: str, fan_in: int = 8, activation: str = "relu") -> str:
    """A net of layers, weights trainable and positive."""
    rng = np.random.default_rng(0)
    count = width * (depth + 1)
    lines = [f"N {count:x}", *(f"{j:x}" for j in range(width))]
    for j in range(width, count):
        base = (j // width - 1) * width
        edges = sorted(rng.choice(width, fan_in, replace=False) + base)
        lines.append(f"{j:x} {activation} " + ",".join(f"{i:x}:0.25" for i in edges) + f" {bias}")
    return "\n".join(lines) + "\n"


@given(nets().flatmap(lambda net: inputs_for(net, wild=True).map(lambda x: (net, x))))
def test_pieces_are_the_net(drawn: tuple[Net, Any]) -> None:
    net, x = drawn
    graph = ncc.parse(to_nal(net)).graph
    params = np.random.default_rng(1).normal(size=graph.n_params)
    assert graph.levels is not None
    depth = int(graph.levels.max())
    for levels in ([], list(range(1, depth)), [depth // 2] if depth > 1 else []):
        values = np.atleast_2d(np.asarray(x, np.float32))
        parts = pieces(graph, levels)
        assert len(parts) == len(levels) + 1
        for piece, slots in parts:
            piece.verify()
            assert piece.n_params == len(slots)
            values = piece.run(values, params[slots])
        assert bits(values) == bits(graph.run(np.atleast_2d(x), params))
        # Constant neurons apart, each neuron is computed once.
        edges = sum(piece.n_edges for piece, _ in parts)
        assert edges == graph.n_edges


def test_where_the_cuts_are() -> None:
    deep = ncc.parse(layers(64, 40, "+-0.3", 32)).graph
    found = cuts(deep)
    assert found == [1, 2, 4, 8, 16]
    assert cuts(ncc.parse(layers(64, 40, "+-0.3", 8)).graph)[0] == 2  # less to be won in a layer
    assert cuts(ncc.parse("N 03\n00\n01 relu 00\n02 relu 01\n").graph) == []
    # 512 inputs are read at the end once more, so they cross every cut.
    count = 512 + 64 * 9
    rng = np.random.default_rng(0)
    lines = [f"N {count + 1:x}", *(f"{j:x}" for j in range(512))]
    for j in range(512, count):
        begin, size = (0, 512) if j < 576 else ((j // 64 - 1) * 64, 64)
        sources = sorted(rng.choice(size, 16, replace=False) + begin)
        lines.append(f"{j:x} relu " + ",".join(f"{i:x}" for i in sources))
    last = ",".join(f"{i:x}" for i in [*range(512), *range(count - 64, count)])
    skips = ncc.parse("\n".join([*lines, f"{count:x} relu {last}"]) + "\n").graph
    assert cuts(skips) == []
    with pytest.raises(ValueError, match="levels"):
        cuts(deep.with_(levels=None))


def compiled(text: str, **options: Any) -> tuple[Compiled, SkipDead]:
    net = ncc.parse(text)
    fn = ncc.compile(net, skip_dead=True, **options)
    assert isinstance(fn, SkipDead)
    return ncc.compile(net, **options), fn


def dying(n: int, width: int) -> Any:
    """Samples of very different sizes: some die at once, some late, some never."""
    rng = np.random.default_rng(n)
    x = rng.random((n, width), np.float32) * rng.choice([0, 0.05, 0.085, 0.09, 0.2, 50], (n, 1))
    return x.astype(np.float32)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.each_choice
def test_bits_of_any_batch(dtype: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, fn = compiled(layers(40, 12, "+-0.3", 30), dtype=dtype, threads=threads)
    assert len(fn._parts) > 3
    monkeypatch.setattr(dead, "BLOCK_BYTES", 64 * 40 * 8)
    monkeypatch.setattr(dead, "CHUNK_BYTES", 192 * 40 * 8)
    for n in (0, 1, 2, 63, 64, 65, 200, 1000):
        x = dying(n, 40)
        y = whole(x)
        assert fn(x).tobytes() == y.tobytes()
    assert 0.1 < y.any(axis=1).mean() < 0.9
    assert fn(x[5]).tobytes() == whole(x[5]).tobytes()
    assert fn(np.zeros((100, 40))).tobytes() == whole(np.zeros((100, 40))).tobytes()


def test_samples_do_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    _, fn = compiled(layers(40, 12, "+-0.3", 30))
    seen: dict[int, int] = {}
    call = dead._call

    def counted(part: Library, packed: Any, x: Any, *rest: Any) -> Any:
        seen[id(part)] = seen.get(id(part), 0) + len(x)
        return call(part, packed, x, *rest)

    monkeypatch.setattr(dead, "_call", counted)
    x = dying(1000, 40)
    y = fn(x)
    alive = int(y.any(axis=1).sum())
    counts = list(seen.values())
    assert counts[0] == 1000 and counts == sorted(counts, reverse=True)
    assert alive <= counts[-1] < 700
    fn(np.zeros((1000, 40)))
    assert list(seen.values())[1:] == counts[1:]  # nothing goes past the first cut


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("text", [
    # What follows does not keep zero at zero: a dead sample's outputs are those of zeros.
    "N 05\n00\n01\n02 relu 00:1,01:1 +-1\n03 tanh 02:2 +0.5\n04 sigmoid 03:1 +0.25\n",
    # -0 is not +0: its reciprocal is -inf.
    "N 04\n00\n01 identity 00:-1\n02 identity 01:1\n03 recip 02:1\n",
    # An input and an output cross the cuts.
    "N 06\nout 02,05\n00\n01\n02 relu 00:1 +-1\n03 relu 02:1\n04 relu 03:1\n05 relu 04:1,01:1\n",
    # A constant neuron, read far from where it stands, is no sign of life.
    "N 06\n00\n01 relu 00:1 +-1\n02 00 +=0.5\n03 relu 01:1\n04 relu 03:1\n05 relu 04:1,02:2\n",
    # Nothing comes of zeros but NaN.
    "N 05\n00\n01 relu 00:1 +-1\n02 relu 01:1\n03 log 02:-0.5\n04 identity 03:1\n",
])
def test_what_comes_of_the_dead(text: str) -> None:
    whole, fn = compiled(text)
    assert len(fn._parts) == int(fn.graph.levels.max())  # type: ignore[union-attr]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, len(fn.graph.inputs))).astype(np.float32)
    x[::3] = 0
    x[1::7] = -0.0
    x[5] = np.nan
    x[6] = np.inf
    assert bits(fn(x)) == bits(whole(x))


@pytest.mark.usefixtures("everywhere")
@settings(max_examples=min(8, settings.default.max_examples),
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(nets().flatmap(lambda net: inputs_for(net, wild=True).map(lambda x: (net, x))))
def test_random_nets(drawn: tuple[Net, Any]) -> None:
    net, x = drawn
    whole, fn = compiled(to_nal(net))
    params = np.random.default_rng(1).normal(size=whole.graph.n_params)
    whole.params = params
    fn.params = params
    x = np.atleast_2d(np.asarray(x, np.float32))
    x = np.concatenate([x, np.zeros_like(x), -x])
    with np.errstate(all="ignore"):
        assert bits(fn(x)) == bits(whole(x))


def test_parameters_can_be_missing_and_change() -> None:
    text = layers(40, 8, "+@b", 30)
    net = ncc.parse(text)
    assert net.params is None
    fn, whole = ncc.compile(net, skip_dead=True), ncc.compile(net)
    x = dying(200, 40)
    with pytest.raises(ValueError, match="set fn.params"):
        fn(x)
    for bias in (-0.3, 0.25):
        params = np.where(np.isnan(net.graph.values), bias, net.graph.values)
        fn.params = whole.params = params
        assert fn(x).tobytes() == whole(x).tobytes()
        (y, pull), (expected, wholly) = fn.vjp(x), whole.vjp(x)
        assert y.tobytes() == expected.tobytes()
        for one, two in zip(pull(y), wholly(y), strict=True):
            assert one.tobytes() == two.tobytes()
        assert np.array_equal(fn.params, params)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the net wants"):
        fn.params = params[1:]
    with pytest.raises(ValueError, match="the net wants"):
        fn(x[:, 1:])


def test_pickles() -> None:
    _, fn = compiled(layers(40, 8, "+-0.3", 30))
    again = pickle.loads(pickle.dumps(fn))
    x = dying(100, 40)
    assert type(again) is SkipDead and again(x).tobytes() == fn(x).tobytes()


def test_a_small_net_stays_whole() -> None:
    whole, fn = compiled("N 03\n00\n01 relu 00:1\n02 relu 01:1\n")
    assert fn._parts == [] and fn([[2.0], [-1.0]]).tolist() == whole([[2.0], [-1.0]]).tolist()


def test_a_fault_in_a_thread_is_not_lost() -> None:
    _, fn = compiled(layers(40, 8, "+-0.3", 30))
    seen: list[int] = []

    def part(k: int, first: int, last: int) -> None:
        seen.append(last)
        if k == 2:
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        fn._library.at_once(part, [(0, 3), (3, 6), (6, 10)])
    assert sorted(seen) == [3, 6, 10]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, x = tmp_path / "net.nal", tmp_path / "x.npy"
    path.write_text(layers(40, 8, "+-0.3", 30))
    np.save(x, dying(300, 40))
    for more in ([], ["--skip-dead"]):
        y = str(tmp_path / f"y{len(more)}.npy")
        assert main(["run", str(path), "--input", str(x), "-o", y, "--threads", "2", *more]) == 0
    one, two = np.load(tmp_path / "y0.npy"), np.load(tmp_path / "y1.npy")
    assert one.tobytes() == two.tobytes() and 0 < one.any(axis=1).mean() < 1
    (tmp_path / "net.ssa").write_text("")
    assert main(["run", str(tmp_path / "net.ssa"), "--input", str(x), "--skip-dead"]) == 2
    assert "--skip-dead is for nets" in capsys.readouterr().err


def test_a_graph_of_pieces_has_no_state() -> None:
    """The same net gives the same pieces, and is not touched."""
    graph = ncc.parse(layers(40, 8, "+-0.3", 30)).graph
    before = str(graph)
    one, two = pieces(graph, [1, 4]), pieces(graph, [1, 4])
    assert [str(p.graph) for p in one] == [str(p.graph) for p in two] and str(graph) == before
    assert isinstance(one[0].graph, Graph) and len(one) == 3
