"""Checks the annotations of the package at run time, in all tests (see pyproject.toml)."""

from beartype import BeartypeConf, beartype

# An int may stand for a float, as everywhere in Python.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
