"""What kind of file system a store lies on: SQLite's promises do not hold on those of other machines."""

from pathlib import Path

_MOUNTS = Path("/proc/self/mounts")
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.sshfs", "fuse.glusterfs"})


def network(folder: Path) -> str | None:
    """The network file system that `folder` lies on; None on a local one, or where the system does not say."""
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return network_in(mounts, folder.resolve())


def network_in(mounts: str, folder: Path) -> str | None:
    """The same by a table in the form of /proc/mounts: the longest mount point above `folder` decides."""
    found = ("", "")
    for line in mounts.splitlines():
        words = line.split()
        if len(words) < 3:  # device, mount point, type
            continue
        point = words[1].encode().decode("unicode_escape")
        if folder.is_relative_to(point) and len(point) >= len(found[0]):
            found = (point, words[2])
    return found[1] if found[1] in _NETWORK else None
