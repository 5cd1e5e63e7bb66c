"""Trains the standard and the adversarial arm of an experiment and compares them on the test split.

    python -m tools.compare_arms --config=configs/synthetic.py --workdir=runs/synthetic

Both arms start from the same segmenter and see the same images in the same order. Stopped, the same
command goes on. Fields of the configuration are set as for ``main.py`` and hold for both arms. One
seed shows that it works and what it looks like; which arm is better takes many.
"""

import importlib.util
import os

from absl import flags
from ml_collections import config_flags

from segadv_jax import console, evaluate, history, visualize
from segadv_jax.measures import MEASURES, percent, title
from segadv_jax.train import train
from tools import pictures

ARMS = ("standard", "adversarial")
config_flags.DEFINE_config_file("config", None, "Configuration file that has both arms.")
flags.mark_flag_as_required("config")
_WORKDIR = flags.DEFINE_string("workdir", "runs/synthetic", "Folder for a run of each arm.")


def load_config(path, arm, overrides):
    """One arm of a configuration file, with the fields that were set on the command line."""
    spec = importlib.util.spec_from_file_location("compared_config", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(arm)
    config.update_from_flattened_dict(overrides)
    return config.lock()


def table(results):
    """The test measures {arm: {name: fraction}} in percent, as lines of text."""
    lines = [" " * 12 + "".join(f"{title(name):>16}" for name in MEASURES)]
    for arm, result in results.items():
        values = "".join(f"{percent(result[name]):>16}" for name in MEASURES)
        lines.append(f"{arm:<12}{values}")
    return "\n".join(lines)


def draw(configs, workdir):
    """Draws test images with both arms' predictions, and both histories; returns the two paths."""
    paths = os.path.join(workdir, "comparison.png"), os.path.join(workdir, "curves.png")
    runs = {arm: (config, os.path.join(workdir, arm)) for arm, config in configs.items()}
    pictures.draw_labels(paths[0], *pictures.predict(runs, 6))
    histories = {arm: history.read(os.path.join(workdir, arm, "history.csv")) for arm in configs}
    keys = ("train_class_accuracy", "validation_class_accuracy", "validation_mean_iou")
    visualize.curves(histories, paths[1], keys)
    return paths


def main():
    flag, workdir = flags.FLAGS["config"], _WORKDIR.value
    path = config_flags.get_config_filename(flag)
    overrides = config_flags.get_override_values(flag)
    configs, results = {arm: load_config(path, arm, overrides) for arm in ARMS}, {}
    for arm, config in configs.items():
        arm_dir = os.path.join(workdir, arm)
        print(f"\n{arm}: {arm_dir}", flush=True)
        train(config, arm_dir)
        results[arm] = evaluate.evaluate(config, arm_dir, config.data.test)
    drawn = draw(configs, workdir)
    images = results[arm]["images"]
    print(f"\nTest split of {config.data.name}, {images} images, one seed, in %:\n")
    print(table(results))
    print(f"\nPredictions: {drawn[0]}\nCurves:      {drawn[1]}")


if __name__ == "__main__":
    console.run(main)
