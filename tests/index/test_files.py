"""The files of the index, byte by byte: what is read back is what was written, or is known for damage."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shardstore._files.index import files, generation, notes
from shardstore._files.index.generation import BASE, PAGE, Head, Seal
from shardstore._files.layout import shard_name

EPOCH = "0123456789abcdef"
HEAD = Head(EPOCH, bytes(range(16)), bytes(range(16, 32)))
SEAL = Seal(3, 1234, 4096, 1_000_000_000, -5)


@pytest.mark.parametrize(
    ("file", "meaning"),
    [
        ("generation", files.Name("generation")),
        (f"notes.{EPOCH}.0.a", files.Name("notes", EPOCH, 0, "a")),
        (f"notes.{EPOCH}.17.b", files.Name("notes", EPOCH, 17, "b")),
        (f"catalogue.{EPOCH}.sqlite", files.Name("catalogue", EPOCH)),
        (f"catalogue.{EPOCH}.sqlite-journal", files.Name("catalogue", EPOCH)),
        (f".tmp-{EPOCH}", files.Name("temp")),
        (f"notes.{EPOCH}.017.a", None),
        (f"notes.{EPOCH}.-1.a", None),
        (f"notes.{EPOCH}.1.c", None),
        (f"notes.{EPOCH[:-1]}.1.a", None),
        (f"notes.{EPOCH}.1.a\n", None),
        ("notes", None),
        ("catalogue.sqlite", None),
        ("Generation", None),
        ("", None),
    ],
)
def test_names_are_parsed_as_they_are_made(file: str, meaning: files.Name | None) -> None:
    """Every name the index gives a file is understood again, and no other is."""
    assert files.parse(file) == meaning
    if meaning is not None and meaning.kind == "notes":
        assert files.notes_name(meaning.epoch, meaning.number, meaning.copy) == file


def test_made_names_are_parsed() -> None:
    """Random parts included."""
    assert files.parse(files.temp_name()) == files.Name("temp")
    epoch = files.new_epoch()
    assert files.parse(files.catalogue_name(epoch)) == files.Name("catalogue", epoch)
    assert files.new_epoch() != epoch


def page(seal: Seal | None = SEAL) -> bytes:
    head = generation.make_head(HEAD)
    assert len(head) == BASE
    return head[:64] + (generation.make_seal(seal, EPOCH) if seal else bytes(PAGE - 64))


def test_head_and_seal_are_read_as_written() -> None:
    """And a page that was never sealed has no seal."""
    assert generation.parse_head(page()) == HEAD
    assert generation.parse_seal(page(), EPOCH) == SEAL
    assert generation.parse_head(page(None)) == HEAD
    assert generation.parse_seal(page(None), EPOCH) is None


def test_every_changed_byte_of_the_page_is_noticed() -> None:
    """Whichever byte of head or seal is changed, to whatever, or cut off."""
    whole = page()
    for at in range(PAGE):
        if 52 <= at < 64:
            continue  # not used
        for flip in (0x01, 0x80, 0xFF):
            changed = whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :]
            head = generation.parse_head(changed)
            assert head is None or (at >= 64 and generation.parse_seal(changed, EPOCH) is None), at
        assert generation.parse_head(whole[:at]) is None
        assert generation.parse_seal(whole[:at], EPOCH) is None


def test_a_seal_is_good_for_one_epoch_alone() -> None:
    """A seal copied into another generation file is none."""
    assert generation.parse_seal(page(), "f" * 16) is None


def test_the_generation_is_the_size(tmp_path: Path) -> None:
    """It starts at zero, and each advance is seen by whoever has the file open."""
    path = tmp_path / "generation"
    path.write_bytes(generation.make_head(HEAD))
    reader, writer = (generation.open_generation(str(path), write=write) for write in (False, True))
    for number in range(5):
        assert generation.read_number(reader) == number
        generation.advance(writer, number + 1)
    generation.write_seal(writer, SEAL, EPOCH)
    assert generation.parse_seal(generation.read_page(reader), EPOCH) == SEAL
    generation.break_seal(writer)
    assert generation.parse_seal(generation.read_page(reader), EPOCH) is None
    assert generation.read_number(reader) == 5
    os.close(reader)
    os.close(writer)


NAMES = [shard_name(f"agent:main:{n}") for n in range(6)]


@pytest.fixture
def noted(tmp_path: Path) -> str:
    """Give a directory with the note files of generation 7, and six notes in them."""
    directory = str(tmp_path)
    notes.create(directory, EPOCH, 7)
    writer = notes.NoteWriter(directory, EPOCH, 7)
    for name in NAMES:
        writer.append(name)
    writer.close()
    return directory


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "_PATIENCE", (0.0, 0.0))


def copy_of(directory: str, copy: str) -> Path:
    return Path(directory, files.notes_name(EPOCH, 7, copy))


def test_notes_are_read_as_written(noted: str) -> None:
    """Each name once."""
    assert notes.read(noted, EPOCH, 7) == set(NAMES)
    notes.create(noted, EPOCH, 7)
    assert notes.read(noted, EPOCH, 7) == set(NAMES), "making what is there already loses nothing"
    notes.remove(noted, EPOCH, [6, 7, 8])
    assert os.listdir(noted) == []


@pytest.mark.parametrize("copy", ["a", "b"])
def test_one_copy_cut_off_anywhere_loses_nothing(noted: str, copy: str) -> None:
    """Cut off at a line's end, where nothing shows it, the other copy has the rest; cut off elsewhere it is damage."""
    path = copy_of(noted, copy)
    whole = path.read_bytes()
    header = len(notes.header(EPOCH, 7, copy))
    for size in range(len(whole)):
        os.truncate(path, size)
        if size >= header and whole[:size].endswith(b"\n"):
            assert notes.read(noted, EPOCH, 7) == set(NAMES)
        else:
            with pytest.raises(notes.NotesDamaged):
                notes.read(noted, EPOCH, 7)
        path.write_bytes(whole)


