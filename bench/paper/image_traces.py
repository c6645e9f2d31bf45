"""Traces of a network on distorted pictures: pristine, Gaussian blur and Gaussian noise of three
strengths each. Needs NumPy and Pillow. Pictures are the same for the same seed."""

import json
import os
import subprocess

SUFFIXES = (".png", ".jpg", ".jpeg", ".ppm")
# Name: deviation of the blur in pixels, or of the noise in steps of 255.
BLURS = {"blur-0.5": 0.5, "blur-1": 1.0, "blur-1.5": 1.5}
NOISES = {"noise-10": 10.0, "noise-25": 25.0, "noise-50": 50.0}
PRISTINE = "pristine"
CONDITIONS = (PRISTINE, *BLURS, *NOISES)
DECIMALS = 4  # of the confidences that are kept


def list_pictures(folder):
    """(path, class) of a folder with a subfolder for each class, classes in turn."""
    by_class = []
    for name in sorted(os.listdir(folder)):
        below = os.path.join(folder, name)
        if os.path.isdir(below):
            files = sorted(f for f in os.listdir(below) if f.lower().endswith(SUFFIXES))
            by_class.append([(os.path.join(below, file), name) for file in files])
    if not any(by_class):
        raise RuntimeError(f"{folder}: no subfolder with pictures")
    return [pictures[i] for i in range(max(map(len, by_class))) for pictures in by_class if i < len(pictures)]


def distorted(image, condition, number, seed):
    import numpy as np
    from PIL import Image, ImageFilter

    if condition in BLURS:
        return image.filter(ImageFilter.GaussianBlur(BLURS[condition]))
    if condition in NOISES:
        place = CONDITIONS.index(condition)
        noise = np.random.default_rng([seed, place, number]).normal(0, NOISES[condition], (*image.size[::-1], 3))
        return Image.fromarray((np.asarray(image) + noise).round().clip(0, 255).astype(np.uint8))
    return image


def write_pictures(pictures, condition, folder, seed):
    """PNG files and pictures.tsv in `folder`; its path."""
    from PIL import Image

    os.makedirs(folder, exist_ok=True)
    table = os.path.join(folder, "pictures.tsv")
    with open(table, "w", encoding="utf-8") as file:
        file.write("path\tlabel\n")
        for number, (path, label) in enumerate(pictures):
            with Image.open(path) as image:
                own = distorted(image.convert("RGB"), condition, number, seed)
            own.save(os.path.join(folder, f"{number}.png"), compress_level=1)
            file.write(f"{number}.png\t{label}\n")
    return table


def rounded(line):
    """A row of a trace with shorter confidences."""
    cells = line.split(",")
    cells[2::2] = [f"{float(cell):.{DECIMALS}f}".rstrip("0").rstrip(".") for cell in cells[2::2]]
    return ",".join(cells)


def make(splitee, model, source, work, output, count, seed):
    """Writes CONDITION.csv.zst and about.json."""
    pictures = list_pictures(source)[:count]
    os.makedirs(output, exist_ok=True)
    for condition in CONDITIONS:
        table = write_pictures(pictures, condition, os.path.join(work, condition), seed)
        plain = os.path.join(work, condition + ".csv")
        subprocess.run([splitee, "trace", "--model", model, "--input", table, "--input-format", "images",
                        "--output", plain], check=True)  # fmt: skip
        with open(plain, encoding="utf-8") as file:
            header, *rows = file.read().splitlines()
        with open(plain, "w", encoding="utf-8") as file:
            file.write("\n".join([header, *map(rounded, rows)]) + "\n")
        subprocess.run(["zstd", "-19", "-q", "-f", plain, "-o", os.path.join(output, condition + ".csv.zst")], check=True)
    told = subprocess.run([splitee, "inspect", "--json", model], stdout=subprocess.PIPE, check=True, text=True)
    network = json.loads(told.stdout)
    about = {key: network[key] for key in ("hash", "layers", "exits", "alpha", "temperatures")}
    with open(os.path.join(output, "about.json"), "w", encoding="utf-8") as file:
        json.dump(about | {"pictures": len(pictures), "seed": seed}, file, indent=1)
        file.write("\n")
