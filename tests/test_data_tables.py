"""Columns of numbers in text files: read as they were written, in whatever dialect, or refused with line and column."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_data import npy, refused, write

from tinygrad_rnn.data import DataError, Dialect, load, table

# --- CSV ---

CSV = {
    "header": ("a,b\n1,10\n2,20\n", [[1, 10], [2, 20]], " (a, b)"),
    "no header": ("1,10\n2,20\n", [[1, 10], [2, 20]], " (columns 1, 2; no header)"),
    "a first row with a date": (
        "2020-01-01,10\n2020-01-02,20\n",
        [[10], [20]],
        " (columns 2; no header; not numeric: 1)",
    ),
    "an index without a name": (
        ",a\n0,7.5\n1,8\n2,9\n",
        [[0, 7.5], [1, 8], [2, 9]],
        " (1, a; 1 counts by 1: an index?)",
    ),
    "numbers with gaps in a column of whole numbers": (
        "id,a\n3,.5\n4,.25\n9,.5\n10,.5\n20200101,1\n",
        [[3, 0.5], [4, 0.25], [9, 0.5], [10, 0.5], [20200101, 1]],
        " (id, a; id has whole numbers that only rise: an index?)",
    ),
    "times": (
        "t,a\n0,.5\n.1,1\n.2,7\n.3,1\n",
        [[0, 0.5], [0.1, 1], [0.2, 7], [0.3, 1]],
        " (t, a; t counts by 0.1: an index?)",
    ),
    "classes": (
        "y,a\n" + "0,.5\n1,.5\n" * 10,
        [[0, 0.5], [1, 0.5]] * 10,
        " (y, a; y has 2 different whole numbers: labels?)",
    ),
    "what spreadsheets are told": ("sep=;\r\na;b\r\n1,5;2\r\n", [[1.5, 2]], " (a, b)"),
    "what they are told, in quotes": ('"sep=:"\na:b\n1:2\n', [[1, 2]], " (a, b)"),
    "pipe": ("a|b\n1|10\n2|20\n", [[1, 10], [2, 20]], " (a, b)"),
    "separators within quotes": ('"a;b","c\td|e"\n1,2\n', [[1, 2]], " (a;b, c\\td|e)"),
    "separators in labels": ("n,x\na;b,1\nc;d,2\n", [[1], [2]], " (x; not numeric: n)"),
    "comments": ("# made in May\n#a,b\n1,2\n# the end\n", [[1, 2]], " (a, b)"),
    "signs and exponents": ("a\n+1.\n-.5\n1E-3\n", [[1], [-0.5], [0.001]], " (a)"),
    "months with underscores": ("a,b\n2020_01,1.5\n2020_02,2.5\n", [[1.5], [2.5]], " (b; not numeric: a)"),
    "times and versions": ("a,b,c\n12:30,1.2.3,1\n12:31,1.2.4,2\n", [[1], [2]], " (c; not numeric: a, b)"),
    "decimal commas": ("a;b\n1,5;2\n-,5;1e3\n", [[1.5, 2], [-0.5, 1000]], " (a, b)"),
    "decimal commas beside dates": (
        "2020-01-01;1,5\n2020-01-02;,5\n",
        [[1.5], [0.5]],
        " (columns 2; no header; not numeric: 1)",
    ),
    "large numbers": ("a\n0\n-5e307\n1.5e308\n", [[0], [-5e307], [1.5e308]], " (a)"),
    "decimals without a zero": ("a;b\n,5;2\n,25;3\n", [[0.5, 2], [0.25, 3]], " (a, b)"),
    "decimal commas and thousands": ("a;b\n1.234,5;1.000\n0,25;2\n", [[1234.5, 1000], [0.25, 2]], " (a, b)"),
    "thousands in quotes": ('a,b\n"1,234.5","1,000"\n', [[1234.5, 1000]], " (a, b)"),
    "thousands by commas and no fraction": ("a;b\n1,234,567;8,900\n", [[1234567, 8900]], " (a, b)"),
    "trailing separators": ("a,b,\n1,2,\n3,4,\n,,\n", [[1, 2], [3, 4]], " (a, b; not numeric: 3)"),
    "a line of spaces in one column": ("a\n1\n  \n2\n", [[1], [2]], " (a)"),
    "large exponents with decimal commas": ("a;b\n1,5E3;2\n1,5e-1;3\n", [[1500, 2], [0.15, 3]], " (a, b)"),
    "few numbers that rise": ("a\n1\n2\n9\n20\n", [[1], [2], [9], [20]], " (a)"),
    "a constant": ("a\n" + "7\n" * 30, [[7]] * 30, " (a)"),
    "many columns": (
        ",".join("abcdefghijk") + "\n" + ",".join("1" * 11) + "\n",
        [[1] * 11],
        " (a, b, c, d, e, f, g, h, and 3 more)",
    ),
    "one column": ("flow\n1\n2\n", [[1], [2]], " (flow)"),
    "semicolon": ("a;b\n1;10\n2;20\n", [[1, 10], [2, 20]], " (a, b)"),
    "tab": ("a\tb\n1\t10\n2\t20\n", [[1, 10], [2, 20]], " (a, b)"),
    "dates are no feature": ("date,b\n2020-01-01,10\n2020-01-02,20\n", [[10], [20]], " (b; not numeric: date)"),
    "quoted": ('"x, y",b\n"1","-2e3"\n', [[1, -2000]], " (x, y, b)"),
    "Windows line ends, byte order mark": ("\ufeffa,b\r\n1,10\r\n", [[1, 10]], " (a, b)"),
    "blank lines": ("a\n\n1\n\n2\n\n", [[1], [2]], " (a)"),
    "spaces": ("a, b\n 1, 10 \n", [[1, 10]], " (a, b)"),
    "no newline at the end": ("a\n1\n2", [[1], [2]], " (a)"),
}


@pytest.mark.parametrize("content, expected, described", CSV.values(), ids=CSV)
def test_csv(tmp_path, content, expected, described):
    values, description = load(write(tmp_path, "x.csv", content), standardise=False)
    assert values.tolist() == expected and values.dtype == np.float64
    assert description == f"x.csv{described}"


@pytest.mark.parametrize(
    "columns, expected", [(["b"], [[10, 10]]), (["b", "a"], [[10, 1]]), (["2"], [[10, 10]]), (["2", "a"], [[10, 1]])]
)
def test_csv_columns_by_name_and_number(tmp_path, columns, expected):
    values, _ = load(write(tmp_path, "x.csv", "a,b\n1,10\n"), columns=columns, standardise=False)
    assert values.tolist() == [expected[0][: len(columns)]]


@given(st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3), min_size=1))
def test_csv_round_trip_is_exact(tmp_path_factory, rows):
    content = "\n".join(",".join(map(repr, row)) for row in rows)
    values, _ = load(write(tmp_path_factory.mktemp("csv"), "x.csv", content), standardise=False)
    assert np.array_equal(values, np.array(rows))


BAD_CSV = {
    "empty": ("", "holds no data"),
    "only a header": ("a,b\n", "holds no data"),
    "only blank lines": ("\n\n \n", "holds no data"),
    "no number": ("a\nx\ny\n", "has no numeric column; if its columns are separated in an unusual way, say sep="),
    **{
        f"numbers in another dress, {cell}": (f"a;b\n{cell};1\n", f"line 2, column 'a': {cell!r} is no plain number")
        for cell in ("5 m/s", "5kg", "20 mg/l", "1.5D+02", "2d-3", "0x1F", "1+2j", "(1.5e-3-2.5e+00j)", "12 %", "$5")
    },
    "one bad cell": ("a,b\n1,2\n3,x\n", "line 3, column 'b': expected a finite number, found 'x'"),
    **{
        f"missing, {mark!r}": (
            f"a;b\n1;2\n{mark};3\n",
            f"line 3, column 'a': expected a finite number, found {mark!r}: fill",
        )
        for mark in (
            "? - -- . NA N/A n/a NaN nan NAN null NULL None none #N/A #NA #DIV/0! #NAME? #NULL! #NUM! #REF! #VALUE!"
        ).split()
    },
    "INF": ("a\n1\nINF\n", "line 3, column 'a': expected a finite number, found 'INF'"),
    "neither comma nor semicolon makes numbers": (
        "1;2,3,4\n5;6,7,8\n",
        "line 1, column '2': '2,3,4' is no plain number",
    ),
    "a price above numbers": ("$5,y\n,1\n2,3\n", "line 1, column '1': expected a finite number, found '$5'"),
    "missing": ("a,b\n1,2\n3,\n", "line 3, column 'b': expected a finite number, found nothing"),
    "missing first": ("a,b\n1,NA\n3,4\n", "line 2, column 'b': expected a finite number, found 'NA'"),
    "nan": ("a\n1\nnan\n", "line 3, column 'a': expected a finite number, found 'nan'"),
    "too large": ("a\n1\n1e400\n", "line 3, column 'a': expected a finite number, found '1e400'"),
    "ragged after sep=": ("sep=,\na,b\n1,2\n3\n", "line 4: 1 fields"),
    "ragged": ("a,b\n1,2\n3\n", "line 3: 1 fields where the first line has 2"),
    "missing, with the remedy": ("a,b\n1,2\n3,?\n", "found '?': fill the gap, cut the file before it, or choose other"),
    "missing in the first row": ("NA,1\n3,4\n", "line 1, column '1': expected a finite number, found 'NA'"),
    "missing first row": ("NA\n3\n4\n", "line 1, column '1': expected a finite number, found 'NA'"),
    "a spreadsheet's error": ("a\n1\n#N/A\n2\n", "line 3, column 'a': expected a finite number, found '#N/A'"),
    "a gap in all columns": ("a,b\n1,2\n,\n3,4\n", "line 3, column 'a': expected a finite number, found nothing"),
    "infinite": ("a\n1\n-inf\n", "line 3, column 'a': expected a finite number, found '-inf'"),
    "a comment or a row": ("a\n1\n#2\n3\n", "line 3: begins with '#'"),
    "underscores": ("a\n1\n1_000\n", "line 3, column 'a': expected a finite number, found '1_000'"),
    "digits of others": ("a\n1\n\u0661\n", "line 3, column 'a': expected a finite number"),
    "only digits of others": ("a\n\u0661\n", "is no plain number"),
    "currency": ("a,b\n$5,1\n$6,2\n", "line 2, column 'a': '$5' is no plain number"),
    "percent": ("a,b\n5 %,1\n,2\n", "line 2, column 'a': '5 %' is no plain number"),
    "unit": ("a,b\n5 km,1\n6 km,2\n", "line 2, column 'a': '5 km' is no plain number"),
    "spaces for thousands": ("a;b\n1 234;1\n2\u202f345;2\n", "line 2, column 'a': '1 234' is no plain number"),
    "an unusual minus": ("a\n\u22125\n\u22126\n", "is no plain number"),
    "a first row in another dress": ("$5\n6\n", "line 1, column '1': expected a finite number, found '$5'"),
    "thousands or decimals": ("a;b\n1,234;1\n5,678;2\n", ": '5,678' is 5678 or 5.678: say decimal='.' or decimal=','"),
    "thousands or decimals elsewhere": ("a;b\n1,5;1.234\n", ": '1.234' is 1234 or 1.234: say decimal"),
    "one column first, two below": ("x\n1,2\n", "line 2: 2 fields where the first line has 1"),
    "every word for a gap above numbers": (
        ",".join(sorted(table.MISSING)) + "\n1" + ",1" * (len(table.MISSING) - 1) + "\n",
        "line 1, column '1': expected a finite number, found nothing",
    ),
    "two decimal marks": ("a;b\n1,5;0.5\n", ": the decimal marks of '0.5' and '1,5' differ"),
    "a decimal comma and no other separator": (
        "year,t\n2020,1,5\n",
        "line 2: 3 fields where the first line has 2 (if the comma",
    ),
    "a quote that never ends": ('a,b\n1,"2\n3,4\n', "unexpected end of data"),
    "not UTF-8": (b"a\n\xff\xfe1\n", ", line 2: is not UTF-8 text: save it as UTF-8"),
    "Latin-1": ("temp\xe9rature\n1\n".encode("latin-1"), ", line 1: is not UTF-8 text"),
    "half of UTF-16": ("a\n1\n".encode("utf-16")[:-1], "is not UTF-16 text"),
    "UTF-16 without a mark": ("a\n1\n".encode("utf-16-le"), "UTF-16 without its byte order mark"),
    "NUL": (b"a\n1\x002\n", "is no text"),
    "endless field": ("a\n" + "1" * 200_000, "field larger than field limit"),
}


@pytest.mark.parametrize("content, reason", BAD_CSV.values(), ids=BAD_CSV)
def test_bad_csv(tmp_path, content, reason):
    assert reason in refused(write(tmp_path, "x.csv", content))


def test_bad_columns(tmp_path):
    path = write(tmp_path, "x.csv", "a,b,b\n1,2,x\n")
    assert "has no column 'c', only 'a', 'b'" in refused(path, columns=["c"])
    assert "has no column '4'" in refused(path, columns=["4"])
    assert "2 columns named 'b'" in refused(path, columns=["b"])
    assert "column 'b': expected a finite number, found 'x'" in refused(path, columns=["3"])
    assert "holds prose, which has no columns" in refused(write(tmp_path, "x.txt", "ab"), columns=["a"])
    assert "only a text file has columns" in refused(write(tmp_path, "x.npy", npy(np.ones(3))), columns=["a"])


# --- what somebody says about the file ---

SAID = {
    "commas are decimal": (dict(decimal=","), "a;b\n1,234;1.000\n", [[1.234, 1000]]),
    "points set off thousands": (dict(decimal=","), "a;b\n1.234;5.678\n", [[1234, 5678]]),
    "commas set off thousands": (dict(decimal="."), "a;b\n1,234;1.000\n", [[1234, 1.0]]),
    "one column of decimal commas": (dict(sep=";"), "a\n1,5\n2,25\n", [[1.5], [2.25]]),
    "white space": (dict(sep=" "), "a  b\n 1\t2 \n", [[1, 2]]),
    "a colon": (dict(sep=":"), "1:2\n3:4\n", [[1, 2], [3, 4]]),
    "years are names": (dict(header=True), "2019,2020\n1,2\n", [[1, 2]]),
    "names are none": (dict(header=False), "1,2\n3,4\n", [[1, 2], [3, 4]]),
}


@pytest.mark.parametrize("said, content, expected", SAID.values(), ids=SAID)
def test_what_is_said_decides(said, content, expected, tmp_path):
    for name in ("x.csv", "x.txt", "x.tsv"):
        path = write(tmp_path, name, content)
        assert load(path, dialect=Dialect(**said), standardise=False)[0].tolist() == expected


@pytest.mark.parametrize(
    "said",
    [
        *(dict(sep=sep) for sep in ("", ";;", 3, *"1aé٣\"'#.+-\r\n")),
        *(dict(decimal=mark) for mark in (";", "", 1)),
        *(dict(header=value) for value in ("no", 0, [])),
        dict(decimal=",", sep=","),
    ],
    ids=repr,
)
def test_what_cannot_be_said(said):
    with pytest.raises(ValueError, match=f"{next(iter(said))}="):
        Dialect(**said)


@pytest.mark.parametrize("sep", ";:|_~^&/\\\t\x1f\u00a0", ids=repr)
def test_any_other_mark_separates(sep, tmp_path):
    path = write(tmp_path, "x.csv", f"a{sep}b\n1.5{sep}-2\n-3{sep}1e3\n")
    assert load(path, dialect=Dialect(sep=sep), standardise=False)[0].tolist() == [[1.5, -2], [-3, 1000]]


def test_what_is_said_and_wrong_is_refused(tmp_path):
    path = write(tmp_path, "x.csv", "a;b\n1,5;2\n")
    assert "found '1,5'" in refused(path, dialect=Dialect(decimal="."))
    assert "found 'a'" in refused(path, dialect=Dialect(header=False), columns=["1"])
    assert "in which they are written" in refused(write(tmp_path, "x.npy", npy(np.ones(3))), dialect=Dialect())


def number(value, style):
    """A number as some program writes it, and the number that this is."""
    text = {"repr": repr(value), "savetxt": f"{value:.18e}", "fixed": f"{value:.3f}", "thousands": f"{value:,.2f}"}[
        style
    ]
    return text, float(text.replace(",", ""))


@st.composite
def tables(draw):
    """A table of numbers in some dialect: its bytes, its suffix, the numbers, the sep and the decimal mark."""
    sep, decimal, style = draw(st.sampled_from(";|\t, ")), draw(st.sampled_from(".,")), draw(st.sampled_from(STYLES))
    width, height = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    floats = st.floats(-1e9, 1e9) if style != "repr" else st.floats(allow_nan=False, allow_infinity=False)
    numbers = [[number(draw(floats), style) for _ in range(width)] for _ in range(height)]
    lines = [[text if decimal == "." else text.translate({44: 46, 46: 44}) for text, _ in row] for row in numbers]
    if draw(st.booleans()):
        lines = [[f"2020-01-{k:02}", *line] for k, line in enumerate(lines, 1)]
    if header := draw(st.booleans()):
        lines.insert(0, [draw(st.sampled_from(["a", "b;c", "x y", "d,e", "f|g", "é"])) for _ in lines[0]])
    quoted = [[f'"{cell}"' if {*cell} & {*";|\t, "} else cell for cell in line] for line in lines]
    if sep == " ":  # white space knows no quotes
        quoted = [[cell.strip('"').replace(" ", "") for cell in line] for line in quoted]
    end = draw(st.sampled_from(["\n", "\r\n"]))
    text = end.join([*(sep.join(line) for line in quoted), *draw(st.sampled_from([[], [""], ["", ""]]))])
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
    suffix = ".txt" if sep == " " else draw(st.sampled_from([".csv", ".tsv", ".txt"]))
    said = Dialect(sep, decimal if decimal != sep else None, header)
    return text.encode(encoding), suffix, [[value for _, value in row] for row in numbers], said, style


STYLES = ("repr", "savetxt", "fixed", "thousands")


@given(tables())
@settings(max_examples=100)
def test_a_table_in_any_dialect_is_read_as_it_was_written_or_refused(tmp_path_factory, table):
    content, suffix, numbers, said, style = table
    path = write(tmp_path_factory.getbasetemp(), f"any{suffix}", content)
    plain = said.decimal == "." and style != "thousands"
    several = len(numbers[0]) > 1 and len(numbers) > 1
    # "1,5" in a line of its own is two columns by all custom, unless it is said that it is one.
    bare = said.sep == " " and b"," in content and len(numbers[0]) == 1
    for dialect in (said,) if bare else (None, said):
        try:
            found = load(path, dialect=dialect, standardise=False)
        except DataError as error:
            assert "\n" not in str(error) and str(error).startswith(str(path))
            assert not (plain and several) or (dialect is None and suffix == ".txt"), error
        else:
            if "one-hot" not in found[1]:
                assert found[0].tolist() == numbers, found[1]
            else:
                assert not several and dialect is None


# --- numbers and prose in .txt ---

NUMBERS = {
    "savetxt": "1.0e+00\n2.5e-01\n",
    "several columns": "1.0e+00 2.0e+00\n2.5e-01 0\n",
    "aligned": "  1    2\n 10   20\n",
    "a comment and a heading": "# a file\n# x y\n1 2\n3 4\n",
    "a heading": "x\ty\n1\t2\n",
    "dates": "2020-01-01 1\n2020-01-02 2\n",
    "commas": "1, 2\n3, 4\n",
    "one": "42",
}
PROSE = [
    "abc",
    "In 1984 there were 3.",
    "1. To be\n2. or not to be,\n3. that",
    "To be or\nnot to be",
    "\n\n",
    "a 1",
    "7\nTo be\nor not to be",
    "!?\n!?",
]


@pytest.mark.parametrize("text", NUMBERS.values(), ids=NUMBERS)
def test_numbers_in_a_text_file_are_numbers(text, tmp_path):
    values, told = load(write(tmp_path, "x.txt", text), standardise=False)
    expected = [
        [float(word) for word in line.replace(",", " ").split()[-values.shape[1] :]]
        for line in text.splitlines()
        if line[0].isdigit() or line[0] == " "
    ]
    assert values.tolist() == expected and "one-hot" not in told


def test_decimal_commas_between_spaces(tmp_path):
    values, _ = load(write(tmp_path, "x.txt", "1,5 2,5\n3,5 4,25\n"), standardise=False)
    assert values.tolist() == [[1.5, 2.5], [3.5, 4.25]]


def test_a_line_that_is_too_long_for_a_table_is_prose_and_is_not_cut_into_cells(monkeypatch):
    monkeypatch.setattr(table, "_rows", lambda *a: pytest.fail("cut into cells"))
    assert not table.is_table("to be or not to be " * 10**5)
    monkeypatch.undo()
    assert table.is_table("1 2 " * 10**5) and table.is_table("1 2\n" * 10**6)


@pytest.mark.parametrize("line_100, line_101, numbers", [("word", "1", 50), ("1", "word", 51), ("word", "word", 50)])
def test_half_of_the_first_hundred_lines_are_to_be_numbers(line_100, line_101, numbers):
    """The rest of a file may be anything."""
    lines = ["1", "word"] * 49 + ["1", line_100, line_101]
    assert lines[:100].count("1") == numbers
    assert table.is_table("\n".join(lines) + "\n2" * 9) == (numbers > 50)


@pytest.mark.parametrize("text", PROSE)
def test_prose_with_a_number_in_it_is_prose(text, tmp_path):
    assert "one-hot" in load(write(tmp_path, "x.txt", text))[1]


@pytest.mark.parametrize("bad", ["NA", "", "1,5.2", "5 km", "x"])
def test_numbers_with_a_bad_one_among_them_are_no_prose(bad, tmp_path):
    for rows in (["1", bad, "3", "4", "5"], ["1;2", f"3;{bad}", "5;6"], ["1 2", "3 4 5", "5 6"]):
        assert "x.txt" in refused(write(tmp_path, "x.txt", "\n".join(rows))) if bad or len(rows) == 3 else True


def test_savetxt_round_trip(tmp_path):
    array = np.random.default_rng(0).normal(size=(7, 3))
    for options in ({}, {"delimiter": ","}, {"delimiter": "\t", "header": "a b c"}, {"header": "a b c"}):
        np.savetxt(tmp_path / "x.txt", array, **options)
        values, told = load(tmp_path / "x.txt", standardise=False)
        assert np.array_equal(values, array)
    assert told == "x.txt (a, b, c)"
