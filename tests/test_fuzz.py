"""Some hundred cases of the fuzzer; `make fuzz` runs it for twenty minutes."""

import math

import pytest
from fuzz import KINDS, hunt


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_it_invents_ends_in_lines(kind):
    assert hunt(kind, 0, 200, math.inf) == []
