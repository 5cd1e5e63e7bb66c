"""The paper's own network and setting: does balanced training, long enough, show its gain, and why?

    python -m tools.study paper tune --workdir=W --archives=FOLDER --processes=2

Farabet's multi-scale network from scratch on Stanford Background at half size, classes that count
alike, as in Farabet's own program; see configs/stanford.py. One comparison answers the question:
*printed* - *standard* in the block *strong*. The others seek the reason.

Farabet's own rate of 1e-3, without momentum and for one pixel at a time, is no block: as the rate
of a mean over a patch, 3,000 updates with it are as long a way as 15 or 30 with the rates below.
"""

from segadv_jax.report.study_definition import Arm, Block, Fields, Study

CONFIG = "configs/stanford.py"
_RATE = "optimizer.segmenter.learning_rate"
_RATES: dict[str, Fields] = {"rate_0.02": {_RATE: 0.02}, "rate_0.01": {_RATE: 0.01}}
_WEIGHTS: dict[str, Fields] = {f"boundary_{w}": {"loss.boundary": w} for w in (3.0, 8.0)}


def _printed(lam, like=""):
    """The adversary as the paper prints it, with lambda between the means of the losses."""
    return Arm(
        {} if like else _RATES, config=f"{CONFIG}:printed_half", fields={"loss.lam": lam}, like=like
    )


# Lambda = 2 between the sums of Eq. 1, of which the adversary's has 16 times fewer terms, or
# between the means. The explanations are sought with the first, which is the one the paper prints.
_SUMS, _MEANS = 2 / 16, 2.0
# With the rate of *standard*: another rate would hold back over-fitting, too. In *longer* it is
# that which was chosen for *printed* as well.
_ARMS = {"standard": Arm(), "printed": _printed(_SUMS, like="standard")}
_WITH_SHIFT = (
    ("printed", "standard"),
    ("standard_prior", "standard"),
    ("printed", "standard_prior"),
)
_REGULAR: Fields = {"train.flip": True, "train.ema": 0.99}

STUDY = Study(
    "The paper's network, from scratch, on images at half size, with classes that count alike in "
    "the cross-entropy: is the paper's gain of +3.0 mean IoU there when training lasts until the "
    "validation no longer rises, and which of three explanations fits? A shift by the classes' "
    "prior; an adversary that holds back over-fitting; a standard arm that was not trained to its "
    "end. One comparison answers the first question, *printed* - *standard* in *strong*.",
    f"{CONFIG}:standard_half",
    {
        "strong": Block(
            "Trained well, until the validation's mean IoU has not risen for 1,000 updates, 3,000 "
            "at most: momentum, an average of the weights, flipped patches. *Printed* has lambda "
            "between the sums of Eq. 1, *printed_means* between the means. *Boundary* has no "
            "adversary, but weighs label cells at class boundaries more.",
            {
                "standard": Arm(_RATES),
                "printed": _printed(_SUMS),
                "printed_means": _printed(_MEANS),
                "boundary": Arm(_WEIGHTS, ("standard",)),
            },
            seeds=tuple(range(5)),
            pairs=(
                ("printed", "standard"),
                ("printed_means", "standard"),
                ("standard_prior", "standard"),
                ("printed", "standard_prior"),
                ("printed_prior", "standard_prior"),
                ("printed_class_accuracy", "standard_class_accuracy"),
                ("boundary", "standard"),
                ("printed", "boundary"),
                ("boundary_prior", "standard_prior"),
                ("printed_prior", "boundary_prior"),
            ),
            tuning_seeds=(100,),
            prior=("standard", "printed", "printed_means", "boundary"),
            calibrated=("standard", "printed"),
            checkpoints=("latest", "class_accuracy"),
            histories=True,
        ),
        "longer": Block(
            "As *strong*, 6,000 updates at most.",
            _ARMS,
            seeds=tuple(range(5)),
            pairs=(*_WITH_SHIFT, ("printed_class_accuracy", "standard_class_accuracy")),
            fields={"train.updates": 6000},
            choices="strong",
            prior=tuple(_ARMS),
            calibrated=tuple(_ARMS),
            checkpoints=("class_accuracy",),
            histories=True,
        ),
        "short": Block(
            "As *strong*, but ended after 500 updates, while the validation still rises.",
            _ARMS,
            seeds=tuple(range(5)),
            pairs=_WITH_SHIFT,
            fields={"train.updates": 500, "train.patience": 0, "evaluate.every": 100},
            choices="strong",
            prior=tuple(_ARMS),
            histories=True,
        ),
        "overfitting": Block(
            "A quarter of the images, no flips, no average of the weights, and all updates: a "
            "standard arm that over-fits. *Regularised* has no adversary, but flips and the "
            "average.",
            {**_ARMS, "regularised": Arm(fields=_REGULAR, like="standard")},
            seeds=tuple(range(5)),
            pairs=(
                ("printed", "standard"),
                ("regularised", "standard"),
                ("printed", "regularised"),
                ("printed_latest", "standard_latest"),
            ),
            fields={
                "data.fraction": 0.25,
                "train.flip": False,
                "train.ema": 0.0,
                "train.patience": 0,
                "train.updates": 2000,
                "evaluate.train_images": 144,
            },
            choices="strong",
            checkpoints=("latest",),
            histories=True,
        ),
    },
    {
        "loss.balance": 1.0,
        "optimizer.segmenter.clip": 4.0,
        "train.updates": 3000,
        "train.patience": 4,
        "evaluate.every": 250,
        "evaluate.bf": True,
    },
    primary=("mean_iou",),
    tested=("mean_iou", "mean_bf"),
    # Predictions that are more certain need a stronger shift, and a higher temperature.
    alphas=tuple(quarter / 4 for quarter in range(-4, 9)),
    temperatures=tuple(quarter / 4 for quarter in range(2, 25)),
)
