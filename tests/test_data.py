"""Series from files: what is read is what stands in the file, and whatever cannot be read is refused in one line."""

import hashlib
import io
import pickle
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_rnn.data import DataError, load


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def refused(path, **options):
    with pytest.raises(DataError) as caught:
        load(path, **options)
    message = str(caught.value)
    assert message.count("\n") == 0 and message.startswith(str(path))
    return message


# --- the packaged series ---


def test_packaged_series_is_the_one_of_the_literature():
    values, description = load(standardise=False)
    assert values.shape == (100, 1) and values.dtype == np.float64
    assert values[:3, 0].tolist() == [1120, 1160, 963] and values[-1, 0] == 740
    assert values.sum() == 91935  # mean 919.35, as R and statsmodels print it
    assert description == "annual flow of the Nile at Aswan, 1871-1970 (public domain)"


def test_packaged_file_has_the_same_bytes_everywhere_and_names_its_licence():
    folder = resources.files("tinygrad_rnn.data")
    content = folder.joinpath("nile.csv").read_bytes()
    assert hashlib.sha256(content).hexdigest() == "88e97bea7249e5832a85e41aec6ce4b8f7b1b14aae930c8363da7f193286b598"
    assert "Public domain" in folder.joinpath("NILE.txt").read_text(encoding="utf-8")


def test_packaged_series_other_column():
    assert load(columns=["year"], standardise=False, steps=2)[0].ravel().tolist() == [1871, 1872]


def test_numbers_are_standardised_over_the_whole_series():
    whole, description = load()
    assert abs(whole.mean()) < 1e-12 and abs(whole.std() - 1) < 1e-12
    assert description.endswith(", standardised")
    assert np.array_equal(load(steps=7)[0], whole[:7])


# --- CSV ---

CSV = {
    "header": ("a,b\n1,10\n2,20\n", [[1, 10], [2, 20]], " (a, b)"),
    "no header": ("1,10\n2,20\n", [[1, 10], [2, 20]], ""),
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
    "no number": ("a\nx\ny\n", "has no numeric column"),
    "one bad cell": ("a,b\n1,2\n3,x\n", "line 3, column 'b': expected a finite number, found 'x'"),
    "missing": ("a,b\n1,2\n3,\n", "line 3, column 'b': expected a finite number, found nothing"),
    "missing first": ("a,b\n1,NA\n3,4\n", "line 2, column 'b': expected a finite number, found 'NA'"),
    "nan": ("a\n1\nnan\n", "line 3, column 'a': expected a finite number, found 'nan'"),
    "too large": ("a\n1\n1e400\n", "line 3, column 'a': expected a finite number, found '1e400'"),
    "ragged": ("a,b\n1,2\n3\n", "line 3: 1 fields where the first line has 2"),
    "decimal comma": ("a;b\n1,5;2,5\n", "has no numeric column"),
    "not UTF-8": (b"a\n\xff\xfe1\n", "is not UTF-8 text"),
    "NUL": (b"a\n1\x002\n", "has no numeric column"),
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
    assert "only a .csv file has named columns" in refused(write(tmp_path, "x.txt", "ab"), columns=["a"])


# --- NPY ---


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int8, np.uint64, bool, ">f8", np.longdouble])
@pytest.mark.parametrize("shape", [(3,), (3, 1), (2, 4)])
def test_npy(tmp_path, dtype, shape):
    array = (np.arange(np.prod(shape)) % 2).astype(dtype).reshape(shape)
    for order in "CF":
        values, description = load(write(tmp_path, "x.npy", npy(np.asarray(array, order=order))), standardise=False)
        assert values.dtype == np.float64 and np.array_equal(values, array.reshape(shape[0], -1))
        assert description == "x.npy"


class Hostile:
    """Unpickling this would fail the test."""

    def __reduce__(self):
        return pytest.fail, ("the file was unpickled",)


def header(shape, descr="<f8"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"shape": shape, "fortran_order": False, "descr": descr})
    return file.getvalue()


