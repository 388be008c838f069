#!/usr/bin/env python3
"""Serve Bi-DexHands on Isaac Gym over a local socket: one file for the Python that has Isaac Gym.

Isaac Gym ends at Python 3.8, so this file is Python 3.8 and needs the standard library and NumPy,
and, unless it is run with ``--fake``, the user's own isaacgym, torch and bidexhands. It imports
nothing of the project; the project's client imports the frames from here.

Frame: magic (4 bytes), opcode (u8), sequence number (u32), length of the JSON header (u32), length
of the payload (u64), header, payload; little-endian. The header's ``arrays`` lists name, dtype
(``<f4`` or ``|u1``) and shape of the arrays that make up the payload. A reply echoes opcode and
sequence number, or has the opcode ERROR. Nothing is ever unpickled.

Conversation: HELLO (token, protocol, task, copies, device) makes the simulation, one to a process;
then RESET and STEP in any order; the end of the connection ends the process. Until the token has
been presented, a frame has a header of some KB and no payload, and its sender a few seconds;
whatever else comes ends its connection and nothing more.

A RESET gives what the reference's own ``reset()`` gives: the observation after one step with a tiny
random action. Isaac Gym can only be stepped as a whole, so the states of the copies that are not
reset are saved before that step and put back after it.

Shapes: N copies of the simulation, O observation, A action.
"""

# In Python 3.8 socket.timeout is not TimeoutError, and zip is never strict.
# ruff: noqa: B905, UP041

from __future__ import annotations

import argparse
import hmac
import json
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

PROTOCOL = 1
MAGIC = b"VXIG"
OPCODES = HELLO, RESET, STEP, ERROR = 1, 2, 3, 6
MAX_HEADER = 1 << 20
MAX_HELLO = 1 << 14
MAX_PAYLOAD = 1 << 28
MAX_COPIES = 16384
TOKEN_VARIABLE = "VINTIX_ISAACGYM_TOKEN"
TINY_ACTION = 0.01
CLIP = 5.0
_PREFIX = struct.Struct("<4sBIIQ")
_DTYPES = ("<f4", "|u1")
_AUTHENTICATION_SECONDS = 10.0
_ACCEPT_SECONDS = 300.0
_MAX_STRANGERS = 32

# Class in bidexhands: observation dims, action dims, longest episode (the reference's own count).
TASKS = {
    "ShadowHandBlockStack": (428, 52, 250),
    "ShadowHandBottleCap": (420, 52, 125),
    "ShadowHandCatchAbreast": (422, 52, 150),
    "ShadowHandCatchOver2Underarm": (422, 52, 75),
    "ShadowHandCatchUnderarm": (422, 52, 75),
    "ShadowHandDoorCloseInward": (417, 52, 250),
    "ShadowHandDoorCloseOutward": (417, 52, 250),
    "ShadowHandDoorOpenInward": (417, 52, 250),
    "ShadowHandDoorOpenOutward": (417, 52, 250),
    "ShadowHandGraspAndPlace": (425, 52, 500),
    "ShadowHandKettle": (417, 52, 125),
    "ShadowHandLiftUnderarm": (417, 52, 500),
    "ShadowHandOver": (398, 40, 75),
    "ShadowHandPen": (417, 52, 125),
    "ShadowHandPushBlock": (428, 52, 125),
    "ShadowHandReOrientation": (422, 40, 600),
    "ShadowHandScissors": (417, 52, 150),
    "ShadowHandSwingCup": (417, 52, 300),
    "ShadowHandSwitch": (417, 52, 125),
    "ShadowHandTwoCatchUnderarm": (446, 52, 75),
}


class FrameError(Exception):
    """The other side sent what is not a frame of this protocol, or broke off within one."""


