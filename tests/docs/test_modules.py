"""Each module has a test file of its name. What is covered otherwise stands in COVERED, with the files that do it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.peer import REPOSITORY

TESTS = REPOSITORY / "tests"

# Packages that are tested as one thing, from outside.
PACKAGES: dict[str, tuple[str, ...]] = {
    "shardstore/_aio": ("aio/test_aio.py",),
    "shardstore/_files/watch": ("index/test_watch.py", "contract/test_watch.py"),
    "shardstore/_memory": ("unit/test_memory.py", "contract/test_store.py"),
    "shardstore/_postgres": ("contract/test_store.py", "postgres/test_scenarios.py", "postgres/test_faults.py"),
    "shardstore/_verbs": (
        "contract/test_reads.py",
        "contract/test_query.py",
        "contract/test_retention.py",
        "contract/test_store.py",
    ),
    "shardstore/_typed": ("unit/test_typed.py", "contract/test_typed.py"),
}
# Modules whose tests have another name, and the modules of the command line, several of which one file tests.
COVERED: dict[str, tuple[str, ...]] = {
    "shardstore/_files/change_file/file": ("index/test_changes.py", "index/test_watch.py"),
    "shardstore/_files/engine": ("unit/test_files_engine.py",),
    "shardstore/_conditions": ("index/test_sql.py", "contract/test_query.py"),
    "shardstore/_copy_store": ("cli/test_database.py",),
    "shardstore/_files/transfer": ("cli/test_database.py",),
    "shardstore/_answers": ("index/test_views.py", "index/test_indexed.py", "contract/test_query.py"),
    "shardstore/_wake": ("contract/test_watch.py", "index/test_watch.py"),
    "shardstore/_journal/log_lines": ("unit/test_log_values.py", "docs/test_log_format.py"),
    "shardstore/_journal/log": ("unit/test_log_values.py",),
    "shardstore/_measuring": ("unit/test_otel.py",),
    "shardstore/_log": ("unit/test_log_values.py",),
    "shardstore/_draft_log": ("contract/test_log_draft.py",),
    "shardstore/_transcripts": ("evidence/test_transcripts.py", "contract/test_log.py", "contract/test_log_moves.py"),
    "shardstore/_typed/containers": ("unit/test_typed.py",),
    "shardstore/_typed/dataclass_model": ("unit/test_typed.py",),
    "shardstore/_typed/hints": ("unit/test_typed.py",),
    "shardstore/_typed/members": ("unit/test_typed.py",),
    "shardstore/_typed/merge": ("unit/test_typed.py",),
    "shardstore/_typed/models": ("unit/test_typed.py",),
    "shardstore/_typed/msgspec_model": ("unit/test_typed.py",),
    "shardstore/_typed/pydantic_model": ("unit/test_typed.py",),
    "shardstore/_typed/scalars": ("unit/test_typed.py",),
    "shardstore/_typed/typeddict_model": ("unit/test_typed.py",),
    "shardstore/_typed/converter": ("contract/test_typed.py", "unit/test_typed.py"),
    "shardstore/_typed/form": ("contract/test_typed.py", "unit/test_typed.py"),
    "shardstore/_version": ("docs/test_package.py",),
    "shardstore/archive": ("contract/test_retention.py", "contract/test_bulk.py"),
    "shardstore/log": ("contract/test_log.py",),
    "shardstore/types": ("typing/test_types.py",),
    # The command line: each command runs as its users run it, several commands in a file.
    "cli/app": ("cli/test_exits.py",),
    "cli/main": ("cli/test_startup.py", "cli/test_interrupts.py"),
    "cli/actions": ("cli/test_maintenance.py",),
    "cli/bash": ("cli/test_completion.py",),
    "cli/changes": ("cli/test_reading.py",),
    "cli/chat": ("cli/test_log.py",),
    "cli/transcript_files": ("cli/test_log.py",),
    "cli/transcripts": ("cli/test_log.py",),
    "cli/damage": ("cli/test_reading.py",),
    "cli/failure": ("cli/test_messages.py", "cli/test_exits.py"),
    "cli/holders": ("cli/test_maintenance.py",),
    "cli/inspect_session": ("cli/test_reading.py",),
    "cli/inspect_store": ("cli/test_reading.py",),
    "cli/openclaw": ("cli/test_import_export.py", "cli/test_import_odd.py"),
    "cli/openclaw_database": ("cli/test_import_database.py",),
    "cli/openclaw_entries": ("cli/test_import_odd.py",),
    "cli/openclaw_export": ("cli/test_import_export.py",),
    "cli/openclaw_text": ("cli/test_import_odd.py",),
    "cli/options": ("cli/test_messages.py",),
    "cli/output": ("cli/test_messages.py", "cli/test_terminal.py"),
    "cli/progress": ("cli/test_terminal.py",),
    "cli/receipts": ("cli/test_writing.py",),
    "cli/writing": ("cli/test_writing.py", "cli/test_messages.py"),
    "cli/importing": ("cli/test_import_export.py", "cli/test_log.py"),
    "cli/import_report": ("cli/test_import_export.py", "cli/test_import_odd.py"),
    "cli/cmd_append": ("cli/test_log.py",),
    "cli/cmd_archive": ("cli/test_archive.py",),
    "cli/cmd_compact": ("cli/test_maintenance.py",),
    "cli/cmd_copy": ("cli/test_log.py",),
    "cli/cmd_create_many": ("cli/test_bulk.py",),
    "cli/cmd_get_many": ("cli/test_bulk.py",),
    "cli/cmd_delete": ("cli/test_writing.py", "cli/test_bulk.py"),
    "cli/cmd_doctor": ("cli/test_maintenance.py",),
    "cli/cmd_export": ("cli/test_import_export.py",),
    "cli/cmd_get": ("cli/test_reading.py",),
    "cli/cmd_history": ("cli/test_reading.py",),
    "cli/cmd_import": ("cli/test_import_export.py",),
    "cli/cmd_inspect": ("cli/test_reading.py",),
    "cli/cmd_list": ("cli/test_reading.py",),
    "cli/cmd_log": ("cli/test_log.py",),
    "cli/cmd_patch": ("cli/test_writing.py",),
    "cli/cmd_prune": ("cli/test_maintenance.py",),
    "cli/cmd_reindex": ("cli/test_reading.py",),
    "cli/cmd_rename": ("cli/test_log.py",),
    "cli/cmd_restore": ("cli/test_maintenance.py", "cli/test_bulk.py"),
    "cli/cmd_revert": ("cli/test_reading.py",),
    "cli/cmd_stats": ("cli/test_reading.py",),
    "cli/cmd_set": ("cli/test_writing.py",),
    "cli/cmd_verify": ("cli/test_maintenance.py",),
    "cli/cmd_copy_store": ("cli/test_database.py",),
    "cli/cmd_watch": ("cli/test_watch.py",),
    "cli/plain_text": ("cli/test_startup.py",),
    "cli/population": ("cli/test_watch.py", "cli/test_reading.py"),
}


def modules() -> list[str]:
    """List every module of library and command line, packages' own files aside."""
    found = [path for part in ("shardstore", "cli") for path in (REPOSITORY / part).rglob("*.py")]
    return sorted(str(path.relative_to(REPOSITORY).with_suffix("")) for path in found if "__" not in path.name)


