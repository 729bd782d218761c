"""Which neuron each line of LLVM text computes, as debug locations: LLVM keeps them to the end."""

from __future__ import annotations

from collections.abc import Iterator

from ncc.ir.ssa import UNLINKED, Func

HEAD = (
    "!llvm.dbg.cu = !{!1}",
    "!llvm.module.flags = !{!3}",
    "!1 = distinct !DICompileUnit(language: DW_LANG_C, file: !2, "
    "emissionKind: DebugDirectivesOnly)",
    '!2 = !DIFile(filename: "neurons", directory: "")',
    '!3 = !{i32 2, !"Debug Info Version", i32 3}',
    "!4 = !DISubroutineType(types: !5)",
    "!5 = !{}",
)  # !0 is the loops'


class Links:
    """The metadata of a module's debug locations; none where no function has neurons. The line of a
    location is the number of a neuron and 1; that of code which computes none, or several, is 0, by
    which LLVM, too, says so.

    Only directives come of it (`.loc`), between instructions that are the same without.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, text: str) -> int:
        """The number of a new node."""
        if not self.lines:
            self.lines += HEAD
        self.lines.append(f"!{len(self.lines) - 1} = {text}")
        return len(self.lines) - 2

    def of(self, func: Func, lines: list[str]) -> Linked | None:
        """The links of a function whose body is written to `lines`; None where it has none."""
        return None if func.neurons is None else Linked(self, func.neurons, lines)


class Linked:
    """The links of a function that is being written."""

    def __init__(self, links: Links, neurons: list[int], lines: list[str]) -> None:
        self.links = links
        self.neurons = neurons
        self.lines = lines
        self.at = -1  # the op that is written
        self.made: list[int] = []  # of the lines before it: their neurons

    def begin(self, at: int) -> None:
        """What comes now are the lines of op number `at`; -1: of no op."""
        neuron = self.neurons[self.at] if self.at >= 0 else UNLINKED
        self.made += [neuron] * (len(self.lines) - len(self.made))
        self.at = at

    def end(self, symbol: str) -> tuple[str, list[str]]:
        """What the function's head says, and its lines, each instruction with its location."""
        self.begin(-1)
        scope = self.links.add(f'distinct !DISubprogram(name: "{symbol}", file: !2, unit: !1, '
                               "type: !4, spFlags: DISPFlagDefinition)")
        places = {neuron: self.links.add(f"!DILocation(line: {neuron + 1}, scope: !{scope})")
                  for neuron in dict.fromkeys(self.made)}
        return f" !dbg !{scope}", [*self._located(places)]

    def _located(self, places: dict[int, int]) -> Iterator[str]:
        for several, neuron in zip(self.lines, self.made, strict=True):
            for line in several.split("\n"):
                yield line if not line or line.endswith(":") else f"{line}, !dbg !{places[neuron]}"
