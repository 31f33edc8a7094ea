"""Whatever is handed over, a command does what it was asked or says why not: `make fuzz` for ten minutes, here for one.

Every trial runs in a process of its own. What was found once is kept in corpus/ and tried again, always.
"""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.case import Case, Outcome, findings, run
from tests.fuzz.run import tiny_models
from tests.fuzz.strategies import KINDS

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.json"))
#: Trials of each kind in the suite; `make fuzz` asks for more.
TRIALS = 9


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return tiny_models(tmp_path_factory.mktemp("fuzz"))


BAD = [
    ((("generate",), {}), (1, "boom", 0, 1.0, frozenset()), "ended with 1"),
    ((("replay", "v.mp4"), {}), (1, "these are other frames", 0, 1.0, frozenset()), None),
    ((("generate",), {}), (2, "Traceback", 0, 1.0, frozenset()), "traceback"),
    ((("generate",), {}), (2, "sorry", 0, 1.0, frozenset()), "no message"),
    ((("generate",), {}), (2, "error: x", 3 * 10**9, 1.0, frozenset()), "MiB"),
    ((("generate",), {}), (2, "error: x", 0, 1.0, frozenset({"o.npy"})), "left"),
    ((("generate",), {}), (0, "", 0, 1.0, frozenset({".unfinished-x.npy"})), "unfinished"),
    ((("generate",), {}), (-9, "", 0, 101.0, frozenset()), "did not end"),
    ((("generate",), {}), (2, "error: x", 0, 1.0, frozenset()), None),
]


@pytest.mark.parametrize("case,outcome,word", BAD)
def test_what_counts_as_a_finding(case, outcome, word):
    found = findings(Case(*case), Outcome(*outcome))
    assert word in found[0] if word else found == []


@pytest.mark.parametrize("path", CORPUS, ids=lambda p: p.stem)
def test_what_was_found_once(path, models):
    case = Case.loaded(path.read_text(encoding="utf-8"))
    outcome = run(case, models)
    assert findings(case, outcome) == [], outcome.output[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_anything(kind, models):
    @settings(
        max_examples=TRIALS, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(KINDS[kind])
    def trial(case):
        outcome = run(case, models)
        wrong = findings(case, outcome)
        assert not wrong, f"{wrong}\n{case.arguments}\n{outcome.output[-2000:]}"

    trial()
