"""Letters of 3 x 5 pixels, for what stands in a picture."""

import numpy as np

# Behind each character its five rows of three bits, from the top, as octal
# digits.
_TABLE = """
  0 75557  1 26227  2 71747  3 71717  4 55711  5 74717  6 74757  7 71122
  8 75757  9 75717
  A 25755  B 65656  C 34443  D 65556  E 74647  F 74644  G 34553  H 55755
  I 72227  J 11152  K 55655  L 44447  M 57755  N 65555  O 25552  P 65644
  Q 25573  R 65655  S 34216  T 72222  U 55557  V 55552  W 55775  X 55255
  Y 55222  Z 71247
  a 03553  b 44656  c 00343  d 11353  e 02563  f 12722  g 35316  h 44655
  i 20222  j 10152  k 44565  l 62227  m 00775  n 00655  o 02520  p 06564
  q 03531  r 00344  s 03636  t 27221  u 00553  v 00552  w 00577  x 00525
  y 05536  z 07247
  % 51245  : 02020  . 00002  , 00024  - 00700  + 02720  / 11244  ? 71202
  # 57575  * 05250  = 07070  _ 00007  ( 24442  ) 21112  < 12421  > 42124
  ! 22202  | 22222
"""
_ROWS: dict[str, str] = dict(
  zip(_TABLE.split()[::2], _TABLE.split()[1::2], strict=True)
)
_ROWS[" "] = "00000"
_UNKNOWN = "77777"
HEIGHT, WIDTH = 5, 4  # With the gap behind a letter.


def bitmap(text: str, scale: int = 1) -> np.ndarray:
  """The text as pixels, [5 scale, 4 scale len(text)] bool.

  A character that is not known is a full block.
  """
  letters = [
    [[int(row) >> bit & 1 for bit in (2, 1, 0)] + [0] for row in rows]
    for rows in (_ROWS.get(character, _UNKNOWN) for character in text)
  ]
  pixels = np.concatenate([np.zeros((HEIGHT, 0)), *letters], 1).astype(bool)
  return pixels.repeat(scale, 0).repeat(scale, 1)