BAD_NPY = {
    "no file format": (b"1 2 3", "is not an array of numbers"),
    "empty": (b"", "is not an array of numbers"),
    "pickle": (pickle.dumps(Hostile()), "is not an array of numbers"),
    "pickled objects": (npy(np.array([Hostile()]), allow_pickle=True), "is not an array of numbers"),
    "promises more than it holds": (header((10**15,)) + b"12345678", "is not an array of numbers"),
    "promises more than there is": (header((2**62, 2**62)) + b"12345678", "is not an array of numbers"),
    "cut off": (npy(np.ones(5))[:-3], "is not an array of numbers"),
    "strings": (npy(np.array(["1", "2"])), "not real numbers"),
    "complex": (npy(np.ones(3, complex)), "holds complex128, not real numbers"),
    "times": (npy(np.zeros(3, "M8[D]")), "not real numbers"),
    "structured": (npy(np.zeros(3, [("a", float)])), "not real numbers"),
    "0-D": (npy(np.array(1.0)), "expected shape (T,) or (T, I), found ()"),
    "3-D": (npy(np.ones((2, 3, 4))), "expected shape (T,) or (T, I), found (2, 3, 4)"),
    "no element": (npy(np.ones((3, 0))), "holds no data"),
    "no row": (npy(np.ones(0)), "holds no data"),
    "nan": (npy(np.array([[1.0, 2.0], [3.0, np.nan]])), "row 1, column 1: expected a finite number, found nan"),
    "inf": (npy(np.array([-np.inf, 1.0])), "row 0, column 0: expected a finite number, found -inf"),
}


@pytest.mark.parametrize("content, reason", BAD_NPY.values(), ids=BAD_NPY)
def test_bad_npy(tmp_path, content, reason):
    assert reason in refused(write(tmp_path, "x.npy", content))


def test_npz_is_refused(tmp_path):
    file = io.BytesIO()
    np.savez(file, a=np.ones(3))
    assert "is not an array of numbers" in refused(write(tmp_path, "x.npy", file.getvalue()))


# --- text ---


# All of Unicode but surrogates; to ask Hypothesis for what UTF-8 can say takes it seconds.
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\ufeff"), min_size=1))
def test_text_is_one_hot_and_nothing_is_lost(tmp_path_factory, text):
    values, description = load(write(tmp_path_factory.mktemp("text"), "x.txt", text))
    alphabet = np.array(sorted(set(text)), dtype=object)
    assert values.shape == (len(text), len(alphabet)) and values.dtype == np.float64
    assert (values.sum(axis=1) == 1).all() and ((values == 0) | (values == 1)).all()
    assert "".join(alphabet[values.argmax(axis=1)]) == text
    assert description == f"x.txt, one-hot by character ({len(alphabet)} different)"


def test_alphabet_is_that_of_the_whole_text(tmp_path):
    path = write(tmp_path, "x.txt", "abcab")
    assert np.array_equal(load(path, steps=2)[0], load(path)[0][:2])


def test_bad_text(tmp_path):
    assert "holds no data" in refused(write(tmp_path, "x.txt", ""))
    assert "is not UTF-8 text" in refused(write(tmp_path, "x.txt", b"\xff\xfe\x00"))


# --- all kinds ---


@pytest.mark.parametrize("name, content", [("x.csv", "a\n1\n2\n"), ("x.npy", npy(np.ones(2))), ("x.txt", "ab")])
def test_steps(tmp_path, name, content):
    path = write(tmp_path, name, content)
    assert len(load(path, steps=1)[0]) == 1 and len(load(path, steps=2)[0]) == 2
    assert "3 steps asked for, but there are only 2" in refused(path, steps=3)


def test_packaged_series_has_a_hundred_steps():
    with pytest.raises(DataError, match=r"^101 steps asked for, but there are only 100$"):
        load(steps=101)


def test_unreadable(tmp_path):
    assert "expected a .csv, .npy or .txt file" in refused(write(tmp_path, "x.xlsx", "1"))
    for suffix in (".csv", ".npy", ".txt"):
        refused(tmp_path / f"missing{suffix}")
        folder = tmp_path / f"folder{suffix}"
        folder.mkdir()
        refused(folder)


@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1.0, 1e200, 1e307])
def test_standardised_at_every_magnitude(tmp_path, scale):
    array = np.array([[1.0, 3.0], [2.0, 3.0], [4.0, 3.0]]) * scale
    values, _ = load(write(tmp_path, "x.npy", npy(array)))
    assert np.allclose(values.mean(axis=0), 0) and np.allclose(values[:, 0].std(), 1)
    assert (values[:, 1] == 0).all()


PIECES = [npy(np.ones((2, 2)))[k:][:40] for k in (0, 20, 60, 128)] + [
    b"a,b\n",
    b"1",
    b",",
    b"\n",
    b'"',
    b"\x00",
    b"\xff",
    b"nan",
]


@given(st.sampled_from([".csv", ".npy", ".txt"]), st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=9))))
def test_any_bytes_are_read_or_refused(tmp_path_factory, suffix, pieces):
    path = write(tmp_path_factory.getbasetemp(), f"any{suffix}", b"".join(pieces))
    try:
        values, description = load(path)
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert values.ndim == 2 and values.size and np.isfinite(values).all() and description
