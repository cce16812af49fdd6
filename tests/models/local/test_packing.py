from __future__ import annotations

import random

import numpy as np
import pytest

from llmlab.errors import BadRequest
from llmlab.models.local import packing
from llmlab.models.local.packing import Fitted, Group, Unit
from llmlab.models.local.tokens import Pair


def some(rng, n):
    return tuple(rng.randrange(50) for _ in range(n))


def computed(sequences, groups):
    """Tokens that a grouping computes."""
    return sum(g.prefix + sum(len(sequences[i]) - g.prefix for i in g.members) for g in groups)


def test_fitting_keeps_the_end_of_a_context_and_room_for_the_target():
    results = {}
    (fitted,) = packing.fit([Pair(tuple(range(20)), (7, 8, 9))], 10, results)
    # the model reads context + target but the last token: 8 + 2 of 10
    assert fitted == Fitted(0, tuple(range(12, 20)), (7, 8, 9), 12)
    assert not results


def test_a_target_as_long_as_the_context_still_fits():
    (fitted,) = packing.fit([Pair((1, 2, 3), tuple(range(10)))], 10, {})
    assert (fitted.context, fitted.truncated) == ((3,), 2)


def test_a_longer_target_is_an_error_of_its_own():
    results = {}
    assert [f.index for f in packing.fit([Pair((1,), tuple(range(11))), Pair((1,), (2,))], 10, results)] == [1]
    assert isinstance(results[0], BadRequest)


def test_continuations_of_a_context_make_a_tree():
    (unit,) = packing.units([Fitted(i, (1, 2), t, 0) for i, t in enumerate([(5, 6, 7), (5, 6, 8), (5, 9, 7), (4,)])])
    # last tokens are only predicted: nodes 5, 5 6, 5 9
    assert unit.tokens == [5, 6, 9]
    assert unit.parents == [-1, 0, 0]
    assert unit.depths() == [1, 2, 2]
    assert [path for _, path in unit.wanted] == [[-1, 0, 1], [-1, 0, 1], [-1, 0, 2], [-1]]
    assert (unit.size(), unit.size(prefix=1), unit.rows) == (5, 4, 4)


def test_a_token_sees_the_stem_its_ancestors_and_itself():
    unit = Unit((1, 2))
    for i, target in enumerate([(5, 6, 7), (5, 9, 7)]):
        unit.add(Fitted(i, unit.stem, target, 0))
    assert np.array_equal(
        unit.sees(2),
        np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 0, 1]], dtype=bool),
    )


def test_equal_contexts_are_one_unit():
    fitted = [Fitted(0, (1, 2), (3,), 0), Fitted(1, (1,), (3,), 0), Fitted(2, (1, 2), (4,), 0)]
    assert [u.stem for u in packing.units(fitted)] == [(1, 2), (1,)]


@pytest.mark.parametrize(
    ("a", "b", "n"), [((), (1,), 0), ((1, 2), (1, 2), 2), ((1, 2, 3), (1, 2), 2), ((1, 2), (2, 2), 0)]
)
def test_shared_is_the_length_of_the_common_beginning(a, b, n):
    assert packing.shared(a, b) == n


def test_shared_agrees_with_a_loop():
    rng = random.Random(0)
    for _ in range(200):
        a = tuple(rng.randrange(2) for _ in range(rng.randrange(12)))
        b = tuple(rng.randrange(2) for _ in range(rng.randrange(12)))
        n = 0
        while n < min(len(a), len(b)) and a[n] == b[n]:
            n += 1
        assert packing.shared(a, b) == n


def test_few_shot_prompts_share_their_shots():
    rng = random.Random(0)
    shots = some(rng, 300)
    sequences = [shots + some(rng, 30) for _ in range(10)]
    (group,) = packing.groups(sequences)
    assert 300 <= group.prefix <= 302
    assert sorted(group.members) == list(range(10))


def test_subjects_with_a_common_header_are_grouped_by_subject():
    rng = random.Random(0)
    header = some(rng, 40)
    shots = [header + some(rng, 200) for _ in range(3)]
    sequences = [shots[i % 3] + some(rng, 30) for i in range(30)]
    found = packing.groups(sequences)
    assert sorted(sorted(g.members) for g in found) == [list(range(i, 30, 3)) for i in range(3)]
    assert all(g.prefix >= 240 for g in found)


