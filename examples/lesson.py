"""What sparse_digits.py, rnn.py and conv.py share: a net, the samples it learns, the command line.

    python examples/NAME.py                     train with ncc.fit, print, fail where too little
                                                was learnt
    python examples/NAME.py --save FOLDER       train nothing: write NAME.nal, the net without
                                                values, and NAME.npz, the samples, and print the
                                                `ncc train` that does the same with them
    python examples/NAME.py --check FILE.npy    train nothing: print the same of these parameters
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import ncc


class Lesson(NamedTuple):
    """`text` is the net (.nal), x (samples, inputs) and y what it learns of, `how` the options of
    ncc.fit. `report` prints how well the net does that it is given, and says whether well enough.
    """

    name: str
    text: str
    x: Any
    y: Any
    how: dict[str, Any]
    report: Callable[[ncc.Compiled], bool]

    def main(self) -> None:
        parser = argparse.ArgumentParser(description=f"The lesson {self.name}.")
        parser.add_argument("--save", metavar="FOLDER", help="write the net and the samples")
        parser.add_argument("--check", metavar="FILE.npy", help="judge these parameters")
        arguments = parser.parse_args()
        if arguments.save:
            self.save(Path(arguments.save))
            return
        net = ncc.parse(self.text, name=f"{self.name}.nal")
        if arguments.check:
            fn = ncc.compile(net, params=np.load(arguments.check))
        else:
            fn, _ = ncc.fit(net, self.x, self.y, **self.how)
        if not self.report(fn):
            sys.exit(1)

    def save(self, folder: Path) -> None:
        (folder / f"{self.name}.nal").write_text(self.text)
        np.savez(folder / f"{self.name}.npz", x=self.x, y=self.y)
        options = " ".join(f"--{key} {value}" for key, value in self.how.items())
        print(f"ncc train {self.name}.nal --data {self.name}.npz --target {self.name}.npz "
              f"{options} -o {self.name}.npy")
