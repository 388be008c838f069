"""The Shadow hand of the reference as a table, and how it is put into a scene.

Names, order, ranges, inertias, collision primitives and servos are those of OpenAI's hand as
distributed in Gym (``hand/robot.xml`` and ``hand/shared.xml``, Apache-2.0), which Bi-DexHands
loads; the one collision mesh, the forearm's hull, is a capsule here. Both hands have the geometry
of a right hand: the reference does not mirror the second one.

Lengths in metres, masses in kilograms, angles in radians; quaternions (w, x, y, z).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipelines.domains.bidexhands.geometry import from_euler, multiply, rotate

if TYPE_CHECKING:
    from numpy.typing import NDArray

FINGERS = ("ff", "mf", "rf", "lf", "th")
"""First, middle, ring, little finger, thumb: the order of fingertips in observations."""

JOINTS = 24
SERVOS = 20
COUPLED = (5, 9, 13, 18)
"""Joints without a servo: the last one of each finger, which a tendon couples to the one before."""

CENTRE = 0.301
"""Centre of mass of the hand along its forearm, metres from the mount."""

MASS = 5.011
"""Of the whole hand, kilograms."""

INERTIA = 0.0268
"""Of the whole hand about its centre, across the forearm, kg m2."""

MOUNT = multiply(from_euler(np.pi / 2, 0, 0), from_euler(0, 0, np.pi))
"""Rotation of the mount in the hand's file; an actor's pose multiplies it from the left."""


class Pose(NamedTuple):
    """Where an actor stands.

    Attributes:
        position: x, y, z in metres.
        euler: Angles about x, y, z of Rz Ry Rx, radians.
    """

    position: tuple[float, float, float]
    euler: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def quaternion(self) -> NDArray[np.float64]:
        """The orientation (4,)."""
        return from_euler(*self.euler)


class _Joint(NamedTuple):
    name: str
    axis: tuple[float, float, float]
    low: float
    high: float
    servo: tuple[float, float] | None
    """Stiffness (Nm/rad) and largest torque (Nm) of the position servo."""
    damping: float = 0.1
    armature: float = 0.001


class _Geom(NamedTuple):
    kind: str
    position: tuple[float, float, float]
    size: tuple[float, ...]
    condim: int = 3
    quaternion: tuple[float, float, float, float] = (1, 0, 0, 0)


class _Body(NamedTuple):
    name: str
    parent: str
    position: tuple[float, float, float]
    mass: float
    centre: tuple[float, float, float]
    axes: tuple[float, float, float, float]
    """Orientation of the principal axes of inertia, not normalised in the source."""
    inertia: tuple[float, float, float]
    joint: _Joint | None = None
    geoms: tuple[_Geom, ...] = ()
    quaternion: tuple[float, float, float, float] = (1, 0, 0, 0)


_SMALL = (1e-5, 1e-5, 1e-5)
_X, _Y, _Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
_UNIT = (1.0, 0.0, 0.0, 0.0)
_KNUCKLE = (0.52, 0.854, 0.006, -0.003)


def _capsule(half: float, radius: float, condim: int = 3) -> _Geom:
    """A link's capsule, from its joint to its end."""
    return _Geom("capsule", (0, 0, half), (radius, half), condim)


