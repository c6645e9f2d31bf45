"""A multi-exit convolutional network on images: its pictures, its model, its training, and the folder
that tools/convert_images.py takes (model.safetensors and network.json), with a table of the pictures that
were held back, for `splitee calibrate`.

Pictures come from a TSV with a header and the columns `path` (relative to the TSV) and `label`, or
from a folder with a subfolder for each class. They are read once, to uint8 in memory. Each sample of
a batch is cropped and flipped on its own, by integer indices. Part of the pictures is held back:
temperatures and the suggested threshold come from there.
"""

import math
import os

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from . import metrics
from .data import DataError
from .folder import write_json
from .recipes import KINDS, Recipe
from .run import Run, autocast, log
from .table import class_names, decode, read_bytes
from .tensors import write_safetensors

PATH, LABEL = "path", "label"
HELD_BACK = "held_back.tsv"  # for `splitee calibrate`
SUFFIXES = (".png", ".jpg", ".jpeg", ".ppm", ".pgm")
LEAST_STD = 1e-3
EVAL_ROWS = 250
NORM_BATCHES = 40  # that the averaged weights' batch norms are measured on
# channels, expansion, blocks, stride: MobileNetV2 (Sandler et al. 2018), with strides for 32 x 32.
MOBILENET_STAGES = ((16, 1, 1, 1), (24, 6, 2, 1), (32, 6, 3, 2), (64, 6, 4, 2), (96, 6, 3, 1), (160, 6, 3, 2), (320, 6, 1, 1))
RESNET_STAGES = 3
MOBILENET_STEM, MOBILENET_LAST = 32, 1280
# Blocks with an exit.
EXITS = {"resnet14": (1, 2, 3, 4, 5, 6), "resnet20": (2, 3, 5, 6, 7, 9), "resnet32": (3, 5, 7, 10, 12, 15),
         "resnet56": (5, 9, 13, 18, 22, 27),
         "mobilenetv2": (3, 6, 9, 11, 14, 17)}  # fmt: skip


# --- the pictures ---


class Pictures:
    """values (rows, height, width, 3) uint8, labels (rows) int64, the files that they are from."""

    def __init__(self, values, labels, names, files):
        self.values, self.labels, self.names, self.files = values, labels, names, files

    def __len__(self):
        return len(self.labels)

    def part(self, rows):
        return Pictures(self.values[rows], self.labels[rows], self.names, [self.files[row] for row in rows])


def list_table(path):
    lines = decode(read_bytes(path), path).split("\n")
    header = lines[0].rstrip("\r").split("\t")
    if header.count(PATH) != 1 or header.count(LABEL) != 1:
        raise DataError(f"{path}:1: the first line must name the columns '{PATH}' and '{LABEL}', tabs between them")
    for number, line in enumerate(lines[1:], 2):
        cells = line.rstrip("\r").split("\t")
        if cells == [""]:
            continue
        if len(cells) != len(header):
            raise DataError(f"{path}:{number}: {len(cells)} fields, the header has {len(header)}")
        yield os.path.join(os.path.dirname(path), cells[header.index(PATH)]), cells[header.index(LABEL)]


def list_folder(path):
    for name in sorted(os.listdir(path)):
        if os.path.isdir(os.path.join(path, name)):
            for file in sorted(os.listdir(os.path.join(path, name))):
                if file.lower().endswith(SUFFIXES):
                    yield os.path.join(path, name, file), name


def read_picture(path, side):
    from PIL import Image

    try:
        with Image.open(path) as image:
            image = image.convert("RGB")
            return np.asarray(image if image.size == (side, side) else image.resize((side, side), Image.BILINEAR))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: {error}") from None


