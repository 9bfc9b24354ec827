"""The one exception that is a message to the person at the keyboard."""


class UserError(ValueError):
  """Bad input or settings: one sentence that names the place and the fix.

  The command line prints it without a traceback and exits with 2.
  """
