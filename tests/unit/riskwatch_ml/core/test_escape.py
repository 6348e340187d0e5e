import pytest

from riskwatch_ml.core.escape import in_figure, in_markdown, one_line


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cpu_utilization", "cpu_utilization"),
        ("i-0abc (web)", "i-0abc (web)"),
        ("a|b", r"a\|b"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("x\ny](z)", r"x y\](z)"),
        ("_em_ *b* `c`", r"\_em\_ \*b\* \`c\`"),
        ("back\\slash $x$", r"back\\slash \$x\$"),
        ("&amp;", "&amp;amp;"),
    ],
)
def test_a_name_in_markdown_is_text(name, shown):
    assert in_markdown(name) == shown


def test_a_line_has_no_breaks_and_nothing_unseen():
    assert one_line(" a\r\n\tb\x00\u202ec ") == "a b c"


def test_a_name_in_a_figure_is_no_formula_and_keeps_both_ends():
    assert in_figure("a$b$") == r"a\$b\$"
    assert in_figure("abcdefghij", most=5) == "ab…ij"
    assert in_figure("abcde", most=5) == "abcde"