def _finger(
    name: str, parent: str, position: tuple[float, float, float], middle: float
) -> list[_Body]:
    upper = name.upper()
    return [
        _Body(f"{name}knuckle", parent, position, 0.008, (0, 0, 0), _KNUCKLE, _SMALL,
              _Joint(f"{upper}J3", _Y, -0.349, 0.349, (1, 0.9))),
        _Body(f"{name}proximal", f"{name}knuckle", (0, 0, 0), 0.014, (0, 0, 0.023),
              (0.707, -0.004, 0.004, 0.707), _SMALL,
              _Joint(f"{upper}J2", _X, 0, 1.571, (1, 0.9)), (_capsule(0.0225, 0.01),)),
        _Body(f"{name}middle", f"{name}proximal", (0, 0, 0.045), 0.012, (0, 0, middle),
              (0.707, 0, 0, 0.707), _SMALL,
              _Joint(f"{upper}J1", _X, 0, 1.571, (1, 0.7245)), (_capsule(0.0125, 0.00805),)),
        _Body(f"{name}distal", f"{name}middle", (0, 0, 0.025), 0.01, (0, 0, 0.015),
              (0.707, -0.003, 0.003, 0.707), _SMALL,
              _Joint(f"{upper}J0", _X, 0, 1.571, None), (_capsule(0.012, 0.00705, 4),)),
    ]  # fmt: skip


BODIES: tuple[_Body, ...] = (
    _Body("forearm", "mount", (0, 0.01, 0), 4.0, (0.001, -0.002, 0.29),
          (0.982, -0.016, 0, -0.188), (0.01, 0.01, 0.0075), None,
          (_Geom("capsule", (0, 0.01, 0.13), (0.055, 0.07)),)),
    _Body("wrist", "forearm", (0, 0, 0.256), 0.3, (0.003, 0, 0.016),
          (0.504, 0.496, 0.495, 0.504), (1e-3, 1e-3, 1e-3),
          _Joint("WRJ1", _Y, -0.489, 0.14, (5, 4.785), 0.5, 0.005),
          (_Geom("capsule", (0, 0, 0), (0.015, 0.01), 3, (0.707, 0.707, 0, 0)),)),
    _Body("palm", "wrist", (0, 0, 0.034), 0.3, (0.006, 0, 0.036),
          (0.716, 0.044, 0.075, 0.693), (1e-3, 1e-3, 1e-3),
          _Joint("WRJ0", _X, -0.698, 0.489, (5, 2.175), 0.5, 0.005),
          (_Geom("box", (0.011, 0, 0.038), (0.032, 0.0111, 0.049)),
           _Geom("box", (-0.032, 0, 0.014), (0.011, 0.0111, 0.025)))),
    *_finger("ff", "palm", (0.033, 0, 0.095), 0.011),
    *_finger("mf", "palm", (0.011, 0, 0.099), 0.012),
    *_finger("rf", "palm", (-0.011, 0, 0.095), 0.012),
    _Body("lfmetacarpal", "palm", (-0.017, 0, 0.044), 0.075, (-0.014, 0.001, 0.014),
          (0.709, -0.092, -0.063, 0.696), _SMALL,
          _Joint("LFJ4", (0.571, 0, 0.821), 0, 0.785, (1, 0.9)),
          (_Geom("box", (-0.0165, 0, 0.01), (0.0095, 0.0111, 0.025)),)),
    *_finger("lf", "lfmetacarpal", (-0.017, 0, 0.044), 0.012),
    _Body("thbase", "palm", (0.034, -0.009, 0.029), 0.01, (0, 0, 0), _UNIT, _SMALL,
          _Joint("THJ4", (0, 0, -1), -1.047, 1.047, (1, 2.3722)), (),
          # A turn of 0.785 about y.
          (0.9239556995, 0, 0.3824995146, 0)),
    _Body("thproximal", "thbase", (0, 0, 0), 0.016, (0, 0, 0.017), (0.982, 0, 0.001, 0.191),
          _SMALL, _Joint("THJ3", _X, 0, 1.222, (1, 1.45)), (_capsule(0.019, 0.013),)),
    _Body("thhub", "thproximal", (0, 0, 0.038), 0.002, (0, 0, 0), _UNIT, _SMALL,
          _Joint("THJ2", _X, -0.209, 0.209, (1, 0.99))),
    _Body("thmiddle", "thhub", (0, 0, 0), 0.016, (0, 0, 0.016), (1, -0.001, -0.007, 0.003),
          _SMALL, _Joint("THJ1", _Y, -0.524, 0.524, (1, 0.99)), (_capsule(0.016, 0.011),)),
    _Body("thdistal", "thmiddle", (0, 0, 0.032), 0.016, (0, 0, 0.016),
          (0.999, -0.005, -0.047, 0.005), _SMALL,
          _Joint("THJ0", _Y, -1.571, 0, (1, 0.81)), (_capsule(0.013, 0.00918, 4),)),
)  # fmt: skip
"""Depth first; the joints come in the order of the reference's degrees of freedom."""

