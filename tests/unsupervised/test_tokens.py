"""Tokens: who sees what, what is asked for, what is drawn, and sequences whose continuation is known."""

import math

import numpy as np
import pytest
import torch

from sandbox import zoo
from unsupervised import MaskedToken, NextToken, load
from unsupervised.tokens import as_tokens, drawn, hidden, keep_top_k, keep_top_p, windows

TINY = {"dim": 16, "depth": 1, "heads": 2, "max_iter": 1, "random_state": 0}
both = pytest.mark.parametrize("kind", [NextToken, MaskedToken])


def cycle(N=96, T=12, period=5):
    """Rows that count 0, 1, 2, 3, 4, 0 ... from anywhere."""
    return (np.arange(N)[:, None] + np.arange(T)) % period


@pytest.fixture(scope="module")
def counting():
    how = {**TINY, "max_iter": 30, "learning_rate": 1e-2, "vocabulary": 5}
    return NextToken(**how).fit(cycle()), MaskedToken(**{**how, "max_iter": 100}, masked=0.3).fit(cycle())


# -- what is learned ---------------------------------------------------------------------------------------------------


def test_what_comes_next_in_a_cycle_is_learned_and_gone_on_with(counting):
    estimator, _ = counting
    assert estimator.score(cycle()) > -0.02  # chance: -log 5 = -1.61
    for how in ({"temperature": 0}, {"temperature": 1.0}, {"top_k": 1}, {"top_p": 0.5}):
        made = estimator.sample(3, prompt=[3, 4, 0], length=40, random_state=0, **how)
        assert (made == (3 + np.arange(43)) % 5).all()


def test_the_last_place_of_all_has_learned_too(counting):
    estimator, _ = counting
    full = torch.from_numpy(cycle(T=13))  # the 13th follows a prompt that takes all 12 places
    with torch.no_grad():
        assert (estimator.model_(full[:, :12])[:, -1].argmax(1) == full[:, 12]).all()


def test_every_place_gets_a_gradient_the_last_one_too():
    for kind in (NextToken, MaskedToken):
        estimator = kind(**TINY, vocabulary=5).fit(cycle())
        estimator.model_.train()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            sum(estimator._loss(torch.from_numpy(cycle()))[0] for _ in range(10)).backward()
        assert (estimator.encoder_.body.positions.grad.abs().sum(1) > 0).all()


def test_what_is_hidden_in_a_cycle_is_learned_and_filled_in(counting):
    _, estimator = counting
    X, rng = cycle(), np.random.default_rng(0)
    assert estimator.score(X) > -0.05
    mask = rng.random(X.shape).argsort(1) < 3
    for passes in (1, 4, 12):
        np.testing.assert_array_equal(estimator.fill(np.where(mask, 99, X), mask, passes), X)
    short = X[:, :7]
    np.testing.assert_array_equal(estimator.fill(short, mask[:, :7]), short)
    assert estimator.fill(X, mask).dtype == np.uint8


def test_metrics_are_those_of_the_loss():
    for vocabulary, name in ((256, "bits_per_byte"), (5, "bits_per_token")):
        estimator = NextToken(**TINY, vocabulary=vocabulary, batch_size=96).fit(cycle())
        (row,) = estimator._fitting.history
        assert row[name] == pytest.approx(row["loss"] / math.log(2), rel=1e-5)
        assert row["perplexity"] == pytest.approx(math.exp(row["loss"]), rel=1e-5)
        assert 0 <= row["accuracy"] <= 1


def test_the_loss_is_the_cross_entropy_of_each_next_token_by_hand(counting):
    estimator, _ = counting
    X = cycle(7)
    with torch.no_grad():
        p = estimator.model_(torch.from_numpy(X[:, :-1])).softmax(2).numpy()
    nats = [-np.log(p[i, t, X[i, t + 1]]) for i in range(7) for t in range(11)]
    assert estimator.score(X) == pytest.approx(-np.mean(nats), rel=1e-4)


# -- who sees what -----------------------------------------------------------------------------------------------------


