"""The platform that requirements are installed for: this machine's, in svcctl's word and in uv's."""

import platform
import sys

# The oldest glibc that wheels commonly ask for, whatever this machine has: equal locks must give equal wheels.
_UV = {
    "linux-x86_64": "x86_64-manylinux_2_28",
    "linux-aarch64": "aarch64-manylinux_2_28",
    "linux-x86_64-musl": "x86_64-unknown-linux-musl",
    "linux-aarch64-musl": "aarch64-unknown-linux-musl",
    "darwin-x86_64": "x86_64-apple-darwin",
    "darwin-arm64": "aarch64-apple-darwin",
}


def platform_name() -> str:
    """Such as `linux-x86_64`; with `-musl` where the C library is musl."""
    name = f"{sys.platform}-{platform.machine()}"
    return f"{name}-musl" if sys.platform == "linux" and platform.libc_ver()[0] != "glibc" else name


def uv_platform() -> str | None:
    """None where uv has no word for it and takes the machine's own."""
    return _UV.get(platform_name())
