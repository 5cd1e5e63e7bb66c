"""What the command lines of the benchmarks take: types for argparse."""

import argparse
import re


def positive(text: str) -> int:
    """A number of 1 or more."""
    if not (text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r}: give a number of 1 or more")
    return int(text)


def size(text: str) -> tuple[int, int]:
    """(H, W) of "HxW", both multiples of 16, as the networks halve a map up to four times."""
    sides = re.fullmatch("([1-9][0-9]*)x([1-9][0-9]*)", text)
    if not sides or any(int(side) % 16 for side in sides.groups()):
        raise argparse.ArgumentTypeError(f"{text!r}: give HEIGHTxWIDTH, both multiples of 16")
    return int(sides[1]), int(sides[2])
