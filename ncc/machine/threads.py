"""Threads that call compiled functions beside the caller's, without Python on their way.

To wake a thread takes the system some 50 microseconds, and to hand it a Python function as long
again: as much as a batch of 500 samples of a small net takes. So a worker that has
done its part looks a while for the next before it goes to sleep, in machine code, without the GIL;
and who called it looks a while for its end.

A worker's box is words that both look at:

    posted   how many calls were asked for
    done     how many were made
    awake    1 while the worker looks
    function, its arguments
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Sequence
from queue import SimpleQueue

import numpy as np

from ncc.machine.helpers import Helper
from ncc.machine.llvm import host

ARGUMENTS = 8  # at most
# How often who waits looks, for 50 to 200 microseconds, before it leaves the core to others. Behind
# a batch that filled the caches, Python takes a hundred for the way to the next.
LOOKS = 5000
NAP = 5e-5  # seconds between looks after that

_WORD = np.dtype(np.uintp)
_PAUSES = {"x86_64": "llvm.x86.sse2.pause()", "aarch64": "llvm.aarch64.hint(i32 1)"}
_TEXT = """\
define void @serve(ptr %box, WORD %looks) {
entry:
  %posted = getelementptr WORD, ptr %box, i32 0
  %done = getelementptr WORD, ptr %box, i32 1
  %awake = getelementptr WORD, ptr %box, i32 2
  store atomic WORD 1, ptr %awake seq_cst, align SIZE
  br label %begin
begin:
  %d = load atomic WORD, ptr %done monotonic, align SIZE
  br label %look
look:
  %i = phi WORD [ 0, %begin ], [ %next, %again ]
  %p = load atomic WORD, ptr %posted seq_cst, align SIZE
  %asked = icmp ne WORD %p, %d
  br i1 %asked, label %work, label %wait
wait:
  PAUSE
  %next = add WORD %i, 1
  %over = icmp uge WORD %next, %looks
  br i1 %over, label %sleep, label %again
again:
  br label %look
work:
  %at = getelementptr WORD, ptr %box, i32 3
  %f = load ptr, ptr %at
  LOADS
  call void %f(ARGUMENTS)
  store atomic WORD %p, ptr %done release, align SIZE
  br label %begin
sleep:
  store atomic WORD 0, ptr %awake seq_cst, align SIZE
  %last = load atomic WORD, ptr %posted seq_cst, align SIZE
  %late = icmp ne WORD %last, %d
  br i1 %late, label %entry.again, label %end
entry.again:
  store atomic WORD 1, ptr %awake seq_cst, align SIZE
  br label %begin
end:
  ret void
}
define i32 @post(ptr %box) {
  %done = getelementptr WORD, ptr %box, i32 1
  %awake = getelementptr WORD, ptr %box, i32 2
  %d = load atomic WORD, ptr %done monotonic, align SIZE
  %p = add WORD %d, 1
  store atomic WORD %p, ptr %box seq_cst, align SIZE
  %a = load atomic WORD, ptr %awake seq_cst, align SIZE
  %r = trunc WORD %a to i32
  ret i32 %r
}
define i32 @ended(ptr %box, WORD %looks) {
entry:
  %done = getelementptr WORD, ptr %box, i32 1
  %p = load atomic WORD, ptr %box monotonic, align SIZE
  br label %look
look:
  %i = phi WORD [ 0, %entry ], [ %next, %wait ]
  %d = load atomic WORD, ptr %done acquire, align SIZE
  %same = icmp eq WORD %p, %d
  br i1 %same, label %yes, label %wait
wait:
  PAUSE
  %next = add WORD %i, 1
  %over = icmp uge WORD %next, %looks
  br i1 %over, label %no, label %look
yes:
  ret i32 1
no:
  ret i32 0
}
DECLARE
"""


def _text() -> str:
    word = f"i{8 * _WORD.itemsize}"
    pause = _PAUSES.get(host().triple.split("-")[0])
    numbers = range(ARGUMENTS)
    loads = "\n  ".join(f"%at{k} = getelementptr WORD, ptr %box, i32 {4 + k}\n"
                        f"  %a{k} = load WORD, ptr %at{k}" for k in numbers)
    return (_TEXT.replace("PAUSE", f"call void @{pause}" if pause else "")
            .replace("DECLARE", f"declare void @{pause}".replace("i32 1", "i32") if pause else "")
            .replace("LOADS", loads)
            .replace("ARGUMENTS", ", ".join(f"WORD %a{k}" for k in numbers))
            .replace("WORD", word).replace("SIZE", str(_WORD.itemsize)))


WORKER = Helper(["serve", "post", "ended"], _text)


class Worker:
    """A thread and its box. `number` is its own among those of the process."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._code = WORKER.loaded()  # kept: it owns the functions
        at, box, looks = self._code.addresses, ctypes.c_void_p, ctypes.c_size_t
        self._serve = ctypes.CFUNCTYPE(None, box, looks)(at["serve"])
        # With the GIL, as it takes no time.
        self._post = ctypes.PYFUNCTYPE(ctypes.c_int, box)(at["post"])
        self._ended = ctypes.CFUNCTYPE(ctypes.c_int, box, looks)(at["ended"])
        self._box = np.zeros(4 + ARGUMENTS, _WORD)
        self._at = self._box.ctypes.data
        self._wake: SimpleQueue[None] = SimpleQueue()
        threading.Thread(target=self._run, name=f"ncc-{number}", daemon=True).start()

    def _run(self) -> None:
        while True:
            self._wake.get()
            self._serve(self._at, LOOKS)

    def post(self, function: int, arguments: Sequence[int | None]) -> None:
        """Call the function at an address, with pointers and counts. The last call has ended."""
        self._box[3 : 4 + len(arguments)] = [function, *[a or 0 for a in arguments]]
        if not self._post(self._at):
            self._wake.put(None)

    def join(self) -> None:
        """Come back when the call has ended, whatever is raised meanwhile, which is raised then:
        it writes to memory of the caller's."""
        raised: BaseException | None = None
        while not self._ended(self._at, LOOKS):
            try:
                time.sleep(NAP)
            except BaseException as error:
                raised = error
        if raised is not None:
            raise raised


_idle: list[Worker] = []
_lock = threading.Lock()
_made = 0


def hire() -> Worker | None:
    """A worker that nobody else has until `release`; None where each core has one at work."""
    global _made
    try:
        return _idle.pop()
    except IndexError:
        pass
    with _lock:
        if _made >= (os.cpu_count() or 1) or not threading.main_thread().is_alive():
            return None  # Python starts no more threads as it ends
        _made += 1
        return Worker(_made - 1)


def release(worker: Worker) -> None:
    _idle.append(worker)


def _forget() -> None:
    """A fork has no threads but its own."""
    global _made, _lock
    _lock, _made = threading.Lock(), 0
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
