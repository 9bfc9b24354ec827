"""The one exception that is a message to the person at the keyboard.

`first_line` is for quoting others in it.
"""


def first_line(error: Exception) -> str:
  """Of what another library says; its kind where it says nothing."""
  return (str(error).strip() or type(error).__name__).splitlines()[0]


class UserError(ValueError):
  """Bad input or settings: one sentence that names the place and the fix.

  The command line prints it without a traceback and exits with 2.
  """