TOUCHING = (
    ("ffdistal", "thdistal"), ("ffmiddle", "thdistal"), ("ffproximal", "thdistal"),
    ("mfproximal", "thdistal"), ("mfdistal", "thdistal"), ("rfdistal", "thdistal"),
    ("lfdistal", "thdistal"), ("palm", "thdistal"), ("mfdistal", "ffdistal"),
    ("rfdistal", "mfdistal"), ("lfdistal", "rfdistal"), ("mfproximal", "ffproximal"),
    ("rfproximal", "mfproximal"), ("lfproximal", "rfproximal"), ("lfdistal", "mfdistal"),
    ("lfdistal", "rfmiddle"), ("lfmiddle", "rfdistal"), ("lfmiddle", "rfmiddle"),
)  # fmt: skip
"""Links of one hand that meet without friction (condim 1); no others of it do."""

# Of the tendon that couples J0 to J1 (shared.xml); its length stays within a thousandth.
_COUPLING = {"J0": 0.00705, "J1": -0.00805}


def _joints() -> list[_Joint]:
    return [body.joint for body in BODIES if body.joint is not None]


def joint_names() -> tuple[str, ...]:
    """Return the 24 joints in the order of observations."""
    return tuple(joint.name for joint in _joints())


def joint_ranges() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lower and upper limits (24,) of the joints, radians."""
    return np.array([j.low for j in _joints()]), np.array([j.high for j in _joints()])


def servo_joints() -> NDArray[np.int64]:
    """Return the indices (20,) of the joints that have a servo, in the order of actions."""
    return np.array([i for i, joint in enumerate(_joints()) if joint.servo is not None])


def add_hand(
    spec: Any,
    prefix: str,
    pose: Pose,
    drive: tuple[float, float] | None,
    *,
    collides: tuple[int, int],
    friction: float,
    colour: tuple[float, float, float, float],
) -> None:
    """Put a hand into a scene.

    The body ``<prefix>root`` holds the free joint ``<prefix>base``; its frame is at the hand's
    centre of mass, so that a force there does not turn it.

    Args:
        spec: A ``mujoco.MjSpec`` that has a site ``world``.
        prefix: Of all names.
        pose: Of the actor: multiplied with `MOUNT`, that of the mount.
        drive: Force (N) and torque (Nm) of an action of 1 on the base; None for a fixed hand.
        collides: Bits of contact type and affinity of its geoms.
        friction: Sliding friction of its geoms.
        colour: Red, green, blue, alpha.
    """
    import mujoco

    quaternion = multiply(pose.quaternion, MOUNT)
    centre = np.array(pose.position) + rotate(quaternion, np.array([0.0, 0.0, CENTRE]))
    root = spec.worldbody.add_body(name=f"{prefix}root", pos=centre, quat=quaternion, gravcomp=1)
    if drive is not None:
        root.add_freejoint(name=f"{prefix}base")
    _set_inertia(root, 1e-4, (1e-7, 1e-7, 1e-7))
    root.add_site(name=f"{prefix}centre", size=[0.002, 0, 0], group=5)
    mount = root.add_body(name=f"{prefix}mount", pos=[0, 0, -CENTRE], gravcomp=1)
    _set_inertia(mount, 0.1, (1e-3, 1e-3, 1e-3))
    made = {"mount": mount}
    kinds = {"capsule": mujoco.mjtGeom.mjGEOM_CAPSULE, "box": mujoco.mjtGeom.mjGEOM_BOX}
    for row in BODIES:
        body = made[row.parent].add_body(
            name=f"{prefix}{row.name}", pos=row.position, quat=row.quaternion, gravcomp=1
        )
        made[row.name] = body
        _set_inertia(body, row.mass, row.inertia, row.centre, row.axes)
        if row.joint is not None:
            body.add_joint(
                name=f"{prefix}{row.joint.name}",
                type=mujoco.mjtJoint.mjJNT_HINGE,
                axis=row.joint.axis,
                range=[row.joint.low, row.joint.high],
                limited=mujoco.mjtLimited.mjLIMITED_TRUE,
                damping=row.joint.damping,
                armature=row.joint.armature,
                margin=0.01,
            )
        for number, geom in enumerate(row.geoms):
            body.add_geom(
                name=f"{prefix}{row.name}{number or ''}",
                type=kinds[geom.kind],
                pos=geom.position,
                quat=geom.quaternion,
                size=[*geom.size, 0.0][:3],
                condim=geom.condim,
                friction=[friction, 0.005, 0.001],
                margin=0.0005,
                contype=collides[0],
                conaffinity=collides[1],
                rgba=colour,
            )
        if row.name.endswith("distal"):
            body.add_site(name=f"{prefix}{row.name}", size=[0.002, 0, 0], group=5)
    for first, second in TOUCHING:
        spec.add_pair(geomname1=f"{prefix}{first}", geomname2=f"{prefix}{second}", condim=1)
    _add_tendons(spec, prefix)
    _add_actuators(spec, prefix, drive)


def _set_inertia(
    body: Any,
    mass: float,
    inertia: tuple[float, float, float],
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0),
    axes: tuple[float, float, float, float] = _UNIT,
) -> None:
    body.explicitinertial = True
    body.mass, body.inertia = mass, inertia
    # Without these it would take the body's own place for that of its centre of mass.
    body.ipos, body.iquat = centre, np.array(axes) / np.linalg.norm(axes)


def _add_tendons(spec: Any, prefix: str) -> None:
    import mujoco

    for finger in ("FF", "MF", "RF", "LF"):
        tendon = spec.add_tendon(
            name=f"{prefix}{finger}coupling",
            range=[-0.001, 0.001],
            limited=mujoco.mjtLimited.mjLIMITED_TRUE,
        )
        for joint, coefficient in _COUPLING.items():
            tendon.wrap_joint(f"{prefix}{finger}{joint}", coefficient)


def _add_actuators(spec: Any, prefix: str, drive: tuple[float, float] | None) -> None:
    """Add the drives in the order of actions: force and torque of the base, then the servos."""
    import mujoco

    true = mujoco.mjtLimited.mjLIMITED_TRUE
    if drive is not None:
        for axis in range(6):
            gear = np.zeros(6)
            gear[axis] = drive[axis // 3]
            spec.add_actuator(
                name=f"{prefix}base{axis}",
                trntype=mujoco.mjtTrn.mjTRN_SITE,
                target=f"{prefix}centre",
                # Along the axes of the world, not of the hand.
                refsite="world",
                gear=gear,
                ctrlrange=[-1, 1],
                ctrllimited=true,
            )
    for joint in _joints():
        if joint.servo is None:
            continue
        stiffness, torque = joint.servo
        spec.add_actuator(
            name=f"{prefix}{joint.name}",
            trntype=mujoco.mjtTrn.mjTRN_JOINT,
            target=f"{prefix}{joint.name}",
            gaintype=mujoco.mjtGain.mjGAIN_FIXED,
            gainprm=[stiffness, *[0] * 9],
            biastype=mujoco.mjtBias.mjBIAS_AFFINE,
            biasprm=[0, -stiffness, *[0] * 8],
            ctrlrange=[joint.low, joint.high],
            ctrllimited=true,
            forcerange=[-torque, torque],
            forcelimited=true,
        )
