from __future__ import annotations

import pytest

from latentcause.discovery import BackgroundKnowledge


def test_tiers_and_required_edges_forbid_the_way_back():
    knowledge = BackgroundKnowledge(required=[("a", "b")], forbidden=[("c", "a")], tiers=[["a"], ["b", "d"]])
    assert knowledge.forbids("b", "a")
    assert knowledge.forbids("d", "a")
    assert knowledge.forbids("c", "a")
    assert not knowledge.forbids("a", "c")
    assert not knowledge.forbids("b", "d")
    assert knowledge.names == ("a", "b", "c", "d")
    required, forbidden = knowledge.matrices(("d", "c", "b", "a"))
    assert required.sum() == 1
    assert required[3, 2]
    assert forbidden.sum() == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"required": [("a", "b"), ("b", "a")]}, "both required"),
        ({"required": [("a", "b"), ("b", "c"), ("c", "a")]}, "cycle: "),
        ({"required": [("a", "b")], "forbidden": [("a", "b")]}, "required and forbidden"),
        ({"required": [("b", "a")], "tiers": [["a"], ["b"]]}, "excluded by the tiers"),
        ({"tiers": [["a"], ["b", "a"]]}, "'a' stands in tiers 1 and 2"),
        ({"required": ["ab"]}, "'ab' is no pair"),
        ({"forbidden": [("a", "a")]}, "no pair of two names"),
        ({"tiers": ["abc"]}, "lists of names"),
    ],
)
def test_contradictions_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        BackgroundKnowledge(**arguments)


def test_an_unknown_variable_is_named():
    with pytest.raises(ValueError, match="names 'x', which the data lack: they have a, b"):
        BackgroundKnowledge(forbidden=[("x", "a")]).matrices(("a", "b"))
