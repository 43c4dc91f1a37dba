"""Functions that crash or hang on some items; in a module of their own, so that a fresh process can import them."""

import ctypes
import os
import signal
import threading
import time

CRASH, HANG, RAISE, DIE_LATER = "crash", "hang", "raise", "die later"


def square(item: int | str) -> int:
    """The square of a number; a word does what it says to the process."""
    if item == CRASH:
        ctypes.string_at(0)  # reads address 0: a real segmentation fault
    if item == HANG:
        time.sleep(3600)
    if item == RAISE:
        raise RuntimeError("on purpose")
    if item == DIE_LATER:
        threading.Timer(0.1, os._exit, [7]).start()
        return 0
    if isinstance(item, str):
        os._exit(int(item))
    return item * item


def process_id(item: int) -> int:
    """Which process answers."""
    return os.getpid()


class DiesOnArrival:
    """A function whose process dies when it unpickles it, before it reads its first item."""

    def __call__(self, item: int) -> int:
        return item

    def __getstate__(self) -> dict[str, int]:
        return {"maker": os.getpid()}

    def __setstate__(self, state: dict[str, int]) -> None:
        if os.getpid() != state["maker"]:
            os._exit(9)


def die(item: object) -> None:
    """Ends the process, as the kernel does where memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