def read_pictures(path, side, names=None):
    """The Pictures of a TSV or a folder; `names` are the classes, where they are known."""
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise DataError("Pillow is missing: apt-get install python3-pil, or pip install pillow") from None
    files = list(list_folder(path) if os.path.isdir(path) else list_table(path))
    if not files:
        raise DataError(f"{path}: no pictures")
    labels = [label for _, label in files]
    names = names or class_names(labels, path)
    place = {name: i for i, name in enumerate(names)}
    unknown = next((label for label in labels if label not in place), None)
    if unknown is not None:
        raise DataError(f"{path}: {unknown!r} is no class of the training pictures")
    values = np.empty((len(files), side, side, 3), np.uint8)
    for i, (file, _) in enumerate(files):
        values[i] = read_picture(file, side)
    return Pictures(values, np.array([place[label] for label in labels], np.int64), names, [file for file, _ in files])


def write_table(path, pictures):
    """What read_pictures() takes."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{PATH}\t{LABEL}\n")
        for name, label in zip(pictures.files, pictures.labels):
            file.write(f"{os.path.abspath(name)}\t{pictures.names[label]}\n")


def augment(values, rows, pad, cutout, rng):
    """(rows, height, width, 3): of each picture a window of its size at a random place of it, padded
    with zeros, mirrored every other time. `values` are padded already. A square of `cutout` pixels around
    a random pixel is black (DeVries and Taylor 2017)."""
    side = values.shape[1] - 2 * pad
    count = len(rows)
    top, left = (torch.from_numpy(rng.integers(2 * pad + 1, size=count)) for _ in range(2))
    step = torch.arange(side)
    flip = torch.from_numpy(rng.integers(2, size=count)).bool()
    across = torch.where(flip[:, None], step.flip(0), step) + left[:, None]
    down = step + top[:, None]
    images = values[rows[:, None, None], down[:, :, None], across[:, None, :]]
    if cutout:
        y, x = (torch.from_numpy(rng.integers(side, size=count)) - cutout // 2 for _ in range(2))
        inside = lambda first: (step >= first[:, None]) & (step < first[:, None] + cutout)  # noqa: E731
        images[inside(y)[:, :, None] & inside(x)[:, None, :]] = 0
    return images


# --- the model, under torchvision's names ---


def convolution(channels, out, size=3, stride=1, groups=1):
    return nn.Conv2d(channels, out, size, stride, (size - 1) // 2, groups=groups, bias=False)


class Exit(nn.Linear):
    """The mean over all pixels and a classifier; `own` > 0: a 1 x 1 convolution to so many channels before."""

    def __init__(self, channels, classes, own, activation):
        super().__init__(own or channels, classes)
        self.activation = activation
        if own:
            self.conv, self.bn = convolution(channels, own, 1), nn.BatchNorm2d(own)

    def forward(self, x):
        if hasattr(self, "conv"):
            x = self.activation(self.bn(self.conv(x)))
        return super().forward(x.mean((2, 3)))


class BasicBlock(nn.Module):
    def __init__(self, channels, out, stride):
        super().__init__()
        self.conv1, self.bn1 = convolution(channels, out, 3, stride), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = convolution(out, out), nn.BatchNorm2d(out)
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(convolution(channels, out, 1, stride), nn.BatchNorm2d(out))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class InvertedResidual(nn.Module):
    def __init__(self, channels, out, stride, expansion):
        super().__init__()
        hidden, layers = channels * expansion, []
        if expansion != 1:
            layers.append(nn.Sequential(convolution(channels, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU6()))
        layers.append(nn.Sequential(convolution(hidden, hidden, 3, stride, hidden), nn.BatchNorm2d(hidden), nn.ReLU6()))
        self.conv = nn.Sequential(*layers, convolution(hidden, out, 1), nn.BatchNorm2d(out))
        self.stays = stride == 1 and channels == out

    def forward(self, x):
        return x + self.conv(x) if self.stays else self.conv(x)


class MultiExitConv(nn.Module):
    """What the two families share. Inputs are (rows, height, width, 3) uint8."""

    def finish(self, mean, std, channels_of, exits, classes, own_channels, last, activation):
        own = lambda layer: last if layer == exits[-1] else own_channels  # noqa: E731
        self.exits = nn.ModuleDict({str(layer): Exit(channels_of[layer - 1], classes, own(layer), activation)
                                    for layer in exits})  # fmt: skip
        self.register_buffer("mean", torch.as_tensor(mean), persistent=False)
        self.register_buffer("std", torch.as_tensor(std), persistent=False)
        self.recipe, self.depth, self.layer_count = Recipe(), len(channels_of), len(channels_of)
        self.to(memory_format=torch.channels_last)

    def grow(self, depth, optimizer):
        """All layers are there from the beginning."""

    def exit_logits(self, values):
        """[exits, rows, classes]."""
        x = (values.float() / 255 - self.mean) / self.std
        state, logits = self.stem(x.permute(0, 3, 1, 2)), []  # channels-last as it lies
        for layer, block in enumerate(self.blocks(), 1):
            state = block(state)
            if str(layer) in self.exits:
                asked, state = self.recipe.branch(state, sum(int(e) > layer for e in self.exits))
                logits.append(self.exits[str(layer)](asked).float())
        return torch.stack(logits)


class ResNet(MultiExitConv):
    """Of basic blocks, for small pictures (He et al. 2016, section 4.2), with projections. `channels` are the
    stem's and each stage's; the first stage's first block has `first_stride`, the others' have 2."""

    def __init__(self, depth, channels, first_stride, mean, std, exits, classes, own_channels):
        super().__init__()
        before, channels_of, self.stages = channels[0], [], []
        self.conv1, self.bn1 = convolution(3, before), nn.BatchNorm2d(before)
        for stage, channels in enumerate(channels[1:], 1):
            blocks = []
            for j in range((depth - 2) // 6):
                blocks.append(BasicBlock(before, channels, (2 if stage > 1 else first_stride) if j == 0 else 1))
                before = channels
                channels_of.append(channels)
            self.stages.append(f"layer{stage}")
            self.add_module(self.stages[-1], nn.Sequential(*blocks))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.finish(mean, std, channels_of, exits, classes, own_channels, 0, F.relu)
        self.about = {"stem_stride": 1, "stem_pool": False, "activation": "relu"}

    def stem(self, x):
        return F.relu(self.bn1(self.conv1(x)))

    def blocks(self):
        return (block for stage in self.stages for block in getattr(self, stage))

    def strides(self):
        return [block.conv1.stride[0] for block in self.blocks()]


def rounded(channels):
    """To a multiple of 8, as torchvision does it."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near


