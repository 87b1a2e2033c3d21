"""A disk that remembers every write and every flush in order, under a real file system.

A FUSE server in a few hundred lines, without any library: it serves a directory with two files.  `disk` is the
image, to be attached to a loop device and mounted; `marks` takes lines of text that land in the log between
the writes.  So the log says which sectors were written before which acknowledgement, and where the flushes
were: what a logging block device says.

    python -m tests.torture.logdisk MOUNTPOINT IMAGE LOG       serves until it is unmounted

`crash_images` replays a log: a flush makes everything before it durable; of the writes since then any may be
missing, and one may be torn at any sector.  REQUIRES: Linux, root, /dev/fuse, loop devices.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SECTOR = 512
_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")
_ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
_ENTRY = struct.Struct("<QQQQII")
LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE, FSYNC = 1, 2, 3, 4, 14, 15, 16, 17, 18, 20
FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, ACCESS, INTERRUPT, DESTROY, BATCH_FORGET, FALLOCATE = (
    25,
    26,
    27,
    28,
    29,
    34,
    36,
    38,
    42,
    43,
)
ROOT, DISK, MARKS = 1, 2, 3
MAX_WRITE = 1 << 20
ENOENT, ENOSYS, EOPNOTSUPP = 2, 38, 95


class Server:
    """Answer the kernel until the file system is unmounted."""

    def __init__(self, mountpoint: str, image: str, log: str) -> None:
        """Mount; the image is read once and never written."""
        self.image = bytearray(Path(image).read_bytes())
        self.log = open(log, "wb", buffering=1 << 20)
        self.fuse = os.open("/dev/fuse", os.O_RDWR)
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"fd={self.fuse},rootmode=40000,user_id=0,group_id=0,max_read={MAX_WRITE}"
        if libc.mount(b"logdisk", mountpoint.encode(), b"fuse", 0, options.encode()):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "mount")

    def serve(self) -> None:
        """Loop."""
        while True:
            try:
                request = os.read(self.fuse, MAX_WRITE + 4096)
            except InterruptedError:
                continue
            except OSError:  # ENODEV: unmounted
                break
            _, opcode, unique, node, _uid, _gid, _pid, _, _ = _IN.unpack_from(request)
            if opcode in (FORGET, BATCH_FORGET, INTERRUPT):
                continue
            answer = self._answer(opcode, node, request[_IN.size :])
            error, body = (-answer, b"") if isinstance(answer, int) else (0, answer)
            with contextlib.suppress(FileNotFoundError):
                os.write(self.fuse, _OUT.pack(_OUT.size + len(body), error, unique) + body)
            if opcode == DESTROY:
                break
        self.log.close()

    def _answer(self, opcode: int, node: int, body: bytes) -> bytes | int:
        if opcode == INIT:
            _major, minor, readahead, _flags = struct.unpack_from("<IIII", body)
            return struct.pack(
                "<IIIIHHIIHHI28x",
                7,
                min(minor, 31),
                readahead,
                1 << 5 | 1 << 22,
                16,
                12,
                MAX_WRITE,
                1,
                MAX_WRITE >> 12,
                0,
                0,
            )
        if opcode == LOOKUP:
            node = {b"disk": DISK, b"marks": MARKS}.get(body.rstrip(b"\0"), 0)
            return _ENTRY.pack(node, 0, 3600, 3600, 0, 0) + self._attributes(node) if node else ENOENT
        if opcode in (GETATTR, SETATTR):
            return struct.pack("<QII", 3600, 0, 0) + self._attributes(node)
        if opcode in (OPEN, OPENDIR):
            return struct.pack("<QII", node, 1 if node != ROOT else 0, 0)  # FOPEN_DIRECT_IO: nothing is kept back
        if opcode == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return bytes(self.image[offset : offset + size]) if node == DISK else b""
        if opcode == WRITE:
            return self._write(node, body)
        if opcode in (FSYNC, FLUSH):
            if opcode == FSYNC and node == DISK:
                self._note(b"F", 0, b"")
            return b""
        if opcode == STATFS:
            return struct.pack("<QQQQQIIII24x", 1 << 20, 1 << 19, 1 << 19, 100, 50, 4096, 255, 4096, 0)
        if opcode in (RELEASE, RELEASEDIR, ACCESS, READDIR, DESTROY):
            return b""
        return EOPNOTSUPP if opcode == FALLOCATE else ENOSYS

    def _write(self, node: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        data = body[40 : 40 + size]
        if node == DISK:
            self.image[offset : offset + size] = data
            self._note(b"W", offset, data)
        else:
            self._note(b"M", 0, data)
        return struct.pack("<II", size, 0)

    def _note(self, kind: bytes, offset: int, data: bytes) -> None:
        self.log.write(kind + struct.pack("<QI", offset, len(data)) + data)

    def _attributes(self, node: int) -> bytes:
        size = len(self.image) if node == DISK else 0
        mode = 0o40755 if node == ROOT else 0o100600
        return _ATTR.pack(node, size, -(-size // 512), 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


@dataclass(frozen=True)
class Entry:
    """One line of the log: a write ("W"), a flush ("F") or a mark ("M")."""

    kind: str
    offset: int
    data: bytes


def read_log(path: Path) -> list[Entry]:
    """Read a log."""
    raw, at, found = path.read_bytes(), 0, []
    while at < len(raw):
        offset, size = struct.unpack_from("<QI", raw, at + 1)
        found.append(Entry(chr(raw[at]), offset, raw[at + 13 : at + 13 + size]))
        at += 13 + size
    return found


@dataclass(frozen=True)
class CrashImage:
    """What the disk may hold: the marks before the power went, and the writes that reached the image."""

    marks: list[str]
    writes: list[Entry]
    why: str


def crash_images(log: list[Entry], *, seed: int = 1, extra: int = 2) -> Iterator[CrashImage]:
    """Yield images for each point of the log: everything so far, nothing since the flush, mixtures, a tear."""
    rng = random.Random(seed)
    durable: list[Entry] = []
    since: list[Entry] = []
    marks: list[str] = []
    for point, entry in enumerate(log):
        if entry.kind == "M":
            marks.extend(entry.data.decode().splitlines())
            continue
        if entry.kind == "F":
            durable, since = durable + since, []
        else:
            since.append(entry)
        yield CrashImage(list(marks), durable + since, f"point {point}: all of {len(since)}")
        if len(since) > 1:
            yield CrashImage(list(marks), durable, f"point {point}: none of {len(since)}")
            yield CrashImage(list(marks), durable + since[:-1] + _torn(since[-1], rng), f"point {point}: last torn")
            yield CrashImage(list(marks), durable + since[1:], f"point {point}: first missing")
        for _ in range(extra if len(since) > 2 else 0):
            some = [w for w in since if rng.random() < 0.5]
            yield CrashImage(list(marks), durable + some, f"point {point}: {len(some)} of {len(since)}")


def _torn(write: Entry, rng: random.Random) -> list[Entry]:
    """Cut a write at a sector."""
    if len(write.data) <= SECTOR:
        return []
    return [Entry("W", write.offset, write.data[: rng.randrange(1, len(write.data) // SECTOR) * SECTOR])]


class BaseImage:
    """The image a workload began with, kept without its empty parts."""

    def __init__(self, path: Path) -> None:
        """Read it."""
        self.size = path.stat().st_size
        self.parts: list[tuple[int, bytes]] = []
        chunk = 1 << 16
        with path.open("rb") as file:
            for at in range(0, self.size, chunk):
                data = file.read(chunk)
                if data.count(0) != len(data):
                    self.parts.append((at, data))

    def write(self, path: Path, writes: list[Entry]) -> None:
        """Create the image in which exactly these writes arrived, in order."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.ftruncate(fd, self.size)
            for offset, data in (*self.parts, *((w.offset, w.data) for w in writes)):
                os.pwrite(fd, data, offset)
        finally:
            os.close(fd)


