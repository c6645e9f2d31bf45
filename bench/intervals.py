"""The interval of a mean over few values."""

import math
import statistics

# Student's t at 97.5 %, from one degree of freedom on; the normal distribution's beyond.
T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
         2.110, 2.101, 2.093)  # fmt: skip
NORMAL_975 = 1.960


def half_width(values):
    """Of the 95 % interval of their mean; None for one value."""
    freedom = len(values) - 1
    if freedom < 1:
        return None
    t = T_975[freedom - 1] if freedom <= len(T_975) else NORMAL_975
    return t * statistics.stdev(values) / math.sqrt(len(values))
