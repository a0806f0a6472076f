"""Series from files: what is read is what stands in the file, and whatever cannot be read is refused in one line."""

import hashlib
import io
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_rnn.data import DataError, load, one_hot, read, read_text


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


# --- several sequences ---


def test_three_axes_are_sequences_of_steps_unless_said_otherwise(tmp_path):
    array = np.random.default_rng(0).normal(size=(4, 6, 3))
    path = write(tmp_path, "x.npy", npy(array))
    data = read(path, standardise=False)
    assert np.array_equal(data.values, array.transpose(1, 0, 2))
    assert data.description == "x.npy, 4 sequences of 6 steps, read as (N, T, F)" and data.axes == "(N, T, F)"
    other = read(path, standardise=False, batch_first=False)
    assert np.array_equal(other.values, array) and other.description.endswith(
        "6 sequences of 4 steps, read as (T, N, F)"
    )
    scaled = read(path, steps=2)
    assert np.allclose(scaled.values, (array[:, :2] - array.mean((0, 1))).transpose(1, 0, 2) / array.std((0, 1)))
    assert np.array_equal(load(path)[0], read(path).values)
    assert "7 steps asked for, but there are only 6, in the shortest of its 4 sequences" in refused(path, steps=7)
    assert len(read(path, most=9).values) == 6 and len(read(path, most=2).values) == 2


def test_padding_is_not_looked_at(tmp_path):
    array, lengths = np.random.default_rng(0).normal(size=(3, 6, 2)), np.array([6, 3, 4])
    padded = array.copy()
    for n, length in enumerate(lengths):
        padded[n, length:] = (np.nan, 1e9)[n % 2]
    path = write(tmp_path, "x.npy", npy(padded))
    assert "sequence 2, row 4, column 0: expected a finite number, found nan: fill the gap, or, if" in refused(path)
    data = read(path, lengths=lengths)
    assert data.name == f"x.npy, 3 sequences of 6 steps, read as (N, T, F), padded after {min(lengths)} or more"
    seen = np.concatenate([array[n, :length] for n, length in enumerate(lengths)])
    assert np.allclose(data.values, ((array[:, :3] - seen.mean(0)) / seen.std(0)).transpose(1, 0, 2))
    assert "4 steps asked for, but there are only 3" in refused(path, lengths=lengths, steps=4)
    for wrong in ([6, 3], [[6], [3, 4]], [6, 3, 7], [6, 3, 0], [6.0, 3.0, 4.0]):
        assert "lengths are 3 whole numbers from 1 to 6" in refused(path, lengths=wrong)
    assert "lengths are those of padded" in refused(write(tmp_path, "y.npy", npy(np.ones(3))), lengths=[3])


@pytest.mark.parametrize("how", [{}, {"steps": 2}, {"most": 1}, {"steps": 3}])
def test_what_is_said_of_a_file_is_the_same_however_much_of_it_is_taken(tmp_path, how):
    path = write(tmp_path, "x.npy", npy(np.random.default_rng(0).normal(size=(3, 6, 2))))
    for lengths, padded in ((None, ""), ([6, 3, 4], ", padded after 3 or more")):
        name = f"x.npy, 3 sequences of 6 steps, read as (N, T, F){padded}"
        assert read(path, lengths=lengths, **how).name == name


def test_windows_are_spread_over_the_whole_file(tmp_path):
    path = write(tmp_path, "x.csv", "a\n" + "".join(f"{k * k}\n" for k in range(20)))
    data = read(path, steps=5, windows=4, standardise=False)
    assert data.values[:, :, 0].T.tolist() == [[(s + k) ** 2 for k in range(5)] for s in (0, 5, 10, 15)]
    assert data.description == "x.csv (a; a has whole numbers that only rise: an index?), 4 windows of 5 steps"
    many = read(path, steps=5, windows=16)
    assert many.values.shape == (5, 16, 1) and "16 windows of 5 steps that overlap, standardised" in many.description
    assert "17 different windows of 5 steps asked for, but 20 hold 16" in refused(path, steps=5, windows=17)
    prose = write(tmp_path, "x.txt", "abcabcd")
    assert np.array_equal(read(prose, steps=3, windows=2).values, one_hot(np.array([[0, 1], [1, 2], [2, 3]]), 4))
    several = write(tmp_path, "x.npy", npy(np.ones((2, 3, 1))))
    assert "windows are cut from one sequence, and there are 2" in refused(several, steps=2, windows=2)


