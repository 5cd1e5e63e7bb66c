"""A stand-in for `segadv_jax train`, which leaves the same files in no time. A program.

Its measures are a tenth of the seed and up, and a hundredth of lambda more. Fields that the real
one does not know make it fail, die, wait for a file, or heed only a second signal.
"""

import json
import os
import signal
import sys
import time

FIELDS = dict(argument.removeprefix("--").partition("=")[::2] for argument in sys.argv[1:])
CURVES = ("train_class_accuracy", "validation_class_accuracy", "validation_mce")
STOP = []
END = time.monotonic() + 1800  # A test that fails leaves nobody behind.


def path(name):
    return os.path.join(FIELDS["workdir"], name)


def write_json(name, content):
    os.makedirs(os.path.dirname(path(name)), exist_ok=True)
    with open(path(name), "w") as file:
        json.dump(content, file)


def catch(number, frame):
    del frame
    STOP.append(number)
    signal.signal(number, signal.SIG_DFL)
    print("caught", flush=True)


def train(updates):
    if not os.path.exists(path("history.csv")):
        with open(path("history.csv"), "w") as file:
            print("step,segmenter_updates,validation_mean_iou,epoch", *CURVES, sep=",", file=file)
    with open(path("history.csv")) as file:
        done = len(file.readlines()) - 1
    for update in range(done + 1, updates + 1):
        with open(path("history.csv"), "a") as file:
            print(10 * update, update, update / 10, update, 0.6, 0.5, 1.5, sep=",", file=file)
        if "config.die" in FIELDS and not os.path.exists(path("mended")):
            os.kill(os.getpid(), signal.SIGKILL)
        while not os.path.exists(path("go")) and (
            "config.deaf" in FIELDS or ("config.wait" in FIELDS and not STOP)
        ):
            assert time.monotonic() < END
            time.sleep(0.01)
        if STOP:
            sys.exit(128 + STOP[0])
    step = 10 * updates
    write_json("ended.json", {"reason": "updates", "step": step, "selected_step": step})


def evaluate(split, updates):
    base = int(FIELDS["config.seed"]) / 10 + float(FIELDS.get("config.loss.lam", 0)) / 100
    result = {"class_accuracy": base, "pixel_accuracy": base + 0.1, "mean_iou": base + 0.2}
    result |= {"mce": 1.5, "step": 10 * updates, "images": 7}
    write_json(f"eval/{split}.json", result)


def main():
    signal.signal(signal.SIGTERM, catch)
    updates = int(FIELDS.get("config.train.updates", 2))
    split = FIELDS.get("config.data.test", "test")
    with open(path("starts"), "a") as file:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
        print(os.getpid(), os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE"), cores, file=file)
    if "config.fail" in FIELDS:
        print("100%|", end="\r")
        print("error: config.fail is", FIELDS["config.fail"], flush=True)
        sys.exit("and some more")
    write_json("config.json", {"data": {"test": split}, "train": {"updates": updates}})
    train(updates)
    evaluate(split, updates)


if __name__ == "__main__":
    main()
