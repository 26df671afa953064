"""Agreement against published figures, the packages and counts by hand."""

from __future__ import annotations

import math
import random

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from sentrm.reviews.agreement import agreement, rating_table
from sentrm.reviews.votes import RATINGS

# Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability": three observers, 15 units, values 1 to 4,
# * missing. Nominal alpha is 0.691.
PUBLISHED = ("*****34121133*3", "1*213343*******", "**21344*21133*4")


def as_verdicts(rows):
    """A text a rater, a character an item: 1 to 4, or * for none."""
    return [
        (f"p{item}", f"r{rater}", RATINGS[int(value) - 1])
        for rater, row in enumerate(rows)
        for item, value in enumerate(row)
        if value != "*"
    ]


def test_krippendorffs_own_example():
    found = agreement(as_verdicts(PUBLISHED))
    assert found.alpha.value == pytest.approx(0.691, abs=5e-4)
    assert found.kappa is None
    assert (found.raters, found.items) == (("r0", "r1", "r2"), 12)


def test_kappa_of_a_table_counted_by_hand():
    """20 agree/agree, 15 flip/flip, 5 and 10 apart: raw 0.7, by chance 0.5 * 0.6 + 0.5 * 0.4, so kappa is 0.4."""
    a = "1" * 20 + "1" * 5 + "2" * 10 + "2" * 15
    b = "1" * 20 + "2" * 5 + "1" * 10 + "2" * 15
    found = agreement(as_verdicts([a, b]))
    assert found.raw.value == pytest.approx(0.7)
    assert found.kappa.value == pytest.approx(0.4)
    assert found.raw.low < 0.7 < found.raw.high
    # the usual error of a share, sqrt(p (1 - p) / n), is what a bootstrap over items must come to
    assert (found.raw.high - found.raw.low) / 2 == pytest.approx(1.96 * math.sqrt(0.7 * 0.3 / 50), rel=0.15)


tables = st.lists(st.text("1234*", min_size=12, max_size=12), min_size=2, max_size=4)


@settings(max_examples=100, deadline=None)
@given(tables)
def test_the_figures_are_the_packages(rows):
    found = agreement(as_verdicts(rows), samples=5)
    data = np.array([[math.nan if value == "*" else int(value) for value in row] for row in rows])
    units = data[:, (~np.isnan(data)).sum(axis=0) >= 2]
    assert found.items == units.shape[1]
    pairs = [(x, y) for unit in units.T for i, x in enumerate(unit) for y in unit[:i] if x == x and y == y]
    if not pairs:
        assert found.raw.value is found.alpha.value is None
        return
    assert found.raw.value == pytest.approx(sum(x == y for x, y in pairs) / len(pairs))
    if len(np.unique(units[~np.isnan(units)])) < 2:
        assert found.alpha.value is None
    else:
        assert found.alpha.value == pytest.approx(krippendorff.alpha(units, level_of_measurement="nominal"))
    if found.kappa is not None and found.kappa.value is not None:
        assert found.kappa.value == pytest.approx(cohen_kappa_score(*units))


def test_skips_and_flags_are_no_ratings_and_the_model_is_a_rater():
    verdicts = [("p1", "ann", "agree"), ("p1", "bob", "skip"), ("p2", "ann", "flip"), ("p3", "ann", "flag")]
    assert agreement(verdicts).items == 0
    found = agreement(verdicts, {"p1": 0.4, "p2": 0.1, "p3": -1.0, "p9": 2.0})
    assert (found.raters, found.ratings, found.items) == (("ann", "model"), (2, 2), 2)
    assert found.raw.value == 0.5  # p1 alike, p2 not
    assert found.raw.low is None  # two items are too few for an interval
    raters, table = rating_table(verdicts, {"p1": 0.0, "p2": -1.0})
    assert raters == ("ann", "model")
    assert table.tolist() == [[0, 1], [-1, 1]]


def test_without_ratings_there_is_nothing_to_say():
    found = agreement([])
    assert (found.raters, found.items, found.alpha.value, found.kappa) == ((), 0, None, None)
    same = agreement([(f"p{i}", name, "agree") for i in range(12) for name in ("ann", "bob")])
    assert (same.raw.value, same.kappa.value, same.alpha.value) == (1.0, None, None)


def test_the_interval_is_that_of_a_plain_bootstrap_over_items():
    draw = random.Random(0)
    rows = ["".join(draw.choice("1112") for _ in range(60)) for _ in range(3)]
    rows[1] = "".join(x if draw.random() < 0.7 else y for x, y in zip(rows[0], rows[1], strict=True))
    found = agreement(as_verdicts(rows), samples=4000)
    data = np.array([[int(value) for value in row] for row in rows], dtype=float)
    rng = np.random.default_rng(1)
    sampled = [
        krippendorff.alpha(data[:, rng.integers(0, 60, 60)], level_of_measurement="nominal") for _ in range(2000)
    ]
    low, high = np.percentile(sampled, (2.5, 97.5))
    assert found.alpha.low == pytest.approx(low, abs=0.02)
    assert found.alpha.high == pytest.approx(high, abs=0.02)
