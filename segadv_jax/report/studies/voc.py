"""Table 2 of the paper's supplement in miniature, on the light segmenter.

    python -m tools.study voc tune --workdir=W --archives=FOLDER --processes=2
    segadv_jax tables --out=docs/tables voc=docs/results/voc.csv

Four adversaries, each with three encodings, at the settings that a small grid found on the images
of `val`, as in the paper. As there, mean IoU is that of `val`, and BF that of `val_full`, whose
images are annotated on all pixels.
"""

from segadv_jax.configs.hyperparameters import ENCODINGS
from segadv_jax.configs.voc_light import PAIRS
from segadv_jax.report.study_definition import Arm, Block, Study

CONFIG = "configs/voc_light.py"
_RATE = "optimizer.segmenter.learning_rate"

ARMS = {"standard": Arm({f"rate_{rate}": {_RATE: rate} for rate in (1e-3, 2e-3, 4e-3)})}
ARMS |= {
    name: Arm(
        {f"lam_{lam}": {"loss.lam": lam} for lam in (0.01, 0.03, 0.1)},
        ("standard",),
        f"{CONFIG}:{name}",
    )
    for name in PAIRS
}
# Beside the paper's table: what does as much for boundaries on Stanford Background.
ARMS["boundary"] = Arm(
    {f"boundary_{weight}": {"loss.boundary": weight} for weight in (2.0, 4.0, 8.0)}, ("standard",)
)

# Twelve differences from the same five runs without an adversary would rise and fall together, so
# what is tested is what they have in common: once for all, and for what the table varies.
POOLS = {"adversarial": tuple(PAIRS)}
POOLS |= {name: tuple(f"{a}_{e}" for a, e in PAIRS.values() if e == name) for name in ENCODINGS}
POOLS |= {
    "largefov": tuple(name for name in PAIRS if name.startswith("largefov")),
    "smallfov": tuple(name for name in PAIRS if name.startswith("smallfov")),
    "light": tuple(name for name, (adversary, _) in PAIRS.items() if adversary.endswith("_light")),
}
POOLS["adversarial_val_full"] = tuple(f"{name}_val_full" for name in PAIRS)
POOLS["full"] = tuple(name for name in PAIRS if name not in POOLS["light"])

STUDY = Study(
    "Table 2 of the paper's supplement in miniature: the light segmenter on those images of PASCAL "
    "VOC 2012 that were at hand, 500 updates. As in the paper `val` chooses settings and "
    "checkpoints and measures mean IoU, and `val_full`, of whose images all are among those of "
    "`val`, measures BF. Of what was at hand the annotations of `val_full` are those of `val` with "
    "the void at objects filled in from the nearest label: its boundaries are partly made up.",
    f"{CONFIG}:standard",
    {
        "table_2": Block(
            "Four adversaries, three encodings; and cross-entropy weighted at class boundaries.",
            ARMS,
            seeds=tuple(range(5)),
            pairs=(
                ("adversarial", "standard"),
                ("boundary", "standard"),
                ("product", "basic"),
                ("scaling", "basic"),
                ("largefov", "smallfov"),
                ("full", "light"),
            ),
            pools=POOLS,
            tuning_seeds=(100,),
            splits=("val_full",),
        )
    },
    {
        "data.allow_partial": True,
        "train.updates": 500,
        "evaluate.every": 125,
    },
    primary=("mean_iou",),
)
