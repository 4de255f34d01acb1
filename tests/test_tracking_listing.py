"""How many objects are asked for, to find a few."""

from __future__ import annotations

import pytest

from artifactd.tracking.sdks.listing import page


@pytest.mark.parametrize(("names", "asked"), [(1, 24), (64, 276), (245, 1000), (5000, 1000)])
def test_room_is_left_for_others_and_no_page_is_larger_than_stores_give(names: int, asked: int) -> None:
    assert page([str(n) for n in range(names)]) == asked