class RequestError(Exception):
    """A well-formed request that cannot be done; ``kind`` tells the client what to say."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Frame:
    """One message: its opcode, the number of the request, a JSON object, and arrays by name."""

    def __init__(
        self,
        opcode: int,
        sequence: int,
        fields: dict[str, Any] | None = None,
        arrays: dict[str, np.ndarray] | None = None,
    ) -> None:
        self.opcode, self.sequence = opcode, sequence
        self.fields, self.arrays = fields or {}, arrays or {}


def encode(frame: Frame) -> bytes:
    """Return the bytes of a frame; raises a `FrameError` where it is larger than readers accept."""
    described, parts = [], []
    for name, value in frame.arrays.items():
        array = np.ascontiguousarray(value, dtype="|u1" if value.dtype == np.uint8 else "<f4")
        described.append({"name": name, "dtype": array.dtype.str, "shape": list(value.shape)})
        parts.append(array.tobytes())
    header = json.dumps(dict(frame.fields, arrays=described)).encode("utf-8")
    payload = b"".join(parts)
    if len(header) > MAX_HEADER or len(payload) > MAX_PAYLOAD:
        raise FrameError(f"frame too large: header {len(header)}, payload {len(payload)}")
    prefix = _PREFIX.pack(MAGIC, frame.opcode, frame.sequence, len(header), len(payload))
    return prefix + header + payload


def read_frame(
    connection: socket.socket,
    deadline: float | None = None,
    max_header: int = MAX_HEADER,
    max_payload: int = MAX_PAYLOAD,
) -> Frame | None:
    """Read one frame; lengths are checked before anything of that length is allocated.

    Args:
        deadline: ``time.monotonic()`` by which the frame must be there; None waits for ever.
        max_header: Longest header, in bytes.
        max_payload: Longest payload, in bytes.

    Returns:
        The frame, or None where the connection ended between two frames.

    Raises:
        FrameError: Not a frame, or the connection ended within one.
        socket.timeout: The deadline passed.
    """
    prefix = _read(connection, _PREFIX.size, deadline, True)
    if prefix is None:
        return None
    magic, opcode, sequence, header_size, payload_size = _PREFIX.unpack(prefix)
    if magic != MAGIC or opcode not in OPCODES:
        raise FrameError(f"not a frame: magic {magic!r}, opcode {opcode}")
    if header_size > max_header or payload_size > max_payload:
        raise FrameError(f"frame too large: header {header_size}, payload {payload_size}")
    try:
        fields = json.loads(bytes(_read(connection, header_size, deadline) or b"").decode("utf-8"))
        described = fields.pop("arrays")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise FrameError(f"the header is not an object with arrays: {error}") from error
    payload = _read(connection, payload_size, deadline) or b""
    return Frame(opcode, sequence, fields, _arrays(described, payload))


def _arrays(described: Any, payload: bytes) -> dict[str, np.ndarray]:
    arrays, offset = {}, 0
    try:
        for entry in described:
            name, dtype, shape = entry["name"], entry["dtype"], entry["shape"]
            if not isinstance(name, str) or dtype not in _DTYPES or len(shape) > 2:
                raise FrameError("not an array of this protocol")
            count = 1
            for size in shape:
                if type(size) is not int or not 0 <= size <= MAX_PAYLOAD:
                    raise FrameError("not a shape of this protocol")
                count *= size
            nbytes = count * np.dtype(dtype).itemsize
            if offset + nbytes > len(payload):
                raise FrameError("the arrays are longer than the payload")
            flat = np.frombuffer(payload, dtype=dtype, count=count, offset=offset)
            arrays[name] = flat.reshape(shape)
            offset += nbytes
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise FrameError(f"the arrays are not described: {error}") from error
    if offset != len(payload):
        raise FrameError("the payload is longer than the arrays")
    return arrays


def _read(
    connection: socket.socket, size: int, deadline: float | None, may_end: bool = False
) -> bytes | None:
    view, done = memoryview(bytearray(size)), 0
    while done < size:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise socket.timeout("timed out")
        connection.settimeout(left)
        got = connection.recv_into(view[done:])
        if got == 0:
            if may_end and done == 0:
                return None
            raise FrameError(f"the connection ended after {done} of {size} bytes")
        done += got
    return bytes(view)


def versions() -> dict[str, str]:
    """Return the versions of what decides a simulation, which is not imported for it."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), "numpy": np.__version__}
    for name in ("isaacgym", "bidexhands", "torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed as a distribution"
    return found


class FakeSimulation:
    """A stand-in without physics: right dims, all copies move at each step, scripted ends.

    What a copy does follows from its seed and its actions. An episode whose seed is divisible by 3
    ends by itself after ``3 + seed % 11`` steps, the others at the task's longest episode.

    Args:
        task: A key of `TASKS`.
    """

    def __init__(self, task: str, num_envs: int) -> None:
        self.num_envs = num_envs
        self.observation_dim, self.action_dim, self.max_episode_length = TASKS[task]
        mixer = np.random.RandomState(len(task))
        self._mix_AO = mixer.standard_normal((self.action_dim, self.observation_dim)) * 0.3
        self._state_NO = np.zeros((num_envs, self.observation_dim))
        self._progress_N = np.zeros(num_envs, np.int64)
        self._end_N = np.full(num_envs, 1 << 30)

    def begin(self, ids: list[int], seeds: list[int]) -> list[np.random.RandomState]:
        """Put copies at the beginning of an episode; return the random stream of each."""
        streams = [np.random.RandomState(seed) for seed in seeds]
        for index, seed, stream in zip(ids, seeds, streams):
            self._state_NO[index] = stream.standard_normal(self.observation_dim) * 2
            self._progress_N[index] = 0
            self._end_N[index] = 4 + seed % 11 if seed % 3 == 0 else 1 << 30
        return streams

    def simulate(self, action_NA: np.ndarray) -> dict[str, np.ndarray]:
        """Step all copies; return observation, reward, ends and success of each."""
        self._progress_N += 1
        drift_NO = np.stack([row @ self._mix_AO for row in action_NA.astype(np.float64)])
        self._state_NO = 0.9 * self._state_NO + drift_NO
        limit_N = self._progress_N >= self.max_episode_length
        ended_N = self._progress_N >= self._end_N
        return {
            "observation": np.clip(self._state_NO, -CLIP, CLIP).astype(np.float32),
            "reward": self._state_NO[:, 0].astype(np.float32),
            "terminated": (ended_N & ~limit_N).astype(np.uint8),
            "truncated": limit_N.astype(np.uint8),
            "success": ended_N.astype(np.float32),
        }

    def save(self) -> Any:
        """Return the state of all copies."""
        return self._state_NO.copy(), self._progress_N.copy(), self._end_N.copy()

    def restore(self, saved: Any, ids: list[int]) -> None:
        """Put copies back into a saved state."""
        self._state_NO[ids], self._progress_N[ids], self._end_N[ids] = (part[ids] for part in saved)


class IsaacSimulation:
    """A task of bidexhands in Isaac Gym; one to a process.

    Args:
        task: A key of `TASKS`.
        device: ``cpu`` or ``cuda:<index>``.
    """

    def __init__(self, task: str, num_envs: int, device: str) -> None:
        # Isaac Gym's torch_utils asks for an alias that NumPy 1.24 took away.
        np.float = float  # type: ignore[attr-defined]
        import isaacgym  # type: ignore[import-not-found]  # noqa: F401, I001 - before torch
        import bidexhands  # type: ignore[import-not-found]
        import torch
        from bidexhands.utils import config  # type: ignore[import-not-found]
        from bidexhands.utils.parse_task import parse_task  # type: ignore[import-not-found]
        from bidexhands.utils.process_marl import get_AgentIndex  # type: ignore[import-not-found]

        # Configurations and assets are found relative to the package.
        os.chdir(str(Path(bidexhands.__file__).resolve().parent))
        # The reference reads its arguments from sys.argv, so it is given its own.
        ours = sys.argv
        sys.argv = [ours[0], "--headless", "--num_envs", str(num_envs), "--seed", "0"]
        sys.argv += ["--sim_device", device, "--rl_device", device]
        sys.argv += ["--pipeline", "cpu" if device == "cpu" else "gpu"]
        if device == "cpu" and num_envs == 1:
            sys.argv += ["--num_threads", "1"]
        try:
            args = config.get_args(task_name=task, algo="ppo")
        finally:
            sys.argv = ours
        cfg, cfg_train, _ = config.load_cfg(args)
        sim_params = config.parse_sim_params(args, cfg, cfg_train)
        config.set_seed(0)
        made = parse_task(args, cfg, cfg_train, sim_params, get_AgentIndex(cfg))
        self._task, self._env, self._torch, self._device = made[0], made[1], torch, device
        self.num_envs = int(self._task.num_envs)
        self.observation_dim = int(self._task.num_obs)
        self.action_dim = int(self._task.num_actions)
        self.max_episode_length = int(self._task.max_episode_length)
        if self.num_envs != num_envs:
            raise RuntimeError(f"Isaac Gym made {self.num_envs} copies, not {num_envs}")
        self._streams = [np.random.RandomState(0) for _ in range(num_envs)]
        self._drawing: list[int] = []
        self._begun = False
        self._key_draws()
        self._initial = self.save()

    def _key_draws(self) -> None:
        """Let each copy draw from its own stream, whichever others are reset with it."""
        module: Any = sys.modules[type(self._task).__module__]
        original = module.torch_rand_float

        def draw(lower: float, upper: float, shape: Any, device: Any) -> Any:
            if len(self._drawing) != shape[0]:
                return original(lower, upper, shape, device)
            rows = [self._streams[i].uniform(lower, upper, shape[1:]) for i in self._drawing]
            return self._torch.tensor(np.stack(rows), dtype=self._torch.float, device=device)

        def keyed(method: Any) -> Any:
            def call(env_ids: Any, *rest: Any, **named: Any) -> Any:
                outer, self._drawing = self._drawing, env_ids.tolist()
                try:
                    return method(env_ids, *rest, **named)
                finally:
                    self._drawing = outer

            return call

        module.torch_rand_float = draw
        for name in ("reset", "reset_idx", "reset_target_pose"):
            if hasattr(self._task, name):
                setattr(self._task, name, keyed(getattr(self._task, name)))

    def begin(self, ids: list[int], seeds: list[int]) -> list[np.random.RandomState]:
        """Have copies reset by the next step, as the reference does; return their streams.

        The reference's reset leaves the velocities of the hands' bases, and for some tasks more, as
        the last episode had them. An episode has to follow from its seed, so the copy is first put
        back to what it was when the simulation was made.
        """
        self._write(self._initial, ids)
        if self._device == "cpu":
            # A GPU takes over one setting a step, which is the one of the task's own reset.
            self._set_states()
        self._task.reset_buf[:] = 0
        # reset() draws a goal anyway; a goal due in another copy waits for that copy's own step.
        self._task.reset_goal_buf[:] = 0
        for row, index in enumerate(ids):
            self._streams[index] = np.random.RandomState(seeds[row])
            self._task.reset_buf[index] = 1
            self._task.progress_buf[index] = 0
        self._begun = True
        return [self._streams[index] for index in ids]

    def simulate(self, action_NA: np.ndarray) -> dict[str, np.ndarray]:
        """Step all copies; return what `FakeSimulation.simulate` does."""
        if not self._begun:
            # Finished copies have been reset by the client; nothing resets itself.
            self._task.reset_buf[:] = 0
        self._begun = False
        action = self._torch.tensor(action_NA, dtype=self._torch.float, device=self._device)
        observation, reward, done, _ = self._env.step(action)
        limit_N = (self._task.progress_buf >= self.max_episode_length).cpu().numpy()
        done_N = done.cpu().numpy().astype(bool)
        return {
            "observation": np.clip(observation.cpu().numpy(), -CLIP, CLIP).astype(np.float32),
            "reward": reward.cpu().numpy().astype(np.float32),
            "terminated": (done_N & ~limit_N).astype(np.uint8),
            "truncated": (done_N & limit_N).astype(np.uint8),
            "success": self._task.successes.cpu().numpy().astype(np.float32),
        }

    def save(self) -> Any:
        """Return the state of all copies: of the simulator, and what the task keeps of each."""
        task, tensor = self._task, self._torch.Tensor
        kept = {
            name: value.clone()
            for name, value in vars(task).items()
            if isinstance(value, tensor) and value.dim() and value.shape[0] == self.num_envs
        }
        return kept, task.root_state_tensor.clone(), task.dof_state.clone()

    def restore(self, saved: Any, ids: list[int]) -> None:
        """Put copies back into a saved state, and the simulator with them."""
        self._write(saved, ids)
        # All copies are set: those that were reset to where the step has left them.
        self._set_states()

    def _write(self, saved: Any, ids: list[int]) -> None:
        kept, roots, dofs = saved
        task, copies = self._task, self.num_envs
        rows = self._torch.tensor(ids, dtype=self._torch.long, device=self._device)
        for name, value in kept.items():
            getattr(task, name)[rows] = value[rows]
        task.root_state_tensor.view(copies, -1, 13)[rows] = roots.view(copies, -1, 13)[rows]
        task.dof_state.view(copies, -1, 2)[rows] = dofs.view(copies, -1, 2)[rows]

    def _set_states(self) -> None:
        from isaacgym import gymtorch

        task = self._task
        task.gym.set_actor_root_state_tensor(
            task.sim, gymtorch.unwrap_tensor(task.root_state_tensor)
        )
        task.gym.set_dof_state_tensor(task.sim, gymtorch.unwrap_tensor(task.dof_state))


def authenticate(connection: socket.socket, token: str) -> Frame | None:
    """Read the first frame of a client that may be anyone.

    Little is allocated for it and nothing it sends raises; what is no HELLO is not answered.

    Returns:
        The HELLO, or None where it did not come in time or had another token, which is answered.
    """
    deadline = time.monotonic() + _AUTHENTICATION_SECONDS
    try:
        frame = read_frame(connection, deadline, MAX_HELLO, 0)
        if frame is None or frame.opcode != HELLO:
            return None
        # JSON may hold halves of characters, which no encoding has but this one.
        given = str(frame.fields.get("token", "")).encode("utf-8", "surrogatepass")
        if hmac.compare_digest(given, token.encode("utf-8", "surrogatepass")):
            return frame
        message = "the token is not the worker's"
        _log(f"token: {message}")
        fields = {"kind": "token", "message": message, "protocol": PROTOCOL}
        connection.settimeout(_AUTHENTICATION_SECONDS)
        connection.sendall(encode(Frame(ERROR, frame.sequence, fields)))
    # Whatever bytes make the parts of Python raise that read them: the next client is served.
    except Exception as error:
        _log(f"connection given up: {type(error).__name__}: {str(error)[:200]}")
    return None


class Session:
    """The conversation with a client that has presented the token.

    Args:
        fake: Use `FakeSimulation`.
        fault: What goes wrong on purpose, in tests: name and number; only with `fake`.
    """

    def __init__(self, connection: socket.socket, fake: bool, fault: tuple[str, int]) -> None:
        self._connection, self._fake, self._fault = connection, fake, fault
        self._protocol = fault[1] if fault[0] == "protocol" else PROTOCOL
        self._made: Any = None
        self._ready_N = np.zeros(0, bool)
        self._steps = 0

    def serve(self, hello: Frame) -> None:
        """Answer the HELLO, and what comes after it until the client goes."""
        if self._fault[0] == "hang-start":
            time.sleep(1e6)
        frame: Frame | None = hello
        try:
            while frame is not None and self._answer(frame):
                frame = read_frame(self._connection)
        except (FrameError, OSError) as error:
            _log(f"connection given up: {error}")

    def _answer(self, frame: Frame) -> bool:
        """Answer a request; returns whether the conversation goes on."""
        answers: dict[int, Any] = {HELLO: self._hello, RESET: self._reset, STEP: self._step}
        try:
            if frame.opcode not in answers:
                raise RequestError("request", f"opcode {frame.opcode} is not a request")
            fields, arrays = answers[frame.opcode](frame)
        except RequestError as error:
            self._fail(frame, error.kind, str(error))
            return frame.opcode != HELLO
        except ImportError as error:
            self._fail(frame, "missing", f"{type(error).__name__}: {error}")
            return False
        # The reference leaves by quit() where no simulation can be made.
        except (Exception, SystemExit) as error:
            self._fail(frame, "simulator", f"{type(error).__name__}: {error}")
            return False
        self._send(Frame(frame.opcode, frame.sequence, fields, arrays))
        return True

    def _hello(self, frame: Frame) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        asked = frame.fields
        if asked.get("protocol") != self._protocol:
            raise RequestError("protocol", f"the worker speaks protocol {self._protocol}")
        if self._made is not None:
            raise RequestError("request", "one simulation to a process")
        found = versions()
        if self._fake:
            found.update(isaacgym="fake", bidexhands="fake", torch="fake")
        fields: dict[str, Any] = {
            "protocol": self._protocol,
            "fake": self._fake,
            "versions": found,
        }
        task = asked.get("task")
        if task is not None:
            copies, device = asked.get("num_envs"), str(asked.get("device"))
            if task not in TASKS:
                raise RequestError("request", f"no task {task!r}")
            if type(copies) is not int or not 1 <= copies <= MAX_COPIES:
                raise RequestError("request", f"no number of copies: {copies!r}")
            made: Any = (
                FakeSimulation(task, copies)
                if self._fake
                else IsaacSimulation(task, copies, device)
            )
            self._made, self._ready_N = made, np.zeros(copies, bool)
            fields.update(
                task=task,
                num_envs=copies,
                observation_dim=made.observation_dim,
                action_dim=made.action_dim,
                max_episode_length=made.max_episode_length,
            )
        return fields, {}

    def _reset(self, frame: Frame) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        simulation = self._simulation()
        ids: Any = frame.fields.get("ids")
        seeds: Any = frame.fields.get("seeds")
        copies = simulation.num_envs
        if not (_whole(ids, copies) and _whole(seeds, 1 << 31) and len(ids) == len(seeds)):
            raise RequestError("request", "RESET needs ids below N, and as many seeds below 2^31")
        if len(set(ids)) != len(ids):
            raise RequestError("request", "RESET names a copy twice")
        others = sorted(set(range(copies)) - set(ids))
        saved = simulation.save() if others else None
        action_NA = np.zeros((copies, simulation.action_dim), np.float32)
        for index, stream in zip(ids, simulation.begin(ids, seeds)):
            action_NA[index] = stream.uniform(-TINY_ACTION, TINY_ACTION, simulation.action_dim)
        observation_NO = simulation.simulate(action_NA)["observation"][ids]
        if others:
            simulation.restore(saved, others)
        self._ready_N[ids] = True
        return {}, {"observation": observation_NO}

    def _step(self, frame: Frame) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        simulation = self._simulation()
        action_NA = frame.arrays.get("action")
        expected = (simulation.num_envs, simulation.action_dim)
        if action_NA is None or action_NA.dtype != np.float32 or action_NA.shape != expected:
            raise RequestError("request", f"STEP needs float32 actions of shape {expected}")
        if not self._ready_N.all():
            waiting = np.flatnonzero(~self._ready_N).tolist()
            raise RequestError("request", f"copies {waiting} have to be reset first")
        result = simulation.simulate(np.clip(action_NA, -1, 1))
        self._ready_N &= (result["terminated"] | result["truncated"]) == 0
        self._steps += 1
        return {}, result

    def _simulation(self) -> Any:
        if self._made is None:
            raise RequestError("request", "HELLO has named no task")
        return self._made

    def _fail(self, frame: Frame, kind: str, message: str) -> None:
        _log(f"{kind}: {message}")
        fields = {
            "kind": kind,
            "message": message[-4000:],
            "traceback": traceback.format_exc()[-8000:],
            "protocol": self._protocol,
        }
        self._send(Frame(ERROR, frame.sequence, fields))

    def _send(self, frame: Frame) -> None:
        data = encode(frame)
        self._connection.settimeout(None)
        if frame.opcode == STEP and self._steps == self._fault[1]:
            self._go_wrong(data)
        self._connection.sendall(data)

    def _go_wrong(self, data: bytes) -> None:
        name = self._fault[0]
        if name == "die-after":
            os.kill(os.getpid(), signal.SIGKILL)
        elif name == "hang-after":
            time.sleep(1e6)
        elif name == "truncate-frame-after":
            self._connection.sendall(data[: len(data) // 2])
            os._exit(0)
        elif name == "oversize-after":
            self._connection.sendall(_PREFIX.pack(MAGIC, STEP, 1, 2, 1 << 60))
            time.sleep(1e6)


def _whole(values: Any, below: int) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < below for v in values)


def listen(endpoint: str, allow_remote: bool) -> socket.socket:
    """Return a listening socket.

    Args:
        endpoint: ``unix:<path>`` or ``tcp:<host>:<port>``; a `ValueError` where it is neither.
        allow_remote: Whether the host may be another than this machine's loopback.
    """
    kind, _, rest = endpoint.partition(":")
    if kind == "unix" and rest:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            listener.bind(rest)
        finally:
            os.umask(mask)
    elif kind == "tcp" and rest.rpartition(":")[2].isdigit():
        host, _, port = rest.rpartition(":")
        if not allow_remote and host not in ("127.0.0.1", "localhost"):
            raise ValueError(f"{host} is not this machine's loopback; see --allow-remote")
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, int(port)))
    else:
        raise ValueError(f"endpoint {endpoint!r} is neither unix:<path> nor tcp:<host>:<port>")
    listener.listen(16)
    return listener


