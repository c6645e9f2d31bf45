"""One stage of training: optimizer, weight average, time budget, checkpoints and progress, for any
network whose parameters are trained together."""

import contextlib
import hashlib
import math
import os
import pickle
import re
import sys
import time

import numpy as np
import torch

from .data import DataError
from .model import Operand
from .progress import Progress
from .workers import Workers

# A stopped process, or a computer that sleeps, does not use up its time: a step counts so many seconds
# at the most, or so many times what it has computed.
LONGEST_COUNTED_STEP, LONGEST_COUNTED_SHARE = 10.0, 5.0
FUSED_ADAM = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 4)  # on a CPU, too
# Options that may change when a run goes on from a checkpoint.
FREE_OPTIONS = {"minutes", "steps", "cores", "precision", "checkpoint_minutes", "eval_minutes", "compile",
                "eval_rows", "epochs", "output", "dev", "test", "calibrate", "resume", "command"}


def learning_rate(args, step, progress):
    left = max(0.0, 1.0 - progress)
    if getattr(args, "schedule", "linear") == "cosine":
        left = 0.5 * (1.0 - math.cos(math.pi * left))
    return args.lr * min(1.0, (step + 1) / args.warmup) * left


def learning_rate_of(name, layers, args):
    """Of a parameter, times --lr."""
    if name.startswith("classifiers.") or ".pooler." in name:
        return getattr(args, "head_lr", 1.0)
    layer = re.search(r"encoder\.layer\.(\d+)\.", name)
    below = layers - 1 - int(layer.group(1)) if layer else layers
    return getattr(args, "layer_lr", 1.0) ** below


def make_optimizer(model, args):
    groups = {}
    for name, parameter in model.named_parameters():
        rate = learning_rate_of(name, model.layer_count, args)
        decay = args.weight_decay if parameter.dim() > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    groups = [{"params": parameters, "weight_decay": decay, "rate": rate}
              for (rate, decay), parameters in groups.items()]
    if getattr(args, "optimizer", "adamw") == "sgd":
        return torch.optim.SGD(groups, lr=args.lr, momentum=0.9, nesterov=True)
    how = {"fused": True} if FUSED_ADAM else {"foreach": True}
    return torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.98), eps=1e-6, **how)


def autocast(precision):
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast("cpu", torch.bfloat16)


def detect_precision():
    """bf16 pays only where the processor multiplies it natively."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="ignore") as file:
            flags = file.read()
    except OSError:
        return "fp32"
    return "bf16" if "avx512_bf16" in flags or "amx_bf16" in flags else "fp32"


def checkpoint_path(args):
    return os.path.join(args.work, f"{args.command}.pt")


def can_resume(args):
    return args.resume and os.path.exists(checkpoint_path(args))


def growth_depth(marks, model, progress):
    """Active layers at a point of training: they double at each --grow mark."""
    doublings_left = sum(progress < mark for mark in marks)
    return max(1, model.layer_count >> doublings_left)


def digest_of(arrays):
    digest = hashlib.blake2b(digest_size=16)
    for values in arrays:
        values = np.ascontiguousarray(values)
        digest.update(f"\n{values.dtype} {values.shape}".encode())
        digest.update(values.data)
    return digest.hexdigest()


class Run:
    """One stage of training: optimizer, weight average, time budget and checkpoints."""

    def __init__(self, args, model, content):
        """`content`: the arrays that are trained on; a run that goes on must have the same."""
        self.args, self.model, self.content = args, model, digest_of(content)
        self.optimizer = make_optimizer(model, args)
        self.average = [p.detach().clone() for p in model.parameters()] if args.ema else None
        self.step, self.elapsed = 0, 0.0
        self.most_steps = float("inf")
        self.watch = Progress()
        self.path = checkpoint_path(args)
        self.options = {k: v for k, v in vars(args).items() if k not in FREE_OPTIONS}
        if can_resume(args):
            self.load()

    def load(self):
        try:
            state = torch.load(self.path)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise DataError(f"{self.path}: damaged checkpoint: {error}") from error
        changed = [k for k in self.options if state["options"].get(k) != self.options[k]]
        if changed:
            raise DataError(f"{self.path} was made with other --{', --'.join(changed)}; "
                            "use those, another --work, or --no-resume")
        if state.get("content") != self.content:
            raise DataError(f"{self.path} was made of other training data than is in the files now; use the same, "
                            "another --work, or --no-resume")
        self.model.load_state_dict(state["model"])
        self.model.depth = state["depth"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.average, self.step, self.elapsed = state["average"], state["step"], state["elapsed"]
        log(f"resumed from {self.path}: step {self.step}, {self.elapsed / 60:.1f} minutes")

    def save(self):
        state = {
            "model": self.model.state_dict(), "depth": self.model.depth,
            "optimizer": self.optimizer.state_dict(), "average": self.average,
            "step": self.step, "elapsed": self.elapsed, "options": self.options, "content": self.content,
        }
        try:
            torch.save(state, self.path + ".tmp")
        except RuntimeError as error:  # what PyTorch makes of a full disk
            raise DataError(f"{self.path}.tmp: cannot write (is the disk full?): "
                            f"{str(error).splitlines()[0]}") from error
        os.replace(self.path + ".tmp", self.path)

    def progress(self):
        if self.args.steps:
            return self.step / self.args.steps
        return max(self.elapsed / (60 * self.args.minutes), self.step / self.most_steps)

    def update(self):
        """One optimizer step with the gradients at hand."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * learning_rate(self.args, self.step, self.progress())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.args.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average:
            decay = min(self.args.ema, (1 + self.step) / (10 + self.step))
            torch._foreach_mul_(self.average, decay)
            parameters = [p.detach() for p in self.model.parameters()]
            torch._foreach_add_(self.average, parameters, alpha=1 - decay)

    @contextlib.contextmanager
    def averaged(self):
        """The model with its averaged weights, for evaluation and export."""
        if not self.average:
            yield self.model
            return
        own = [p.detach().clone() for p in self.model.parameters()]
        copy_into(self.model, self.average)
        yield self.model
        copy_into(self.model, own)

    def train(self, loss_at, evaluate=None):
        """Steps with loss_at(step, rank, rng) -> (loss, tokens) until the budget is spent."""
        self.model.train()
        workers = Workers(self.model, self.args.cores, self.args.seed, loss_at)
        last_save = last_eval = self.elapsed
        while self.progress() < 1.0:
            started, computed = time.monotonic(), time.thread_time()
            self.model.grow(growth_depth(self.args.grow, self.model, self.progress()),
                            self.optimizer)
            self.model.recipe.enter(self.progress())
            Operand.rounded = self.progress() >= getattr(self.args, "round_from", 1.0)
            loss, _ = workers.step(self.step)
            self.update()
            self.step += 1
            longest = max(LONGEST_COUNTED_STEP, LONGEST_COUNTED_SHARE * (time.thread_time() - computed))
            self.elapsed += min(time.monotonic() - started, longest)
            self.watch.step(self.step, self.progress(), self.elapsed, loss)
            if self.elapsed - last_save > 60 * self.args.checkpoint_minutes:
                self.save()
                last_save = self.elapsed
            if evaluate and self.elapsed - last_eval > 60 * self.args.eval_minutes:
                self.watch.close()
                with self.averaged():
                    evaluate()
                last_eval = self.elapsed
        self.watch.close()
        self.save()
        workers.close()


def copy_into(model, values):
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), values):
            parameter.copy_(value)


def log(message):
    print(time.strftime("%H:%M:%S"), message, file=sys.stderr, flush=True)


