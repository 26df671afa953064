"""The heatmap's colours, by computation: readable text, visible bars, and ends that no kind of sight confuses."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from sentrm.colours import DARK, LIGHT
from sentrm.heatmap import INK_ON_COLOUR, PALETTES, STYLE
from sentrm.ui.pair_charts import COLOURS, NEUTRAL

MIRRORED = ((0, 6), (1, 5), (2, 4))

# Machado, Oliveira and Fernandes (IEEE TVCG 15, 2009), table of severity 1.0; on linear RGB.
SIGHT = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    "usual": np.eye(3).tolist(),
}
# sRGB (IEC 61966-2-1), D65
TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
WHITE = (0.95047, 1.0, 1.08883)


def linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast ratio."""
    dark, light = sorted(float(linear(colour) @ (0.2126, 0.7152, 0.0722)) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


def lab(colour: str, sight: str = "usual") -> tuple[float, float, float]:
    """CIELAB of a colour as a kind of sight has it."""
    rgb = np.clip(np.array(SIGHT[sight]) @ linear(colour), 0, 1)
    t = np.array(TO_XYZ) @ rgb / WHITE
    x, y, z = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return (116 * y - 16, 500 * (x - y), 200 * (y - z))


def ciede2000(one: tuple[float, float, float], other: tuple[float, float, float]) -> float:
    """The colour difference of CIE 142-2001, in the form of Sharma, Wu and Dalal (Color Res. Appl. 30, 2005)."""
    (l1, a1, b1), (l2, a2, b2) = one, other
    mean_c = (math.hypot(a1, b1) + math.hypot(a2, b2)) / 2
    g = 0.5 * (1 - math.sqrt(mean_c**7 / (mean_c**7 + 25**7)))
    c1, c2 = math.hypot((1 + g) * a1, b1), math.hypot((1 + g) * a2, b2)
    h1, h2 = (
        math.degrees(math.atan2(b, (1 + g) * a)) % 360 if (a, b) != (0, 0) else 0.0 for a, b in ((a1, b1), (a2, b2))
    )
    turn = 0.0 if c1 * c2 == 0 else (h2 - h1 + 180) % 360 - 180
    if c1 * c2 != 0 and h2 - h1 == 180:
        turn = 180.0
    dl, dc, dh = l2 - l1, c2 - c1, 2 * math.sqrt(c1 * c2) * math.sin(math.radians(turn / 2))
    ml, mc = (l1 + l2) / 2, (c1 + c2) / 2
    if c1 * c2 == 0:
        mh = h1 + h2
    elif abs(h1 - h2) <= 180:
        mh = (h1 + h2) / 2
    else:
        mh = (h1 + h2 + (360 if h1 + h2 < 360 else -360)) / 2
    cosine = lambda k, shift: math.cos(math.radians(k * mh + shift))  # noqa: E731
    t = 1 - 0.17 * cosine(1, -30) + 0.24 * cosine(2, 0) + 0.32 * cosine(3, 6) - 0.20 * cosine(4, -63)
    sl = 1 + 0.015 * (ml - 50) ** 2 / math.sqrt(20 + (ml - 50) ** 2)
    sc, sh = 1 + 0.045 * mc, 1 + 0.015 * mc * t
    rotation = (
        -2 * math.sqrt(mc**7 / (mc**7 + 25**7)) * math.sin(math.radians(60 * math.exp(-(((mh - 275) / 25) ** 2))))
    )
    return math.sqrt((dl / sl) ** 2 + (dc / sc) ** 2 + (dh / sh) ** 2 + rotation * (dc / sc) * (dh / sh))


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [  # from table 1 of Sharma, Wu and Dalal: blues, greys, hues across 0 and 180 degrees, large and small differences
        ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
        ((50.0, 3.1571, -77.2803), (50.0, 0.0, -82.7485), 2.8615),
        ((50.0, 2.8361, -74.0200), (50.0, 0.0, -82.7485), 3.4412),
        ((50.0, 0.0, 0.0), (50.0, -1.0, 2.0), 2.3669),
        ((50.0, 2.4900, -0.0010), (50.0, -2.4900, 0.0009), 7.1792),
        ((50.0, 2.4900, -0.0010), (50.0, -2.4900, 0.0011), 7.2195),
        ((50.0, -0.0010, 2.4900), (50.0, 0.0011, -2.4900), 4.7461),
        ((50.0, 2.5000, 0.0), (50.0, 0.0, -2.5000), 4.3065),
        ((50.0, 2.5000, 0.0), (73.0, 25.0, -18.0), 27.1492),
        ((50.0, 2.5000, 0.0), (61.0, -5.0, 29.0), 22.8977),
        ((50.0, 2.5000, 0.0), (56.0, -27.0, -3.0), 31.9030),
        ((50.0, 2.5000, 0.0), (58.0, 24.0, 15.0), 19.4535),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
        ((90.8027, -2.0831, 1.4410), (91.1528, -1.6435, 0.0447), 1.4441),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_the_colour_difference_is_the_published_one(one, other, difference):
    assert ciede2000(one, other) == pytest.approx(difference, abs=5e-5)
    assert ciede2000(other, one) == pytest.approx(difference, abs=5e-5)


def test_white_grey_and_red_have_their_published_coordinates():
    assert lab("#ffffff") == pytest.approx((100, 0, 0), abs=0.01)
    assert lab("#ff0000") == pytest.approx((53.24, 80.09, 67.20), abs=0.01)
    for sight in SIGHT:  # what has no hue has none in any sight
        assert lab("#808080", sight) == pytest.approx((53.59, 0, 0), abs=0.05)


@pytest.mark.parametrize("palette", PALETTES)
def test_text_is_readable_on_every_class(palette):
    assert min(contrast(INK_ON_COLOUR, colour) for colour in PALETTES[palette]) >= 4.5


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("palette", PALETTES)
def test_mirrored_classes_differ_in_every_sight(palette, sight):
    ramp = PALETTES[palette]
    apart = {(i, j): round(ciede2000(lab(ramp[i], sight), lab(ramp[j], sight)), 1) for i, j in MIRRORED}
    assert min(apart.values()) >= 15, apart


@pytest.mark.parametrize("mode", [LIGHT, DARK])
def test_the_charts_colours_stand_out_on_the_page(mode):
    for colour in (*COLOURS, NEUTRAL):
        assert min(contrast(colour, mode.page), contrast(colour, mode.panel)) >= 3, colour


@pytest.mark.parametrize("sight", SIGHT)
def test_the_charts_sides_differ_in_every_sight(sight):
    assert ciede2000(*(lab(colour, sight) for colour in COLOURS)) >= 15


@pytest.mark.parametrize("mode", [LIGHT, DARK])
def test_weight_bars_stand_out_from_what_is_beside_them(mode):
    """A bar lies below its sentence on the page, never on a class; in flowing text on a track of its own colour."""
    rules = [rule for rule in STYLE.splitlines() if " .bar" in rule]
    assert any(" .bar i {" in rule and "background: var(--dim)" in rule for rule in rules)
    (share,) = {
        int(s) for rule in rules for s in re.findall(r"\.s \.bar .*color-mix\(in srgb, var\(--dim\) (\d+)%", rule)
    }
    mixed = (
        round((share * int(mode.dim[i : i + 2], 16) + (100 - share) * int(mode.page[i : i + 2], 16)) / 100)
        for i in (1, 3, 5)
    )
    track = "#" + "".join(f"{channel:02x}" for channel in mixed)
    assert contrast(mode.dim, mode.page) >= 3
    assert contrast(mode.dim, track) >= 3
