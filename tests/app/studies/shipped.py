"""The studies that ship and train something."""

from app.studies import matrix
from app.studies.matrix import Study


def training_study(name: str) -> Study:
    found = matrix.read(name)
    assert isinstance(found, Study)
    return found


NAMES = [name for name in matrix.names() if isinstance(matrix.read(name), Study)]