# -- mounting -----------------------------------------------------------------------------------------------

FILE_SYSTEMS = {
    "ext4": ("mkfs.ext4", ["-q", "-F", "-b", "4096", "-N", "2048"], ""),
    "ext4-nojournal": ("mkfs.ext4", ["-q", "-F", "-b", "4096", "-N", "2048", "-O", "^has_journal"], ""),
    "xfs": ("mkfs.xfs", ["-q", "-f"], "nouuid"),
    "btrfs": ("mkfs.btrfs", ["-q", "-f", "-m", "single", "-d", "single"], ""),
}
SIZES = {"ext4": 24 << 20, "ext4-nojournal": 24 << 20, "xfs": 320 << 20, "btrfs": 128 << 20}


def why_not(kind: str) -> str | None:
    """Return why a file system of this kind cannot be put on a logging disk here, or None when it can."""
    if os.name != "posix" or sys.platform != "linux":
        return "needs Linux"
    if os.geteuid() != 0:
        return "needs root, to mount"
    for device in ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(device):
            return f"there is no {device}"
    tool = FILE_SYSTEMS[kind][0]
    if shutil.which(tool) is None:
        return f"{tool} is not installed"
    known = Path("/proc/filesystems").read_text().split()
    if kind.partition("-")[0] not in known or "fuse" not in known:
        return f"this kernel has no {kind} or no FUSE"
    return None


def make_image(kind: str, path: Path) -> None:
    """Create an image with a new file system."""
    with path.open("wb") as file:
        file.truncate(SIZES[kind])
    tool, options, _ = FILE_SYSTEMS[kind]
    subprocess.run([tool, *options, str(path)], check=True, capture_output=True)


@contextlib.contextmanager
def mounted(kind: str, image: Path, where: Path) -> Iterator[Path]:
    """Mount an image through a loop device."""
    where.mkdir(parents=True, exist_ok=True)
    options = ",".join(filter(None, ["loop", FILE_SYSTEMS[kind][2]]))
    done = subprocess.run(
        ["mount", "-t", kind.partition("-")[0], "-o", options, str(image), str(where)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise OSError(f"mount: {done.stderr.strip()}")
    try:
        yield where
    finally:
        unmount(where)


def unmount(where: Path) -> None:
    """Unmount; a busy file system gets a moment."""
    for _ in range(50):
        if subprocess.run(["umount", str(where)], capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.05)
    subprocess.run(["umount", "-l", str(where)], check=True)


@contextlib.contextmanager
def logged(image: Path, log: Path) -> Iterator[Path]:
    """Serve the image on a logging disk; give the directory with `disk` and `marks`."""
    place = Path(tempfile.mkdtemp(prefix="logdisk-"))
    server = subprocess.Popen([sys.executable, __file__, str(place), str(image), str(log)], stderr=subprocess.PIPE)
    try:
        until = time.monotonic() + 10
        while not os.path.ismount(place):
            if server.poll() is not None or time.monotonic() > until:
                assert server.stderr is not None
                raise OSError(f"the logging disk does not start: {server.stderr.read().decode()[-500:]}")
            time.sleep(0.01)
        yield place
    finally:
        if os.path.ismount(place):
            unmount(place)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        place.rmdir()


if __name__ == "__main__":
    Server(*sys.argv[1:4]).serve()
