"""Wrong clocks and small disks, as real ones."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clocks import skewed
from processes import Acme
from programs import needs


def test_t24_a_clock_ten_years_off_orders_nothing(tmp_path: Path, done: list[str]):
    acme = Acme.new(tmp_path)
    for number, days in enumerate((0, -3650, 3650, -3, 1 / 24)):
        acme.write(f"v{number}")
        acme.done("deploy", **skewed(tmp_path / "skewed", days * 24 * 3600))
    versions = acme.done("history", "shop/staging", "--json").json["versions"]
    assert [version["number"] for version in versions] == [5, 4, 3, 2, 1]
    acme.done("rollback", "staging", "--yes")
    assert acme.state()["shop/staging"][1] == versions[1]["code"]["digest"]
    assert acme.found().problems == ()
    done.append("5 deploys under clocks ten years apart: numbers order them")


@pytest.fixture
def disk() -> Iterator[Callable[[Path, int], None]]:
    needs("mount")
    mounted: list[Path] = []

    def mount(folder: Path, kilobytes: int) -> None:
        folder.mkdir(exist_ok=True)
        said = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k,mode=700", "svcctl", folder],
            check=False,
            capture_output=True,
            text=True,
        )
        if said.returncode:
            pytest.skip(f"no small disk can be mounted here: {said.stderr.strip()}")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("kilobytes", [16, 64, 128, 256, 300, 400, 600])
def test_t18_a_small_disk(kilobytes: int, disk: Callable[[Path, int], None], tmp_path: Path, done: list[str]):
    acme = Acme.new(tmp_path)
    disk(acme.store, kilobytes)
    refused = deployed = 0
    for number in range(12):
        acme.write(f"v{number}")
        (acme.folder / "shop/data.bin").write_bytes(bytes([number]) * 60_000)
        ended = acme("deploy")
        if ended.status:
            assert ended.status in (1, 7), ended
            assert ended.err.startswith("error: "), ended
            refused += 1
            break
        deployed += 1
    subprocess.run(["mount", "-o", "remount,size=64m", acme.store], check=True)
    acme.done("deploy")
    assert acme.found().problems == ()
    assert acme.changes() == deployed + 1 if refused else deployed
    acme.swept()
    assert acme.found().leftovers == ()
    done.append(f"a disk of {kilobytes} KB: full after {deployed} deploys, and all went on with more space")