def _serve_forever(listener: socket.socket, token: str, arguments: list[str]) -> None:
    """Give each client a process of its own, for a simulation needs one, once it is known."""
    strangers = threading.BoundedSemaphore(_MAX_STRANGERS)

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                hello = authenticate(connection, token)
            finally:
                strangers.release()
            if hello is None:
                return
            number = connection.fileno()
            command = [sys.executable, str(Path(__file__).resolve()), "--fd", str(number)]
            child = subprocess.Popen(command + arguments, pass_fds=(number,), stdin=subprocess.PIPE)
        child.communicate(json.dumps([hello.sequence, hello.fields]).encode("utf-8"))

    while True:
        strangers.acquire()
        connection = _accept(listener, None)
        if connection is None:
            strangers.release()
        else:
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


def _accept(listener: socket.socket, seconds: float | None) -> socket.socket | None:
    """Return the next connection; None where none came, or it had gone before it was taken."""
    listener.settimeout(seconds)
    try:
        return listener.accept()[0]
    except socket.timeout:
        return None
    except OSError as error:
        _log(f"no connection taken: {error}")
        time.sleep(0.1)
        return None


def _leave_with_parent() -> None:
    while os.read(0, 4096):
        pass
    # Logged, for a launcher that passes no standard input on would end every worker at once.
    _log("the standard input ended, and with it the client")
    os._exit(0)


