import subprocess
import sys

import numpy as np
import pytest

from retrieval import RetrievalConfig, lookup
from retrieval.job import run
from stores.errors import CorruptError, MismatchError, NotFoundError, UsageError

NAMES = ["Heat", "The Heat", "Alien", "Aliens", "Amélie", "Brazil", "Hamlet", "Hamlet", None, "1984"]


@pytest.fixture
def filters(rng):
    countries = [None, [], ["GB"], ["gb", "US"], ["US"]]
    return {
        "name": [NAMES[i] if i < len(NAMES) else f"Film {i}" for i in range(60)],
        "available_countries": [countries[i % 5] for i in range(60)],
        "maturity": [[None, 7, 12, 18][i % 4] for i in range(60)],
    }


@pytest.fixture
def vectors(rng):
    return rng.normal(size=(60, 5)).astype(np.float32), rng.normal(size=(40, 5)).astype(np.float32)


@pytest.fixture(params=[False, True], ids=["int64", "str"])
def release(request, make_release, vectors, filters):
    release = make_release(*vectors, text=request.param, **filters)
    run(RetrievalConfig(), release)
    return release


def member(release, row):
    return f"m{row:04d}" if "t0000" in ids(release) else str(row)


def ids(release):
    return release.titles().to_table(columns=["title_id"])["title_id"].to_pylist()


@pytest.mark.parametrize("country", [None, "GB", "us"])
@pytest.mark.parametrize("max_maturity", [None, 0, 12])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_candidates_are_the_best_that_may_be_shown(
    release, vectors, filters, brute, country, max_maturity, exclude_seen
):
    known = ids(release)
    places, ages = filters["available_countries"], filters["maturity"]
    allowed = [
        (country is None or not places[i] or country.upper() in [place.upper() for place in places[i]])
        and (max_maturity is None or ages[i] is None or ages[i] <= max_maturity)
        for i in range(60)
    ]
    for row in (0, 3, 14):
        gone = set(known[: row % 5]) if exclude_seen else set()
        answers = lookup.candidates(release, member(release, row), 50, exclude_seen, country, max_maturity)
        expected = brute(vectors[0], vectors[1][row], 50, known, allowed, gone)
        assert [(answer["title_id"], answer["score"]) for answer in answers] == expected
        assert [answer["name"] for answer in answers] == [filters["name"][known.index(i)] for i, _ in expected]


@pytest.mark.parametrize("country", ["FR", "", " GB", "GBR"])
def test_a_country_that_no_title_lists_is_refused_with_those_that_there_are(release, country):
    with pytest.raises(UsageError, match="no title lists the country") as caught:
        lookup.candidates(release, member(release, 0), country=country)
    assert caught.value.expected == "one of GB, US"


def test_where_no_title_lists_a_country_all_are_available_everywhere(make_release, vectors):
    bare = make_release(*vectors, folder="bare")
    run(RetrievalConfig(), bare)
    bare.seal([], [], {})
    assert lookup.candidates(bare, 0, country="FR") == lookup.candidates(bare, 0)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"k": 0}, "k is"),
        ({"k": 2.0}, "k is"),
        ({"k": "5"}, "k is"),
        ({"k": True}, "k is"),
        ({"k": 10**12}, "k is"),
        ({"exclude_seen": "no"}, "exclude_seen is"),
        ({"exclude_seen": 1}, "exclude_seen is"),
        ({"country": 7}, "country is"),
        ({"country": ["GB"]}, "country is"),
        ({"max_maturity": "12"}, "max_maturity is"),
        ({"max_maturity": 12.5}, "max_maturity is"),
        ({"max_maturity": -1}, "max_maturity is"),
        ({"max_maturity": True}, "max_maturity is"),
        ({"max_maturity": 2**40}, "max_maturity is"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(release, given, name):
    with pytest.raises(UsageError, match=name):
        lookup.candidates(release, member(release, 0), **given)


@pytest.mark.parametrize("given", [1.0, 1.5, True, None, b"1", [1], "1_0", " 1", "+1", "\u0661", "9" * 30, 2**63])
def test_what_is_no_id_here_is_refused_and_never_read_as_another(release, given):
    with pytest.raises(UsageError, match=r"cannot be an id|there is no member"):
        lookup.candidates(release, given)


def test_similar_is_by_cosine_and_without_itself(release, vectors, brute):
    known = ids(release)
    unit = vectors[0] / np.linalg.norm(vectors[0], axis=1, keepdims=True)
    answers = lookup.similar(release, str(known[5]), k=8)
    expected = brute(unit, unit[5], 8, known, np.ones(60, bool), {known[5]})
    assert [answer["title_id"] for answer in answers] == [title for title, _ in expected]
    assert np.allclose([answer["score"] for answer in answers], [score for _, score in expected], atol=1e-6)
    assert len(lookup.similar(release, known[5], k=500)) == 59


@pytest.mark.parametrize(
    ("text", "row"), [("heat", 0), ("the heat", 1), ("ALIEN", 2), ("aliens", 3), ("AMÉL", 4), ("zil", 5), ("1984", 9)]
)
def test_a_title_is_found_by_a_name_that_matches_one(release, text, row):
    known = ids(release)
    assert lookup.similar(release, text) == lookup.similar(release, known[row])


def test_an_ambiguous_or_unknown_title_says_what_there_is(release):
    known = ids(release)
    with pytest.raises(UsageError, match=rf"(?s)'hamlet' matches 2 titles.*{known[6]} Hamlet; {known[7]} Hamlet"):
        lookup.similar(release, "hamlet")
    with pytest.raises(UsageError, match=r"(?s)'film' matches 50 titles.*and 40 more"):
        lookup.similar(release, "film")
    with pytest.raises(NotFoundError, match=r"(?s)'brasil'.*Brazil"):
        lookup.similar(release, "brasil")
    with pytest.raises(NotFoundError):
        lookup.similar(release, "")


def test_an_unknown_member_is_not_found(release):
    with pytest.raises(NotFoundError, match="no member"):
        lookup.candidates(release, "999")


def test_an_id_of_the_wrong_kind_is_refused(make_release, vectors):
    release = make_release(*vectors)
    run(RetrievalConfig(), release)
    with pytest.raises(UsageError, match="'abc' cannot be an id"):
        lookup.candidates(release, "abc")
    with pytest.raises(UsageError, match="cannot be an id"):
        lookup.candidates(release, str(2**70))


def test_an_index_of_another_release_is_refused_naming_both(make_release, vectors):
    one, other = make_release(*vectors, folder="a"), make_release(*vectors, folder="b", space_id="2")
    run(RetrievalConfig(), one)
    run(RetrievalConfig(), other)
    for path in one.storage.files("index"):
        other.storage.write(path, one.storage.read(path))
    with pytest.raises(MismatchError, match="space 1, asked for was space 2"):
        lookup.similar(other, "0")
    one.storage.delete("index/candidates.faiss")
    with pytest.raises(CorruptError, match=r"candidates.faiss is missing"):
        lookup.candidates(one, "0")


def test_looking_loads_no_heavy_library():
    code = (
        "import sys, retrieval\n"
        "early = {'faiss', 'numpy', 'pyarrow', 'pydantic'} & set(sys.modules)\n"
        "import retrieval.lookup\n"
        "late = {'torch', 'ray', 'feast', 'great_expectations', 'duckdb'} & set(sys.modules)\n"
        "sys.exit(str(early | late) if early | late else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
