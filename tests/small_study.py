"""A small study for tests: two blocks of their own choices, and two without; made-up results."""

import random

from segadv_jax import files
from segadv_jax.report import study_choices, study_files
from segadv_jax.report.study_definition import Arm, Block, Study

CONFIG = "configs/stanford_light.py"
RATE = "optimizer.segmenter.learning_rate"
ARMS = {
    "standard": Arm({"slow": {RATE: 0.002}, "fast": {RATE: 0.004}}),
    "features": Arm(
        {"light": {"loss.lam": 0.03}, "heavy": {"loss.lam": 0.1}},
        ("standard",),
        f"{CONFIG}:adversarial",
    ),
    "both": Arm(
        {"one": {"loss.start": 10}, "other": {"loss.start": 20}},
        ("standard", "features"),
        f"{CONFIG}:adversarial",
        {"encoding": "scaling"},
    ),
}
PAIRS = (("features", "standard"), ("both", "features"))

# One more block: what it shares with "natural" is trained once.
TURNS = Block(
    "In turns.",
    {
        "standard": ARMS["standard"],
        "fast": Arm(
            config=f"{CONFIG}:adversarial",
            fields={"alternation.schedule": "fast"},
            like="features",
        ),
    },
    (0, 1),
    (("fast", "standard"), ("fast_latest", "fast")),
    choices="natural",
    checkpoints=("latest",),
    splits=("subset_0",),
    shares="natural",
    histories=True,
)


def make(**blocks):
    """The study, whose blocks can be given otherwise."""
    known = {
        "natural": Block("As they are.", ARMS, (0, 1, 2), PAIRS, tuning_seeds=(100,)),
        "balanced": Block(
            "Alike.",
            {name: ARMS[name] for name in ("standard", "features")},
            (0, 1),
            (("features", "standard"), ("features", "standard_prior")),
            {"loss.balance": 1.0},
            (100, 101),
            prior=("standard",),
            calibrated=("features",),
        ),
        "fold_1": Block(
            "Elsewhere.",
            {"standard": ARMS["standard"]},
            (0,),
            (),
            {"data.test": "test[71:]+subset_0", "data.validation": "test[:71]"},
            choices="natural",
            fold=1,
        ),
    }
    fields = {"train.updates": 2, "init": "{workdir}/start"}
    return Study("Small.", f"{CONFIG}:standard", known | blocks, fields)


STUDY = make()
NOISY = [name for name in study_files.MEASURES if name not in ("std_bf", "images")]
GAIN = {"standard": 0.0, "features": 0.02, "both": 0.021, "standard_prior": 0.03}
GAIN["features_calibrated"] = GAIN["features"]


def made_rows(lacking=()):
    """Rows of all runs, with noise."""
    noise, rows = random.Random(0), []
    for name, block in STUDY.blocks.items():
        for arm in block.shown:
            for seed in block.seeds:
                value = 0.5 + GAIN[arm] + seed / 50
                row = {m: value + noise.gauss(0, 0.001) for m in NOISY}
                row |= {
                    "regions": 12.25,
                    "regions_true": 19.0,
                    "accuracy_real": None,
                    "images": 142,
                }
                row |= {"block": name, "arm": arm, "seed": seed}
                row |= study_files.conditions(STUDY, (name, block.shown[arm]))
                row |= {"segmenter_updates": 300}
                apart = seed * GAIN[arm] / 9
                row |= {"iou_sky": row["mean_iou"] + apart, "iou_sea": row["mean_iou"] - apart}
                row |= {"share_sky": 0.25, "share_sea": 0.75}
                row |= {"true_share_sky": 0.625, "true_share_sea": 0.375}
                if (name, arm, seed) not in lacking:
                    rows.append(row)
    return rows


def choice(arm, chosen):
    point = dict.fromkeys(study_choices.POINT_MEASURES, 0.5) | {"score": 1.0}
    points = {name: {"fields": dict(fields)} | point for name, fields in arm.grid.items()}
    return {"points": points, "chosen": chosen, "fields": {}}


def write(folder, rows):
    files.writable_folder(folder, "folder")
    study_files.write_rows(study_files.table_path(folder, "small"), STUDY, rows)
    blocks = {}
    for (block, name), arm in STUDY.tuned():
        blocks.setdefault(block, {})[name] = choice(arm, next(iter(arm.grid)))
    machine = {"processor": "P", "cores": 2, "processes": 2, "python": "3", "jax": "0"}
    how = {"commits": ["abc"], "commands": ["python -m tools.study small tune"]}
    content = how | {"machine": machine, "settings_tried": 10, "blocks": blocks}
    files.write_json(study_choices.path_of(folder, "small"), content)
    return folder
