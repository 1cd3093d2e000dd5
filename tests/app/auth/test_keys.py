"""What an API key looks like, and what is kept of it."""

import hashlib
from uuid import UUID

import pytest

from app.auth import keys
from app.auth.principal import Principal, Scope

SOME_ID = UUID(int=7)


def test_a_new_key_carries_its_prefix_and_passes_its_own_checksum() -> None:
    made = keys.generate()
    assert made.text.startswith(f"sw_{made.prefix}_")
    assert keys.prefix_of(made.text) == made.prefix
    assert made.digest == hashlib.sha256(made.text.encode()).hexdigest()
    assert keys.matches(made.text, made.digest)


def test_no_two_keys_are_alike() -> None:
    made = [keys.generate() for _ in range(100)]
    assert len({key.prefix for key in made}) == len({key.text for key in made}) == 100


def test_one_changed_character_anywhere_is_noticed_without_asking_the_database() -> None:
    text = keys.generate().text
    for place in range(3, len(text)):
        other = "x" if text[place] != "x" else "y"
        assert keys.prefix_of(text[:place] + other + text[place + 1 :]) is None, place


@pytest.mark.parametrize(
    "text", ["", "sw_", "Bearer", "sw_a_b_c", "sk_" + "a" * 61, "sw_" + "é" * 61, "sw_" * 10_000]
)
def test_what_is_no_key_has_no_prefix(text: str) -> None:
    assert keys.prefix_of(text) is None


def test_a_key_does_not_match_the_digest_of_another() -> None:
    assert not keys.matches(keys.generate().text, keys.generate().digest)


def test_an_admin_may_do_everything_and_others_what_their_scopes_say() -> None:
    everything = frozenset(Scope)
    assert Principal(SOME_ID, SOME_ID, frozenset({Scope.admin})).may(everything)
    editor = Principal(SOME_ID, SOME_ID, frozenset({Scope.schemas_write}))
    assert editor.may(frozenset()) and editor.may(frozenset({Scope.schemas_write}))
    assert not editor.may(frozenset({Scope.schemas_write, Scope.runs_write}))
    assert not editor.may(frozenset({Scope.admin}))


def test_only_an_admin_key_without_a_tenant_is_the_platforms() -> None:
    admin = frozenset({Scope.admin})
    assert Principal(SOME_ID, None, admin).is_platform_admin
    assert not Principal(SOME_ID, SOME_ID, admin).is_platform_admin
    assert not Principal(SOME_ID, None, frozenset({Scope.classify})).is_platform_admin
