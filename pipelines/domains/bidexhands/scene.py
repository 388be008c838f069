"""Builds the MuJoCo model of a task: two hands, what they handle, and sensors for all of it.

A task adds its objects through `SceneBuilder`; `build_scene` adds floor, light, hands and drives
and compiles. Every quantity that observations and rewards need is a sensor, so that they can also
be computed from the sensor data of ``mujoco.rollout``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.domains.bidexhands.hand import FINGERS, add_hand, joint_names

if TYPE_CHECKING:
    import mujoco
    from numpy.typing import NDArray

    from pipelines.domains.bidexhands.quirks import Quirks
    from pipelines.domains.bidexhands.tasks.base import HandTask

PREFIXES = ("right-", "left-")
CONTROL_RATE = 60.0
"""Actions per second."""

# Contact bits. The hand file has (1, 0), which lets hands touch objects alone, not each other.
_APART = ((1, 0), (1, 0))
_MEETING = ((1, 4), (4, 1))
_OBJECT = (5, 5)
_SKIN = ((0.86, 0.72, 0.6, 1.0), (0.55, 0.62, 0.72, 1.0))

# Force and torque of an action of 1 (facts of the reference: a * dt * scale * 1e5 N, 1e3 Nm).
FORCE, TORQUE = 1e5 / CONTROL_RATE, 1e3 / CONTROL_RATE
NOMINAL_DAMPING = 100.0
"""Of the reference, linear and angular: force per mass and speed, 1/s."""


class SceneBuilder:
    """What a task adds its objects with.

    Attributes:
        spec: The ``mujoco.MjSpec``, for what the methods do not cover.
    """

    def __init__(self, spec: Any) -> None:
        self.spec = spec
        self.tracked: list[str] = []
        self.points: list[str] = []
        self.hinges: list[str] = []

    def body(
        self,
        name: str,
        position: Sequence[float],
        quaternion: Sequence[float] | NDArray[np.float64] = (1.0, 0.0, 0.0, 0.0),
        *,
        free: bool = True,
        parent: Any = None,
        gravity: bool = True,
        track: bool = True,
    ) -> Any:
        """Add a body and return it.

        Args:
            position: Of its frame in that of its parent (None: the world), metres.
            quaternion: Of its frame, (w, x, y, z).
            free: Whether it moves freely; then it has a joint of its own name.
            parent: A body; None for the world.
            track: Whether its pose and velocity are read (`Snapshot.objects`).
        """
        body = (parent or self.spec.worldbody).add_body(
            name=name, pos=position, quat=quaternion, gravcomp=0 if gravity else 1
        )
        if free:
            body.add_freejoint(name=name)
        if track:
            self.tracked.append(name)
        return body

    def part(
        self,
        parent: Any,
        name: str,
        position: Sequence[float] = (0.0, 0.0, 0.0),
        quaternion: Sequence[float] | NDArray[np.float64] = (1.0, 0.0, 0.0, 0.0),
        **given: Any,
    ) -> Any:
        """Add a body that hangs on another one and is not read, and return it; see `body`."""
        return self.body(
            name, position, quaternion, free=False, parent=parent, track=False, **given
        )

    def rod(self, body: Any, radius: float, *points: Iterable[float], **geom: Any) -> None:
        """Add capsules from each point (x, y, z) to the next one; see `geom`."""
        for start, end in itertools.pairwise(points):
            self.geom(body, "capsule", (radius,), ends=(*start, *end), **geom)

    def box(self, body: Any, half: Sequence[float], **geom: Any) -> Any:
        """Add a box of half sizes, metres; see `geom`."""
        return self.geom(body, "box", half, **geom)

    def geom(
        self,
        body: Any,
        kind: str,
        size: Sequence[float],
        position: Sequence[float] = (0.0, 0.0, 0.0),
        *,
        quaternion: Sequence[float] | NDArray[np.float64] = (1.0, 0.0, 0.0, 0.0),
        ends: Sequence[float] | None = None,
        mass: float | None = None,
        density: float | None = None,
        friction: float = 1.0,
        condim: int = 3,
        colour: Sequence[float] = (0.7, 0.7, 0.7, 1.0),
        collides: bool = True,
    ) -> Any:
        """Add a primitive to a body and return it.

        Args:
            kind: ``box``, ``capsule``, ``cylinder``, ``ellipsoid`` or ``sphere``.
            size: As MuJoCo has it for the kind, metres.
            position: Of its centre in the body's frame.
            ends: Two end points (6 numbers) of a capsule or cylinder; `size` is then its radius.
            mass: Kilograms; else `density` in kg/m3, else that of water.
            density: See `mass`.
            friction: Sliding friction.
            condim: Dimensions of contact: 3 slides, 4 resists twisting too.
            colour: Red, green, blue, alpha.
        """
        import mujoco

        bits = _OBJECT if collides else (0, 0)
        given: dict[str, Any] = {
            "type": getattr(mujoco.mjtGeom, f"mjGEOM_{kind.upper()}"),
            "size": [*size, 0.0, 0.0][:3],
            "friction": [friction, 0.005, 0.0001],
            "condim": condim,
            "rgba": colour,
            "contype": bits[0],
            "conaffinity": bits[1],
        }
        if ends is not None:
            given["fromto"] = ends
        else:
            given["pos"], given["quat"] = position, quaternion
        if mass is not None:
            given["mass"] = mass
        elif density is not None:
            given["density"] = density
        return body.add_geom(**given)

    def table(
        self, size: Sequence[float], centre: Sequence[float] = (0.0, 0.0), **geom: Any
    ) -> None:
        """Add a box of an extent in x, y and z, metres, that stands on the floor; see `geom`."""
        half = [extent / 2 for extent in size]
        given = {"colour": (0.78, 0.66, 0.5, 1.0), **geom}
        self.box(self.spec.worldbody, half, position=(*centre, half[2]), **given)

    def ring(
        self,
        body: Any,
        radius: float,
        low: float,
        high: float,
        thickness: float,
        mass: float,
        *,
        sides: int = 10,
        **geom: Any,
    ) -> None:
        """Add an open pipe about the body's z axis, of `sides` boxes; see `geom`.

        The radius is that of the middle of its wall, the thickness half of the wall's, the mass
        that of all boxes.
        """
        from pipelines.domains.bidexhands.geometry import about

        for side in range(sides):
            angle = 2 * np.pi * side / sides
            self.box(
                body,
                (thickness, radius * np.tan(np.pi / sides), (high - low) / 2),
                position=(radius * np.cos(angle), radius * np.sin(angle), (low + high) / 2),
                quaternion=about(2, angle),
                mass=mass / sides,
                **geom,
            )

    def joint(
        self,
        body: Any,
        name: str,
        kind: str,
        axis: Sequence[float],
        limits: tuple[float, float] | None,
        **given: Any,
    ) -> None:
        """Give a body a joint that is read (`Snapshot.joints`).

        Args:
            body: The body, in whose frame the axis is; it goes through the frame's origin.
            kind: ``hinge`` or ``slide``.
            limits: Radians or metres; None for none.
            **given: Further attributes of MuJoCo's joint, such as ``damping``.
        """
        import mujoco

        limited = mujoco.mjtLimited
        body.add_joint(
            name=name,
            type=getattr(mujoco.mjtJoint, f"mjJNT_{kind.upper()}"),
            axis=axis,
            pos=(0.0, 0.0, 0.0),
            limited=limited.mjLIMITED_FALSE if limits is None else limited.mjLIMITED_TRUE,
            range=limits or (0.0, 0.0),
            **given,
        )
        self.hinges.append(name)

    def point(self, body: Any, name: str, position: Sequence[float]) -> None:
        """Mark a point of a body that is read (`Snapshot.points`)."""
        body.add_site(name=name, pos=position, size=[0.004, 0, 0], group=5)
        self.points.append(name)

    def marker(self, name: str, kind: str, size: Sequence[float], **geom: Any) -> None:
        """Add something to look at that touches nothing and that a task moves: a goal."""
        body = self.spec.worldbody.add_body(name=name, mocap=True)
        self.geom(body, kind, size, collides=False, **{"colour": (0.2, 0.8, 0.3, 0.35), **geom})


@dataclass(frozen=True, slots=True)
class Scene:
    """A compiled task and where to find things in its arrays; one index a row or entry.

    Attributes:
        substeps: Simulation steps an action.
        centre_A: Middle of each drive's range: ``ctrl = centre + half * action``.
        half_A: Half of each drive's range.
        qpos_2J: Addresses of the hands' joints in ``qpos``, (2, 24).
        dof_2J: Addresses in ``qvel``.
        sensors: Slice of the sensor data by name of the sensor.
    """

    model: mujoco.MjModel
    substeps: int
    centre_A: NDArray[np.float64]
    half_A: NDArray[np.float64]
    qpos_2J: NDArray[np.int64]
    dof_2J: NDArray[np.int64]
    sensors: dict[str, slice]
    tracked: tuple[str, ...]
    points: tuple[str, ...]
    hinges: tuple[str, ...]

    def qpos(self, joint: str) -> int:
        """Return where a joint's values begin in ``qpos``."""
        return int(self.model.joint(joint).qposadr[0])

    def dof(self, joint: str) -> int:
        """Return where a joint's values begin in ``qvel``."""
        return int(self.model.joint(joint).dofadr[0])

    def mocap(self, marker: str) -> int:
        """Return the index of a marker."""
        return int(self.model.body(marker).mocapid[0])


