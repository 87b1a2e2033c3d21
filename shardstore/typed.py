"""Typed sessions: the verbs of a store, with a model of yours in place of a mapping of fields.

    @dataclass
    class Chat:
        status: str = "new"
        turns: int = 0

    chats = store.typed(Chat)
    chats.update("agent:main", lambda chat: setattr(chat, "turns", chat.turns + 1)).value.turns

A model is a dataclass, a TypedDict, a pydantic model or a msgspec.Struct. Fields that the model does not know stay as
they are, so two versions of a program may work on one session. A value that does not fit raises InvalidEntry, which
names the place, and nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, Literal

from shardstore import _codec as codec
from shardstore._typed.draft import TypedDraft, TypedDraftLog
from shardstore._typed.session import I, M, TypedLog, TypedSession
from shardstore.draft import Delete, Draft, patcher
from shardstore.errors import SessionNotFound

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from datetime import datetime
    from types import TracebackType

    from shardstore._transcripts import Follower
    from shardstore._typed.form import Form
    from shardstore._verbs.edit import Edit
    from shardstore.aio import AsyncStore
    from shardstore.session import Session, SessionInfo
    from shardstore.store import Store
    from shardstore.types import JSON, OnDamage, Where

    Expect = Session | SessionInfo | TypedSession[Any, Any] | str
    Patch = Mapping[str, JSON] | Callable[[M], M | None] | None

__all__ = [
    "AsyncTypedStore",
    "TypedDraft",
    "TypedDraftLog",
    "TypedEdit",
    "TypedFollower",
    "TypedLog",
    "TypedSession",
    "TypedStore",
]


def _plain(expect: Expect | None) -> Session | SessionInfo | str | None:
    return expect.session if isinstance(expect, TypedSession) else expect


class _Verbs(Generic[M, I]):
    """The common part of both stores: arguments and results, from models and to models."""

    def __init__(self, form: Form[M, I]) -> None:
        self._form = form
        self._typed: Callable[[Session], TypedSession[M, I]] = partial(TypedSession, form=form)

    def _checked(self, session: Session) -> TypedSession[M, I]:
        """Return a session that fits. Raises InvalidEntry."""
        found = TypedSession(session, self._form)
        _ = found.value
        return found

    def _mutator(self, fn: Callable[[M], M | Delete | None]) -> Callable[[Draft], None]:
        def change(draft: Draft) -> None:
            typed = TypedDraft(draft, self._form)
            typed.accept(fn(typed.value))

        return change

    def _patch(self, fields: Mapping[str, JSON] | None, unset: Iterable[str]) -> Callable[[Draft], None]:
        fields = {} if fields is None else fields
        removed = (unset,) if isinstance(unset, str) else tuple(unset)
        change = patcher(fields, removed)

        def patch(draft: Draft) -> None:
            change(draft)
            entry = {name: raw for name, raw in draft.raw.items() if name not in removed}
            self._form.load(entry | {name: codec.encode(fields[name], name) for name in fields})

        return patch

    def _beside(self, patch: Patch[M]) -> Callable[[Draft], None]:
        """Return the mutator for the fields beside an append."""
        if callable(patch):
            return self._mutator(patch)
        if patch is not None:
            return self._patch(patch, ())
        return lambda draft: None if draft.exists else TypedDraft(draft, self._form).accept(None)

    def _replace(self, value: M) -> Callable[[Draft], None]:
        fields = self._form.entry(value)
        names = self._form.names

        def replace(draft: Draft) -> None:
            for name in [*draft]:
                if name not in fields and (names is None or name in names):
                    del draft[name]
            draft.update(fields)

        return replace

    def _revert(self, store: Store, key: str, rev: int) -> Callable[[Draft], Mapping[str, Any]]:
        """Return the mutator that puts a revision back; inside the lock, it is the one that was checked."""

        def revert(_draft: Draft) -> Mapping[str, Any]:
            session = store.get(key, rev=rev)
            assert session is not None  # else RevisionNotFound
            self._form.load(session.raw)
            return session.data

        return revert

    def _made(self, data: M | Callable[[], M]) -> Callable[[], Mapping[str, Any]]:
        form = self._form
        return lambda: form.entry(data() if callable(data) else data)

    def _rows(self, pairs: Mapping[str, M] | Iterable[tuple[str, M]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for key, value in pairs.items() if isinstance(pairs, Mapping) else pairs:
            yield key, self._form.entry(value)

    def _items(self, values: Iterable[Any], start: int) -> list[I]:
        return [self._form.load_item(value, f"log[{n}]") for n, value in enumerate(values, start)]


class TypedStore(_Verbs[M, I]):
    """The verbs of a Store, for sessions of one model; `Store.typed` returns it. It shares the Store: close that one.

    `delete`, `delete_all`, `exists`, `list`, `count`, `watch` and `token` are the Store's own; `.store` has the others.
    Unless a docstring here says otherwise, arguments, results and errors are those of the Store's verbs.

    The example of each verb goes on from here, and `store` is that of `help(Store)`:

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Chat:
    ...     status: str = "new"
    ...     turns: int = 0
    >>> @dataclass
    ... class Message:
    ...     role: str
    ...     content: str
    >>> chats = store.typed(Chat, item=Message)
    """

    def __init__(self, store: Store, form: Form[M, I]) -> None:
        super().__init__(form)
        self.store: Store = store
        self.delete: Final = store.delete
        self.delete_all: Final = store.delete_all
        self.exists: Final = store.exists
        self.list: Final = store.list
        self.count: Final = store.count
        self.watch: Final = store.watch
        self.token: Final = store.token

    # Writing

    def update(
        self, key: str, fn: Callable[[M], M | Delete | None], *, create: bool = True, expect: Expect | None = None
    ) -> TypedSession[M, I]:
        """Change a session by a function that runs inside its lock, on the model of the latest committed state.

        fn: changes the model in place and returns None, or returns another one, or DELETE. An absent session begins as
            `default`, or as the model without arguments.

        Only fields that differ are written. Raises InvalidEntry if the stored entry or the changed model does not fit;
        otherwise as `Store.update`.

        >>> def answer(chat: Chat) -> None:
        ...     chat.turns += 1
        >>> chats.update("agent:main", answer).value
        Chat(status='new', turns=2)
        """
        return self._typed(self.store.update(key, self._mutator(fn), create=create, expect=_plain(expect)))

    def edit(self, key: str, *, create: bool = True, expect: Expect | None = None) -> TypedEdit[M, I]:
        """Update as a with block, which yields a TypedDraft: change `.value` or `.log`, or call `.delete()`.

        Its end commits; an exception writes nothing. Raises InvalidEntry where the model does not fit.

        Arguments and other errors are those of `Store.edit`.

        >>> with chats.edit("agent:main") as draft:
        ...     draft.value.turns += 1
        ...     draft.log.append(Message("user", "hi"))
        True
        >>> draft.session.value
        Chat(status='new', turns=2)
        """
        return TypedEdit(self.store.edit(key, create=create, expect=_plain(expect)), self._form)

    def patch(
        self,
        key: str,
        fields: Mapping[str, JSON] | None = None,
        *,
        unset: Iterable[str] = (),
        create: bool = True,
        expect: Expect | None = None,
    ) -> TypedSession[M, I]:
        """Set fields by the names that they are stored under, and remove those in `unset`. Return the session.

        Raises InvalidEntry where the result does not fit the model; otherwise as `Store.patch`.

        >>> chats.patch("agent:main", {"status": "done"}).value
        Chat(status='done', turns=1)
        """
        change = self._patch(fields, unset)
        return self._typed(self.store.update(key, change, create=create, expect=_plain(expect)))

    def append(  # noqa: PLR0913  # as Store.append
        self,
        key: str,
        items: Iterable[I],
        patch: Patch[M] = None,
        *,
        ids: Iterable[str | None] | None = None,
        expect: Expect | None = None,
        create: bool = True,
    ) -> TypedSession[M, I]:
        """Add items to the end of the log, and change fields beside them; return the session.

        items: values of the type `item`.
        patch: fields to set, or a function that is called with the model.

        Raises InvalidEntry where an item or the model does not fit.

        Other arguments and errors are those of `Store.append`.

        >>> answer = Message("assistant", "Hello!")
        >>> session = chats.append("agent:chat", [answer], lambda chat: Chat("answered", chat.turns + 1), ids=["m-2"])
        >>> session.value, session.log[-1] == answer
        (Chat(status='answered', turns=1), True)
        """
        return self._typed(
            self.store.append(
                key,
                self._form.dump_items(items),
                self._beside(patch),
                ids=ids,
                expect=_plain(expect),
                create=create,
            )
        )

    def create(
        self, key: str, value: M, *, expect: Expect | None = None, at: datetime | None = None
    ) -> TypedSession[M, I]:
        """Create a session and return it. Raises SessionExists if it is there, InvalidEntry if `value` does not fit.

        Other arguments and errors are those of `Store.create`.

        >>> chats.create("agent:new", Chat(turns=3)).rev
        1
        """
        return self._typed(self.store.create(key, self._form.entry(value), expect=_plain(expect), at=at))

    def get_or_create(self, key: str, value: M | Callable[[], M]) -> TypedSession[M, I]:
        """Return the session; create it from `value` if absent. A function in `value` is called inside the lock.

        Raises InvalidEntry where the stored entry or `value` does not fit; otherwise as `Store.get_or_create`.

        >>> chats.get_or_create("agent:new", Chat).value
        Chat(status='new', turns=0)
        """
        return self._checked(self.store.get_or_create(key, self._made(value)))

    def replace(self, key: str, value: M, *, expect: Expect | None = None) -> TypedSession[M, I]:
        """Replace all fields that the model knows by `value`, even if they did not fit. Other fields stay.

        Return the session. Raises InvalidEntry if `value` does not fit; otherwise as `Store.replace`.

        >>> chats.replace("agent:main", Chat("done")).value
        Chat(status='done', turns=0)
        """
        return self._typed(self.store.update(key, self._replace(value), expect=_plain(expect)))

    def copy(self, source: str, target: str, *, stop: int | None = None) -> TypedSession[M, I]:
        """Create the session `target` from the fields of `source` and its log[:stop]; return it.

        Raises as `Store.copy`.

        >>> chats.copy("agent:chat", "agent:branch", stop=1).log[:]
        [Message(role='user', content='hi')]
        """
        return self._typed(self.store.copy(source, target, stop=stop))

    def rename(self, source: str, target: str, *, expect: Expect | None = None) -> TypedSession[M, I]:
        """Move a session to another key; return it. Raises as `Store.rename`.

        >>> chats.rename("agent:main", "agent:kept").value
        Chat(status='new', turns=1)
        """
        return self._typed(self.store.rename(source, target, expect=_plain(expect)))

    def revert(self, key: str, rev: int, *, expect: Expect | None = None) -> TypedSession[M, I]:
        """Put the fields of an earlier revision back; return the session.

        Raises InvalidEntry if they do not fit the model; otherwise as `Store.revert`.

        >>> session = chats.replace("agent:main", Chat("broken"))
        >>> chats.revert("agent:main", 1).value
        Chat(status='new', turns=1)
        """
        change = self._revert(self.store, key, rev)
        return self._typed(self.store.update(key, change, create=False, expect=_plain(expect)))

    def create_many(
        self, pairs: Mapping[str, M] | Iterable[tuple[str, M]], *, on_exists: Literal["raise", "skip"] = "raise"
    ) -> int:
        """Create many sessions, whose syncs are shared; return how many were created. Raises as `Store.create_many`.

        >>> chats.create_many({"agent:a": Chat(), "agent:b": Chat(turns=2)})
        2
        """
        return self.store.create_many(self._rows(pairs), on_exists=on_exists)

    # Reading

    def get(self, key: str, *, rev: int | None = None) -> TypedSession[M, I] | None:
        """Return the session, or None if there is none; `chats[key]` raises SessionNotFound instead.

        Raises InvalidEntry where it does not fit the model; otherwise as `Store.get`.

        >>> session = chats.get("agent:main")
        >>> session.value.turns
        1
        """
        session = self.store.get(key, rev=rev)
        return None if session is None else self._checked(session)

    def __getitem__(self, key: str) -> TypedSession[M, I]:
        session = self.get(key)
        if session is None:
            raise SessionNotFound(key)
        return session

    def __contains__(self, key: object) -> bool:
        return key in self.store

    def __len__(self) -> int:
        return len(self.store)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self.store)

    def get_many(self, keys: Iterable[str], *, on_damage: OnDamage = "raise") -> dict[str, TypedSession[M, I]]:
        """Return the sessions that are there, in the order asked.

        `.value` of one that does not fit raises InvalidEntry. Arguments and other errors are those of `Store.get_many`.

        >>> for key, session in chats.get_many(["agent:main", "agent:nobody"]).items():
        ...     print(key, session.value)
        agent:main Chat(status='new', turns=1)
        """
        found = self.store.get_many(keys, on_damage=on_damage)
        return {key: self._typed(session) for key, session in found.items()}

    def sessions(
        self, prefix: str | None = None, where: Where | None = None, *, on_damage: OnDamage = "raise"
    ) -> Iterator[TypedSession[M, I]]:
        """Return an iterator over whole sessions. `.value` of one that does not fit raises InvalidEntry.

        Arguments and errors are those of `Store.sessions`.

        >>> for session in chats.sessions("agent:", {"status": "new"}):
        ...     print(session.key, session.value)
        agent:main Chat(status='new', turns=1)
        """
        return map(self._typed, self.store.sessions(prefix, where, on_damage=on_damage))

    def history(self, key: str) -> list[TypedSession[M, I]]:
        """Return the session's revisions, oldest first. `.value` of one that does not fit raises InvalidEntry.

        Other errors are those of `Store.history`.

        >>> session = chats.replace("agent:main", Chat("done"))
        >>> [one.value for one in chats.history("agent:main")]
        [Chat(status='new', turns=1), Chat(status='done', turns=0)]
        """
        return [self._typed(session) for session in self.store.history(key)]

    def log(self, key: str, start: int | None = None, stop: int | None = None) -> list[I]:
        """Return the items log[start:stop] of a session.

        Raises InvalidEntry where one does not fit; otherwise as `Store.log`.

        >>> chats.log("agent:chat", -20)
        [Message(role='user', content='hi')]
        """
        return self._items(self.store.log(key, start, stop), start or 0)

    def follow(self, key: str, start: int | None = None) -> TypedFollower[I]:
        """Return an iterator over the items of one log as they come. `close()` ends it.

        Raises InvalidEntry at an item that does not fit; otherwise as `Store.follow`.

        >>> items = chats.follow("agent:chat", -20)
        >>> next(items)
        Message(role='user', content='hi')
        >>> items.close()
        """
        return TypedFollower(self.store.follow(key, start), self._form)

    def __repr__(self) -> str:
        return f"{self.store!r}.typed({self._form.model.__name__})"


class TypedFollower(Generic[I]):
    """The items of one log as they come; `TypedStore.follow` returns it. Iterate over it, and close it when done.

    >>> items = chats.follow("agent:chat", -1)
    >>> for item in items:
    ...     print(item)
    ...     items.close()
    Message(role='user', content='hi')
    """

    def __init__(self, follower: Follower, form: Form[Any, I]) -> None:
        self._follower = follower
        self._form = form

    def __iter__(self) -> Iterator[I]:
        return self

    def __next__(self) -> I:
        item: I = self._form.load_item(next(self._follower), "item")
        return item

    def close(self) -> None:
        """End the iteration, also while another thread waits in it. A second call does nothing.

        >>> items = chats.follow("agent:chat")
        >>> items.close()
        >>> list(items)
        []
        """
        self._follower.close()


class TypedEdit(Generic[M, I]):
    """The `with` block of `TypedStore.edit`: enter it, once, for the draft. Raises RuntimeError the second time.

    >>> with chats.edit("agent:main") as draft:
    ...     draft.value.turns += 1
    """

    __slots__ = ("_beneath", "_draft", "_edit", "_form")

    _beneath: Draft  # set by `__enter__`

    def __init__(self, edit: Edit, form: Form[M, I]) -> None:
        self._edit = edit
        self._form = form
        self._draft: TypedDraft[M, I] | None = None

    def __enter__(self) -> TypedDraft[M, I]:
        draft = self._beneath = self._edit.__enter__()
        try:
            self._draft = TypedDraft(draft, self._form)
        except BaseException as error:
            self._edit.__exit__(type(error), error, error.__traceback__)
            raise
        return self._draft

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._draft is not None and not self._beneath.is_deleted:
            try:
                self._draft.accept(self._form.check(self._draft.value))
            except BaseException as misfit:
                self._edit.__exit__(type(misfit), misfit, misfit.__traceback__)
                raise
        self._edit.__exit__(kind, error, trace)


class AsyncTypedStore(_Verbs[M, I]):
    """The verbs of a TypedStore, awaited; `AsyncStore.typed` returns it. Mutators are plain functions.

    As with AsyncStore: no edit, and `get`, `await exists(key)` and `await count()` in place of `[]`, `in` and `len`.
    Arguments, results and errors are those of the verbs of TypedStore.

    The example of each verb goes on from here, and `store` is that of `help(AsyncStore)`:

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Chat:
    ...     status: str = "new"
    ...     turns: int = 0
    >>> @dataclass
    ... class Message:
    ...     role: str
    ...     content: str
    >>> chats = store.typed(Chat, item=Message)
    """

    def __init__(self, store: AsyncStore, form: Form[M, I]) -> None:
        super().__init__(form)
        self.store: AsyncStore = store
        self.delete: Final = store.delete
        self.delete_all: Final = store.delete_all
        self.exists: Final = store.exists
        self.list: Final = store.list
        self.count: Final = store.count
        self.watch: Final = store.watch
        self.token: Final = store.token

    async def update(
        self, key: str, fn: Callable[[M], M | Delete | None], *, create: bool = True, expect: Expect | None = None
    ) -> TypedSession[M, I]:
        """Change a session, as `TypedStore.update` does, and return it. Raises as it.

        >>> def answer(chat: Chat) -> None:
        ...     chat.turns += 1
        >>> session = await chats.update("agent:main", answer)
        >>> session.value
        Chat(status='new', turns=2)
        """
        return self._typed(await self.store.update(key, self._mutator(fn), create=create, expect=_plain(expect)))

    async def patch(
        self,
        key: str,
        fields: Mapping[str, JSON] | None = None,
        *,
        unset: Iterable[str] = (),
        create: bool = True,
        expect: Expect | None = None,
    ) -> TypedSession[M, I]:
        """Set fields, as `TypedStore.patch` does, and return the session. Raises as it.

        >>> session = await chats.patch("agent:main", {"status": "done"})
        >>> session.value
        Chat(status='done', turns=1)
        """
        change = self._patch(fields, unset)
        return self._typed(await self.store.update(key, change, create=create, expect=_plain(expect)))

    async def append(  # noqa: PLR0913  # as Store.append
        self,
        key: str,
        items: Iterable[I],
        patch: Patch[M] = None,
        *,
        ids: Iterable[str | None] | None = None,
        expect: Expect | None = None,
        create: bool = True,
    ) -> TypedSession[M, I]:
        """Add items to the end of the log, as `TypedStore.append` does, and return the session. Raises as it.

        >>> answer = Message("assistant", "Hello!")
        >>> session = await chats.append("agent:chat", [answer], {"status": "answered"}, ids=["m-2"])
        >>> session.value.status, len(session.log)
        ('answered', 2)
        """
        new, beside = self._form.dump_items(items), self._beside(patch)
        return self._typed(await self.store.append(key, new, beside, ids=ids, expect=_plain(expect), create=create))

    async def create(
        self, key: str, value: M, *, expect: Expect | None = None, at: datetime | None = None
    ) -> TypedSession[M, I]:
        """Create a session, as `TypedStore.create` does, and return it. Raises as it.

        >>> session = await chats.create("agent:new", Chat(turns=3))
        >>> session.rev
        1
        """
        return self._typed(await self.store.create(key, self._form.entry(value), expect=_plain(expect), at=at))

    async def get_or_create(self, key: str, value: M | Callable[[], M]) -> TypedSession[M, I]:
        """Return the session, made of `value` if absent, as `TypedStore.get_or_create` does. Raises as it.

        >>> session = await chats.get_or_create("agent:new", Chat)
        >>> session.value
        Chat(status='new', turns=0)
        """
        return self._checked(await self.store.get_or_create(key, self._made(value)))

    async def replace(self, key: str, value: M, *, expect: Expect | None = None) -> TypedSession[M, I]:
        """Put `value` in place of all that the model knows, as `TypedStore.replace` does. Raises as it.

        >>> session = await chats.replace("agent:main", Chat("done"))
        >>> session.value
        Chat(status='done', turns=0)
        """
        return self._typed(await self.store.update(key, self._replace(value), expect=_plain(expect)))

    async def copy(self, source: str, target: str, *, stop: int | None = None) -> TypedSession[M, I]:
        """Create the session `target`, as `TypedStore.copy` does, and return it. Raises as it.

        >>> session = await chats.copy("agent:chat", "agent:branch", stop=1)
        >>> session.key, len(session.log)
        ('agent:branch', 1)
        """
        return self._typed(await self.store.copy(source, target, stop=stop))

    async def rename(self, source: str, target: str, *, expect: Expect | None = None) -> TypedSession[M, I]:
        """Move a session to another key, as `TypedStore.rename` does, and return it. Raises as it.

        >>> session = await chats.rename("agent:main", "agent:kept")
        >>> session.value
        Chat(status='new', turns=1)
        """
        return self._typed(await self.store.rename(source, target, expect=_plain(expect)))

    async def revert(self, key: str, rev: int, *, expect: Expect | None = None) -> TypedSession[M, I]:
        """Put the fields of an earlier revision back, as `TypedStore.revert` does. Raises as it.

        >>> session = await chats.replace("agent:main", Chat("broken"))
        >>> session = await chats.revert("agent:main", 1)
        >>> session.value
        Chat(status='new', turns=1)
        """

        def run(store: Store) -> Session:
            return store.update(key, self._revert(store, key, rev), create=False, expect=_plain(expect))

        return self._typed(await self.store._queued(key, run, creates=False))  # noqa: SLF001  # it reads files

    async def create_many(
        self, pairs: Mapping[str, M] | Iterable[tuple[str, M]], *, on_exists: Literal["raise", "skip"] = "raise"
    ) -> int:
        """Create many sessions, as `TypedStore.create_many` does; return how many. Raises as it.

        >>> await chats.create_many({"agent:a": Chat(), "agent:b": Chat(turns=2)})
        2
        """
        return await self.store.create_many(self._rows(pairs), on_exists=on_exists)

    async def get(self, key: str, *, rev: int | None = None) -> TypedSession[M, I] | None:
        """Return the session or None, as `TypedStore.get` does. Raises as it.

        >>> session = await chats.get("agent:main")
        >>> session.value.turns
        1
        """
        session = await self.store.get(key, rev=rev)
        return None if session is None else self._checked(session)

    async def get_many(self, keys: Iterable[str], *, on_damage: OnDamage = "raise") -> dict[str, TypedSession[M, I]]:
        """Return the sessions that are there, as `TypedStore.get_many` does. Raises as it.

        >>> found = await chats.get_many(["agent:main", "agent:nobody"])
        >>> {key: session.value for key, session in found.items()}
        {'agent:main': Chat(status='new', turns=1)}
        """
        found = await self.store.get_many(keys, on_damage=on_damage)
        return {key: self._typed(session) for key, session in found.items()}

    async def sessions(
        self, prefix: str | None = None, where: Where | None = None, *, on_damage: OnDamage = "raise"
    ) -> AsyncGenerator[TypedSession[M, I], None]:
        """Yield whole sessions, as `TypedStore.sessions` does. Raises as it.

        >>> async for session in chats.sessions("agent:", {"status": "new"}):
        ...     print(session.key, session.value)
        agent:main Chat(status='new', turns=1)
        """
        async with aclosing(self.store.sessions(prefix, where, on_damage=on_damage)) as found:
            async for session in found:
                yield self._typed(session)

    async def history(self, key: str) -> list[TypedSession[M, I]]:
        """Return the session's revisions, as `TypedStore.history` does. Raises as it.

        >>> session = await chats.replace("agent:main", Chat("done"))
        >>> [one.value.status for one in await chats.history("agent:main")]
        ['new', 'done']
        """
        return [self._typed(session) for session in await self.store.history(key)]

    async def log(self, key: str, start: int | None = None, stop: int | None = None) -> list[I]:
        """Return items of the log, as `TypedStore.log` does. Raises as it.

        >>> await chats.log("agent:chat", -20)
        [Message(role='user', content='hi')]
        """
        return self._items(await self.store.log(key, start, stop), start or 0)

    async def follow(self, key: str, start: int | None = None) -> AsyncGenerator[I, None]:
        """Yield the items of one log as they come, as `TypedStore.follow` does. Raises as it.

        It never ends by itself: leave the loop, or cancel its task.

        >>> async for item in chats.follow("agent:chat", -20):
        ...     print(item)
        ...     break
        Message(role='user', content='hi')
        """
        async with aclosing(self.store.follow(key, start)) as values:
            async for value in values:
                yield self._form.load_item(value, "item")

    def __repr__(self) -> str:
        return f"{self.store!r}.typed({self._form.model.__name__})"
