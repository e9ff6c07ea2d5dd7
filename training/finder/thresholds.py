"""Which thresholds answer best, on held-out pictures that evaluate.py does not measure with.

    python -m training.finder.thresholds --work DIR [--pictures 100]
"""

import argparse
from itertools import product
from pathlib import Path

from .answers import Thresholds, answers
from .batches import Pictures
from .evaluate import Tally, asked, load, outputs

FIRST = 200_000  # evaluate.py's begin at 0 and 100,000
SPLIT = "seen pairs, new pictures"
TRIED = [Thresholds(0.5, score, same) for score, same in product((0.15, 0.2, 0.25, 0.3, 0.4, 0.5), (0.5, 0.6, 0.7))] + [
    Thresholds(presence=presence) for presence in (0.3, 0.7)]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", required=True, type=Path)
    p.add_argument("--pictures", type=int, default=100)
    a = p.parse_args()
    model, per = load(a.work), 8
    tallies = {tried: Tally() for tried in TRIED}
    data = Pictures("seen", a.pictures, per, model.shape, seed=1, first=FIRST)
    for batch, out in outputs(model, data):
        for tried, tally in tallies.items():
            found = answers(out, per, model.shape.image, tried)
            for n, _, _, truth in asked(batch, per, SPLIT):
                tally.add(truth, found[n])
    print("presence  score  same   presence right  mask IoU  F1@0.5  count right")
    for tried, tally in tallies.items():
        s = tally.scores()
        print(f"{tried.presence:8.2f}  {tried.score:5.2f}  {tried.same:4.2f}   {s['presence_accuracy']:14.3f}  {s['mask_iou']:8.3f}  {s['f1']:6.3f}  "
              f"{s['count_right']:11.3f}")


if __name__ == "__main__":
    main()