def build_scene(task: HandTask, quirks: Quirks) -> Scene:
    """Build and compile the scene of a task.

    Args:
        quirks: Of these, the base's damping is the scene's; others are the task's.
    """
    import mujoco

    spec = mujoco.MjSpec()
    # Else the ranges of joints would be taken for degrees: hands with stiff fingers.
    spec.compiler.degree = False
    spec.option.timestep = 1.0 / (CONTROL_RATE * task.substeps)
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    # A state that blows up is found and ends the episode; the simulator is not to hide it.
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    spec.memory = 4 << 20
    spec.visual.global_.offwidth, spec.visual.global_.offheight = 1920, 1440
    spec.stat.extent = 1.2
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.92, 0.94, 0.97],
        rgb2=[0.7, 0.76, 0.84],
        width=64,
        height=384,
    )
    world = spec.worldbody
    world.add_site(name="world", size=[0.001, 0, 0], group=5)
    spec.visual.headlight.ambient = [0.25, 0.25, 0.25]
    # Nearly from above: MuJoCo leaves black specks on a floor that slanting light falls on, where
    # the floor meets the far end of the shadows' depth range.
    world.add_light(
        pos=[0.6, 0.3, 3],
        dir=[-0.02, -0.01, -1],
        directional=True,
        diffuse=[0.6, 0.6, 0.6],
        castshadow=True,
    )
    world.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        # Drawn to the horizon; what it touches is the same, since a plane has no edge there.
        size=[0, 0, 0.1],
        contype=_OBJECT[0],
        conaffinity=_OBJECT[1],
        rgba=[0.78, 0.79, 0.81, 1],
    )
    builder = SceneBuilder(spec)
    drive = None
    if not task.fixed_base:
        drive = FORCE * task.force_scale, TORQUE * task.torque_scale
    for side in (0, 1):
        add_hand(
            spec,
            PREFIXES[side],
            task.poses[side],
            drive,
            collides=(_MEETING if task.hands_meet else _APART)[side],
            friction=task.hand_friction,
            colour=_SKIN[side],
        )
    task.build(builder)
    _add_sensors(spec, builder)
    model = spec.compile()
    if not task.fixed_base:
        _damp_bases(model, NOMINAL_DAMPING * quirks.base_damping)
    return _index(model, task, builder)