class MobileNetV2(MultiExitConv):
    def __init__(self, width, mean, std, exits, classes, own_channels):
        super().__init__()
        before = rounded(MOBILENET_STEM * width)
        layers, channels_of = [nn.Sequential(convolution(3, before), nn.BatchNorm2d(before), nn.ReLU6())], []
        for channels, expansion, count, first in MOBILENET_STAGES:
            for j in range(count):
                out = rounded(channels * width)
                layers.append(InvertedResidual(before, out, first if j == 0 else 1, expansion))
                before = out
                channels_of.append(out)
        self.features = nn.Sequential(*layers)
        self.finish(mean, std, channels_of, exits, classes, own_channels, rounded(MOBILENET_LAST * max(1.0, width)),
                    F.relu6)  # fmt: skip
        self.about = {"stem_stride": 1, "stem_pool": False, "activation": "relu6"}

    def stem(self, x):
        return self.features[0](x)

    def blocks(self):
        return self.features[1:]

    def strides(self):
        return [first if j == 0 else 1 for _, _, count, first in MOBILENET_STAGES for j in range(count)]


# --- training ---


def numbers(name, text):
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise DataError(f"--{name} takes whole numbers, not {text!r}") from None


def make_model(args, pictures):
    exits = numbers("exits", args.exits) if args.exits else EXITS[args.network]
    layers = EXITS[args.network][-1]
    if list(exits) != sorted(set(exits)) or exits[0] < 1 or exits[-1] != layers:
        raise DataError(f"--exits must rise from 1 or more to the last block, {layers}")
    pixels = pictures.values.reshape(-1, 3)
    mean = pixels.mean(0, dtype=np.float64) / 255
    std = np.sqrt(np.square(pixels, dtype=np.float64).mean(0) / 255**2 - mean**2)
    fixed = (mean.astype(np.float32), np.maximum(std, LEAST_STD).astype(np.float32), exits, len(pictures.names),
             args.exit_channels)  # fmt: skip
    if args.network == "mobilenetv2":
        return MobileNetV2(args.width, *fixed)
    channels = numbers("channels", args.channels)
    if len(channels) != RESNET_STAGES + 1 or min(channels) < 1:
        raise DataError(f"--channels takes {RESNET_STAGES + 1} numbers from 1 on, of the stem and the stages")
    return ResNet(int(args.network.removeprefix("resnet")), [rounded(args.width * own) for own in channels],
                  args.first_stride, *fixed)  # fmt: skip


