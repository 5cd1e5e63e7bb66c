"""What the fields of networks, losses and optimizers can hold.

What a field cannot hold is a ValueError that names it; `experiment` adds where in the configuration
it is.
"""

import numbers
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

FINITE = 3e38  # The devices compute in float32, which ends a little above,
LARGEST = 2**31 - 1  # and count in int32.


class Range(NamedTuple):
    """Numbers from `least` to `most`, with or without these two themselves."""

    least: float = 0
    most: float = FINITE
    whole: bool = False
    above: bool = False  # Without `least`.
    below: bool = False  # Without `most`.

    def holds(self, value: Any) -> bool:
        """Whether `value` is a number in the range; NaN is in none."""
        if not (_is_whole(value) if self.whole else _is_number(value)):
            return False
        enough = value > self.least if self.above else value >= self.least
        return bool(enough and (value < self.most if self.below else value <= self.most))

    def __str__(self) -> str:
        """As it follows "set it": "to 1 or more", "from 0 to below 1", "above 0 and up to 16"."""
        if self.most in (FINITE, LARGEST):
            return f"above {self.least}" if self.above else f"to {self.least} or more"
        if self.above:
            return f"above {self.least} and up to {self.most}"
        return f"from {self.least} to {'below ' if self.below else ''}{self.most}"


NOT_NEGATIVE = Range()
SHARE = Range(0, 1, below=True)  # Rates, slopes and decays.
COUNT = Range(1, LARGEST, whole=True)
COUNT_OR_NONE = Range(0, LARGEST, whole=True)
# Of maps, pixels or images at once: of more there is no memory.
SIZE = Range(1, 2**16, whole=True)
SIZE_OR_NONE = Range(0, 2**16, whole=True)
WIDTH = Range(0, 16, above=True)  # A factor on numbers of maps.


def check(name: str, value: Any, allowed: Range) -> None:
    """Raises a ValueError if the field cannot hold this value."""
    if allowed.holds(value):
        return
    what = str(allowed)
    if _is_number(value) and value > FINITE:
        what = "to a finite number"
    elif allowed.whole and not _is_whole(value):
        what = "to a whole number"
    raise ValueError(f"{name} is {value!r}: set it {what}")


def check_each(name: str, values: Any, allowed: Range, least: int, most: int) -> None:
    """The same of a field of `least` to `most` numbers."""
    several = isinstance(values, Sequence) and least <= len(values) <= most
    if not several or not all(map(allowed.holds, values)):
        how_many = f"{least}" if least == most else f"{least} to {most}"
        whole = "whole " if allowed.whole else ""
        each = str(allowed).removeprefix("to ")
        raise ValueError(f"{name} is {values!r}: set {how_many} {whole}numbers, each {each}")


def check_known(name: str, value: Any, known: Collection[str]) -> None:
    """The same of a field that names one of what is known."""
    if value not in known:
        raise ValueError(f"{name} is {value!r}; known: {', '.join(known)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return _is_number(value) and isinstance(value, numbers.Integral)