def _add_sensors(spec: Any, builder: SceneBuilder) -> None:
    import mujoco

    kinds, objects = mujoco.mjtSensor, mujoco.mjtObj

    def add(name: str, kind: Any, objtype: Any, objname: str) -> None:
        spec.add_sensor(name=name, type=kind, objtype=objtype, objname=objname)

    def add_body(name: str, body: str, *, moving: bool) -> None:
        add(f"{name}:position", kinds.mjSENS_FRAMEPOS, objects.mjOBJ_XBODY, body)
        add(f"{name}:quaternion", kinds.mjSENS_FRAMEQUAT, objects.mjOBJ_XBODY, body)
        if moving:
            add(f"{name}:linear", kinds.mjSENS_FRAMELINVEL, objects.mjOBJ_XBODY, body)
            add(f"{name}:angular", kinds.mjSENS_FRAMEANGVEL, objects.mjOBJ_XBODY, body)

    for prefix in PREFIXES:
        # Contiguous by kind of quantity: each is one slice of the sensor data.
        for finger in FINGERS:
            add_body(f"{prefix}{finger}", f"{prefix}{finger}distal", moving=True)
        for finger in FINGERS:
            site = f"{prefix}{finger}distal"
            add(f"{prefix}{finger}:force", kinds.mjSENS_FORCE, objects.mjOBJ_SITE, site)
            add(f"{prefix}{finger}:torque", kinds.mjSENS_TORQUE, objects.mjOBJ_SITE, site)
        for joint in joint_names():
            name = f"{prefix}{joint}"
            add(f"{name}:limit", kinds.mjSENS_JOINTLIMITFRC, objects.mjOBJ_JOINT, name)
        for body in ("palm", "mount"):
            add_body(f"{prefix}{body}", f"{prefix}{body}", moving=False)
    for body in builder.tracked:
        add_body(body, body, moving=True)
    for point in builder.points:
        add(f"{point}:position", kinds.mjSENS_FRAMEPOS, objects.mjOBJ_SITE, point)
    for joint in builder.hinges:
        add(f"{joint}:joint", kinds.mjSENS_JOINTPOS, objects.mjOBJ_JOINT, joint)


