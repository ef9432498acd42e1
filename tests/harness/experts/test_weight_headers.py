"""Headers of safetensors files that nobody wrote on purpose: the expert is mixed, or refused in one sentence."""

from __future__ import annotations

import copy
import json
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.experts.files import ADAPTER
from harness.experts.pool import check_finite, open_pool
from utilities.errors import UserError

DTYPES = ["F32", "F16", "BF16", "F64", "I8", "I64", "BOOL", "F8_E4M3", "C64", "F31", "", None, 7]
NUMBERS = st.sampled_from([0, 1, 4, 32, -1, 2**31, 2**63, 2**64, 10**30, 0.5, None, "4"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
CHANGES = st.one_of(
    st.tuples(st.just("dtype"), st.sampled_from(DTYPES)),
    st.tuples(st.just("shape"), st.lists(NUMBERS, max_size=4) | JSON),
    st.tuples(st.just("data_offsets"), st.lists(NUMBERS, max_size=3) | JSON),
    st.tuples(st.just("entry"), JSON),
    st.tuples(st.just("name"), st.text(max_size=20)),
    st.tuples(st.just("remove"), st.none()),
    st.tuples(st.just("metadata"), JSON),
)


@pytest.fixture(scope="module")
def expert(adapters, tmp_path_factory):
    """A copy of an adapter whose weights are replaced, their header and their data."""
    folder = shutil.copytree(adapters[0], tmp_path_factory.mktemp("headers") / "fuzzed")
    content = (folder / ADAPTER).read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return folder, json.loads(content[8:end]), content[end:]


def opened(folder, base, header, data, length=None):
    """Opens and mixes the expert with this header; returns whether it was refused."""
    size = (len(header) if length is None else length) % (1 << 64)
    (folder / ADAPTER).write_bytes(size.to_bytes(8, "little") + header + data)
    try:
        pool = open_pool([str(folder)], base)
        check_finite(pool)
        assert all(torch.isfinite(tensor).all() for _, tensor in pool.mix(torch.ones(1, 1)))
    except UserError as error:
        assert "\n" not in str(error) and str(error).isprintable()
        return True
    return False


@settings(max_examples=40)
@given(st.data())
def test_a_changed_header_is_refused_or_the_expert_can_be_mixed(expert, base, data):
    folder, header, content = expert
    header = copy.deepcopy(header)
    for what, value in data.draw(st.lists(CHANGES, min_size=1, max_size=2)):
        name = data.draw(st.sampled_from(sorted(header)))
        if what == "metadata":
            header["__metadata__"] = value
        elif what == "entry":
            header[name] = value
        elif what in {"name", "remove"}:
            entry = header.pop(name)
            if what == "name":
                header[value] = entry
        elif isinstance(header[name], dict):
            header[name][what] = value
    opened(folder, base, json.dumps(header).encode(), content)


@settings(max_examples=15)
@given(
    st.binary(max_size=80) | st.integers(1, 10**5).map(lambda depth: b"[" * depth),
    st.none() | st.sampled_from([0, 1, 100 << 20, (100 << 20) + 1, 2**63, 2**64 - 1]),
)
def test_bytes_that_are_no_header_are_refused(expert, base, header, length):
    folder, _, content = expert
    assert opened(folder, base, header, content, length)


def test_the_header_as_it_was_is_accepted(expert, base):
    folder, header, content = expert
    assert not opened(folder, base, json.dumps(header).encode(), content)
    assert opened(folder, base, json.dumps(header).encode(), content[:-1])
    assert opened(folder, base, json.dumps(header).encode(), content + b"x")
