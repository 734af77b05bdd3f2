import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault_core.notifications.segments import GSM7_CHARACTERS, is_gsm7, parts, units

VECTORS = json.loads((Path(__file__).parents[2] / "data/sms/segmentation_vectors.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_every_vector_is_counted_as_stated(vector):
    assert is_gsm7(vector["text"]) == (vector["encoding"] == "GSM-7")
    assert units(vector["text"]) == vector["units"]
    assert parts(vector["text"]) == vector["segments"]


def test_an_extension_character_is_not_split_across_two_parts():
    # 153 units would be filled by half of the bracket: it moves to the second part, and the third is needed for the rest.
    assert parts("a" * 152 + "[" + "b" * 151) == 2
    assert parts("a" * 152 + "[" + "b" * 152) == 3
    assert parts("a" * 153 + "b" * 153) == 2


def test_a_surrogate_pair_is_not_split_across_two_parts():
    assert parts("ş" * 66 + "😀" + "ş" * 65) == 2
    assert parts("ş" * 66 + "😀" + "ş" * 66) == 3


@given(st.text(alphabet=sorted(GSM7_CHARACTERS), max_size=800))
def test_parts_of_gsm7_are_never_fewer_than_the_units_need_and_each_holds_at_least_152(text):
    assert parts(text) >= -(-units(text) // 160)
    assert parts(text) <= -(-units(text) // 152) if units(text) > 160 else parts(text) == bool(text)


@given(st.text(max_size=400), st.text(max_size=40))
def test_more_text_never_takes_fewer_parts(text, more):
    assert parts(text + more) >= parts(text)
