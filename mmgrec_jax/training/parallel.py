"""Programs on all devices: everything about pmap is here.

Each device has a copy of every array, unless several share one: see
`shared_by`, and sharded.py for how. With several processes each sees the part
of an array that its own devices have.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmgrec_jax import hosts
from mmgrec_jax.errors import UserError, first_line
from mmgrec_jax.training import sharded

AXIS = "device"
# None: each device has its own copy.
_MESH = contextvars.ContextVar[Any]("mesh", default=None)


def devices() -> list:
  """The devices that everything here runs on: those of all processes."""
  return jax.devices()


def own_places() -> list[int]:
  """Where among `devices` this process's own are."""
  own = jax.process_index()
  return [i for i, d in enumerate(devices()) if d.process_index == own]


# What to do where a device has not enough memory.
SMALLER_BATCH = (
  "give a smaller batch_size of that stage, with another --workdir, or let"
  " devices share it, config.model_shards"
)
FEWER_USERS = (
  "the same command goes on with fewer users at a time,"
  " --config.evaluation.batch_size=32, or with devices that share it,"
  " config.model_shards"
)
ANOTHER_DEVICE = "the host may have more: JAX_PLATFORMS=cpu before the command"


@contextlib.contextmanager
def enough_memory(what: str, mend: str = SMALLER_BATCH) -> Iterator[None]:
  """Raises UserError where a device runs out of memory inside; it names `what`
  was done, and how to `mend` it."""
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    raise UserError(
      f"{what}: a device has not enough memory ({first_line(error)}); {mend}."
    ) from error


@contextlib.contextmanager
def shared_by(shards: int) -> Iterator[None]:
  """Inside, so many devices have one copy of all long arrays together.

  What is made inside before it is placed lies in the host's memory.

  Args:
    shards: `config.model_shards`; 1: each device has its own copy.

  Raises:
    UserError: it does not divide the number of devices, of all processes.
  """
  if shards == 1:
    yield
    return
  n = len(devices())
  if n % shards:
    raise UserError(
      f"config.model_shards = {shards}: it must divide the number of devices,"
      f" {n}."
    )
  before = _MESH.set(sharded.grid(devices(), shards))
  try:
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
      yield
  finally:
    _MESH.reset(before)


def axis() -> str | None:
  """The axis's name in programs; None where devices share copies."""
  return None if _MESH.get() else AXIS


def everywhere(
  function: Callable,
  donate_argnums: int | tuple[int, ...] = (),
  in_axes: Any = 0,
) -> Callable:
  """Compiles for `devices`; takes and returns what `replicate` does.

  Without an `axis` the function sees all of a batch.

  Args:
    in_axes: as of pmap: None for what is not replicated.
  """
  if mesh := _MESH.get():
    return sharded.program(function, mesh, donate_argnums=donate_argnums)
  return jax.pmap(
    function,
    axis_name=AXIS,
    devices=devices(),
    in_axes=in_axes,
    donate_argnums=donate_argnums,
  )


def replicate(tree: Any) -> Any:
  """A copy of every array on each local device, [devices, ...].

  Where devices share copies: one, as `sharded.place` has it. Of the shape of
  an array, the shape of the copies.

  Placed as pmap over `AXIS` places its results, or each program would be
  compiled twice: for the first call and for those after it.
  """
  if mesh := _MESH.get():
    return sharded.place(tree, mesh)
  own = [devices()[i] for i in own_places()]
  mesh = jax.sharding.Mesh(np.array(own), (AXIS,))
  by_device = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS))

  def copies(array):
    shape = (len(own), *np.shape(array))
    if isinstance(array, jax.ShapeDtypeStruct):
      return array.update(shape=shape, sharding=by_device)
    stacked = np.broadcast_to(np.asarray(array), shape)
    return jax.device_put(stacked, by_device)

  return jax.tree.map(copies, tree)


def replicate_once(tree: Any) -> Any:
  """As `replicate`, but an array that is there several times is placed once.

  Not for what is donated to a program: that wants arrays of its own.
  """
  placed: dict[int, Any] = {}

  def place(array):
    if id(array) not in placed:
      placed[id(array)] = replicate(array)
    return placed[id(array)]

  return jax.tree.map(place, tree)


