"""A store on a network file system is warned of: SQLite's locks do not hold there."""

from pathlib import Path

import pytest

from svcctl.backend.store.filesystem import network, network_in

MOUNTS = """\
/dev/vda / ext4 rw,relatime 0 0
server:/home /home nfs4 rw 0 0
tmpfs /home/ada/fast tmpfs rw 0 0
//server/share /mnt/my\\040share cifs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/srv/shop/.svcctl", None),
        ("/home/ada/shop/.svcctl", "nfs4"),
        ("/home/ada/fast/.svcctl", None),
        ("/homely/.svcctl", None),
        ("/mnt/my share/.svcctl", "cifs"),
    ],
)
def test_the_longest_mount_point_decides(folder: str, kind: str | None) -> None:
    assert network_in(MOUNTS, Path(folder)) == kind


def test_a_local_folder_is_local(tmp_path: Path) -> None:
    assert network(tmp_path) is None
