"""What a run of images and compose asks of a machine before it begins."""

import pytest
from containers.shell import Cannot
from containers_test import ROOM, require_room


def test_a_disk_without_room_is_said_before_anything_is_built() -> None:
    require_room(ROOM)
    with pytest.raises(Cannot, match=r"10\.0 GB free; images and compose need 10"):
        require_room(ROOM - 1)
