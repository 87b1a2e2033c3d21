"""history: every state of the incarnation that is still kept, oldest first."""

from __future__ import annotations

from shardstore import Store

BOTH_DURABILITIES = True


def test_history_gives_every_state_of_the_incarnation(store: Store, elsewhere) -> None:
    """Each revision is there with its entry, author and time, and the last one is the current state."""
    made = [store.create("k", {"a": 1, "b": [1]})]
    made.append(store.patch("k", {"a": 2}))
    made.append(store.update("k", lambda draft: draft["b"].append(2)))
    made.append(store.patch("k", {}, unset=["a"]))
    made.append(store.replace("k", {"c": 3}))
    for reader in (store, elsewhere):
        kept = reader.history("k")
        assert [session.rev for session in kept] == [1, 2, 3, 4, 5]
        assert [session.data for session in kept] == [
            {"a": 1, "b": [1]},
            {"a": 2, "b": [1]},
            {"a": 2, "b": [1, 2]},
            {"b": [1, 2]},
            {"c": 3},
        ]
        assert [session.version for session in kept] == [session.version for session in made]
        assert [session.updated_at for session in kept] == [session.updated_at for session in made]
        assert {session.created_at for session in kept} == {made[0].created_at}
        assert {session.key for session in kept} == {"k"}


def test_history_of_an_absent_or_deleted_session_is_empty(store: Store) -> None:
    """A session that is not there has no history to show."""
    assert store.history("never") == []
    store.create("k", {"a": 1})
    store.delete("k")
    assert store.history("k") == []


def test_history_does_not_reach_into_an_earlier_incarnation(store: Store) -> None:
    """A session made again begins with an empty past."""
    store.create("k", {"secret": 1})
    store.patch("k", {"secret": 2})
    store.delete("k")
    store.create("k", {"a": 1})
    assert [session.data for session in store.history("k")] == [{"a": 1}]


def test_history_is_bounded_and_ends_in_the_present(store: Store) -> None:
    """However often a session is changed, what is kept is a gapless run of revisions up to the current one."""
    store.create("k", {"n": 0, "blob": "x" * 3_000})
    for n in range(1, 150):
        store.patch("k", {"n": n, "blob": f"{n:04}" * 750})
    kept = store.history("k")
    assert [session.rev for session in kept] == list(range(kept[0].rev, 151))
    assert all(session["n"] == session.rev - 1 for session in kept)
    assert kept[-1].version == store["k"].version
    assert {session.created_at for session in kept} == {kept[-1].created_at}
