"""Hypothesis strategies for what arrives from outside: keys and JSON values, hostile ones first."""

from __future__ import annotations

from hypothesis import strategies as st

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
hostile_text = st.sampled_from(
    [
        "",
        "\x00",
        "\n",
        "\r\n",
        "\u2028",
        "\ufeff",
        '"',
        "\\",
        "é",
        "e\u0301",
        "🙂",
        "\U0010ffff",
        "crc",
        "put",
        "}\n{",
        '{"crc":"00000000",',
        "\x7f",
    ]
)
names = text | hostile_text
integers = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, -1, 2**53, 2**53 + 1, -(2**63), 2**63 - 1])
floats = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [0.0, -0.0, 1.0, 5e-324, 1.7976931348623157e308]
)
scalars = st.none() | st.booleans() | integers | floats | names
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
entries = st.dictionaries(names, values, max_size=6)
keys = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=60
) | st.sampled_from(
    ["..", ".", "/", "../..", "CON", "a", "A", "é", "e\u0301", "🙂", "\n", " ", "~", "-", ".tmp-0~a", "a" * 4_096]
)


def same(one: object, other: object) -> bool:
    """Return whether two JSON values are one: types, signs and order included, which == is not."""
    return repr(one) == repr(other)
