"""Sizes of the mesh: what is left to an axis, and what does not multiply up."""

import pytest

from gemb.checks import UserError
from gemb.parallel.mesh import make_mesh


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [((), (8, 1, 1)), ((-1, 2, 2), (2, 2, 2)), ((1, -1, 1), (1, 8, 1)), ((2, 1, -1), (2, 1, 4))],
)
def test_one_axis_takes_what_the_others_leave(sizes, shape):
    assert tuple(make_mesh(*sizes, devices=8).shape.values()) == shape


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((3, 1, 1), "replica 3 x fsdp 1 x tensor 1 = 3, but there are 8 devices"),
        ((-1, 3, 1), "replica 2 x fsdp 3 x tensor 1 = 6"),
        ((-1, 16, 1), "replica 1 x fsdp 16 x tensor 1 = 16"),
        ((-1, -1, 1), "only one of replica, fsdp and tensor may be -1"),
        ((-1, 0, 1), "fsdp: expected 1 or more, or -1, got 0"),
        ((-1, "4", 1), "fsdp: expected 1 or more, or -1, got '4'"),
        ((-2, 1, 1), "replica: expected"),
    ],
)
def test_sizes_that_do_not_fit(sizes, message):
    with pytest.raises(UserError, match=message):
        make_mesh(*sizes, devices=8)
