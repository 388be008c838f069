"""Whoever reaches a worker's socket without the token: nothing happens, and little is spent."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domains.isaacgym.conftest import TOKEN
from pipelines.domains.isaacgym import worker
from pipelines.domains.isaacgym.batch import IsaacGymBatch
from pipelines.domains.isaacgym.settings import IsaacGymSettings
from pipelines.tasks.registry import catalogue

PREFIX = struct.Struct("<4sBIIQ")
DEEP = b'{"arrays": ' + b"[" * 5000 + b"]" * 5000 + b"}"

values = st.recursive(
    # Halves of characters as well, which JSON can write and UTF-8 cannot.
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
headers = st.dictionaries(st.sampled_from(["token", "arrays", "task", ""]), values).map(
    lambda header: json.dumps(header).encode()
)


def frame(header: bytes, payload: bytes = b"", opcode: int = worker.HELLO) -> bytes:
    return PREFIX.pack(worker.MAGIC, opcode, 1, len(header), len(payload)) + header + payload


def hello(**fields: object) -> bytes:
    return frame(json.dumps({"token": TOKEN, "arrays": [], **fields}).encode())


def meet(data: bytes) -> worker.Frame | None:
    """Let a worker authenticate a client that sends these bytes and ends."""
    near, far = socket.socketpair()
    with near, far:
        near.sendall(data)
        near.shutdown(socket.SHUT_WR)
        return worker.authenticate(far, TOKEN)


@given(st.binary(max_size=60) | headers.map(frame) | headers.map(lambda h: frame(h, b"1234")))
@example(hello(token="\ud800"))
@example(hello(token=["a"]))
@example(hello(token=None))
@example(frame(DEEP))
@example(frame(DEEP[:-1]))
@example(frame(b'{"arrays": 1' + b"0" * 6000 + b"}"))
@example(frame(b'{"arrays": [{"name": "x", "dtype": {}, "shape": {}}]}'))
@example(frame(b'{"arrays": {"name": 1}}'))
@example(hello(token="f" * 16))
@example(hello()[:-1])
def test_no_bytes_make_a_worker_raise(data):
    """The one process that listens is the one that raises: the next client would find nobody."""
    assert meet(data) is None


def test_the_token_opens():
    """And in the very form that the client sends."""
    known = meet(hello(task="ShadowHandOver"))
    assert known is not None and known.fields["task"] == "ShadowHandOver"


@pytest.mark.parametrize("sizes", [(worker.MAX_HELLO + 1, 0), (2, 1), (worker.MAX_HEADER, 1 << 28)])
def test_lengths_are_refused_before_the_token_that_are_fine_after_it(sizes):
    """A stranger's claim costs nothing: it is refused while the stranger is still silent."""
    near, far = socket.socketpair()
    with near, far:
        near.sendall(PREFIX.pack(worker.MAGIC, worker.HELLO, 1, *sizes))
        tracemalloc.start()
        began = time.monotonic()
        assert worker.authenticate(far, TOKEN) is None
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert time.monotonic() - began < 5 and peak < 1 << 18


def test_a_silent_or_slow_stranger_is_given_up(monkeypatch):
    """The time runs from the connection on: a byte now and then does not extend it."""
    monkeypatch.setattr(worker, "_AUTHENTICATION_SECONDS", 0.2)
    near, far = socket.socketpair()
    with near, far:
        near.sendall(hello()[:9])
        began = time.monotonic()
        assert worker.authenticate(far, TOKEN) is None
        assert time.monotonic() - began < 5


def test_a_server_serves_after_strangers_and_starts_nothing_for_them(server):
    """A process a connection, with NumPy in it, is only for who has the token."""
    pid, port = server
    held = []
    for data in (b"", b"GET / HTTP/1.1\r\n\r\n", frame(DEEP), hello(token="\ud800"), b"VX"):
        stranger = socket.create_connection(("127.0.0.1", port))
        stranger.sendall(data)
        held.append(stranger)
    time.sleep(0.3)
    assert not Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    settings = IsaacGymSettings("connect", f"127.0.0.1:{port}", token=TOKEN)
    batch = IsaacGymBatch(catalogue().get("hand-push-block"), 1, settings)
    batch.reset([0], [1])
    batch.close()
    for stranger in held:
        stranger.close()
    os.kill(pid, 0)
