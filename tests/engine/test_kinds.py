"""Kinds of rows as text."""

from __future__ import annotations

import pytest

import ncc
from ncc.errors import NccError, Source
from ncc.images.kinds import Kind, Kinds, kinds_of
from ncc.images.kinds_text import joined, read, split


def kinds(text):
    return read(Source("kinds", text))


def test_lists_and_lines_say_the_same():
    wanted = Kinds((Kind("max", "relu(x)"), Kind("mean", "x"), Kind("sum", "max(x, 0.1*x)"),
                    Kind("sum", "sigmoid(x)"), Kind("sum", "tanh(x)")))
    assert kinds("sum:tanh,max:relu, mean:x,sigmoid ,sum: max(x, 0.1*x)") == wanted
    assert kinds("% kinds\nsum tanh % twice\ntanh\n\nmax 03\nmean identity,01\nmax(x, 0.1*x)") == \
        wanted
    assert kinds(str(wanted)) == wanted
    assert kinds("") == kinds("% none\n,\n") == Kinds(())


def test_kinds_of_a_net_read_back():
    graph = ncc.parse("N 05\nfn 20 x*sin(x)\n00\n01\n02 20 00:1,01:2\n03 gelu mean 02:3 +5\n"
                      "04 00 maxabs 02:1,03:1\n").graph
    found = kinds_of([graph])
    assert len(found.kinds) == 3 and kinds(str(found)) == found
    assert joined([found, kinds("sum:x*sin(x),tanh"), found]).kinds == tuple(sorted(
        {*found.kinds, Kind("sum", "tanh(x)")}))


def test_commas_in_parentheses_separate_nothing():
    assert split("a, b(c,d(e,f)),,g") == ["a", "b(c,d(e,f))", "g"]


@pytest.mark.parametrize("text, code, column", [
    ("sum:tanhh", "E613", 5), ("tanh,som:tanh", "E613", 6), ("sum:", "E613", 5),
    ("sum:20", "E613", 5), ("max:x,sum:x*y", "E201", 13), ("sum:tanh(x", "E001", 11),
    ("a b", "E001", 3),
])
def test_what_is_no_kind_is_refused_where_it_stands(text, code, column):
    with pytest.raises(NccError) as caught:
        kinds(f"tanh\n{text}")
    assert (caught.value.code, caught.value.line, caught.value.column) == (code, 2, column)
