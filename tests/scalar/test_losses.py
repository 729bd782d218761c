"""Losses against torch: values, slopes, kinks, extremes; and the same ops from every emitter."""

from __future__ import annotations

import numpy as np
import pytest
from gradients import torch_loss

from ncc.errors import NccError
from ncc.scalar import losses
from ncc.scalar.numpy_eval import Numpy

REL = {"f32": 1e-5, "f64": 1e-12}
PLAIN = ["mse", "mae", "huber", "huber:delta=0.25", "bce"]


def softmax_pieces(e, y, t):
    """The three loops of `ce` over samples y (n, k): losses (n,), slopes (n, k)."""
    numbers = [e.const(float(k)) for k in range(y.shape[1])]
    columns = list(y.T)
    top = chosen = columns[0]
    for column in columns[1:]:
        top = losses.ce_top(e, top, column)
    for k, column in zip(numbers, columns, strict=True):
        chosen = losses.ce_gather(e, chosen, column, k, t)
    terms = [losses.ce_term(e, column, top) for column in columns]
    total = terms[0]
    for term in terms[1:]:
        total = e.op("add", total, term)
    slopes = [losses.ce_derivative(e, term, total, k, t)
              for term, k in zip(terms, numbers, strict=True)]
    return losses.ce_loss(e, total, top, chosen), np.stack(slopes, 1)


def ours(loss, dtype, fused, y, t):
    """Mean loss and slopes, of samples y (n, k)."""
    e = Numpy(dtype, fused)
    values, slopes = (softmax_pieces(e, y, t) if loss.name == "ce"
                      else losses.element(e, loss, y, t))
    divisor = len(y) * losses.scale(loss, y.shape[1])
    assert np.asarray(values).dtype == np.asarray(slopes).dtype == y.dtype
    return np.sum(values, dtype=np.float64) / divisor, np.asarray(slopes, np.float64) / divisor


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("spelt", [*PLAIN, "ce"])
def test_value_and_slope_are_torchs(spelt, dtype, fused):
    torch = pytest.importorskip("torch")
    loss = losses.parse(spelt)
    random = np.random.default_rng(5)
    real = np.float32 if dtype == "f32" else np.float64
    for size in (0.01, 1.0, 30.0):
        y = (size * random.standard_normal((33, 7))).astype(real)
        if loss.name == "ce":
            labels = random.integers(0, 7, 33)
            t, target = labels.astype(real), torch.tensor(labels)
        else:
            t = random.random((33, 7)).astype(real)
            t[::2] = np.round(t[::2])
            target = torch.tensor(t)
        given = torch.tensor(y, requires_grad=True)
        wanted = torch_loss(torch, loss, given, target)
        wanted.backward()
        value, slopes = ours(loss, dtype, fused, y, t)
        assert value == pytest.approx(wanted.item(), rel=REL[dtype])
        # Where sigmoid(y) - t cancels, a few last places of 1 are left.
        np.testing.assert_allclose(slopes, given.grad.numpy(), rtol=REL[dtype],
                                   atol=REL[dtype] / 20 / y.size)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_kinks_have_torchs_slope(dtype):
    torch = pytest.importorskip("torch")
    real = np.float32 if dtype == "f32" else np.float64
    t = np.zeros((1, 8), real)
    y = np.array([[0.0, -0.0, 1.0, -1.0, 0.25, -0.25, 1e-30, -1e-30]], real)
    for spelt in PLAIN:
        loss = losses.parse(spelt)
        given = torch.tensor(y, requires_grad=True)
        torch_loss(torch, loss, given, torch.tensor(t)).backward()
        slopes = ours(loss, dtype, True, y, t)[1]
        np.testing.assert_allclose(slopes, given.grad.numpy(), rtol=1e-6, atol=0)
    assert (losses.element(Numpy(dtype, True), losses.parse("mae"), y, t)[1][0, :2] == 0).all()


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("spelt", [*PLAIN, "ce"])
def test_extreme_outputs_give_numbers(spelt, dtype, fused):
    torch = pytest.importorskip("torch")
    loss = losses.parse(spelt)
    real = np.float32 if dtype == "f32" else np.float64
    ends = np.array([-1e4, 1e4, -1e4, 1e4, 0, -88.8, 88.8, -104, -746], real)
    y = np.stack([ends, ends[::-1], ends + 1], 1)
    t = (np.arange(len(y)) % 3).astype(real) if loss.name == "ce" else np.round(
        np.random.default_rng(0).random(y.shape)).astype(real)
    target = torch.tensor(t).long() if loss.name == "ce" else torch.tensor(t)
    value, slopes = ours(loss, dtype, fused, y, t)
    assert np.isfinite(value) and np.isfinite(slopes).all()
    given = torch.tensor(y, requires_grad=True)
    wanted = torch_loss(torch, loss, given, target)
    wanted.backward()
    assert value == pytest.approx(wanted.item(), rel=REL[dtype])
    np.testing.assert_allclose(slopes, given.grad.numpy(), rtol=REL[dtype], atol=REL[dtype] / 200)


@pytest.mark.parametrize("spelt", PLAIN)
def test_a_nan_stays(spelt):
    for y, t in ((np.nan, 1.0), (1.0, np.nan)):
        for made in losses.element(Numpy("f64", False), losses.parse(spelt), np.float64(y),
                                   np.float64(t)):
            assert np.isnan(made)


def test_large_classes_and_equal_outputs():
    e = Numpy("f32", True)
    y = np.zeros((1, 1000), np.float32)
    value, slopes = softmax_pieces(e, y, np.float32([999]))
    assert value[0] == pytest.approx(np.log(1000), rel=1e-6)
    assert slopes[0, 999] == pytest.approx(-0.999, rel=1e-6)
    assert slopes.sum() == pytest.approx(0, abs=1e-5)


def test_targets_and_scale():
    assert losses.targets(losses.parse("ce"), 10) == 1
    assert losses.scale(losses.parse("ce"), 10) == 1
    for name in PLAIN:
        assert losses.targets(losses.parse(name), 10) == losses.scale(losses.parse(name), 10) == 10
    with pytest.raises(NccError, match="two classes"):
        losses.targets(losses.parse("ce"), 1)


def test_names():
    assert losses.parse("cross_entropy").name == "ce"
    assert losses.parse("huber").option("delta") == 1
    for text in ("huber:delta=0.1", "mse", "ce"):
        assert losses.parse(str(losses.parse(text))) == losses.parse(text)
    for text, word in [("mes", "did you mean mse"), ("", "one of mse"), ("mse:delta=1", "has none"),
                       ("huber:delta=0", "0 < value"), ("huber:delta=-1", "value"),
                       ("huber:dleta=1", "did you mean delta"), ("huber:delta", "no number"),
                       ("huber:delta=nan", "no number"), ("huber:delta=1e999", "finite"),
                       ("huber:delta=1:delta=1", "twice")]:
        with pytest.raises(NccError) as caught:
            losses.parse(text)
        assert caught.value.code == "E630" and caught.value.status == 2
        assert word in str(caught.value)
