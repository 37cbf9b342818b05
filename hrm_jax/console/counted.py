"""Numbers of things, as a sentence says them."""


def counted(number: int, noun: str) -> str:
  """A number with its noun, which gets an "s" unless there is one: "1 row"."""
  return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
