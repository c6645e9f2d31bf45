"""What the trainer's numbers may be; argparse takes "nan" and -1 for anything."""

import math

from .data import DataError

ANY, POSITIVE, SHARE, BELOW_ONE, COUNT, SIZE = (
    "a number from 0 on", "a number above 0", "from 0 to 1", "from 0 to less than 1", "a whole number from 0 on",
    "a whole number from 1 on")
HOLDS = {ANY: lambda x: x >= 0, POSITIVE: lambda x: x > 0, SHARE: lambda x: 0 <= x <= 1,
         BELOW_ONE: lambda x: 0 <= x < 1, COUNT: lambda x: x >= 0, SIZE: lambda x: x >= 1}
OPTIONS = {
    ANY: ("checkpoint_minutes", "weight_decay", "balance", "first_exit_weight"),
    POSITIVE: ("minutes", "epochs", "eval_minutes", "lr", "head_lr", "layer_lr", "clip", "width"),
    SHARE: ("grow", "reach", "round_from", "distill"),
    BELOW_ONE: ("ema", "mask_rate", "dropout", "token_dropout", "label_smoothing"),
    COUNT: ("seed", "crop", "cutout", "exit_channels", "min_char_count"),
    SIZE: ("cores", "steps", "warmup", "layers", "hidden", "heads", "max_seq", "intermediate", "batch_tokens",
           "batch_rows", "eval_rows", "side", "size"),
}  # fmt: skip


def check_numbers(args):
    """DataError, with the option, where a number of a command line is outside its bounds."""
    for bound, names in OPTIONS.items():
        for name in names:
            given = getattr(args, name, None)
            for value in given if isinstance(given, list) else [given]:
                if value is not None and not (math.isfinite(value) and HOLDS[bound](value)):
                    raise DataError(f"--{name.replace('_', '-')} {value}: not {bound}")
