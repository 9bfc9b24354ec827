"""Arrays too large for one device: everything about jit on a mesh is here.

The devices form a grid, `device` by `model`. The devices along `model` share
one copy of every long array, each has an equal part; short arrays, which are
the layers' weights, are whole on every device. Batches are split over all
devices. Programs are written as for one device: XLA sees where arrays lie and
adds what has to be exchanged.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mmgrec_jax import hosts

DEVICE, MODEL = "device", "model"
# Arrays whose longest axis is shorter are not split: exchanging their parts
# would cost more than it saves.
LEAST = 1024


@struct.dataclass
class Split:
  """An array in equal parts along one axis, which zeros at its end make even.

  padded: with those zeros.  axis, length: the axis, and how long it really is.
  """

  padded: jax.Array
  axis: int = struct.field(pytree_node=False)
  length: int = struct.field(pytree_node=False)


def grid(devices: Sequence, shards: int) -> Mesh:
  """Args: shards: devices along `model`; it divides their number."""
  return Mesh(np.array(devices).reshape(-1, shards), (DEVICE, MODEL))


def place(tree: Any, mesh: Mesh) -> Any:
  """Arrays, or shapes of arrays, onto the devices; long ones as `Split`."""

  def pad(array, widths):
    if isinstance(array, jax.ShapeDtypeStruct):
      return jax.eval_shape(lambda a: jnp.pad(a, widths), array)
    return np.pad(array, widths)

  def put(array):
    if isinstance(array, jax.ShapeDtypeStruct):
      return array.update(sharding=_lies(mesh, array))
    # Each process places the parts that its own devices have.
    array = np.asarray(array)
    return jax.make_array_from_callback(
      array.shape, _lies(mesh, array), lambda part: array[part]
    )

  return _split(tree, mesh, pad, put)


def fetch(tree: Any) -> Any:
  """Whole arrays on the host (NumPy).

  With several processes each is whole on every device for a moment, too.
  """
  cut = lambda a: a if not isinstance(a, Split) else _cut(a)
  on_host = jax.device_get(hosts.of_all(tree))
  return jax.tree.map(cut, on_host, is_leaf=_is_split)


def program(function: Callable, mesh: Mesh, **options) -> Callable:
  """Compiles a function of whole arrays; takes and returns what `place` does.

  Args:
    options: of jax.jit.
  """

  @functools.wraps(function)
  def of_parts(*args):
    return _split(function(*_whole(args, mesh)), mesh, jnp.pad, _keep(mesh))

  return jax.jit(of_parts, **options)


def over_devices(batch: jax.Array, mesh: Mesh) -> jax.Array:
  """A batch [B, ...], split over all devices; they divide B."""
  spec = PartitionSpec((DEVICE, MODEL))
  return jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, spec))


def products(x_BxD: jax.Array, table_IxD: jax.Array, mesh: Mesh) -> jax.Array:
  """x @ table.T of a batch split over all devices, [B, I].

  The table stays in its parts: rows of x are exchanged, and products. Else each
  device would fetch all of the table for its few rows.
  """
  lies = lambda *axes: NamedSharding(mesh, PartitionSpec(*axes))
  keep = jax.lax.with_sharding_constraint
  x_BxD = keep(x_BxD, lies(DEVICE))
  product_BxI = keep(x_BxD @ table_IxD.T, lies(DEVICE, MODEL))
  return over_devices(product_BxI, mesh)


def _is_split(leaf: Any) -> bool:
  return isinstance(leaf, Split)


def _long_axis(array: Any) -> int | None:
  """Along which an array is split: its longest, if that is long enough."""
  longest = max(array.shape, default=0)
  return array.shape.index(longest) if longest >= LEAST else None


def _lies(mesh: Mesh, array: Any) -> NamedSharding:
  axis = _long_axis(array)
  spec = () if axis is None else (*[None] * axis, MODEL)
  return NamedSharding(mesh, PartitionSpec(*spec))


def _keep(mesh: Mesh) -> Callable:
  return lambda a: jax.lax.with_sharding_constraint(a, _lies(mesh, a))


def _split(tree: Any, mesh: Mesh, pad: Callable, put: Callable) -> Any:
  """Every long array padded and as `Split`, all as `put` lays them out."""

  def of_leaf(array):
    axis = _long_axis(array)
    if axis is None:
      return put(array)
    length = array.shape[axis]
    missing = -length % mesh.shape[MODEL]
    if missing:
      widths = [(0, 0)] * len(array.shape)
      widths[axis] = (0, missing)
      array = pad(array, widths)
    return Split(put(array), axis, length)

  return jax.tree.map(of_leaf, tree)


def _cut(split: Split) -> Any:
  """Without the zeros."""
  return split.padded[(slice(None),) * split.axis + (slice(split.length),)]


def _whole(tree: Any, mesh: Mesh) -> Any:
  """In a program: every array as it is, still in parts."""
  keep = _keep(mesh)
  return jax.tree.map(
    lambda a: keep(_cut(a)) if _is_split(a) else a, tree, is_leaf=_is_split
  )
