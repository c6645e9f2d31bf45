"""What models/make and models/make_small train on: texts that a model of ours has answered, whose last exit's
probabilities every exit of the new one follows."""

import os
import random
import re
import sys

from making import TRAINING, call, prepare, read

OPTIONS = {
    "pooling": "mean", "distill": 0.7, "first-exit-weight": 1.0, "label-smoothing": 0.0, "token-dropout": 0.0,
    "dropout": 0.0, "ema": 0.0, "warmup": 100, "batch-tokens": 1280, "eval-minutes": 1e6, "seed": 1,
}  # fmt: skip
SENTENCE = re.compile(r"[^.!?]+[.!?]+[\"')]*\s*")
SENTENCES, MOST_WORDS = (1, 1, 2, 3), 80  # of a passage


def passages(reviews, count, seed):
    """Runs of one to three sentences, drawn from reviews; each review gives the same number."""
    rng, found = random.Random(seed), []
    each = -(-count // len(reviews))
    for review in reviews:
        sentences = SENTENCE.findall(review) or [review]
        for _ in range(each):
            begin = rng.randrange(len(sentences))
            text = "".join(sentences[begin : begin + rng.choice(SENTENCES)]).strip()
            if 3 <= len(text.split()) <= MOST_WORDS:
                found.append(text)
    rng.shuffle(found)
    return found[:count]


def teach(splitee, teacher, source, target, threads):
    """SOURCE with the teacher's probabilities beside every row; rows without a label take the teacher's."""
    if os.path.exists(target):
        return
    trace = source + ".csv"
    call(splitee, "trace", "--model", teacher, "--input", source, "--input-format", "tsv", "--probabilities",
         "--threads", threads, "--output", trace)  # fmt: skip
    with open(source, encoding="utf-8") as file, open(trace, encoding="utf-8") as answers, \
            open(target + ".part", "w", encoding="utf-8") as out:
        header, names = next(file).rstrip("\n").split("\t"), next(answers).rstrip("\n").split(",")
        last = [i for i, name in enumerate(names) if name.startswith(names[-1].rsplit("_", 1)[0] + "_")]
        out.write("text\tlabel\tteacher\n")
        for line, answer in zip(file, answers, strict=True):
            row = dict(zip(header, line.rstrip("\n").split("\t"), strict=True))
            values = answer.rstrip("\n").split(",")
            told = [float(values[i]) for i in last]
            label = row.get("label") or told.index(max(told))
            out.write(f"{row['text']}\t{label}\t{' '.join(f'{x:.4f}' for x in told)}\n")
    os.remove(trace)
    os.replace(target + ".part", target)


def taught_texts(data, teacher, work, splitee, reviews, count, seed, threads):
    """The files of training rows, taught: of the labelled reviews the first `reviews`, whole, and `count` passages of
    those without labels. Written once."""
    done = os.path.join(work, "parts")
    if not os.path.exists(done):
        sources = prepare(data, work)
        imdb = next(path for path in sources if path.endswith("train_imdb.tsv"))
        with open(imdb, encoding="utf-8") as file:
            first = file.readlines()[: reviews + 1]
        with open(imdb, "w", encoding="utf-8") as file:
            file.writelines(first)
        unlabelled = [text for text, _ in read(data, "imdb_unsup_full", labelled=False)]
        sources.append(os.path.join(work, "train_passages.tsv"))
        with open(sources[-1], "w", encoding="utf-8") as file:
            file.write("text\n" + "".join(text + "\n" for text in passages(unlabelled, count, seed)))
        with open(done, "w", encoding="utf-8") as file:
            file.write("\n".join(sources))
    with open(done, encoding="utf-8") as file:
        sources = file.read().split("\n")
    files = [source.replace("train_", "taught_") for source in sources]
    for source, target in zip(sources, files, strict=True):
        teach(splitee, teacher, source, target, threads)
    return files


def finetune(work, start, output, files, options, minutes, steps, cores):
    """Trains the folder OUTPUT from the folder START; broken off, it goes on from WORK."""
    length = ["--steps", steps] if steps else ["--minutes", minutes]
    call(sys.executable, TRAINING / "train.py", "finetune", "--work", work, "--start", start, "--output", output,
         "--labels", "negative,positive", *length, *(["--cores", cores] if cores else []),
         *(word for name, value in options.items() for word in (f"--{name}", value)),
         *(word for path in files for word in ("--train", path)))  # fmt: skip
