"""The lessons of examples/: that the nets are what they say; what they learn is in the guide."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.signal import correlate2d

import ncc
from ncc.cli import main

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))
import conv  # noqa: E402
import rnn  # noqa: E402
import sparse_digits  # noqa: E402
import wann  # noqa: E402
from digits import samples  # noqa: E402
from lesson import Lesson  # noqa: E402


def in_lists(net: ncc.Net) -> list[list[int]]:
    return [sorted(s.tolist()) for s in np.split(net.graph.sources, net.graph.starts[1:-1])]


@pytest.mark.parametrize(("name", "text"), [
    ("conv_4x4_k3.nam", conv.nal(4, 2, 3)), ("rnn_2x3_h4.nam", rnn.nal(3, 4, 2))])
def test_the_small_ones_are_the_matrices_that_they_grew_from(name: str, text: str) -> None:
    matrix, made = ncc.load(EXAMPLES / name), ncc.parse(text)
    assert in_lists(made) == in_lists(matrix)
    assert (made.inputs, made.outputs) == (matrix.inputs, matrix.outputs)


def test_the_sparse_net_is_sparse_and_everybody_reads_somebody() -> None:
    net = ncc.parse(sparse_digits.nal())
    widths = sparse_digits.WIDTHS
    dense = sum(a * b for a, b in zip(widths, widths[1:], strict=False))
    assert 0.049 * dense < net.n_edges <= 0.05 * dense
    firsts = np.cumsum([0, *widths])
    lists = in_lists(net)
    for k in range(1, len(widths)):
        for sources in lists[firsts[k] : firsts[k + 1]]:
            assert sources and len(set(sources)) == len(sources)
            assert firsts[k - 1] <= sources[0] and sources[-1] < firsts[k]
    assert net.outputs == list(range(firsts[-2], firsts[-1]))
    assert in_lists(ncc.parse(sparse_digits.nal(seed=1))) != lists


def test_the_recurrent_net_is_the_recurrence() -> None:
    steps, hidden = 5, 3
    net = ncc.parse(rnn.nal(steps, hidden))
    assert net.n_params == ncc.parse(rnn.nal(2 * steps, hidden)).n_params
    rng = np.random.default_rng(0)
    params = rng.standard_normal(net.n_params)
    values = {name: params[slot] for slot, name in net.graph.names.items()}
    u, v = [np.array([[values[f"{w}{i}_{k}"] for i in range(n)] for k in range(hidden)])
            for w, n in (("u", 2), ("v", hidden))]
    b = np.array([values[f"b{k}"] for k in range(hidden)])
    x = rng.standard_normal((4, steps, 2))
    state = np.zeros((4, hidden))
    for step in range(steps):
        state = np.tanh(x[:, step] @ u.T + state @ v.T + b)
    y = ncc.compile(net, params=params, dtype="f64")(x.reshape(4, -1))
    assert np.allclose(y[:, 0], state @ params[-hidden - 1 : -1] + params[-1], rtol=1e-12)


def test_a_net_without_memory_sees_the_last_step_alone_which_tells_nothing() -> None:
    net = ncc.parse(rnn.nal(4, 3, memory=False))
    x, y = rnn.sequences(50, 4, seed=0)
    dx, _ = net.graph.gradient(x, np.ones((50, 1)), np.ones(net.n_params), "f64")
    assert not dx[:, :-2].any() and dx[:, -2:].all()
    numbers, marks = x[:, 0::2], x[:, 1::2]
    assert not marks[:, -1].any() and (marks.sum(axis=1) == 2).all()
    assert marks.any(axis=0).sum() == 3
    assert np.array_equal(y[:, 0], (numbers * marks).sum(axis=1))


def test_the_convolution_is_one() -> None:
    net = ncc.parse(conv.nal(8, 2, 3, 4))
    rng = np.random.default_rng(0)
    params = rng.standard_normal(net.n_params)
    values = {name: params[slot] for slot, name in net.graph.names.items() if "_" in name}
    biases = {net.graph.names[int(s)]: params[s] for s in net.graph.biases
              if int(s) in net.graph.names}
    image = rng.random((8, 8))
    read = []
    for f in range(2):
        picture = image
        for name in (f"p{f}", f"q{f}"):
            kernel = np.array([[values[f"{name}_{v}{u}"] for u in range(3)] for v in range(3)])
            picture = np.maximum(correlate2d(picture, kernel, "same") + biases[name], 0)
        read.append(picture.reshape(2, 4, 2, 4).mean(axis=(1, 3)).ravel())
    last = params[-3 * 9 :].reshape(3, 9)
    expected = last[:, :8] @ np.concatenate(read) + last[:, 8]
    y = ncc.compile(net, params=params, dtype="f64")(image.ravel())
    assert np.allclose(y, expected, rtol=1e-12)


def test_the_sum_over_the_untied_copy_would_show_an_edge_that_is_left_out(
        monkeypatch: pytest.MonkeyPatch) -> None:
    text = conv.nal(4, 2, 3, 2)
    params = np.random.default_rng(0).standard_normal(ncc.parse(text).n_params)
    x = np.random.default_rng(1).random((5, 16))
    assert conv.difference(text, params, x) < conv.EXACT
    whole = conv.spread

    def wrong(tied: ncc.Net, own: ncc.Net) -> np.ndarray:
        slots = whole(tied, own)
        slots[20] = slots[-1]
        return slots

    monkeypatch.setattr(conv, "spread", wrong)
    assert conv.difference(text, params, x) > conv.EXACT


def test_the_command_that_is_printed_trains_as_the_lesson_does(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = rnn.lesson()
    short = whole._replace(x=whole.x[:64], y=whole.y[:64], how={**whole.how, "epochs": 2})
    short.save(Path("."))
    words = shlex.split(capsys.readouterr().out)
    assert words[0] == "ncc"
    assert main([*words[1:], "--quiet"]) == 0
    fn, _ = ncc.fit("rnn.nal", short.x, short.y, **short.how)
    assert np.array_equal(np.load("rnn.npy"), fn.params)


def test_who_learnt_nothing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                  capsys: pytest.CaptureFixture[str]) -> None:
    lesson: Lesson = sparse_digits.lesson()
    np.save(tmp_path / "zeros.npy", np.zeros(ncc.parse(lesson.text).n_params))
    monkeypatch.setattr(sys, "argv", ["sparse_digits.py", "--check", str(tmp_path / "zeros.npy")])
    with pytest.raises(SystemExit) as stop:
        lesson.main()
    assert stop.value.code == 1
    assert "density 5.00%" in capsys.readouterr().out


# ---- weight-agnostic search


def pictures() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    pytest.importorskip("sklearn")
    x, held, labels, held_labels = samples()
    return x.astype(np.float32), held.astype(np.float32), labels, held_labels


def reference(net: wann.Genome, x: np.ndarray, weight: float) -> np.ndarray:
    """(pictures, 10) scores by the compiler, of the net as a text."""
    order = np.concatenate([np.arange(wann.INPUTS), wann.FIXED + np.argsort(
        net.place[wann.FIXED:]), np.arange(wann.INPUTS, wann.FIXED)])
    names = np.argsort(order)
    outputs = ",".join(f"{names[j]:02x}" for j in range(wann.INPUTS, wann.FIXED))
    lines = [f"N {len(order):x}", f"out {outputs}", *(f"{k:02x}" for k in range(wann.INPUTS))]
    for j in order[wann.INPUTS:].tolist():
        sources = net.edges[net.edges % wann.MANY == j] // wann.MANY
        listed = ",".join(f"{names[i]:02x}:={weight!r}" for i in sources)
        lines.append(f"{names[j]:02x} {net.activation[j]:02x} {listed}")
    y = ncc.compile(ncc.parse("\n".join(lines) + "\n"), dtype="f64")(x.astype(float))
    return wann.SIZE * y / y.std()


def test_a_few_generations_of_the_search() -> None:
    x, held, labels, held_labels = pictures()
    rng = np.random.default_rng(0)
    before = wann.costs([wann.seed_net(rng)], x, labels)[0]
    net = wann.search(x, labels, 12, seed=0)
    again = wann.search(x, labels, 12, seed=0)
    assert all(np.array_equal(a, b) for a, b in zip(net, again, strict=True))
    assert wann.costs([net], x, labels)[0] < before - 1
    source, target = np.divmod(net.edges, wann.MANY)
    assert len(np.unique(net.edges)) == len(net.edges) > 30
    assert (net.place[source] < net.place[target]).all()
    assert set(range(wann.INPUTS, len(net.place))) == set(target.tolist())
    pop = wann.population([net, net])
    for weight in wann.WEIGHTS:
        got = wann.scores(pop, held, weight)
        assert np.allclose(got[1], reference(net, held, weight), atol=1e-3)
    each, ensemble = wann.report(net, held, held_labels, "held out")
    assert each.mean() > 0.15 and ensemble > each.mean()
    fn = wann.trained(net, x, labels, epochs=5)
    assert (fn(held).argmax(1) == held_labels).mean() > each.max()

    picture = ElementTree.fromstring(wann.drawn(net))
    tags = [child.tag.rpartition("}")[2] for child in picture]
    assert tags.count("path") == len(net.edges)
    assert tags.count("circle") == len(net.place) + len(wann.NAMES)
    assert tags.count("text") == wann.OUTPUTS + len(wann.NAMES)
    for child in picture:
        if child.tag.endswith("circle"):
            assert 5 < float(child.get("cx")) < 915 and 5 < float(child.get("cy")) < 425


@pytest.mark.parametrize("seed", range(5))
def test_every_change_leaves_a_net(seed: int) -> None:
    """Whatever is done together: no cycle, no edge twice, nobody without edges."""
    rng = np.random.default_rng(seed)
    net = wann.seed_net(rng)
    for _ in range(10):
        changes = [wann.drawn_change(net, rng) for _ in range(20)]
        for change in changes:
            net = change(net)
        wann.population([net])  # refuses cycles and neurons without edges
        assert len(np.unique(net.edges)) == len(net.edges)
        net = wann.tidy(net)
        read = set((net.edges // wann.MANY).tolist())
        assert read >= set(range(wann.FIXED, len(net.place)))
        assert len(wann.population([net])[0].outputs) == wann.OUTPUTS


@pytest.mark.slow
def test_the_search_reaches_what_it_must(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    """Held out: a mean of 65 %, better together, 90 % trained; and 8 kB."""
    pictures()
    monkeypatch.setattr(sys, "argv", ["wann.py", "--out", str(tmp_path)])
    wann.main()
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert main(["build", "wann.nal", "--no-backward", "--target", "cortex-m4", "-o", "w.o"]) == 0
    assert 2000 < int(capsys.readouterr().err.split("flash ")[1].split()[0]) < 8000
