"""SIGTERM and SIGINT in training: the state is saved, then the run ends."""

import contextlib
import signal


class Interrupted(RuntimeError):
  """A signal asked the process to end; the state was saved."""

  def __init__(self, message: str, number: int):
    super().__init__(message)
    self.signal = number


class Signals:
  """Notes SIGTERM and SIGINT instead of dying in the middle of a step."""

  received: int | None = None

  def __enter__(self):
    self._old = {}
    for number in (signal.SIGTERM, signal.SIGINT):
      # Only the main thread may do this; elsewhere signals keep their way.
      with contextlib.suppress(ValueError):
        self._old[number] = signal.signal(number, self._note)
    return self

  def _note(self, number, _):
    self.received = number

  def __exit__(self, *_):
    for number, handler in self._old.items():
      signal.signal(number, handler)
