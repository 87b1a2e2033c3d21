"""`shardstore stats`: the numbers of a store, for a person, a program, or Prometheus."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import escape, output
from .options import JsonOption, StoreOption, open_existing, plain_app

if TYPE_CHECKING:
    from shardstore import Store

app = plain_app()
_GAUGES = {
    "sessions": ("sessions", "Sessions that exist."),
    "tombstones": ("tombstones", "Deleted sessions whose file is still there."),
    "bytes_live": ("live_bytes", "Bytes of the entries."),
    "bytes_dead": ("dead_bytes", "Bytes of the journals beyond the entries, which compact removes."),
    "bytes_total": ("total_bytes", "Bytes of the journals."),
    "pending_changes": ("pending_changes", "Sessions that the next list reads."),
    "archived": ("archived_files", "Files in the archive."),
    "quarantined": ("quarantined_files", "Files in quarantine."),
    "damaged": ("damaged_sessions", "Sessions whose files are known to be damaged."),
    "index_unusable": ("index_usable", "1 where the index answered, 0 where every session had to be read."),
    "locks_held": ("locks_held", "Locks of sessions that are held right now."),
}


@app.command()
def stats(
    ctx: typer.Context,
    prometheus: Annotated[
        bool, typer.Option("--prometheus", help="Print gauges in the text format of Prometheus.")
    ] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Print the numbers of a store: sessions, bytes, damage, locks. Reads only.

    With --prometheus, for the textfile collector of the node exporter: write it to a file ending in .prom from cron.
    """
    if prometheus and json:
        message = "--prometheus and --json exclude each other"
        raise typer.BadParameter(message, ctx=ctx, param_hint="--prometheus")
    with open_existing(ctx, store, read_only=True) as opened:
        found: dict[str, Any] = {**asdict(opened.stats()), "locks_held": len(opened.engine.holders())}
        if prometheus:
            return _print_gauges(opened, found)
    if json:
        return output.json_object({**found, "damaged": list(found["damaged"])})
    return output.pairs([(name, _shown(value)) for name, value in found.items()])


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{len(value):,}"
    return "no" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _print_gauges(store: Store, found: dict[str, Any]) -> None:
    """Print one gauge for each number, with the store's place as its label."""
    label = escape.text(store.location).replace("\\", r"\\").replace('"', r"\"")
    for name, (gauge, meaning) in _GAUGES.items():
        value = found[name]
        if name == "damaged":
            value = len(value)
        elif name == "index_unusable":
            value = int(value is None)
        output.line(f"# HELP shardstore_{gauge} {meaning}")
        output.line(f"# TYPE shardstore_{gauge} gauge")
        output.line(f'shardstore_{gauge}{{store="{label}"}} {value}')
