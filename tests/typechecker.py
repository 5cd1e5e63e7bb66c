"""Checks the annotations of the package at run time: `conftest.py` has them checked in all tests."""

from beartype import BeartypeConf, beartype

# An int may stand for a float, as everywhere in Python.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