def unreplicate(tree: Any) -> Any:
  """One host copy (NumPy) of what is the same on every device."""
  if _MESH.get():
    return sharded.fetch(tree)
  return jax.device_get(jax.tree.map(lambda a: a[0], tree))


def even_batches(row_SxB: jax.Array) -> jax.Array:
  """With -1 at each batch's end, until the devices share it evenly.

  So a batch has the same rows on any number of devices.
  """
  missing = -row_SxB.shape[1] % len(devices())
  return jnp.pad(row_SxB, [(0, 0), (0, missing)], constant_values=-1)


def my_share(batch: jax.Array, axis_name: str | None) -> jax.Array:
  """This device's slice of an array [B, ...]; all of it without an axis."""
  if axis_name is None:
    mesh = _MESH.get()
    return sharded.over_devices(batch, mesh) if mesh else batch
  n = jax.lax.axis_size(axis_name)
  share = batch.shape[0] // n
  start = jax.lax.axis_index(axis_name) * share
  return jax.lax.dynamic_slice_in_dim(batch, start, share)


def products(x_BxD: jax.Array, table_IxD: jax.Array) -> jax.Array:
  """x @ table.T, [B, I], for this device's share of a batch."""
  if mesh := _MESH.get():
    return sharded.products(x_BxD, table_IxD, mesh)
  return x_BxD @ table_IxD.T


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
  """Compiles any number of steps on all devices into one program.

  Args:
    step: (state, data, planned, key, *, axis_name) -> state, metrics.
    plan: (data, key) -> whatever an epoch's steps share (its shuffles).

  Returns:
    (replicated state, replicated data, key, n) -> state, metrics; n steps,
    which must lie in one epoch. The state is donated. Metrics are
    [steps_per_epoch], of which the first n count.
  """

  axis_name = axis()

  def run(state, data, key, n):
    epoch_key, steps_key = jax.random.split(key)
    epoch = state.step // steps_per_epoch
    planned = plan(data, jax.random.fold_in(epoch_key, epoch))

    def one_step(state):
      step_key = jax.random.fold_in(steps_key, state.step)
      return step(state, data, planned, step_key, axis_name=axis_name)

    def body(i, carry):
      state, rows = carry
      state, metrics = one_step(state)
      return state, jax.tree.map(lambda r, m: r.at[i].set(m), rows, metrics)

    _, metrics = jax.eval_shape(one_step, state)
    rows = jax.tree.map(
      lambda m: jnp.zeros((steps_per_epoch, *m.shape), m.dtype), metrics
    )
    # As many as asked for, so that no other number is compiled anew.
    return jax.lax.fori_loop(0, n, body, (state, rows))

  return everywhere(run, donate_argnums=0, in_axes=(0, 0, None, None))


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

  shared = axis() is None

  def all_batches(arguments, users_GxB):
    share = lambda u: my_share(u, None) if shared else u
    return jax.lax.map(lambda u: function(arguments, share(u)), users_GxB)

  compiled = everywhere(all_batches)

  def run(arguments, users):
    n = len(devices())
    # Few sizes, so that a few programs serve any number of users; but groups
    # as even as that allows: a user who is there twice takes time too.
    share = -(-len(users) // n)
    groups = -(-share // batch_size)
    even = -(-share // groups)
    round_up = 1 << (even - 1).bit_length() if even < 8 else -(-even // 8) * 8
    size = min(batch_size, round_up)
    padded = np.resize(users, n * groups * size).astype(np.int32)
    flat = lambda a, axes: a.reshape(-1, *a.shape[axes:])[: len(users)]
    if shared:  # Every group is for all devices.
      out = compiled(arguments, padded.reshape(groups, n * size))
      return lambda: jax.tree.map(lambda a: flat(a, 2), unreplicate(out))
    out = compiled(arguments, padded.reshape(n, groups, size)[own_places()])
    of_all = lambda: hosts.of_all(jax.tree.map(np.asarray, out))
    return lambda: jax.tree.map(lambda a: flat(a, 3), of_all())

  return run