def test_the_numbers_of_the_scale_are_told(tmp_path):
    path = write(tmp_path, "x.csv", "a,b\n1.5,7\n2.5,7\n6.5,7\n")
    assert read(path).scale() == "a: mean 3.5, standard deviation 2.16025; b: constant 7"
    assert read(path, standardise=False).scale() == "a from 1.5 to 6.5; b from 7 to 7"
    assert read(write(tmp_path, "x.txt", "ab")).scale() == ""
    many = read(write(tmp_path, "x.npy", npy(np.arange(30.0).reshape(3, 10))))
    assert many.scale().endswith("column 5: mean 15, standard deviation 8.16497; and 4 more")


def test_every_end_of_a_line_is_one_newline(tmp_path):
    path = write(tmp_path, "x.txt", b"a\r\nb\rc\nd\r\n\n")
    assert read_text(path) == "a\nb\nc\nd\n\n" and read(path).alphabet == 5 and len(read(path).values) == 9


def test_a_large_alphabet_is_one_hot_only_where_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("tinygrad_rnn.data.LARGEST", 10**6)
    path = write(tmp_path, "x.txt", "".join(map(chr, range(0x4E00, 0x4E00 + 2000))))
    assert read(path, steps=3).values.shape == (3, 1, 2000)
    assert "2000 characters one-hot, 2000 different ones, take 3.2e+07 bytes: read fewer steps" in refused(path)


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
    "0-D": (npy(np.array(1.0)), "expected shape (T,), (T, F) or (N, T, F), found ()"),
    "4-D": (npy(np.ones((2, 3, 4, 1))), "expected shape (T,), (T, F) or (N, T, F), found (2, 3, 4, 1)"),
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


# All of Unicode but surrogates and digits; to ask Hypothesis for what UTF-8 can say takes it seconds.
@given(st.text(st.characters(exclude_categories=["Cs", "Nd", "Nl", "No"], exclude_characters="\r\0\ufeff"), min_size=1))
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
    assert "is not UTF-8 text" in refused(write(tmp_path, "x.txt", b"a\xff\xfe\x00"))
    assert np.array_equal(load(write(tmp_path, "x.txt", "\xe9\n".encode("utf-16")))[0], [[0, 1], [1, 0]])


# --- all kinds ---


@pytest.mark.parametrize("name, content", [("x.csv", "a\n1\n2\n"), ("x.npy", npy(np.ones(2))), ("x.txt", "ab")])
def test_steps(tmp_path, name, content):
    path = write(tmp_path, name, content)
    assert len(load(path, steps=1)[0]) == 1 and len(load(path, steps=2)[0]) == 2
    assert "3 steps asked for, but there are only 2" in refused(path, steps=3)


def test_packaged_series_has_a_hundred_steps():
    with pytest.raises(DataError, match=r"^the packaged series: 101 steps asked for, but there are only 100$"):
        load(steps=101)


@pytest.mark.parametrize(
    "given",
    [
        *({name: value} for name in ("steps", "most", "windows") for value in (0, -1, True, 2.5, "3", [3])),
        *({name: value} for name in ("standardise", "batch_first") for value in (0, "no", [], np.ones(2))),
        *({"columns": value} for value in ("volume", [1], [None])),
        *({"dialect": value} for value in (";", {"sep": ";"})),
    ],
    ids=repr,
)
def test_an_option_is_checked_where_it_is_given(given):
    """A negative number of steps used to leave off so many, "no" was yes, and the letters of a name were columns."""
    with pytest.raises(ValueError, match=f"{next(iter(given))}.*: give "):
        read(**given)


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_a_pipe_is_read_as_text_and_no_array(tmp_path):
    for name in ("x.csv", "x.npy"):
        getattr(os, "mkfifo")(tmp_path / name)  # noqa: B009
    with ThreadPoolExecutor(1) as pool:
        pool.submit((tmp_path / "x.csv").write_text, "a\n1.5\n2.5\n4.5\n")
        assert np.array_equal(read(tmp_path / "x.csv", standardise=False).values[:, 0], [[1.5], [2.5], [4.5]])
    assert "is no file: an array is not read from a pipe" in refused(tmp_path / "x.npy")


def test_unreadable(tmp_path):
    assert "expected a .csv, .tsv, .txt or .npy file" in refused(write(tmp_path, "x.xlsx", "1"))
    for suffix in (".csv", ".npy", ".txt"):
        refused(tmp_path / f"missing{suffix}")
        folder = tmp_path / f"folder{suffix}"
        folder.mkdir()
        refused(folder)


def test_a_column_of_zeros_and_one_of_every_size_are_standardised_too(tmp_path):
    values = read(write(tmp_path, "x.npy", npy(np.array([[0.0, 1e-300], [0.0, 1e300], [0.0, -1.0]])))).values[:, 0]
    assert (values[:, 0] == 0).all() and np.allclose(values[:, 1], [-(0.5**0.5), 2**0.5, -(0.5**0.5)])


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
