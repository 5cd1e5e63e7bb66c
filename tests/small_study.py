"""A small study for tests: two blocks of their own choices, and two without."""

from segadv_jax.report.study_definition import Arm, Block, Study

CONFIG = "configs/stanford_light.py"
_RATE = "optimizer.segmenter.learning_rate"
ARMS = {
    "standard": Arm({"slow": {_RATE: 0.002}, "fast": {_RATE: 0.004}}),
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
    shares="natural",
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
