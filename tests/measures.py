"""What the sweeps of the tests measure: importable, so that other processes find it."""

import os
import time
from pathlib import Path

from tinygrad_rnn.atlas import rng_of


def noisy(configuration):
    """A number that depends on the configuration alone; fails where x is 3."""
    if configuration["x"] == 3:
        raise ZeroDivisionError("x is 3")
    return {"square": configuration["x"] ** 2, "drawn": float(rng_of(configuration).random())}


def logged(configuration, folder, seconds=0.0):
    """As `noisy`, and every call leaves a line in a file of its process."""
    with open(Path(folder) / f"{os.getpid()}.log", "a", encoding="utf-8") as file:
        file.write(f"{configuration['x']}\n")
    time.sleep(seconds)
    return noisy(configuration)


def held(configuration, folder):
    """As `logged`, but from x = 10 on it does not end before the folder has a file `go`: so it can be killed."""
    found = logged(configuration, folder)
    while configuration["x"] >= 10 and not (Path(folder) / "go").exists():
        time.sleep(0.01)
    return found


def calls(folder):
    """How often each x was measured, in all processes."""
    lines = [int(x) for log in Path(folder).glob("*.log") for x in log.read_text(encoding="utf-8").split()]
    return {x: lines.count(x) for x in lines}


def deadly(configuration):
    """End the process where x is 5."""
    if configuration["x"] == 5:
        os._exit(1)
    return configuration["x"]


def unpicklable_result(configuration):
    """A text that no process can send back."""
    return {"value": Stubborn("text") if configuration["x"] == 3 else "text"}


class Stubborn(str):
    def __reduce__(self):
        raise TypeError("stays where it is")
