"""Compiled functions that belong to no net: made once in a process, or brought by a pickle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ncc.machine import cache
from ncc.machine.cache import Carried, Entry
from ncc.machine.llvm import Loaded, Machine, host


class Helper:
    """The functions `symbols` of one LLVM text, which `text` writes."""

    def __init__(self, symbols: Sequence[str], text: Callable[[], str]) -> None:
        self.symbols = list(symbols)
        self._text = text
        self._brought: Carried | None = None
        self._made: tuple[Entry, Loaded] | None = None

    def loaded(self) -> Loaded:
        """The functions in this process; threads that ask for them first at once make them each."""
        return self._entry()[1]

    def carried(self) -> Carried | None:
        """What a pickle is to carry, so that who opens it need not compile the functions."""
        return cache.carried(self._entry()[0])

    def bring(self, given: Carried | None) -> None:
        """Take the functions from a pickle, where they are not made yet and are this machine's."""
        if self._made is None and given is not None:
            self._brought = given

    def forget(self) -> None:
        """Make them anew when they are asked for; who has them keeps them."""
        self._made = self._brought = None

    def _entry(self) -> tuple[Entry, Loaded]:
        made = self._made
        if made is None:
            text = self._text()
            name = cache.key("helper", text, host())
            entry = cache.brought(self._brought, name) or replace(
                Entry(Machine(host()).object(text), {}), name=name)
            made = self._made = entry, Loaded(entry.code, self.symbols)
            self._brought = None
        return made


def _call_text() -> str:
    lines = ["define void @call(ptr %a) {", "  %f = load ptr, ptr %a"]
    for k in range(1, 6):
        lines += [f"  %at{k} = getelementptr ptr, ptr %a, i64 {k}",
                  f"  %p{k} = load ptr, ptr %at{k}"]
    passed = ", ".join([f"ptr %p{k}" for k in range(1, 6)])
    lines += [f"  tail call void %f({passed})", "  ret void", "}", ""]
    return "\n".join(lines)


# `call(a)` calls the function a[0] with the pointers a[1], ..., a[5]: ctypes takes as long to make
# four arguments as all else of a small net's call. One that takes fewer does not look at the
# others, in the C conventions of every machine that ncc runs on.
CALL = Helper(["call"], _call_text)
