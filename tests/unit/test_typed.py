"""Typed sessions in detail: which hints there are, the libraries' own settings, and how changes are merged."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import date, time
from decimal import Decimal
from enum import Enum, IntFlag
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NewType, NotRequired, Required, TypedDict
from uuid import UUID, uuid4

import msgspec
import pydantic
import pytest
import typing_extensions

from shardstore import JSON, InvalidEntry, Store
from shardstore._typed.merge import merged, same
from tests.scenarios import typed as scenarios
from tests.support.calls import fewest_calls
from tests.support.peer import environment

ID = UUID(int=5)
UserId = NewType("UserId", str)


class Perm(IntFlag):
    READ = 1
    WRITE = 2


class Color(Enum):
    RED = "red"
    ONE = 1

    @classmethod
    def _missing_(cls, value: object) -> Color | None:
        return cls.RED if value == "crimson" else None


@dataclass
class Tree:
    name: str
    children: list[Tree] = field(default_factory=list)


class Ping(TypedDict):
    kind: Literal["ping"]
    at: int


@dataclass
class Pong:
    kind: Literal["pong"]
    text: str = ""


class Part(pydantic.BaseModel):
    n: int


class Piece(msgspec.Struct):
    n: int


@dataclass
class All:
    any_: Any = None
    json: dict[str, JSON] = field(default_factory=dict)
    number: float = 0.0
    texts: Sequence[str] = ()  # stored as a list, and read as one
    pair: tuple[int, str] = (0, "")
    many: tuple[int, ...] = ()
    chosen: set[str] = field(default_factory=set)
    frozen: frozenset[int] = frozenset()
    table: Mapping[Color, list[int]] = field(default_factory=dict)
    user: UserId = UserId("")
    noted: Annotated[int, "with a note"] = 0
    either: int | str | None = None
    perm: Perm = Perm.READ
    color: Literal[Color.RED, "blue", 5] = "blue"
    day: date = date(2026, 1, 2)
    hour: time = time(3, 4)
    path: Path = Path("a/b")
    uuid: UUID = ID
    cost: Decimal = Decimal("1.10")
    tree: Tree | None = None
    event: Ping | Pong | None = None
    plain: list = field(default_factory=list)  # type: ignore[type-arg]
    part: Part = field(default_factory=lambda: Part(n=1))
    piece: Piece = field(default_factory=lambda: Piece(n=1))
    shared: ClassVar[int] = 5
    derived: str = field(init=False, default="")

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError("number is negative")
        self.derived = f"{self.user}!"


def test_every_hint_goes_there_and_back(root: Path) -> None:
    """What JSON has no form for itself is text, a list or an object in the store."""
    full = All(
        any_={"a": [1]}, json={"x": [1, {"y": None}]}, number=1.5, texts=["a"], pair=(1, "x"), many=(1, 2),
        chosen={"b", "a"}, frozen=frozenset({2, 1}), table={Color.RED: [1]}, user=UserId("u"), noted=1, either="x",
        perm=Perm.READ | Perm.WRITE, color=Color.RED, tree=Tree("a", [Tree("b")]), event={"kind": "ping", "at": 1},
        plain=[1, "x"], part=Part(n=2), piece=Piece(n=3),
    )  # fmt: skip
    with Store(root) as store:
        typed = store.typed(All)
        assert typed.create("k", full).value == full
        found = store["k"].data
        assert (found["pair"], found["many"], found["chosen"], found["frozen"]) == (
            [1, "x"],
            [1, 2],
            ["a", "b"],
            [1, 2],
        )
        assert (found["table"], found["perm"], found["color"], found["cost"]) == ({"red": [1]}, 3, "red", "1.10")
        assert "derived" not in found
        assert typed["k"].value.derived == "u!"
        typed.update("k", lambda value: dataclasses.replace(value, event=Pong("pong", "hi"), either=None))
        assert store["k"]["event"] == {"kind": "pong", "text": "hi"}
        assert typed["k"].value.event == Pong("pong", "hi")
        assert typed.create("default", All()).value.texts == []


@pytest.mark.parametrize(
    ("field_name", "wrong", "place"),
    [
        ("number", -1, ""),
        ("number", "1", "['number']"),
        ("texts", "abc", "['texts']"),
        ("pair", [1], "['pair']"),
        ("pair", [1, 2], "['pair'][1]"),
        ("many", [1, None], "['many'][1]"),
        ("frozen", [[1]], "['frozen'][0]"),
        ("table", {"green": []}, "['table']['green']"),
        ("table", {"red": ["x"]}, "['table']['red'][0]"),
        ("table", [], "['table']"),
        ("either", 1.5, "['either']"),
        ("perm", "read", "['perm']"),
        ("color", [1], "['color']"),
        ("color", 5.0, "['color']"),
        ("day", 5, "['day']"),
        ("cost", "cheap", "['cost']"),
        ("tree", {"name": "a", "children": [{}]}, "['tree']['children'][0]['name']"),
        ("tree", {"name": "a", "children": [5]}, "['tree']['children'][0]"),
        ("event", {"kind": "pang"}, "['event']['kind']"),
        ("part", {"n": "x"}, "['part']['n']"),
        ("piece", {"n": "x"}, "['piece']['n']"),
    ],
)
def test_what_does_not_fit_is_named(root: Path, field_name: str, wrong: Any, place: str) -> None:
    """A refused value has a path and a reason."""
    with Store(root) as store:
        store.create("k", {field_name: wrong})
        with pytest.raises(InvalidEntry, match="does not fit All") as found:
            store.typed(All)["k"]
        assert found.value.path == "entry" + place


@pytest.mark.parametrize("wrong", [float("nan"), 10**30, "\ud800", {1: 2}, (1,), {"x": {2}}])
def test_what_json_cannot_hold_is_refused_in_any(root: Path, wrong: Any) -> None:
    """Also where null was stored, which NaN would become."""
    with Store(root) as store:
        typed = store.typed(All)
        typed.create("k", All())
        with pytest.raises(InvalidEntry) as found:
            typed.update("k", lambda value: setattr(value, "any_", wrong))
        assert found.value.path.startswith("entry['any_']")


class Unknowable:
    pass


@dataclass
class WithBytes:
    data: bytes = b""


@dataclass
class WithUnknown:
    data: list[Unknowable]


@dataclass
class WithInitVar:
    data: InitVar[int]


@dataclass
class One:
    a: int = 0


@dataclass
class Other:
    b: int = 0


@dataclass
class Ambiguous:
    either: One | Other


@dataclass
class Misspelled:
    either: Onne  # type: ignore[name-defined]  # noqa: F821


class Pixel(Enum):
    HERE = (1, 2)


@dataclass
class WithPixel:
    pixel: Pixel


class Numbers(pydantic.RootModel[list[int]]):
    pass


class Row(msgspec.Struct, array_like=True):
    n: int


class Crossed(pydantic.BaseModel):
    n: int = pydantic.Field(validation_alias="a", serialization_alias="b")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (dict, "a model is"),
        ("Chat", "a model is"),
        (list[int], "a model is"),
        (One(), "a model is"),
        (WithBytes, "bytes"),
        (WithUnknown, "Unknowable"),
        (WithInitVar, "InitVar"),
        (Ambiguous, "One and Other"),
        (Misspelled, "Onne"),
        (WithPixel, "Pixel"),
        (Numbers, "RootModel"),
        (Row, "array_like"),
        (Crossed, "written as 'b'"),
    ],
)
def test_a_model_that_cannot_be_stored_is_refused_at_once(model: Any, message: str) -> None:
    """typed() raises, not the first update."""
    with pytest.raises(TypeError, match=message):
        Store.memory().typed(model)


class Base(TypedDict):
    must: int


class Mixed(Base, total=False):
    may: int
    does: Required[int]


class Extended(typing_extensions.TypedDict):
    must: int
    may: NotRequired[int]
    seen: NotRequired[typing_extensions.ReadOnly[int]]


@pytest.mark.parametrize(("model", "required"), [(Mixed, ["must", "does"]), (Extended, ["must"])])
def test_required_members_of_a_typeddict(model: Any, required: list[str]) -> None:
    """Inherited, qualified, and where annotations are texts, as in this file."""
    full = dict.fromkeys(["must", "may", "does"] if model is Mixed else ["must", "may", "seen"], 1)
    store = Store.memory()
    typed = store.typed(model)
    for name in full:
        key = f"without {name}"
        store.create(key, {one: 1 for one in full if one != name})
        if name in required:
            with pytest.raises(InvalidEntry, match="missing"):
                typed[key]
        else:
            assert name not in typed[key].value
        typed.create(f"with {name}", full)
        if name in required:
            with pytest.raises(InvalidEntry, match="missing"):
                typed.update(f"with {name}", lambda value, name=name: value.pop(name) and None)
        else:
            typed.update(f"with {name}", lambda value, name=name: value.pop(name) and None)
            assert name not in store[f"with {name}"]
    with pytest.raises(InvalidEntry, match="no member of this name"):
        typed.update("with must", lambda value: value.update(other=1))


class Nest(TypedDict, total=False):
    inner: Nest
    n: int


def test_a_typeddict_is_not_replaced_by_a_part_of_itself() -> None:
    """As `lambda value: value.setdefault(...)` would do."""
    typed = Store.memory().typed(Nest)
    typed.create("k", {"inner": {"n": 1}})
    with pytest.raises(TypeError, match="inside of its model"):
        typed.update("k", lambda value: value["inner"])


class Aliased(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(validate_by_name=True)
    tokens: int = pydantic.Field(default=0, alias="tokensUsed")
    secret: str = pydantic.Field(default="", exclude=True)

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def doubled(self) -> int:
        return 2 * self.tokens


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    n: int = 0


class Closed(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    n: int = 0


class Chosen(pydantic.BaseModel):
    n: int = pydantic.Field(
        default=0, validation_alias=pydantic.AliasChoices("n", "old", pydantic.AliasPath("deep", 0))
    )


class Renaming(pydantic.BaseModel):
    n: int = 0

    @pydantic.model_validator(mode="before")
    @classmethod
    def rename(cls, data: Any) -> Any:
        return {"n": data["legacy"], **data} if "legacy" in data else data


def test_what_pydantic_models_say_of_their_fields_holds() -> None:
    """Aliases, excluded and computed fields, extra fields, and validators that look at names of their own."""
    store = Store.memory()
    store.create("a", {"tokensUsed": 1, "secret": "s", "doubled": 0})
    store.typed(Aliased).update("a", lambda value: setattr(value, "tokens", 2))
    assert store["a"].data == {"tokensUsed": 2, "secret": "s", "doubled": 0}
    store.create("b", {"n": 1, "more": [1]})
    store.typed(Open).update("b", lambda value: value.more.append(2))  # type: ignore[attr-defined]
    assert store["b"].data == {"n": 1, "more": [1, 2]}
    with pytest.raises(InvalidEntry, match="Extra inputs") as found:
        store.typed(Closed)["b"]
    assert found.value.path == "entry['more']"
    store.create("c", {"old": 5})
    assert store.typed(Chosen)["c"].value.n == 5
    store.create("d", {"legacy": 6})
    assert store.typed(Renaming)["d"].value.n == 6


class Tagged(msgspec.Struct, tag="t", rename="camel", omit_defaults=True):
    used_tokens: int = 0


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    n: int = 0


def test_what_structs_say_of_their_fields_holds() -> None:
    """Tags, renamed fields, defaults that are left out, and unknown fields that are forbidden."""
    store = Store.memory()
    typed = store.typed(Tagged)
    typed.create("a", Tagged(5))
    store.patch("a", {"x": 1})
    assert store["a"].data == {"type": "t", "usedTokens": 5, "x": 1}
    typed.update("a", lambda value: setattr(value, "used_tokens", 0))
    assert store["a"].data == {"type": "t", "x": 1}
    with pytest.raises(InvalidEntry, match="unknown field"):
        store.typed(Strict)["a"]


def test_items_of_any_type_that_json_has_a_form_for() -> None:
    """An item need not be a model."""
    typed = Store.memory().typed(One, item=date)
    typed.append("k", [date(2026, 1, 2)])
    assert typed.store.log("k") == ["2026-01-02"]
    assert typed["k"].log[0] == date(2026, 1, 2)


@pytest.mark.parametrize(
    ("stored", "before", "after", "wanted"),
    [
        ({"a": 1, "x": 1}, {"a": 1}, {"a": 2}, {"a": 2, "x": 1}),
        ({"a": 1, "x": 1}, {"a": 1}, {}, {"x": 1}),
        ({"x": 1}, {"a": 0}, {"a": 0}, {"x": 1}),
        ({"a": 1}, {"a": 1.0, "b": 0}, {"a": 1.0, "b": 1}, {"a": 1, "b": 1}),
        ([{"a": 1, "x": 1}], [{"a": 1}], [{"a": 2}], [{"a": 2, "x": 1}]),
        (
            [{"a": 1, "x": 1}, {"a": 2, "x": 2}],
            [{"a": 1}, {"a": 2}],
            [{"a": 2}, {"a": 3}],
            [{"a": 2, "x": 2}, {"a": 3}],
        ),
        ([{"a": 1, "x": 1}, {"a": 1, "x": 2}], [{"a": 1}, {"a": 1}], [{"a": 1}], [{"a": 1, "x": 1}]),
        ([{"a": 1, "x": 1}], [{"a": 1}], [{"a": 2}, {"a": 3}], [{"a": 2}, {"a": 3}]),
        ([[{"x": 1}]], [[{}]], [[{}, {"a": 1}]], [[{"x": 1}, {"a": 1}]]),
        ({"a": 1}, {"a": 1}, 5, 5),
        (None, None, {"a": 1}, {"a": 1}),
    ],
)
def test_merging(stored: Any, before: Any, after: Any, wanted: Any) -> None:
    """What the model does not know stays with the value that it stood beside."""
    assert merged(stored, before, after) == wanted


def test_values_are_the_same_only_if_their_json_is() -> None:
    """To Python True is 1 and 1 is 1.0, and NaN is nothing."""
    assert same({"a": [1]}, {"a": [1]})
    for one, other in [(True, 1), (1, 1.0), ([0.0], [-0.0]), (float("nan"), float("nan"))]:
        assert not same(one, other)


def test_a_model_of_the_standard_library_imports_no_other() -> None:
    """pydantic and msgspec are imported with the first model of theirs, and nothing of this before `typed`."""
    code = (
        "import sys, dataclasses, shardstore\n"
        "assert 'shardstore.typed' not in sys.modules\n"
        "One = dataclasses.make_dataclass('One', [('n', int, 0)])\n"
        "assert shardstore.Store.memory().typed(One).update('k', lambda one: One(one.n + 1)).value.n == 1\n"
        "assert not {'pydantic', 'msgspec', 'asyncio'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), timeout=60, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "scenario",
    [
        scenarios.what_the_model_does_not_know_survives,
        scenarios.what_the_model_only_spells_otherwise_is_not_written,
        scenarios.what_could_not_be_read_again_is_not_written,
        scenarios.what_is_put_back_is_what_was_checked,
    ],
    ids=lambda scenario: scenario.__name__,
)
def test_what_a_typed_store_promises(root: Path, scenario: Callable[[Path], None]) -> None:
    """Each of these fails when its protection is taken out (tests/mutations)."""
    scenario(root)


@dataclass
class Named:
    turns: int = 0
    name: str = field(default_factory=lambda: str(uuid4()))


def test_a_default_that_is_another_one_each_time_is_not_written(root: Path) -> None:
    """A field that is not stored stays so while nobody changes it."""
    with Store(root) as store:
        store.create("k", {"turns": 1})
        typed = store.typed(Named)
        assert typed.update("k", lambda _: None).rev == 1
        assert typed.update("k", lambda value: setattr(value, "turns", 2)).session.data == {"turns": 2}


class Counts(TypedDict):
    turns: int
    title: str | None
    cost: float
    tags: list[str]
    limits: dict[str, int]


@dataclass
class Counted:
    turns: int = 0
    title: str | None = None
    cost: float = 0.0
    tags: list[str] = field(default_factory=list)
    limits: dict[str, int] = field(default_factory=dict)


def test_a_hot_typed_update_takes_few_python_calls(root: Path) -> None:
    """Beside those of the update beneath it: each costs about as much as a system call's overhead."""
    with Store(root, durability="relaxed") as store:
        tags = [f"tag{n}" for n in range(50)]
        entry = {"turns": 0, "title": None, "cost": 0.5, "tags": tags, "limits": dict.fromkeys(tags, 1)}
        store.create("k", {**entry, "other": "x" * 1000})

        def add(value: Any) -> None:
            value["turns"] += 1

        def add_one(value: Counted) -> None:
            value.turns += 1

        plain = len(fewest_calls(lambda: store.update("k", add)))
        dicts, classes = store.typed(Counts), store.typed(Counted)
        assert 10 < len(fewest_calls(lambda: dicts.update("k", add))) - plain <= 38
        assert 10 < len(fewest_calls(lambda: classes.update("k", add_one))) - plain <= 40
        assert store["k"]["turns"] > 200
