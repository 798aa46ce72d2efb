"""Settings as the database holds them."""

from __future__ import annotations

import pytest

from pgprog.config import NamespaceSettings
from pgprog.config.stored import Difference, changed, differences, replaced, split_known
from pgprog.errors import ConfigError

NEWER = {
    "step_timeout": "7m",
    "colour": "blue",
    "retry": {"mood": 1, "max_attempts": 2},
    "retry_by_type": {"call": {"max_attempts": 2}, "dream": {"max_attempts": 5}},
}
UNKNOWN = {
    "colour": "blue",
    "retry": {"mood": 1},
    "retry_by_type": {"dream": {"max_attempts": 5}},
}


def test_what_this_version_knows_is_told_from_what_it_does_not() -> None:
    known, unknown = split_known(NEWER)

    assert known == {
        "step_timeout": "7m",
        "retry": {"max_attempts": 2},
        "retry_by_type": {"call": {"max_attempts": 2}},
    }
    assert unknown == UNKNOWN


def test_all_that_is_stored_by_this_version_is_known_to_it() -> None:
    plain = NamespaceSettings.from_json(
        {"concurrency": 3, "history": "full", "retry_by_type": {"call": {"max_attempts": 2}}}
    ).to_json()

    assert split_known(plain) == (plain, {})


def test_a_change_keeps_what_it_does_not_name_and_what_it_does_not_know() -> None:
    after = changed(NEWER, {"concurrency": 3}, where="here")

    assert differences(changed(NEWER, {}, where="here"), after) == [
        Difference(path="concurrency", before=None, after=3)
    ]
    assert split_known(after)[1] == UNKNOWN


def test_settings_in_place_of_others_keep_what_they_do_not_know() -> None:
    settings = NamespaceSettings()

    assert split_known(replaced(NEWER, settings)) == (settings.to_json(), UNKNOWN)


def test_a_change_may_not_name_what_is_unknown() -> None:
    with pytest.raises(ConfigError, match=r"(?s)2 faults in here.*colour: unknown.*mood: unknown"):
        changed(NEWER, {"colour": "red", "retry": {"mood": 2}}, where="here")


def test_a_key_may_hold_a_text_where_a_section_belongs_and_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"retry: 5 is not a section"):
        changed({"retry": 5}, {}, where="here")
