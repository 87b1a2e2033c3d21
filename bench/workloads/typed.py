"""One field of one session changes through a typed store, beside a plain update of the same session."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec
import pydantic

from bench.measure import Summary, sample
from bench.plan import Case, Metrics, Stage
from bench.sizes import HOT, entries
from shardstore import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shardstore.types import Durability

NAME = "typed"
ABOUT = "one field of a 1 KB session changed: update, and typed.update with a model of five fields of each kind"
PLAIN = "update"


@dataclass
class Data:
    status: str = "new"
    model: str = ""
    totalTokens: int = 0  # noqa: N815  # as it is stored
    cost: float = 0.0
    title: str | None = None


class Dict(TypedDict, total=False):
    status: str
    model: str
    totalTokens: int
    cost: float
    title: str | None


class Model(pydantic.BaseModel):
    status: str = "new"
    model: str = ""
    totalTokens: int = 0  # noqa: N815
    cost: float = 0.0
    title: str | None = None


class Struct(msgspec.Struct):
    status: str = "new"
    model: str = ""
    totalTokens: int = 0  # noqa: N815
    cost: float = 0.0
    title: str | None = None


MODELS: dict[str, Any] = {"dataclass": Data, "TypedDict": Dict, "pydantic": Model, "msgspec": Struct}


def cases(stage: Stage) -> Iterator[Case]:
    """Yield each durability; the peers are the kinds of models."""
    for durability in ("relaxed", "commit"):
        yield Case(NAME, durability, (PLAIN, *MODELS), partial(_stand, durability), stage.plan.seconds)


@contextmanager
def _stand(durability: Durability, stage: Stage, kind: str) -> Iterator[Callable[[float], Metrics]]:
    with stage.fresh() as root, Store(root / "store", durability=durability) as store:
        store.create_many(entries("1 KB", 50))
        store.patch(HOT, {"status": "new", "model": "m", "cost": 0.5, "title": None, "totalTokens": 0})
        operation = _operation(store, kind)
        yield lambda seconds: Summary.of(sample(operation, seconds)).metrics()


def _operation(store: Store, kind: str) -> Callable[[], object]:
    if kind == PLAIN:
        return lambda: store.update(HOT, _bump_member)
    typed = store.typed(MODELS[kind])
    return lambda: typed.update(HOT, _bump_member if kind == "TypedDict" else _bump)


def _bump_member(value: Any) -> None:
    value["totalTokens"] += 1


def _bump(value: Any) -> None:
    value.totalTokens += 1
