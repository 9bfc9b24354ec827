"""Data parallelism over all devices: everything about pmap is here.

With several processes each sees the part of an array that its own devices have.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmgrec_jax import hosts

AXIS = "device"


def devices() -> list:
  """The devices that everything here runs on: those of all processes."""
  return jax.devices()


def own_places() -> list[int]:
  """Where among `devices` this process's own are."""
  own = jax.process_index()
  return [i for i, d in enumerate(devices()) if d.process_index == own]


def everywhere(function: Callable, **options) -> Callable:
  """pmap over `devices`, with `AXIS` as the axis's name."""
  return jax.pmap(function, axis_name=AXIS, devices=devices(), **options)


def replicate(tree: Any) -> Any:
  """A copy of every array on each local device, [devices, ...].

  Placed as pmap over `AXIS` places its results, or each program would be
  compiled twice: for the first call and for those after it.
  """
  own = [devices()[i] for i in own_places()]
  mesh = jax.sharding.Mesh(np.array(own), (AXIS,))
  by_device = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS))

  def copies(array):
    array = np.asarray(array)
    stacked = np.broadcast_to(array, (len(own), *array.shape))
    return jax.device_put(stacked, by_device)

  return jax.tree.map(copies, tree)


def unreplicate(tree: Any) -> Any:
  """One host copy (NumPy) of what is the same on every device."""
  return jax.device_get(jax.tree.map(lambda a: a[0], tree))


def global_batch(size: int) -> int:
  """The smallest batch >= size that the devices share evenly.

  A size that the number of devices divides stays as it is, so that runs on
  another number of devices see the same batches.
  """
  n = len(devices())
  return -(-size // n) * n


def my_share(batch: jax.Array, axis_name: str | None) -> jax.Array:
  """This device's slice of an array [B, ...]; all of it without an axis."""
  if axis_name is None:
    return batch
  n = jax.lax.axis_size(axis_name)
  share = batch.shape[0] // n
  start = jax.lax.axis_index(axis_name) * share
  return jax.lax.dynamic_slice_in_dim(batch, start, share)


def mean_gradient(
  loss: Callable, params: Any, weight: jax.Array, axis_name: str | None
) -> tuple[Any, dict[str, jax.Array], Any]:
  """Gradient of a weighted mean over the global batch.

  Args:
    loss: params -> (weighted sum over this device's share, (terms, out));
      terms are weighted sums too, out is anything.
    weight: sum of this device's weights.

  Returns:
    the gradient and {"loss", each term}, both as global weighted means, the
    same on every device; and this device's `out`.
  """
  (total, (terms, out)), gradient = jax.value_and_grad(loss, has_aux=True)(
    params
  )
  sums = ({"loss": total, **terms}, gradient)
  if axis_name is not None:
    sums, weight = jax.lax.psum((sums, weight), axis_name)
  scale = 1 / jnp.maximum(weight, 1)
  metrics, gradient = jax.tree.map(lambda a: a * scale, sums)
  return gradient, metrics, out


def run_steps(step: Callable, plan: Callable, steps_per_epoch: int) -> Callable:
  """Compiles `n` steps of training on all devices into one program.

  Args:
    step: (state, data, planned, key, *, axis_name) -> state, metrics.
    plan: (data, key) -> whatever an epoch's steps share (its shuffles).

  Returns:
    (replicated state, replicated data, key, n) -> state, metrics [n]. The
    steps must lie in one epoch. The state is donated.
  """

  def run(state, data, key, n):
    epoch_key, steps_key = jax.random.split(key)
    epoch = state.step // steps_per_epoch
    planned = plan(data, jax.random.fold_in(epoch_key, epoch))

    def body(state, _):
      step_key = jax.random.fold_in(steps_key, state.step)
      return step(state, data, planned, step_key, axis_name=AXIS)

    return jax.lax.scan(body, state, None, length=n)

  return everywhere(
    run,
    in_axes=(0, 0, None, None),
    static_broadcasted_argnums=3,
    donate_argnums=0,
  )


def memory(program: Any, *args) -> int:
  """Bytes that a compiled program of `everywhere` takes on each device: its
  arguments, results and temporaries.

  A call with such arguments afterwards does not compile it again.
  """
  need = program.lower(*args).compile().memory_analysis()
  return (
    need.argument_size_in_bytes
    + need.output_size_in_bytes
    - need.alias_size_in_bytes  # results in the place of donated arguments
    + need.temp_size_in_bytes
  )


def map_users(
  function: Callable, batch_size: int
) -> Callable[[Any, np.ndarray], Callable[[], Any]]:
  """Compiles a function of user batches to run over all users at once.

  Args:
    function: (arguments, user_B) -> arrays [B, ...].
    batch_size: users a device handles at a time.

  Returns:
    (replicated arguments, users [n]) -> a function that waits for the result,
    NumPy arrays [n, ...]. The devices are at work meanwhile.
  """

  def all_batches(arguments, users_GxB):
    return jax.lax.map(lambda u: function(arguments, u), users_GxB)

  compiled = everywhere(all_batches)

  def run(arguments, users):
    n = len(devices())
    # Powers of 2: a few programs serve any number of users.
    size = min(batch_size, 1 << (-(-len(users) // n) - 1).bit_length())
    groups = -(-len(users) // (n * size))
    padded = np.resize(users, n * groups * size).astype(np.int32)
    own = padded.reshape(n, groups, size)[own_places()]
    out = compiled(arguments, own)
    flat = lambda a: a.reshape(-1, *a.shape[3:])[: len(users)]

    def finish():
      return jax.tree.map(flat, hosts.of_all(jax.tree.map(np.asarray, out)))

    return finish

  return run