def test_a_changed_byte_is_noticed(noted: str) -> None:
    """Wherever it is, in the header, a checksum, a name or a newline."""
    path = copy_of(noted, "a")
    whole = path.read_bytes()
    for at in range(len(whole)):
        for byte in {whole[at] ^ 1, 0x0A, 0x20} - {whole[at]}:
            path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
            with pytest.raises(notes.NotesDamaged):
                notes.read(noted, EPOCH, 7)


def test_a_missing_copy_is_damage(noted: str) -> None:
    """Whichever; also when a copy of another generation lies in its place."""
    for copy in files.COPIES:
        data = copy_of(noted, copy).read_bytes()
        copy_of(noted, copy).unlink()
        with pytest.raises(notes.NotesDamaged):
            notes.read(noted, EPOCH, 7)
        copy_of(noted, copy).write_bytes(notes.header(EPOCH, 8, copy))
        with pytest.raises(notes.NotesDamaged):
            notes.read(noted, EPOCH, 7)
        copy_of(noted, copy).write_bytes(data)
    assert notes.read(noted, EPOCH, 7) == set(NAMES)


def test_a_note_being_written_is_waited_for(noted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that sees the beginning of an append sees all of it a moment later."""
    monkeypatch.setattr(notes, "_PATIENCE", (0.0, 0.05, 0.5))
    more = shard_name("more")
    line = notes.make_line(more, notes.crc32(notes.header(EPOCH, 7, "a")))
    with copy_of(noted, "a").open("ab", buffering=0) as file:
        file.write(line[:20])

        def finish() -> None:
            time.sleep(0.1)
            file.write(line[20:])

        thread = threading.Thread(target=finish)
        thread.start()
        assert notes.read(noted, EPOCH, 7) == {*NAMES, more}
        thread.join()


def test_salvage_takes_what_there_is(noted: str) -> None:
    """For a scan every name helps, and none is needed."""
    path = copy_of(noted, "a")
    whole = path.read_bytes()
    path.write_bytes(b"\xff" * 10 + whole[10:-5])
    assert notes.salvage(noted, path.name, EPOCH, 7, "a") == set(NAMES[:-1])
    assert notes.salvage(noted, "missing", EPOCH, 7, "a") == set()


@given(st.binary(max_size=120))
@example(b"00000000 3f/a~" + b"3f" * 16 + b".jsonl")
@example(b"00000000 \xff")
@example(b" " * 9)
def test_noise_is_no_note(noise: bytes) -> None:
    """No bytes but those of a note are read as one."""
    assert notes.parse_line(noise, 1) is None


def test_a_leftover_without_its_header_is_made_anew(tmp_path: Path) -> None:
    """A refresher that died while it made the note files does not stop the next."""
    path = tmp_path / files.notes_name(EPOCH, 7, "a")
    path.write_bytes(notes.header(EPOCH, 7, "a")[:9])
    notes.create(str(tmp_path), EPOCH, 7)
    assert notes.read(str(tmp_path), EPOCH, 7) == set()


def test_a_short_append_is_an_error(noted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A note of which only a part was written is not a note."""
    monkeypatch.setattr(notes.os, "write", lambda fd, data: len(data) - 1)
    with pytest.raises(OSError, match="No space"):
        notes.NoteWriter(noted, EPOCH, 7).append(NAMES[0])
