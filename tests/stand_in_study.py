"""The stand-in for `segadv_jax train` with the measures that a study reads. A program.

A larger lambda costs IoU and gains twice as much BF, a larger boundary weight gains BF alone, and a
learning rate of 0.004 is best. Seeds differ by thousandths.
"""

import stand_in


def field(name, default):
    return float(stand_in.FIELDS.get(f"config.{name}", default))


def evaluate(split, updates):
    lam, seed = field("loss.lam", 0), field("seed", 0)
    iou = 0.6 + seed / 1000 - lam / 10 - abs(field("optimizer.segmenter.learning_rate", 0) - 0.004)
    bf = 0.4 + seed / 1000 + lam / 5 + (field("loss.balance", 0) + 1) * seed * lam / 1000
    shares = {"sky": 0.75, "tree": 0.25}
    result = dict.fromkeys(("class_accuracy", "pixel_accuracy", "mean_boundary_iou"), iou + 0.1)
    result |= {"mean_iou": iou, "mean_bf": bf, "mean_bf_3_pixels": bf - 0.1, "ece": 0.05 + lam}
    result |= {"nll": 0.5, "mce": 1.5, "regions": 12.5, "regions_true": 19.25, "images": 7}
    result |= {"iou": {"sky": iou, "tree": None}, "histogram_predicted": shares}
    stand_in.write_json(f"eval/{split}.json", result | {"step": 10 * updates})


stand_in.evaluate = evaluate
if __name__ == "__main__":
    stand_in.main()
