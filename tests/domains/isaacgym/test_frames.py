"""Frames: what is written is read, and nothing else is."""

from __future__ import annotations

import ast
import contextlib
import json
import socket
import struct
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.domains.isaacgym import worker
from pipelines.domains.isaacgym.link import WORKER_FILE

PREFIX = struct.Struct("<4sBIIQ")

shapes = st.lists(st.integers(0, 7), max_size=2).map(tuple)
arrays = st.dictionaries(
    st.text(max_size=8),
    st.tuples(shapes, st.booleans(), st.integers(0, 2**32 - 1)).map(
        lambda part: (
            np.random.default_rng(part[2]).integers(0, 256, part[0], dtype=np.uint8)
            if part[1]
            else np.random.default_rng(part[2]).standard_normal(part[0]).astype(np.float32)
        )
    ),
    max_size=4,
)
fields = st.dictionaries(
    st.text(max_size=8).filter(lambda name: name != "arrays"),
    st.none() | st.integers(-(2**53), 2**53) | st.text(max_size=20) | st.lists(st.integers(0, 9)),
    max_size=4,
)


def read(data: bytes, ended: bool = True) -> worker.Frame | None:
    """Let a reader have these bytes, and then the end of the connection."""
    left, right = socket.socketpair()
    with left, right:
        left.sendall(data)
        if ended:
            left.shutdown(socket.SHUT_WR)
        return worker.read_frame(right, time.monotonic() + (5 if ended else 0.05))


def raw(header: bytes, payload: bytes = b"", magic: bytes = worker.MAGIC, opcode: int = 3) -> bytes:
    return PREFIX.pack(magic, opcode, 1, len(header), len(payload)) + header + payload


@given(st.sampled_from(worker.OPCODES), st.integers(0, 2**32 - 1), fields, arrays)
def test_a_frame_comes_back_as_it_was_sent(opcode, sequence, told, sent):
    """The whole protocol rests on this."""
    frame = read(worker.encode(worker.Frame(opcode, sequence, told, sent)))
    assert frame is not None
    assert (frame.opcode, frame.sequence, frame.fields) == (opcode, sequence, told)
    assert list(frame.arrays) == list(sent)
    for name, array in sent.items():
        assert frame.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(frame.arrays[name], array)


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_raise(data):
    """A stranger at the socket must not be able to crash or to fill the memory."""
    with contextlib.suppress(worker.FrameError):
        assert read(data) is None or data[:4] == worker.MAGIC


@given(st.data())
def test_a_cut_frame_is_an_error_wherever_it_is_cut(data):
    """Half an observation must never be taken for one."""
    whole = worker.encode(worker.Frame(3, 1, {}, {"x": np.ones(5, np.float32)}))
    cut = data.draw(st.integers(1, len(whole) - 1))
    with pytest.raises(worker.FrameError, match="ended after"):
        read(whole[:cut])


@pytest.mark.parametrize("sizes", [(worker.MAX_HEADER + 1, 0), (2, worker.MAX_PAYLOAD + 1)])
def test_an_oversized_length_is_refused_before_it_is_read(sizes):
    """A length of an exabyte must not be allocated: the error comes while the sender is silent."""
    with pytest.raises(worker.FrameError, match="too large"):
        read(PREFIX.pack(worker.MAGIC, 3, 1, *sizes), ended=False)


@pytest.mark.parametrize(
    "described",
    [
        None,
        [1],
        [{"name": "x", "dtype": "|O", "shape": [1]}],
        [{"name": "x", "dtype": "<f4", "shape": [-1]}],
        [{"name": "x", "dtype": "<f4", "shape": [True]}],
        [{"name": "x", "dtype": "<f4", "shape": [2**28, 2**28]}],
        [{"name": "x", "dtype": "<f4", "shape": [3]}],
        [{"name": "x", "dtype": "<f4", "shape": [1]}],
        [{"name": "x", "dtype": "<f4", "shape": [1, 2, 1]}],
    ],
)
def test_arrays_that_do_not_fit_their_payload_are_refused(described):
    """Shapes, types and lengths come from the other side and are checked, objects above all."""
    with pytest.raises(worker.FrameError):
        read(raw(json.dumps({"arrays": described}).encode(), b"\0" * 8))


@pytest.mark.parametrize(
    "data", [raw(b"[]"), raw(b"{}"), raw(b"\xff"), raw(b"{}", magic=b"HTTP"), raw(b"{}", opcode=99)]
)
def test_what_is_not_a_frame_is_refused(data):
    """Another program's bytes are named as such."""
    with pytest.raises(worker.FrameError):
        read(data)


def test_the_end_between_frames_is_no_error():
    """It is how a worker learns that its client has gone."""
    assert read(b"") is None


def test_the_worker_is_python_3_8():
    """Isaac Gym ends there: newer syntax would not even be parsed by the user's interpreter."""
    ast.parse(WORKER_FILE.read_text(encoding="utf-8"), feature_version=(3, 8))