def split(pictures, args):
    """(to train on, held back), the same for the same seed."""
    order = np.random.default_rng(args.seed).permutation(len(pictures))
    held = max(1, round(args.hold_back * len(order)))
    if held >= len(order) or len(set(pictures.labels[order[held:]])) < 2:
        raise DataError(f"{args.train}: too few pictures to hold some back")
    return pictures.part(np.sort(order[held:])), pictures.part(np.sort(order[:held]))


def logits_of(model, pictures):
    model.eval()
    parts = torch.from_numpy(pictures.values).split(EVAL_ROWS)
    with torch.no_grad():
        logits = torch.cat([model.exit_logits(part) for part in parts], dim=1).numpy()
    model.train()
    return logits


def measure_norms(model, batches):
    """Means and variances of the batch norms anew: those that the training left are of other weights."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over the batches
    model.train()
    with torch.no_grad():
        for batch in batches:
            model.exit_logits(batch)
    for norm in norms:
        norm.momentum = 0.1


def save(folder, model, pictures, calibration, report):
    state = {name: values.detach().contiguous().numpy() for name, values in model.state_dict().items()
             if not name.endswith("num_batches_tracked")}  # fmt: skip
    os.makedirs(folder, exist_ok=True)
    write_safetensors(os.path.join(folder, "model.safetensors"), state)
    side = pictures.values.shape[1]
    write_json(os.path.join(folder, "network.json"), {
        "input": [side, side], "mean": model.mean.tolist(), "std": model.std.tolist(), "labels": pictures.names,
        "strides": model.strides(), **model.about, "temperatures": calibration["temperatures"],
        "alpha": calibration["alpha_calibrated"]["alpha"],
    })  # fmt: skip
    write_json(os.path.join(folder, "report.json"), report)


def compiled(function):
    if not hasattr(torch, "compile"):
        raise DataError(f"--compile needs PyTorch 2.0 or newer; this is {torch.__version__}")
    return torch.compile(function)


def train(args):
    """The command `train.py images`."""
    if not 0 < args.hold_back < 1:
        raise DataError("--hold-back is a share between 0 and 1")
    if not 0 <= args.cutout <= args.side:
        raise DataError(f"--cutout is from 0 to --side, {args.side}")
    pictures = read_pictures(args.train, args.side)
    test = read_pictures(args.test, args.side, pictures.names) if args.test else None
    pictures, held = split(pictures, args)
    model = make_model(args, pictures)
    model.recipe = Recipe(args.recipe, distill=args.distill, first_exit_weight=args.first_exit_weight,
                          label_smoothing=args.label_smoothing)  # fmt: skip
    log(f"{len(pictures)} pictures to train on, {len(held)} held back, {len(pictures.names)} classes, "
        f"{sum(p.numel() for p in model.parameters())} weights")  # fmt: skip
    run = Run(args, model, [pictures.values, pictures.labels])
    pad = args.side // 8
    values = F.pad(torch.from_numpy(pictures.values), (0, 0, pad, pad, pad, pad))
    labels = torch.from_numpy(pictures.labels)
    share = max(2, args.batch_rows // args.cores)

    def batch(rng):
        chosen = torch.from_numpy(rng.integers(len(pictures), size=share))
        return augment(values, chosen, pad, args.cutout, rng), labels[chosen]

    exit_logits = compiled(model.exit_logits) if args.compile else model.exit_logits

    def loss_at(step, rank, rng):
        images, wanted = batch(rng)
        with autocast(args.precision):
            logits = exit_logits(images)
        if rank == 0:
            run.watch.batch((logits.detach().argmax(-1) == wanted).float().mean(1).tolist())
        return model.recipe.loss(logits, wanted), len(wanted)

    if args.epochs:
        run.most_steps = math.ceil(args.epochs * len(pictures) / (share * args.cores))
    run.train(loss_at)
    finish(args, run, model, pictures, held, test, batch)


def finish(args, run, model, pictures, held, test, batch):
    with run.averaged():
        rng = np.random.default_rng(args.seed)
        measure_norms(model, (batch(rng)[0] for _ in range(NORM_BATCHES)))
        logits = logits_of(model, held)
        report = {"held back": [metrics.exit_report(own, held.labels) for own in logits]}
        if test:
            report["test"] = [metrics.exit_report(own, test.labels) for own in logits_of(model, test)]
        save(args.output, model, pictures, metrics.calibrate(logits, held.labels), report)
        write_table(os.path.join(args.output, HELD_BACK), held)
    log(f"wrote {args.output}")
    print(metrics.format_table(report))


def add_options(parser):
    real = {"type": float, "metavar": "X"}
    parser.add_argument("--train", required=True, metavar="FILE|FOLDER", help="TSV with columns path and label, or "
                        "a folder with a subfolder for each class")  # fmt: skip
    parser.add_argument("--test", metavar="FILE|FOLDER", help="pictures to report on, of the same classes")
    parser.add_argument("--network", choices=list(EXITS), default="resnet20", help="default %(default)s")
    parser.add_argument("--width", default=1.0, help="times the network's channels (default %(default)s)", **real)
    parser.add_argument("--channels", default="16,16,32,64", metavar="N,N,N,N", help="of a ResNet's stem and its three "
                        "stages, before --width; multiples of 8 (default %(default)s)")  # fmt: skip
    parser.add_argument("--first-stride", type=int, choices=(1, 2), default=1, help="of a ResNet's first block "
                        "(default %(default)s)")  # fmt: skip
    parser.add_argument("--cutout", type=int, default=0, metavar="N", help="black square of so many pixels in every "
                        "training picture (default %(default)s: none)")  # fmt: skip
    parser.add_argument("--side", type=int, default=32, metavar="N", help="of the network's input, pixels; "
                        "pictures of another size are brought to it (default %(default)s)")  # fmt: skip
    parser.add_argument("--exits", metavar="K,K,...", help="blocks with an exit (default: six, spread evenly)")
    parser.add_argument("--hold-back", default=0.1, help="share of the pictures for temperatures and the report "
                        "(default %(default)s)", **real)  # fmt: skip
    parser.add_argument("--exit-channels", type=int, default=0, metavar="N", help="a 1 x 1 convolution to so many "
                        "channels before the mean of every exit but the last (default: none)")  # fmt: skip
    parser.add_argument("--compile", action="store_true", help="compile the network's passes (PyTorch 2 and a C++ "
                        "compiler): a minute first, then twice as fast")  # fmt: skip
    parser.add_argument("--epochs", help="end after so many, though --minutes are not over", **real)
    parser.add_argument("--batch-rows", type=int, default=128, metavar="N", help="pictures a step (default %(default)s)")
    parser.add_argument("--optimizer", choices=["adamw", "sgd"], default="adamw", help="sgd: with Nesterov's momentum, "
                        "0.9; then --lr 0.1 --weight-decay 5e-4 --clip 5 (default %(default)s)")  # fmt: skip
    parser.add_argument("--schedule", choices=["cosine", "linear"], default="cosine",
                        help="of the learning rate (default %(default)s)")  # fmt: skip
    parser.add_argument("--recipe", choices=KINDS, default=KINDS[0], help="train_lib/recipes.py (default %(default)s)")
    parser.add_argument("--distill", default=0.2, help="share of the last exit's probabilities in earlier exits' "
                        "targets (default %(default)s)", **real)  # fmt: skip
    parser.add_argument("--first-exit-weight", default=1.0, help="loss weight of exit 1; the last has 1 (default "
                        "%(default)s)", **real)  # fmt: skip
    parser.add_argument("--label-smoothing", default=0.02, help="default %(default)s", **real)