def _damp_bases(model: mujoco.MjModel, rate: float) -> None:
    """Damp the free bases by ``rate`` times their mass and their inertia about its centre."""
    import mujoco

    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    inertia = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, inertia, data.qM)
    for prefix in PREFIXES:
        first = int(model.joint(f"{prefix}base").dofadr[0])
        rows = np.arange(first, first + 6)
        model.dof_damping[rows] = rate * np.diag(inertia)[rows]


def _index(model: mujoco.MjModel, task: HandTask, builder: SceneBuilder) -> Scene:
    low_A, high_A = model.actuator_ctrlrange.T
    joints = [[model.joint(f"{prefix}{name}") for name in joint_names()] for prefix in PREFIXES]
    sensors: dict[str, slice] = {}
    for number in range(model.nsensor):
        start = int(model.sensor_adr[number])
        sensors[model.sensor(number).name] = slice(start, start + int(model.sensor_dim[number]))
    return Scene(
        model=model,
        substeps=task.substeps,
        centre_A=(low_A + high_A) / 2,
        half_A=(high_A - low_A) / 2,
        qpos_2J=np.array([[int(j.qposadr[0]) for j in hand] for hand in joints]),
        dof_2J=np.array([[int(j.dofadr[0]) for j in hand] for hand in joints]),
        sensors=sensors,
        tracked=tuple(builder.tracked),
        points=tuple(builder.points),
        hinges=tuple(builder.hinges),
    )
