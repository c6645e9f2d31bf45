"""Shows how a long job goes: a bar where somebody watches, a line now and then elsewhere."""

import shutil
import sys
import time

BAR = 24  # characters
LINE_SECONDS = 30.0
REDRAW_SECONDS = 0.25
MEMORY = 0.98  # of running means


def duration(seconds):
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    return f"{minutes}:{seconds:02}"


def shares(values):
    return " ".join(f"{100 * value:.0f}" for value in values)


class Progress:
    """Of training: steps, loss, accuracy of every exit on the rows trained on, time left."""

    def __init__(self, stream=None):
        self.stream = stream or sys.stderr
        self.watched = self.stream.isatty()
        self.shown = -float("inf") if self.watched else time.monotonic()
        self.loss = self.accuracy = None
        self.drawn = False

    def batch(self, accuracy):
        """Share of right answers per exit, of one batch."""
        if self.accuracy is None:
            self.accuracy = list(accuracy)
        else:
            self.accuracy = [MEMORY * old + (1 - MEMORY) * new
                             for old, new in zip(self.accuracy, accuracy)]

    def step(self, step, share, elapsed, loss):
        """After a step; `share` of all is done, `elapsed` seconds of training are spent."""
        self.loss = loss if self.loss is None else MEMORY * self.loss + (1 - MEMORY) * loss
        now = time.monotonic()
        if now - self.shown < (REDRAW_SECONDS if self.watched else LINE_SECONDS):
            return
        self.shown = now
        self.write(self.text(step, share, elapsed))

    def text(self, step, share, elapsed):
        share = min(1.0, max(share, 1e-6))
        left = duration(elapsed * (1 - share) / share)
        text = f"step {step}  loss {self.loss:.3f}"
        if self.accuracy:
            text += f"  exits {shares(self.accuracy)} %"
        text += f"  {left} left"
        if not self.watched:
            return f"{time.strftime('%H:%M:%S')} {100 * share:3.0f} %  {text}"
        full = round(BAR * share)
        return f"[{'#' * full}{'.' * (BAR - full)}] {100 * share:3.0f} % {text}"

    def write(self, text):
        if self.watched:
            self.stream.write(f"\r{text[:self.width()]}\x1b[K")
            self.drawn = True
        else:
            self.stream.write(text + "\n")
        self.stream.flush()

    @staticmethod
    def width():
        return max(20, shutil.get_terminal_size().columns - 1)

    def close(self):
        """Clears the bar."""
        if self.drawn:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
            self.drawn = False
