"""Confusions, words that one system alone gets right, worst utterances: by hand, and against jiwer's alignment."""

from collections import Counter

import jiwer
import numpy as np

from hlas.report.breakdown import Confusion
from hlas.report.confusions import KEPT, confusions, only_right, right_words, vocabulary_recall, worst
from hlas.report.counts import TextCounts
from hlas.report.metrics import score

REFERENCES = ["the cat sat", "the dog ran off", "", "a cat"]
SYSTEMS = {
    "one": ["the cap sat", "the dog ran", "noise", "a cap"],
    "two": ["the cat sat down", "a dog ran off", "", "a cat"],
}


def counts(hypotheses: list[str], references: list[str] = REFERENCES) -> TextCounts:
    return score(references, hypotheses).counts


def test_confusions_by_hand() -> None:
    one, two = confusions(
        list(SYSTEMS), [REFERENCES] * 2, list(SYSTEMS.values()), [counts(h) for h in SYSTEMS.values()]
    )
    assert one.substituted == (Confusion("cat", "cap", 2, 2),)
    assert (one.deleted, one.inserted) == ((Confusion("off", "", 1, 1),), ())  # an empty reference counts nowhere
    assert two.substituted == (Confusion("the", "a", 1, 2),)
    assert two.inserted == (Confusion("", "down", 1, 0),)
    assert Confusion("t", "p", 2, "".join(REFERENCES).count("t")) in one.characters
    assert Confusion(" ", "", 1, "".join(REFERENCES).count(" ")) in one.characters


def test_confusions_are_those_of_jiwers_alignment() -> None:
    rng = np.random.default_rng(0)
    vocabulary = ["ab", "ba", "a", "b", "abc"]
    references = [" ".join(rng.choice(vocabulary, rng.integers(1, 7))) for _ in range(80)]
    hypotheses = [" ".join(rng.choice(vocabulary, rng.integers(0, 7))) for _ in range(80)]
    expected: Counter[tuple[str, str]] = Counter()
    output = jiwer.process_words(references, hypotheses)
    for ref, hyp, chunks in zip(output.references, output.hypotheses, output.alignments, strict=True):
        for chunk in chunks:
            refs, hyps = ref[chunk.ref_start_idx : chunk.ref_end_idx], hyp[chunk.hyp_start_idx : chunk.hyp_end_idx]
            if chunk.type == "substitute":
                expected.update(zip(refs, hyps, strict=True))
            elif chunk.type != "equal":
                expected.update([(word, "") for word in refs] + [("", word) for word in hyps])
    (found,) = confusions(["x"], [references], [hypotheses], [counts(hypotheses, references)])
    listed = (*found.substituted, *found.deleted, *found.inserted)
    assert {(c.reference, c.hypothesis): c.count for c in listed} == expected
    in_order = [(-c.count, c.reference, c.hypothesis) for c in found.substituted]
    assert in_order == sorted(in_order)


def test_words_that_one_system_alone_gets_right() -> None:
    right = right_words([counts(h) for h in SYSTEMS.values()])
    words = " ".join(REFERENCES).split()
    assert [[w for w, r in zip(words, row, strict=True) if not r] for row in right] == [["cat", "off", "cat"], ["the"]]
    one, two = only_right(list(SYSTEMS), REFERENCES, right)
    assert (one.words, one.utterances, one.commonest) == (1, 1, (("the", 1),))
    assert (two.words, two.utterances, two.commonest) == (3, 3, (("cat", 2), ("off", 1)))


def test_recall_of_words_inside_and_outside_the_vocabulary() -> None:
    right = right_words([counts(h) for h in SYSTEMS.values()])
    one, two = vocabulary_recall(list(SYSTEMS), REFERENCES, right, frozenset({"the", "a", "dog", "ran", "sat"}))
    assert (one.known_words, one.known_right, one.oov_words, one.oov_right) == (6, 6, 3, 0)
    assert (two.known_right, two.oov_right) == (5, 3)


def test_worst_utterances_have_the_most_errors_and_none_is_right() -> None:
    assert worst(counts(SYSTEMS["one"])) == (3, 0, 1)  # one error each: the shortest first
    assert worst(counts(["", "x y z w v u", "", "a cat"])) == (1, 0)


def test_lists_are_cut_and_say_nothing_else() -> None:
    references = [f"w{i}" for i in range(3 * KEPT)]
    hypotheses = [f"x{i}" for i in range(3 * KEPT)]
    (found,) = confusions(["x"], [references], [hypotheses], [counts(hypotheses, references)])
    assert len(found.substituted) == KEPT and found.deleted == ()
