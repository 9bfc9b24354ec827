"""Beam search: the published loop, batched PyTorch, and ours.

Command: python -m experiments.benchmarks.generate --out=runs/benchmarks

All with the same weights, of the published size, over Kwai's number of items,
and all return the same items: the loop, too, is kept to Rec-IDs of unseen
items, which takes about a tenth of its time. Batched PyTorch takes as many
users at a time as ours, as many beams as a CPU's cache holds. Compiled PyTorch
and the loop take part at the smallest batch only: they need minutes for each
shape.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.harness import Contestant, Run, main
from experiments.benchmarks.machine import machine_facts
from experiments.convert_torch import convert, converted_model
from mmgrec_jax.config import default_config
from mmgrec_jax.decoding.beam_search import FEW
from mmgrec_jax.decoding.generate import generate
from mmgrec_jax.decoding.trie import build_trie
from mmgrec_jax.models.generator import Generator
from mmgrec_jax.recid.assign import assign_rec_ids
from mmgrec_jax.stages.rankers import users_at_a_time
from mmgrec_jax.training import parallel

SEEN = 32  # items in a history, all read and all excluded


def random_weights(items: int, users: int, width: int) -> dict[str, np.ndarray]:
  """A PyTorch model's state_dict of the published shape, drawn by NumPy."""
  rng = np.random.default_rng(0)
  heads = 4 * width
  shapes = {
    "encoder.src_emb": (items + 1, width),
    "encoder.user_emb": (users, width),
    "decoder.tgt_emb": (256, width),
    "projection": (256, width),
  }
  for i in range(2):
    into = {f"W_{n}": (heads, width) for n in "QKV"}
    feed = {f"pos_ffn.fc.{n}": (width, width) for n in (0, 2)}
    layer = {**into, **feed, "fc": (width, heads)}
    for n in "qkv":
      layer[f"U_{n.upper()}"] = (width, width)
      layer[f"sca_{n}.0"] = (width // 2, width)
      layer[f"sca_{n}.2"] = (1, width // 2)
    attention = {**into, "fc": (width, heads)}
    shapes |= {f"encoder.layers.{i}.{n}": s for n, s in layer.items()}
    shapes |= {f"decoder.layers.{i}.{n}": s for n, s in feed.items()}
    for part in ("dec_self_attn", "dec_enc_attn"):
      name = f"decoder.layers.{i}.{part}"
      shapes |= {f"{name}.{n}": s for n, s in attention.items()}
    unused = f"encoder.layers.{i}.enc_self_attn"
    shapes |= {f"{unused}.{n}": s for n, s in attention.items()}
  scale = lambda name, shape: 1.0 if "emb" in name else shape[1] ** -0.5
  return {
    f"{name}.weight": (rng.normal(size=shape) * scale(name, shape)).astype(
      np.float32
    )
    for name, shape in shapes.items()
  }


def unrolled(steps: int):
  """Stands in for `while_loop` in the form without a loop."""

  def loop(condition, body, state):
    del condition
    return functools.reduce(lambda s, _: body(s), range(steps), state)

  return loop


def matmul_gflop(model: Generator, beams: int) -> float:
  """What one user's search multiplies and adds at least, in folded form.

  At least, as of the last two tokens it may leave beams out (`skip_sure`).
  """
  D, N, H = model.width, SEEN, model.heads
  L, C = model.vocabulary[0], model.vocabulary[-1]
  feed = 2 * D * model.feed_forward
  maps = 2 * H * D * D  # query and output
  read = 2 * H * N * D
  encoder = N * (maps + H * D * D + D * D + read + feed)
  decoder = 2 * maps + read + feed
  few, some = (math.ceil(share * beams) for share in FEW)
  semantic, last = 1 + (model.levels - 3) * beams + some, few
  total = model.encoder_layers * encoder
  total += (semantic + last) * model.decoder_layers * decoder
  total += semantic * D * L + last * D * C
  return 2 * total / 1e9


class Setting:
  """What all contestants share: weights, Rec-IDs, histories."""

  def __init__(self, small: bool):
    rng = np.random.default_rng(1)
    self.items, self.users, width = 86_483, 1024, 64
    size = 254
    if small:
      self.items, self.users, width, size = 300, 8, 8, 12
    self.ids = assign_rec_ids(
      rng.integers(0, size, (self.items, 3)),
      size,
      rng.integers(0, 100, self.items),
    )
    self.weights = random_weights(self.items, self.users, width)
    arrays = {k: jnp.asarray(v) for k, v in self.weights.items()}
    self.params, self.vectors = convert(arrays, self.ids.vocabulary, 4)
    self.model = converted_model(arrays, self.ids.vocabulary, 4).clone(
      trie_softmax=True
    )
    # Without replacement, by the order of random numbers.
    self.history = np.stack(
      [rng.choice(self.items, SEEN, replace=False) for _ in range(self.users)]
    ).astype(np.int32)

  def ours(self, batch: int, beams: int, form: str):
    """A call of our search; `form` is folded, plain or unrolled."""
    model = self.model.clone(folded=form != "plain")
    trie = build_trie(self.ids, "dense" if form == "plain" else "packed")
    loop = unrolled(model.levels - 2) if form == "unrolled" else None

    def recommend(arguments, user_B):
      params, vectors, trie, history = arguments
      return generate(
        model, params, vectors, trie, user_B, history[user_B], SEEN, beams,
        loop=loop or jax.lax.while_loop,
      )  # fmt: skip

    users = users_at_a_time(default_config(), beams)
    search = parallel.map_users(recommend, users)
    arguments = parallel.replicate(
      (self.params, self.vectors, trie, self.history[:batch])
    )
    return lambda: search(arguments, np.arange(batch))()


def torch_contestants(
  run: Run, setting: Setting, batch: int, beams: int, slow_ones: bool
) -> list[Contestant]:
  """Batched PyTorch; with `slow_ones` also compiled, and the loop."""
  torch = run.optional("torch")
  if torch is None:
    return []
  from experiments.torch_reference import decode, layers, model, tables

  device = "cuda" if torch.cuda.is_available() else "cpu"
  width = setting.model.width
  net = model.TorchMMGRec(
    layers.Config(setting.users, setting.items, 256, width, 4, width, width)
  )
  net.load_state_dict(
    {k: torch.from_numpy(v) for k, v in setting.weights.items()}, strict=False
  )
  net = net.to(device).eval()
  table = tables.TorchTables.from_rec_ids(
    setting.ids.tokens_IxM, setting.ids.vocabulary, device
  )
  groups = -(-batch // users_at_a_time(default_config(), beams))
  history = torch.from_numpy(setting.history[:batch]).long().to(device)
  user_and_history = list(
    zip(
      torch.arange(batch, device=device).tensor_split(groups),
      history.tensor_split(groups),
      strict=True,
    )
  )

  def batched(search):
    with torch.no_grad():
      found = [search(net, table, *two, beams) for two in user_and_history]
    return tuple(
      torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True)
    )

  out = [
    Contestant("torch eager", lambda: batched(decode.batched_generate), batch)
  ]
  if slow_ones and not run.small:
    compiled = torch.compile(decode.batched_generate, dynamic=False)
    out.append(Contestant("torch compiled", lambda: batched(compiled), batch))
  if slow_ones:
    few = 2

    def loop():
      found = [
        decode.reference_generate(
          net, u, setting.history[u].tolist(), beams, table.levels, table
        )
        for u in range(few)
      ]
      items = [[table.item_of(tokens) for tokens, _ in one] for one in found]
      return np.array(items), np.array([[s for _, s in one] for one in found])

    out.append(Contestant("the published loop", loop, few))
  return out


def measure_case(
  run: Run, setting: Setting, batch: int, beams: int, first: bool, peak: float
) -> None:
  """Args: peak: GFLOP/s of this pass's cores in a matrix product."""
  case = f"generate/K={beams}/B={batch}"
  forms = ["folded", "plain", "unrolled"] if first else ["folded"]
  contestants = [
    Contestant(f"ours, {form}", setting.ours(batch, beams, form), batch)
    for form in forms
  ]
  contestants += torch_contestants(run, setting, batch, beams, first)
  results = run.measure(case, contestants, ours="ours, folded")
  items, scores = results.pop("ours, folded")
  for name, result in results.items():
    users = len(result[0])  # The loop has few.
    equal = (np.asarray(result[0]) == items[:users]).mean()
    run.agree(f"{case}/{name}: equal items", equal, at_least=0.995)
    worst = np.abs(np.asarray(result[1]) - scores[:users]).max()
    run.agree(f"{case}/{name}: score difference", worst, at_most=1e-3)
  ms = np.median(run.times[f"{case}/ours, folded"][run.clock])
  least_ms = matmul_gflop(setting.model, beams) / peak * 1e3
  run.numbers[f"{case}/ms of its products at matmul peak"] = least_ms
  print(
    f"  at matmul peak, ours would take {least_ms:.4g} ms for its products,"
    f" {least_ms / ms:.0%} of what it takes"
  )


def measure(run: Run) -> None:
  setting = Setting(run.small)
  peak = machine_facts(run.small)["matmul_gflops"]
  batches = (4,) if run.small else (64, 256, 1024)
  for beams in (3,) if run.small else (10, 20, 50):
    for batch in batches:
      measure_case(run, setting, batch, beams, batch == batches[0], peak)


if __name__ == "__main__":
  main("generate", measure)