def test_a_later_token_changes_no_earlier_prediction_of_one_and_all_of_the_other():
    X = np.random.default_rng(0).integers(0, 256, (8, 10))
    other = X.copy()
    other[:, 6] = (other[:, 6] + 1) % 256
    for kind, before in ((NextToken, True), (MaskedToken, False)):
        model = kind(**TINY).fit(X).model_
        with torch.no_grad():
            one, two = (model(torch.from_numpy(rows)) for rows in (X, other))
        assert torch.equal(one[:, :6], two[:, :6]) == before
        assert not torch.isclose(one[:, 6:], two[:, 6:]).all(2).any()


def test_about_fifteen_percent_are_asked_for_and_hidden_as_in_the_paper():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = torch.randint(50, (2000, 100))
        seen, places = hidden(x, 0.15, vocabulary=50)
        assert hidden(x[:, :3], 0.15, vocabulary=50)[1].shape == (2000, 1)
    assert places.shape == (2000, 15)
    assert all(len(set(row)) == 15 for row in places[:50].tolist())
    assert torch.bincount(places.flatten()).float().std() < 30  # each place as often as any other, 300 times
    asked, truth = seen.gather(1, places), x.gather(1, places)
    assert (asked == 50).float().mean() == pytest.approx(0.8, abs=0.01)
    assert (asked == truth).float().mean() == pytest.approx(0.1 + 0.1 / 50, abs=0.01)
    assert asked.max() == 50
    assert torch.equal(seen.scatter(1, places, truth), x)


def test_nothing_is_learned_from_places_that_are_not_asked_for(monkeypatch):
    monkeypatch.setattr("unsupervised.tokens.hidden", lambda x, share, vocabulary: (x, torch.full((len(x), 1), 2)))
    estimator = MaskedToken(**TINY).fit(cycle())
    x = torch.from_numpy(cycle(4))
    scores = estimator.model_(x)
    scores.retain_grad()
    estimator.model_.forward = lambda tokens: scores
    loss, _ = estimator._loss(x)
    loss.backward()
    assert scores.grad[:, 2].abs().sum() > 0
    assert not scores.grad[:, [0, 1, *range(3, 12)]].any()
    truth = -torch.log_softmax(scores[:, 2], 1).gather(1, x[:, 2:3]).mean()
    assert loss.item() == pytest.approx(truth.item(), rel=1e-5)


# -- the next one ------------------------------------------------------------------------------------------------------

P = torch.tensor([[0.1, 0.4, 0.3, 0.2], [0.7, 0.1, 0.15, 0.05]])


def kept(logits):
    return logits.isfinite().tolist()


def test_the_largest_k_stay():
    assert kept(keep_top_k(P.log(), 1)) == [[False, True, False, False], [True, False, False, False]]
    assert kept(keep_top_k(P.log(), 2)) == [[False, True, True, False], [True, False, True, False]]
    assert torch.equal(keep_top_k(P.log(), 4), P.log())
    assert sum(kept(keep_top_k(torch.zeros(1, 4), 3))[0]) == 3  # of equal ones, too


def test_the_fewest_that_come_to_p_stay():
    assert kept(keep_top_p(P.log(), 0.35)) == [[False, True, False, False], [True, False, False, False]]
    assert kept(keep_top_p(P.log(), 0.6)) == [[False, True, True, False], [True, False, False, False]]
    assert kept(keep_top_p(P.log(), 0.75)) == [[False, True, True, True], [True, False, True, False]]
    assert torch.equal(keep_top_p(P.log(), 1.0), P.log())
    assert kept(keep_top_p(torch.tensor([[0.0, -math.inf]]), 1.0)) == [[True, False]]


