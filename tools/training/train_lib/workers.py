"""Data-parallel steps over forked processes that share the model's memory.

On a CPU, one single-threaded process per core trains about twice as fast as one
process with as many threads, and loses less when other programs use a core.
"""

import multiprocessing
import os
import signal

import numpy as np
import torch

from .model import Dropout, Operand

PARENT_CHECK_SECONDS = 5.0


class Workers:
    """Runs loss_at(step, rank, rng) -> (loss, tokens) on every core at each step."""

    def __init__(self, model, cores, seed, loss_at):
        self.model, self.cores, self.seed, self.loss_at = model, cores, seed, loss_at
        self.helpers = []
        self.parameters = list(model.share_memory().parameters())
        torch.set_num_threads(1)
        context = multiprocessing.get_context("fork")
        for rank in range(1, cores):
            gradients = [torch.zeros_like(p).share_memory_() for p in self.parameters]
            pipe, other_end = context.Pipe()
            process = context.Process(
                target=self._serve, args=(rank, other_end, gradients, os.getpid()), daemon=True)
            process.start()
            self.helpers.append((process, pipe, gradients))

    def _backward(self, step, rank):
        """Accumulates this shard's part of the mean gradient."""
        rng = np.random.default_rng([self.seed, step, rank])
        Dropout.generator = rng
        loss, tokens = self.loss_at(step, rank, rng)
        (loss / self.cores).backward()
        return float(loss.detach()), tokens

    def _serve(self, rank, pipe, gradients, parent):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.model.train()
        for parameter, gradient in zip(self.parameters, gradients):
            parameter.grad = gradient
        while True:
            while not pipe.poll(PARENT_CHECK_SECONDS):
                if os.getppid() != parent:
                    return
            step, self.model.depth, self.model.recipe.stage, Operand.rounded = pipe.recv()
            for gradient in gradients:
                gradient.zero_()
            pipe.send(self._backward(step, rank))

    def step(self, step):
        """Leaves the mean gradient in the parameters; returns mean loss and token count."""
        for _, pipe, _ in self.helpers:
            pipe.send((step, self.model.depth, self.model.recipe.stage, Operand.rounded))
        results = [self._backward(step, 0)]
        for process, pipe, gradients in self.helpers:
            try:
                results.append(pipe.recv())
            except EOFError:
                raise RuntimeError(f"training process {process.pid} died") from None
            for parameter, gradient in zip(self.parameters, gradients):
                if parameter.grad is not None:
                    parameter.grad.add_(gradient)
        losses, tokens = zip(*results)
        return sum(losses) / self.cores, sum(tokens)

    def close(self):
        for process, pipe, _ in self.helpers:
            process.terminate()
            process.join()
            pipe.close()