def folders(module: str) -> list[Path]:
    """Return where the tests of a module may be."""
    if module.startswith("cli/"):
        return [TESTS / "cli"]
    if "/index/" in module:
        return [TESTS / "index"]
    if "/maintenance/" in module:
        return [TESTS / "unit" / "maintenance"]
    parts = ("unit", "contract", "aio", *(("index",) if "/_files/" in module else ()))
    return [TESTS / part for part in parts]


@pytest.mark.parametrize("module", modules())
def test_each_module_has_a_test_file(module: str) -> None:
    """One of its name where such tests are, or those that COVERED names."""
    name = f"test_{Path(module).name.lstrip('_')}.py"
    own = [folder / name for folder in folders(module) if (folder / name).exists()]
    named = [TESTS / path for path in COVERED.get(module) or PACKAGES.get(str(Path(module).parent), ())]
    assert all(path.exists() for path in named), f"{module}: a file that COVERED names is gone"
    assert own or named, f"{module} has no {name}; write one, or name in COVERED what tests it"


def test_the_table_names_only_modules_that_exist() -> None:
    assert set(COVERED) - set(modules()) == set()
    assert set(PACKAGES) - {str(Path(module).parent) for module in modules()} == set()


@pytest.mark.parametrize("command", [module for module in modules() if module.startswith("cli/cmd_")])
def test_the_file_of_a_command_runs_it(command: str) -> None:
    """A command's name stands in each file that is said to test it."""
    verb = command.removeprefix("cli/cmd_").replace("_", "-")
    for path in COVERED[command]:
        assert f'"{verb}"' in (TESTS / path).read_text(), f"{path} never runs {verb!r}"
