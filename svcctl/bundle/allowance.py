"""What a bundle may still hold. Asked by size before any byte is read: refusing a sparse file of 5 GB costs nothing."""

from collections import Counter

from svcctl.errors import Refused
from svcctl.model import Limits
from svcctl.text import clean


class Allowance:
    def __init__(self, limits: Limits) -> None:
        self.path_length = limits.path_length
        self._limits = limits
        self._size = 0
        self._files = 0
        self._folders = 0
        self._files_of: Counter[str] = Counter()

    def take_file(self, shown: str, size: int) -> None:
        """`shown` is its path from the project's folder."""
        if size > self._limits.file_size:
            raise _over(f"{clean(shown)} is {size:,} bytes", "file_size", self._limits.file_size, "the file")
        self._size += size
        if self._size > self._limits.artifact_size:
            what = f"the files up to {clean(shown)} are {self._size:,} bytes"
            raise _over(what, "artifact_size", self._limits.artifact_size, "what need not be deployed")
        self._files += 1
        self._files_of[shown.rpartition("/")[0]] += 1
        if self._files > self._limits.file_count:
            raise self._too_many()

    def take_folder(self) -> None:
        """Folders count as well: links among a few of them can span a tree without end and without files."""
        self._folders += 1
        if self._folders > self._limits.file_count:
            limit = self._limits.file_count
            raise _over(f"there are more than {limit:,} folders", "file_count", limit, "what need not be deployed")

    def _too_many(self) -> Refused:
        limit = self._limits.file_count
        most: Counter[str] = Counter()
        for folder, count in self._files_of.items():
            most["/".join(folder.split("/")[:2])] += count
        (folder, count), *_ = most.most_common(1)
        what = f"there are more than {limit:,} files, {count:,} of them below {clean(folder) or '.'}"
        return _over(what, "file_count", limit, "what need not be deployed")


def _over(what: str, key: str, limit: int, leave_out: str) -> Refused:
    return Refused(
        f"{what}; limits.{key} allows {limit:,}",
        hint=f"leave {leave_out} out with `exclude`, or raise {key} under [limits] in services.toml",
    )
