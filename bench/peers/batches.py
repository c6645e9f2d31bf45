"""The measurements of bench/peers/batches, which sets everything up and starts this."""

import os

import texts  # first: it says what is missing where there is no NumPy

import models  # isort: skip
import numpy as np  # isort: skip
import sides  # isort: skip

BATCHES = (2, 4, 8, 16, 32, 64)
SHORTEST, LONGEST = 16, 64
GROUP = 8  # a peer may also take a batch in calls of so many texts of like length, or one by one
ONNX = ".onnx"


class Bench(texts.Bench):
    def __init__(self, arguments):
        super().__init__(arguments)
        self.models = os.path.join(os.path.dirname(self.folder), "texts", "models")  # the same ones

    def prepare(self, name):
        super().prepare(name)
        for ending in (ONNX, "-i8" + ONNX, "-i8-weights" + ONNX):
            source = self.model(name, ending)
            models.make_once(self.last_exit(source), lambda to, source=source: models.in_process("last_exit", source, to))

    @staticmethod
    def last_exit(path):
        return path.replace(ONNX, "-last" + ONNX)

    def ours(self, name, dtype, threads, batch):
        return sides.Side("ours", [self.program, "passes", "--gguf", self.model(name, f"-{dtype}.gguf"), *batch,
                                   "--threads", str(threads)])  # fmt: skip

    def peer(self, name, form, threads, batch, group):
        library, number, ending, options = form
        calls = "one by one" if group == 1 else f"by {group}"
        _, ids, *lengths = batch
        return sides.Side(f"{library} {number} {calls}", sides.peer_command(
            library, self.last_exit(self.model(name, ending)), threads, ids, *lengths, "--group", str(group), *options),
            quiet=True)  # fmt: skip

    def write_batch(self, count):
        """Texts of random lengths; the arguments that name them."""
        rng = np.random.default_rng(count)
        lengths = rng.integers(SHORTEST, LONGEST + 1, count)
        path = self.ids(f"batch-{count}")
        ids = rng.integers(len(models.SPECIAL), models.VOCAB, lengths.sum(), np.int32)
        ends = np.cumsum(lengths)
        ids[ends - 1], ids[ends - lengths] = models.SPECIAL.index("[SEP]"), models.SPECIAL.index("[CLS]")
        ids.tofile(path)
        return ["--ids", path, "--lengths", ",".join(map(str, lengths))], int(lengths.sum())

    def fastest_calls(self, name, form, threads, batch, count):
        """The peer in calls of as many texts as suit it best."""
        groups = sorted({1, min(GROUP, count), count})
        found = [self.peer(name, form, threads, batch, group) for group in groups]
        times = [side.turn(texts.TRIED_PASSES, rest=True, busy=True)[0] for side in found]
        best = found[times.index(min(times))]
        for side in found:
            if side is not best:
                side.close()
        return best

    def cell(self, name, dtype, threads, count):
        batch, tokens = self.write_batch(count)
        peers = [self.fastest_calls(name, form, threads, batch, count) for form in texts.peer_forms(name, dtype)
                 if form[0] in self.results.values["versions"] and form[0] != "fasttextembed"]  # fmt: skip
        everyone = [self.ours(name, dtype, threads, batch), *peers]
        exact = self.peer(name, next(texts.peer_forms(name, "f32")), threads, batch, count)
        exact.close()
        apart = {side.name: float(np.abs(np.log(side.answers) - np.log(exact.answers)).max()) for side in everyone}
        texts.check_f32(dtype, f"{name}, {count} texts", apart)
        hopeless = texts.leave_out(peers)
        everyone = [side for side in everyone if side.name not in hopeless]
        rounds = sides.take_turns(everyone, self.seconds, threads > 1, self.busy)
        raced = [side.name for side in everyone[1:]]
        return sides.summary(rounds, self.busy, raced) | {
            "tokens": tokens, "peers": raced, "left_out": hopeless, "differences": apart,
            "commit": self.results.values["peaks"]["commit"]}  # fmt: skip


def tables(results):
    def ratio(_, cell):
        best = min(cell["peers"], key=cell.get)
        rate, peers_rate = (cell["tokens"] / cell[side] for side in ("ours", best))
        busy = " busy" if cell["waited_share"] > 0.02 else ""
        return (f"{best} {peers_rate:.1f}, {rate:.1f} = **{cell['ratio']:.2f}** ({cell['p10']:.2f}-{cell['p90']:.2f}), "
                f"{cell['ours']:.1f} ms{busy}")  # fmt: skip

    def apart(_, cell):
        return ", ".join(f"{name} {difference:.0e}" for name, difference in sorted(cell["differences"].items()))

    yield ("Thousand tokens a second of the fastest peer, of splitee = ratio of the batch's time (p10-p90 of the "
           "rounds), splitee's time, by texts in a batch", texts.grid(results, ratio, texts.THREADS, BATCHES))  # fmt: skip
    yield ("Largest difference of a log probability from ONNX Runtime's fp32",
           texts.grid(results, apart, texts.THREADS[:1], BATCHES))  # fmt: skip


def main():
    texts.measure(
        "batches", f"Compares batches of texts of {SHORTEST} to {LONGEST} tokens with ONNX Runtime, OpenVINO and CTranslate2, "
        "to the last exit; prints Markdown, keeps FOLDER/results.json. Peers pad what they take in one call: all texts, "
        f"{GROUP} of like length, or one, whatever is fastest. PYTHON: as for bench/peers/texts.",
        "BATCH", BATCHES, Bench, tables)  # fmt: skip


if __name__ == "__main__":
    main()