def _log(message: str) -> None:
    sys.stderr.write(f"isaacgym worker: {message}\n")
    sys.stderr.flush()


def main() -> int:
    """Run the worker; see ``--help``."""
    parser = argparse.ArgumentParser(description="Serve Bi-DexHands on Isaac Gym to vintix.")
    parser.add_argument("--endpoint", help="unix:<path> or tcp:<host>:<port> to listen at")
    parser.add_argument("--serve", action="store_true", help="serve clients until stopped")
    parser.add_argument("--allow-remote", action="store_true", help="listen beyond loopback")
    parser.add_argument("--watch-stdin", action="store_true", help="leave when stdin ends")
    parser.add_argument("--fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--fake", action="store_true", help="no simulator: numbers of right shape")
    parser.add_argument("--fake-fault", default="", metavar="NAME=N", help=argparse.SUPPRESS)
    given = parser.parse_args()
    name, _, number = given.fake_fault.partition("=")
    fault = (name, int(number or 0)) if given.fake else ("", 0)
    token = os.environ.get(TOKEN_VARIABLE, "")
    if not 16 <= len(token) <= 1024:
        parser.error(f"the environment variable {TOKEN_VARIABLE} needs 16 to 1024 characters")
    # Isaac Gym prints a lot, from C as well.
    os.dup2(2, 1)
    # Beside this file are modules of the client, which nothing here may find.
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != here]
    if given.watch_stdin:
        threading.Thread(target=_leave_with_parent, daemon=True).start()
    if given.fd is not None:
        hello = Frame(HELLO, *json.loads(sys.stdin.read()))
        Session(socket.socket(fileno=given.fd), given.fake, fault).serve(hello)
        return 0
    try:
        listener = listen(given.endpoint or "", given.allow_remote)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if given.serve:
        fake = ["--fake", "--fake-fault", given.fake_fault] if given.fake else []
        _serve_forever(listener, token, fake)
    deadline = time.monotonic() + _ACCEPT_SECONDS
    while time.monotonic() < deadline:
        connection = _accept(listener, max(0.01, deadline - time.monotonic()))
        if connection is None:
            continue
        with connection:
            known = authenticate(connection, token)
            if known is not None:
                Session(connection, given.fake, fault).serve(known)
                break
    return 0


if __name__ == "__main__":
    sys.exit(main())