def test_sequences_with_nothing_in_common_share_nothing():
    rng = random.Random(0)
    sequences = [some(rng, 80) for _ in range(9)]
    assert all(g.prefix == 0 for g in packing.groups(sequences))


def test_every_sequence_is_in_one_group_and_sharing_never_computes_more():
    rng = random.Random(1)
    for _ in range(50):
        beginnings = [some(rng, rng.randrange(1, 120)) for _ in range(4)]
        sequences = [
            beginnings[rng.randrange(4)]
            + beginnings[rng.randrange(4)][: rng.randrange(60)]
            + some(rng, rng.randrange(1, 40))
            for _ in range(rng.randrange(1, 25))
        ]
        found = packing.groups(sequences)
        assert sorted(i for g in found for i in g.members) == list(range(len(sequences)))
        assert computed(sequences, found) <= sum(map(len, sequences))
        for group in found:
            # all have the prefix, and a token of their own behind it
            assert len({sequences[i][: group.prefix] for i in group.members}) == 1
            assert all(len(sequences[i]) > group.prefix for i in group.members)


def test_a_sequence_that_is_another_ones_beginning_keeps_a_token_of_its_own():
    long = tuple(range(200))
    (group,) = packing.groups([long, long[:150], long])
    assert group.prefix == 149


def test_no_sequences_make_no_groups():
    assert packing.groups([]) == []
    assert packing.groups([(1, 2)]) == [Group(0, [0])]


def test_batches_keep_to_the_budget_longest_first():
    sizes = [5, 90, 30, 60, 10]
    found = list(packing.batches(sizes, 100, [1] * 5, 100))
    assert [i for batch in found for i in batch] == [1, 3, 2, 4, 0]
    assert all(sum(sizes[i] for i in batch) <= 100 for batch in found)


def test_what_exceeds_the_budget_goes_alone():
    assert list(packing.batches([500, 500, 1], 100, [1, 1, 1], 100)) == [[0], [1], [2]]


def test_rows_of_logits_are_bounded_too():
    assert list(packing.batches([10, 10, 10], 100, [4, 4, 4], 8)) == [[0, 1], [2]]


def test_short_contexts_that_begin_alike_become_one_tree():
    pool = [Fitted(i, (1, 2, 3, 4, 5, c), (9, 8), 0) for i, c in enumerate((6, 7))]
    (tree,) = packing.merged(packing.units(pool), 0)
    assert tree.stem == (1, 2, 3, 4, 5)
    assert tree.tokens == [6, 9, 7, 9]
    assert tree.parents == [-1, 0, -1, 2]
    # the last token of a context predicts the first of its target
    assert [path for _, path in tree.wanted] == [[0, 1], [2, 3]]
    assert tree.size() == 9


def test_a_context_that_is_the_beginning_of_another_is_on_the_same_tree():
    pool = [Fitted(0, (1, 2, 3, 4), (5,), 0), Fitted(1, (1, 2, 3, 4, 5, 6), (7,), 0)]
    (tree,) = packing.merged(packing.units(pool), 0)
    assert (tree.stem, tree.tokens) == ((1, 2, 3), [4, 5, 6])
    assert [path for _, path in tree.wanted] == [[0], [2]]


def test_long_contexts_and_those_with_little_in_common_stay_apart():
    rng = random.Random(0)
    beginning = some(rng, 40)
    long = [Fitted(i, beginning + some(rng, 200), (1,), 0) for i in range(2)]
    short = [Fitted(i, (1, *some(rng, 40)), (1,), 0) for i in range(2)]
    assert len(packing.merged(packing.units(long), 0)) == 2
    assert len(packing.merged(packing.units(short), 0)) == 2


def test_rows_that_would_be_written_apart_share_only_what_pays_for_it():
    rng = random.Random(0)
    shots = [some(rng, 300) for _ in range(2)]
    sequences = [shots[i % 2] + some(rng, 30) for i in range(8)]
    assert len(packing.groups(sequences, overhead=500)) == 2
    assert all(g.prefix == 0 for g in packing.groups(sequences, overhead=2000))
    # all of them together are no batch more
    (group,) = packing.groups([shots[0] + some(rng, 30) for _ in range(3)], overhead=2000)
    assert group.prefix >= 300