def test_the_nucleus_is_of_what_temperature_and_k_leave():
    logits = P.log().expand(1000, 2, 4).flatten(0, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert set(drawn(logits, top_k=2, top_p=0.5)[::2].tolist()) == {1}  # 0.4 of 0.7 is more than half
        assert set(drawn(logits, temperature=100.0, top_p=0.7)[::2].tolist()) == {1, 2, 3}
        share = drawn(logits[::2].repeat(20, 1)).bincount() / 20_000
        cold = drawn(logits[::2].repeat(20, 1), temperature=0.5).bincount() / 20_000
    torch.testing.assert_close(share, P[0], atol=0.01, rtol=0)
    torch.testing.assert_close(cold, P[0] ** 2 / (P[0] ** 2).sum(), atol=0.01, rtol=0)
    assert drawn(P, temperature=0, top_k=3, top_p=0.9).tolist() == [1, 0]


def test_samples_come_from_their_seed_and_from_nothing_global():
    estimator = NextToken(**TINY, context=8).fit("what is it that we see here? " * 20)
    before = torch.random.get_rng_state()
    one, two = (estimator.sample(4, prompt="we", length=20, random_state=1) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(one, two)
    assert one.shape == (4, 22)
    assert len({row.tobytes() for row in one}) == 4
    assert not np.array_equal(one, estimator.sample(4, prompt="we", length=20, random_state=2))
    assert estimator.write("we", 20, random_state=1).startswith("we")


def test_of_a_long_prompt_the_end_is_seen_and_each_row_can_have_its_own(counting):
    estimator, _ = counting
    long = (7 * np.arange(50)) % 5  # no count, until its last twelve
    long[-12:] = cycle(1)[0]
    made = estimator.sample(1, prompt=long, length=3, temperature=0)
    assert made[0].tolist() == [*long.tolist(), 2, 3, 4]
    assert estimator.sample(2, prompt=[[0, 1], [3, 4]], length=2, temperature=0).tolist() == [
        [0, 1, 2, 3],
        [3, 4, 0, 1],
    ]


# -- text, types, files ------------------------------------------------------------------------------------------------


@both
def test_text_is_windows_of_its_bytes(kind):
    text = "Ein Fuß, zwei Füße. " * 30
    rows = windows(text, 16)
    assert rows.tobytes() == text.encode()[: 16 * len(rows)]
    estimators = [kind(**TINY, context=16).fit(X) for X in (text, text.encode(), [text], rows, rows.astype(np.float64))]
    for other in estimators[1:]:
        np.testing.assert_array_equal(other.transform(text), estimators[0].transform(rows))
    assert estimators[0].transform(rows).dtype == np.float32
    assert estimators[0].in_shape_ == (16,)


def test_texts_of_a_list_are_cut_each_by_itself():
    assert windows(["abcde", b"fg", "h"], 2).tobytes() == b"abcdfg"
    with pytest.raises(ValueError, match="no text has a window of 9 bytes, the longest has 5: take a smaller context"):
        windows(["abcde", ""], 9)


@both
@pytest.mark.parametrize("vocabulary", [5, 256, 1000])
def test_the_encoder_is_opened_from_its_file_and_gives_the_features(kind, vocabulary, tmp_path):
    X = cycle() * (vocabulary // 5)
    estimator = kind(**TINY, vocabulary=vocabulary).fit(X)
    zoo.save(estimator.encoder_, tmp_path / "encoder.safetensors")
    estimator.save(tmp_path / "estimator.safetensors")
    with torch.no_grad():
        features = zoo.load(tmp_path / "encoder.safetensors").eval()(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(estimator.transform(X), features, rtol=1e-5, atol=1e-6)
    again = load(tmp_path / "estimator.safetensors")
    assert again.score(X) == estimator.score(X)
    if kind is NextToken:
        how = {"prompt": X[0, :2], "length": 9, "random_state": 0}
        np.testing.assert_array_equal(again.sample(2, **how), estimator.sample(2, **how))
    else:
        np.testing.assert_array_equal(again.fill(X, X > 1), estimator.fill(X, X > 1))


def test_the_smallest_type_that_holds_the_vocabulary():
    assert as_tokens([255.0], 256).dtype == np.uint8
    assert as_tokens([256], 257).dtype == np.int32
    bytes_ = np.arange(256, dtype=np.uint8)
    assert as_tokens(bytes_, 256) is bytes_


# -- what can't be -----------------------------------------------------------------------------------------------------

OK = np.zeros((4, 3))


@both
@pytest.mark.parametrize(
    ("X", "words"),
    [
        (OK + 7, "whole numbers from 0 to vocabulary - 1 = 6, got 7"),
        (OK - 1, "whole numbers from 0 .*, got -1"),
        (OK + 0.5, "whole numbers from 0 .*, got 0.5"),
        (OK * np.nan, "contains NaN"),
        (OK + np.inf, "contains infinity"),
        (OK[:, :1], "rows of 2 tokens or more: of n_features=1 there is nothing to learn"),
        (OK[:, :, None], r"takes rows of tokens \[N, T\], got samples of \(3, 1\)"),
        (OK[0], "Expected 2D array, got 1D array"),
        (OK[:0], "Found array with 0 sample"),
        ("abc", "no text has a window of 128 bytes, the longest has 3"),
        ("", "no text has a window of 128 bytes, the longest has 0"),
        ("abc" * 99, "whole numbers from 0 to vocabulary - 1 = 6, got 9[789]"),
        ([["a", "b"]], "could not convert string"),
    ],
)
def test_rows_that_are_no_tokens_are_one_clear_error(kind, X, words):
    with pytest.raises(ValueError, match=words) as caught:
        kind(**TINY, vocabulary=7).fit(X)
    assert kind.__name__ in str(caught.value) or "rows of" not in str(caught.value)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"prompt": ""}, r"prompt must have 1 token or more, \[P\] or \[n, P\] with n=2, got \[0\]"),
        ({"prompt": []}, "prompt must have 1 token or more"),
        ({"prompt": [[1], [2], [3]]}, r"with n=2, got \[3, 1\]"),
        ({"prompt": 3}, r"got \[\]"),
        ({"prompt": [5]}, "prompt must hold tokens, whole numbers from 0 to vocabulary - 1 = 4, got 5"),
        ({"prompt": [-1]}, "got -1"),
        ({"prompt": [0.5]}, "got 0.5"),
        ({"prompt": [math.nan]}, "got nan"),
        ({"prompt": "ab"}, "got 97"),
        ({"prompt": ["ab", "cd"]}, "prompt must be one text"),
        ({"n": 0}, "n must be 1 or more, in whole numbers, got 0"),
        ({"length": 2.5}, "length must be 1 or more, in whole numbers, got 2.5"),
        ({"temperature": -0.1}, "temperature must be 0 or more, got -0.1"),
        ({"temperature": math.nan}, "temperature must be 0 or more, got nan"),
        ({"top_k": 0}, "top_k must be a whole number from 1 to 5, got 0"),
        ({"top_k": 6}, "top_k must be a whole number from 1 to 5, got 6"),
        ({"top_p": 0}, "top_p must be above 0, and 1 at most, got 0"),
        ({"top_p": 1.1}, "top_p must be above 0, and 1 at most, got 1.1"),
    ],
)
def test_what_cannot_be_sampled_is_one_clear_error(counting, how, words):
    with pytest.raises(ValueError, match=words):
        counting[0].sample(**{"n": 2, "prompt": [1], "length": 2, **how})


