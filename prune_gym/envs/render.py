"""A picture of an episode, drawn without a plotting library."""

import numpy as np

HEIGHT, BAR, GAP = 120, 18, 4
BACKGROUND, OPEN, KEPT = (255, 255, 255), (225, 225, 225), (31, 119, 180)


def keep_ratio_bars(ratios: np.ndarray, decided: int) -> np.ndarray:
    """Return one bar per group, ``uint8 (height, width, 3)``: blue is kept, grey is cut or open.

    Args:
        ratios: keep ratio of every group, in [0, 1].
        decided: how many groups have been decided; the rest is drawn grey.
    """
    picture = np.full((HEIGHT, GAP + len(ratios) * (BAR + GAP), 3), BACKGROUND, dtype=np.uint8)
    for group, ratio in enumerate(ratios):
        left = GAP + group * (BAR + GAP)
        picture[GAP : HEIGHT - GAP, left : left + BAR] = OPEN
        if group < decided:
            top = HEIGHT - GAP - round(float(ratio) * (HEIGHT - 2 * GAP))
            picture[top : HEIGHT - GAP, left : left + BAR] = KEPT
    return picture
