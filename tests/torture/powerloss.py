"""What a disk may hold after the power fails: a model of a POSIX file system without any ordering of its own.

A `Trace` is the list of file operations that a workload made, recorded in its process (`Recorder`) or from
outside (`from_strace`).  `crash_states` replays it and yields, for every point between two operations, what
may be found after a power cut there:

- a file holds what was synced; each 512-byte sector written since then is old, new, or anything it was in
  between, each sector for itself; its size is the synced one or any later one, unwritten parts are zero;
- a name that was made, renamed or removed since its directory was synced is there or not, each for itself;
  a rename happens whole or not at all, before or after the data of the file it names;
- syncing a file says nothing of its name, syncing a directory nothing of the files in it.

Real file systems promise more (ext4 keeps the order of names, XFS zeroes less).  So what survives here survives there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECTOR = 512
PAGE = 4096
MANY = 24
"""Pending changes of names beyond which only the first and last four are varied one by one (a store's 256 directories)."""
Op = tuple[Any, ...]
Tree = dict[str, bytes | None]
"""Relative path: the file's bytes, or None for a directory."""


class Trace:
    """File operations below one root, in order, with the steps of the workload between them.

    Operations: ("create", path, file), ("write", file, offset, data), ("truncate", file, size), ("sync", file),
    ("syncdir", path), ("rename", a, b), ("link", a, b), ("unlink", path), ("mkdir", path), ("rmdir", path),
    ("syncall",), ("begin", step), ("ack", step).  A file is a number of its own: names and inodes are used again.
    """

    def __init__(self, root: str, start: Tree) -> None:
        """Begin with the tree that is on the disk."""
        self.root, self.start = root.rstrip("/"), start
        self.ops: list[Op] = []
        self.names: dict[str, int] = {
            path: n for n, (path, data) in enumerate(sorted(start.items())) if data is not None
        }
        self._next = len(start)
        self._open: dict[int, tuple[int | str, int, bool]] = {}

    def relative(self, path: str) -> str | None:
        """Return the path below the root, "" for the root itself, None when it is elsewhere."""
        if path == self.root:
            return ""
        return path[len(self.root) + 1 :] if path.startswith(self.root + "/") else None

    def opened(self, fd: int, path: str, flags: int) -> None:
        """Note an open that succeeded."""
        name = self.relative(path)
        if name is None:
            self._open.pop(fd, None)
            return
        if flags & os.O_DIRECTORY or (name not in self.names and not flags & os.O_CREAT):
            self._open[fd] = (name, 0, False)
            return
        if name not in self.names:
            self.names[name] = self._next
            self.ops.append(("create", name, self._next))
            self._next += 1
        if flags & os.O_TRUNC:
            self.ops.append(("truncate", self.names[name], 0))
        self._open[fd] = (self.names[name], 0, bool(flags & os.O_APPEND))

    def closed(self, fd: int) -> None:
        """Note a close."""
        self._open.pop(fd, None)

    def wrote(self, fd: int, data: bytes, offset: int | None = None) -> None:
        """Note a write: at the file's own position where no offset is given."""
        file, position, append = self._open.get(fd, ("", 0, False))
        if isinstance(file, str) or not data:
            return
        if offset is None or append:
            offset = self._size(file) if append else position
            self._open[fd] = (file, offset + len(data), append)
        self.ops.append(("write", file, offset, data))

    def moved(self, fd: int, position: int) -> None:
        """Note a seek, or what a read moved."""
        if fd in self._open:
            file, _, append = self._open[fd]
            self._open[fd] = (file, position, append)

    def _size(self, file: int) -> int:
        size = next((len(d or b"") for p, d in self.start.items() if self.names.get(p) == file), 0)
        for op in self.ops:
            if op[0] == "write" and op[1] == file:
                size = max(size, op[2] + len(op[3]))
            elif op[0] == "truncate" and op[1] == file:
                size = op[2]
        return size

    def truncated(self, fd: int, size: int) -> None:
        """Note an ftruncate."""
        file = self._open.get(fd, ("",))[0]
        if not isinstance(file, str):
            self.ops.append(("truncate", file, size))

    def synced(self, fd: int) -> None:
        """Note an fsync or fdatasync of a file or a directory."""
        if fd in self._open:
            file = self._open[fd][0]
            self.ops.append(("syncdir", file) if isinstance(file, str) else ("sync", file))

    def synced_all(self) -> None:
        """Note a syncfs."""
        self.ops.append(("syncall",))

    def named(self, kind: str, *paths: str) -> None:
        """Note a rename, link, unlink, mkdir or rmdir that succeeded."""
        names = [self.relative(p) for p in paths]
        if None in names:
            return
        if kind == "rename":
            self.names[names[1]] = self.names.pop(names[0])  # type: ignore[arg-type,index]
        elif kind == "link":
            self.names[names[1]] = self.names[names[0]]  # type: ignore[index]
        elif kind == "unlink":
            self.names.pop(names[0], None)  # type: ignore[arg-type]
        self.ops.append((kind, *names))

    def step(self, kind: str, number: int) -> None:
        """Note that a step of the workload begins, or was acknowledged."""
        self.ops.append((kind, number))


def read_tree(root: Path) -> Tree:
    """Read a directory into memory."""
    tree: Tree = {}
    for directory, names, files in os.walk(root):
        below = os.path.relpath(directory, root)
        prefix = "" if below == "." else below + "/"
        tree.update({prefix + name: None for name in names})
        tree.update({prefix + name: Path(directory, name).read_bytes() for name in files})
    return tree


def write_tree(root: Path, tree: Tree) -> None:
    """Write exactly this tree into a directory."""
    root.mkdir(parents=True, exist_ok=True)
    for directory, names, files in os.walk(root, topdown=False):
        below = os.path.relpath(directory, root)
        prefix = "" if below == "." else below + "/"
        for name in files:
            os.unlink(os.path.join(directory, name))
        for name in names:
            if prefix + name not in tree:
                os.rmdir(os.path.join(directory, name))
    for path, data in sorted(tree.items()):
        if data is None:
            with contextlib.suppress(FileExistsError):
                os.mkdir(root / path, 0o700)
        else:
            fd = os.open(root / path, os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(fd, data)
            os.close(fd)


# -- recorded in the process --------------------------------------------------------------------------------


class Recorder:
    """Replace functions of `os` in this process, and write down what they did below a root."""

    def __init__(self, root: Path) -> None:
        """Read the tree that is there: all of it counts as on the disk."""
        self.trace = Trace(str(root), read_tree(root) if root.exists() else {})

    @contextlib.contextmanager
    def recording(self) -> Iterator[Trace]:
        """Record inside the block."""
        from shardstore._files import syncfs

        sync_all = syncfs.sync_all
        syncfs.sync_all = lambda fd: (sync_all(fd), self.trace.synced_all())[0]
        originals = {name: getattr(os, name) for name in self._wrappers()}
        for name, wrap in self._wrappers().items():
            setattr(os, name, wrap(originals[name]))
        try:
            yield self.trace
        finally:
            syncfs.sync_all = sync_all
            for name, function in originals.items():
                setattr(os, name, function)

    def _wrappers(self) -> dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]]:
        trace = self.trace

        def after(note: Callable[..., None]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
            def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
                def call(*args: Any, **kwargs: Any) -> Any:
                    result = function(*args, **kwargs)
                    note(result, *args)
                    return result

                return call

            return wrap

        def path(p: Any) -> str:
            return os.path.join(os.getcwd(), os.fsdecode(p))

        return {
            "open": after(lambda fd, p, flags, *_: trace.opened(fd, path(p), flags)),
            "close": after(lambda _, fd: trace.closed(fd)),
            "write": after(lambda n, fd, data: trace.wrote(fd, bytes(data[:n]))),
            "pwrite": after(lambda n, fd, data, offset: trace.wrote(fd, bytes(data[:n]), offset)),
            "lseek": after(lambda at, fd, *_: trace.moved(fd, at)),
            "ftruncate": after(lambda _, fd, size: trace.truncated(fd, size)),
            "fsync": after(lambda _, fd: trace.synced(fd)),
            "fdatasync": after(lambda _, fd: trace.synced(fd)),
            "rename": after(lambda _, a, b: trace.named("rename", path(a), path(b))),
            "replace": after(lambda _, a, b: trace.named("rename", path(a), path(b))),
            "link": after(lambda _, a, b: trace.named("link", path(a), path(b))),
            "unlink": after(lambda _, p: trace.named("unlink", path(p))),
            "remove": after(lambda _, p: trace.named("unlink", path(p))),
            "mkdir": after(lambda _, p, *__: trace.named("mkdir", path(p))),
            "rmdir": after(lambda _, p: trace.named("rmdir", path(p))),
        }


# -- recorded from outside ----------------------------------------------------------------------------------

_TRACED = (
    "?open,openat,creat,close,write,pwrite64,writev,pwritev,read,lseek,ftruncate,truncate,fallocate,fsync,fdatasync,?rename,"
    "?renameat,renameat2,?link,linkat,?unlink,unlinkat,?mkdir,mkdirat,?rmdir,?syncfs,sync_file_range,dup,dup2,fcntl"
)
STRACE_OPTIONS = ("-f", "-qq", "-xx", "-s", "16000000", "-e", "signal=none", "-e", f"trace={_TRACED}")
_CALL = re.compile(r"^(?:\d+\s+)?(\w+)\((.*)\)\s+= (-?\d+)")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_SILENT = {"fcntl", "sync_file_range", "dup", "dup2"}


def from_strace(lines: Iterable[str], root: str, start: Tree, marks: int) -> Trace:
    """Read the output of strace with STRACE_OPTIONS; steps are written to descriptor `marks` as "begin 3" lines."""
    trace = Trace(root, start)
    for line in lines:
        match = _CALL.match(line)
        if match is None:
            if "unfinished" in line and root in line:
                raise ValueError(f"two threads at once, order unknown: {line[:200]}")
            continue
        name, args, result = match[1], match[2], int(match[3])
        if result >= 0 and name not in _SILENT:
            _note(trace, name, args, result, marks)
    return trace


def _note(trace: Trace, name: str, args: str, result: int, marks: int) -> None:
    strings = [bytes.fromhex(s.replace("\\x", "")) for s in _STRING.findall(args)]
    paths = [os.path.join(trace.root, os.fsdecode(s)) if s[:1] != b"/" else os.fsdecode(s) for s in strings]
    first = args.split(",", maxsplit=1)[0].split("<", maxsplit=1)[0]
    fd = int(first) if first.lstrip("-").isdigit() else -1
    if name in ("open", "openat", "creat"):
        trace.opened(result, paths[0], _flags(args) if name != "creat" else os.O_CREAT | os.O_TRUNC)
    elif name == "close":
        trace.closed(fd)
    elif name == "write" and fd == marks:
        kind, _, number = strings[0].decode().strip().partition(" ")
        trace.step(kind, int(number))
    elif name == "write":
        trace.wrote(fd, strings[0][:result])
    elif name == "pwrite64":
        trace.wrote(fd, strings[0][:result], int(args.rsplit(",", 1)[1]))
    elif name == "read":
        file = trace._open.get(fd)
        if file is not None:
            trace.moved(fd, file[1] + result)
    elif name == "lseek":
        trace.moved(fd, result)
    elif name == "ftruncate":
        trace.truncated(fd, int(args.rsplit(",", 1)[1]))
    elif name in ("fsync", "fdatasync"):
        trace.synced(fd)
    elif name == "syncfs":
        trace.synced_all()
    elif name == "unlinkat":
        trace.named("rmdir" if "AT_REMOVEDIR" in args else "unlink", paths[0])
    elif name in ("rename", "renameat", "renameat2", "link", "linkat", "unlink", "mkdir", "mkdirat", "rmdir"):
        trace.named(name.removesuffix("at2").removesuffix("at"), *paths)
    elif trace.relative(args.partition('"')[2].partition('"')[0]) is not None or fd in trace._open:
        raise ValueError(f"a call that the model does not know touches the store: {name}({args[:200]})")


def _flags(args: str) -> int:
    words = re.findall(r"O_[A-Z]+", args)
    return sum(getattr(os, w, 0) for w in set(words))


# -- what the disk may hold ---------------------------------------------------------------------------------


@dataclass
class _File:
    """Synced bytes, and each content the file had since."""

    synced: bytes
    versions: list[bytes] = field(default_factory=list)

    @property
    def now(self) -> bytes:
        return self.versions[-1] if self.versions else self.synced

    def write(self, offset: int, data: bytes) -> None:
        old = self.now.ljust(offset, b"\0")
        self.versions.append(old[:offset] + data + old[offset + len(data) :])

    def truncate(self, size: int) -> None:
        self.versions.append(self.now[:size].ljust(size, b"\0"))

    def sync(self) -> None:
        self.synced, self.versions = self.now, []


def file_states(file: _File, rng: random.Random, extra: int) -> Iterator[bytes]:
    """Yield what the file may hold: whole versions, torn ones by sector and page, old and new sizes, random mixtures."""
    history = [file.synced, *file.versions]
    yield from history
    if len(history) == 1:
        return
    sizes = sorted({len(h) for h in history})
    length = max(sizes)
    padded = [h.ljust(length, b"\0") for h in history]
    last = len(history) - 1
    changed = [at for at in range(0, length, SECTOR) if len({p[at : at + SECTOR] for p in padded}) > 1]
    pages = sorted({at - at % PAGE for at in changed})

    def mixed(pick: Callable[[int], int], size: int) -> bytes:
        whole = bytearray(padded[0])
        for at in changed:
            whole[at : at + SECTOR] = padded[pick(at)][at : at + SECTOR]
        return bytes(whole[:size])

    for size in sizes:
        yield mixed(lambda _: last, size)
        yield mixed(lambda _: 0, size)
        for cut in changed:
            yield mixed(lambda at, cut=cut: last if at < cut else 0, size)
            yield mixed(lambda at, cut=cut: 0 if at < cut else last, size)
            yield mixed(lambda at, cut=cut: last if at == cut else 0, size)
            yield mixed(lambda at, cut=cut: 0 if at == cut else last, size)
        for page in pages:
            yield mixed(lambda at, page=page: 0 if at - at % PAGE == page else last, size)
            yield mixed(lambda at, page=page: last if at - at % PAGE == page else 0, size)
    for _ in range(extra):
        yield mixed(lambda _at: rng.randrange(last + 1), rng.choice(sizes))


@dataclass
class CrashState:
    """A tree that may be found, after which operation, while which step was under way, and which was acknowledged."""

    tree: Tree
    point: int
    begun: int
    acknowledged: int
    why: str


class Disk:
    """The state of the disk while a trace is replayed."""

    def __init__(self, trace: Trace) -> None:
        """Begin with everything of the start synced."""
        self.trace = trace
        self.files: dict[int, _File] = {}
        self.synced_names: dict[str, int | None] = {}
        names = {p: n for n, (p, d) in enumerate(sorted(trace.start.items())) if d is not None}
        for path, data in trace.start.items():
            self.synced_names[path] = names.get(path)
            if data is not None:
                self.files[names[path]] = _File(data)
        self.names = dict(self.synced_names)
        self.pending: list[tuple[set[str], Callable[[dict[str, int | None]], None]]] = []

    def apply(self, op: Op) -> None:
        """Apply one operation."""
        kind, *args = op
        if kind == "write":
            self.files[args[0]].write(args[1], args[2])
        elif kind == "truncate":
            self.files[args[0]].truncate(args[1])
        elif kind == "sync":
            self.files[args[0]].sync()
        elif kind == "syncdir":
            self._sync_directory(args[0])
        elif kind == "syncall":
            for file in self.files.values():
                file.sync()
            for path in {path for where, _ in self.pending for path in where}:
                self._sync_directory(path)
        elif kind == "create":
            self.files[args[1]] = _File(b"")
            self._change({args[0]}, _setter(args[0], args[1]))
        elif kind == "mkdir":
            self._change({args[0]}, _setter(args[0], None))
        elif kind in ("unlink", "rmdir"):
            self._change({args[0]}, _remover(args[0]))
        elif kind in ("rename", "link"):
            a, b = args
            self._change({a, b}, _mover(a, b, self.names[a], keep=kind == "link"))

    def _change(self, paths: set[str], change: Callable[[dict[str, int | None]], None]) -> None:
        change(self.names)
        self.pending.append(({os.path.dirname(p) for p in paths}, change))

    def _sync_directory(self, path: str) -> None:
        """Whatever happened to names in this directory, in order, is on the disk now."""
        kept = []
        for where, change in self.pending:
            if path in where:
                change(self.synced_names)
            else:
                kept.append((where, change))
        self.pending = kept

    def name_states(self, rng: random.Random, extra: int) -> Iterator[tuple[str, dict[str, int | None]]]:
        """Yield the names that may be found: none of the pending changes, all, one missing, one alone, random ones."""
        n = len(self.pending)
        choices = {(): "no name", tuple(range(n)): "all names"}
        for i in range(n) if n <= MANY else (*range(4), *range(n - 4, n)):
            choices.setdefault(tuple(j for j in range(n) if j != i), f"without change {i}")
            choices.setdefault((i,), f"only change {i}")
            choices.setdefault(tuple(range(i)), f"the first {i} changes")
        for _ in range(extra if n > 1 else 0):
            choices.setdefault(tuple(i for i in range(n) if rng.random() < 0.5), "some names")
        for chosen, why in choices.items():
            names = dict(self.synced_names)
            for i in chosen:
                self.pending[i][1](names)
            yield why, names

    def tree(self, names: dict[str, int | None], content: Callable[[int], bytes]) -> Tree:
        """Put names and contents together; what lies below a directory that is not there is not there."""
        tree: Tree = {}
        for path in sorted(names):
            parent = os.path.dirname(path)
            if parent and tree.get(parent, b"") is not None:
                continue
            file = names[path]
            tree[path] = None if file is None else content(file)
        return tree


def _setter(path: str, file: int | None) -> Callable[[dict[str, int | None]], None]:
    return lambda names: names.__setitem__(path, file)


def _remover(path: str) -> Callable[[dict[str, int | None]], None]:
    return lambda names: names.pop(path, None) and None


def _mover(a: str, b: str, file: int | None, *, keep: bool) -> Callable[[dict[str, int | None]], None]:
    def move(names: dict[str, int | None]) -> None:
        if not keep:
            names.pop(a, None)
        names[b] = file

    return move


def crash_states(trace: Trace, *, seed: int = 1, extra: int = 3, stride: int = 1) -> Iterator[CrashState]:
    """Replay a trace and yield every state that the model allows, each different tree once per acknowledged step.

    With a stride, at every so many operations only.
    """
    rng = random.Random(seed)
    disk = Disk(trace)
    begun = acknowledged = 0
    seen: set[bytes] = set()
    for point, op in enumerate([("begin", 0), *trace.ops]):
        if op[0] == "begin":
            begun = op[1]
        elif op[0] == "ack":
            acknowledged = op[1]
        else:
            disk.apply(op)
        if point % stride:
            continue
        for why, tree in _at_this_point(disk, rng, extra):
            digest = fingerprint(tree, begun, acknowledged)
            if digest not in seen:
                seen.add(digest)
                yield CrashState(tree, point, begun, acknowledged, why)


def _at_this_point(disk: Disk, rng: random.Random, extra: int) -> Iterator[tuple[str, Tree]]:
    dirty = [n for n, f in disk.files.items() if f.versions]
    extremes: list[tuple[str, Callable[[int], bytes]]] = [
        ("no data", lambda n: disk.files[n].synced),
        ("all data", lambda n: disk.files[n].now),
    ]
    named = list(disk.name_states(rng, extra))
    for why, names in named:
        for what, content in extremes:
            yield f"{why}, {what}", disk.tree(names, content)
    ends = [named[0], named[-1]] if len(named) > 1 else named
    ends = [n for n in named if n[0] in ("no name", "all names")] or ends
    for number in dirty:
        for data in file_states(disk.files[number], rng, extra):
            for what, content in extremes if len(dirty) > 1 else extremes[:1]:
                for why, names in ends:
                    yield (
                        f"{why}, {what}, file {number} torn",
                        disk.tree(
                            names,
                            lambda n, data=data, content=content, number=number: data if n == number else content(n),
                        ),
                    )
    for _ in range(extra if len(dirty) > 1 else 0):
        chosen = {n: rng.choice(list(file_states(disk.files[n], rng, 2))) for n in dirty}
        why, names = rng.choice(named)
        yield f"{why}, all files torn", disk.tree(names, lambda n, chosen=chosen: chosen.get(n, disk.files[n].synced))


def fingerprint(tree: Tree, begun: int, acknowledged: int) -> bytes:
    """Name a state, so that none is tried twice."""
    digest = hashlib.blake2b(f"{begun} {acknowledged}".encode(), digest_size=16)
    for path, data in tree.items():
        digest.update(f"{path}\0{'-' if data is None else len(data)}\0".encode())
        digest.update(data or b"")
    return digest.digest()