@pytest.mark.parametrize(
    ("X", "mask", "passes", "words"),
    [
        (cycle(2), np.ones((2, 12)), 1, r"mask must be boolean, \[N, t\] as X is, got float64 \[2, 12\]"),
        (cycle(2), np.ones((2, 11), bool), 1, "mask must be boolean"),
        (cycle(2, T=13), np.ones((2, 13), bool), 1, "X must have from 1 to 12 tokens in a row, got 13"),
        (cycle(2) + 9, cycle(2) == 0, 1, "X must hold tokens, .* = 4, got"),
        (cycle(2), cycle(2) == 0, 0, "passes must be 1 or more, in whole numbers, got 0"),
    ],
)
def test_what_cannot_be_filled_is_one_clear_error(counting, X, mask, passes, words):
    with pytest.raises(ValueError, match=words):
        counting[1].fill(X, mask, passes)
    with pytest.raises(ValueError, match="blank must be one character of one byte, got '__'"):
        counting[1].fill_text("__", "__")


def test_what_is_not_fitted_writes_nothing():
    with pytest.raises(ValueError, match="not fitted yet"):
        NextToken().write("a")
    with pytest.raises(ValueError, match="not fitted yet"):
        MaskedToken().fill_text("_")
    with pytest.raises(ValueError, match="dim must be a multiple of heads, got dim=16, heads=3"):
        NextToken(**{**TINY, "heads": 3}).fit(OK)
    with pytest.raises(ValueError, match=r"takes rows of tokens \[N, T\], got samples of \(1, 3\)"):
        NextToken(**TINY, image_shape=(1, 3)).fit(OK)
