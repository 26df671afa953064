"""Filters by themselves and in a URL; what they keep is in test_audit_folder.py."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentrm.audit.filters import TESTS, Filter, filters_from_query, filters_to_query
from sentrm.errors import AuditError


@pytest.mark.parametrize(
    ("test", "value"),
    [("like", "x"), ("=", None), ("=", math.nan), ("=", [1]), ("=", 2**63), ("between", (1,)), ("between", 1),
     ("in", "x"), ("in", ([1],)), ("contains", 1), ("missing", 1), ("<", {"a": 1})],
)  # fmt: skip
def test_a_filter_without_sense_is_refused(test, value):
    with pytest.raises(AuditError, match="expected"):
        Filter("margin", test, value)


@pytest.mark.parametrize("query", ["where=", "where=1", "where=[1,2,3]", 'where=["a"]', "where=" + "[" * 9000])
def test_a_query_that_holds_no_filter_is_refused(query):
    with pytest.raises(AuditError, match="expected JSON such as"):
        filters_from_query(query)


def test_a_query_is_bounded_and_leaves_others_alone():
    one = Filter("margin", "<", 0)
    assert filters_from_query("?theme=dark&" + filters_to_query([one]) + "&where2=x") == (one,)
    assert filters_from_query("") == ()
    with pytest.raises(AuditError, match="characters"):
        filters_from_query("where=" + "x" * 30_000)
    with pytest.raises(AuditError, match="51 filters"):
        filters_from_query(filters_to_query([one] * 51))


scalars = st.booleans() | st.text(max_size=9) | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)


@given(st.lists(st.tuples(st.text(max_size=9), st.sampled_from(TESTS), scalars | st.lists(scalars, max_size=3))))
def test_any_filter_survives_its_query(parts):
    filters = []
    for part in parts[:5]:
        try:
            filters.append(Filter(*part))
        except AuditError:
            continue
    assert filters_from_query(filters_to_query(filters)) == tuple(filters)
