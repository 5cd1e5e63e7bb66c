"""Where does an adversary on label maps help the light segmenter, and what do simple controls do?

    python -m tools.study light tune --workdir=W --archives=FOLDER --processes=2

Stanford Background at full size, the light segmenter of configs/stanford_light.py, whose frozen
features are kept in the folder of the runs.
"""

import itertools

from segadv_jax.report.study_definition import Arm, Block, Fields, Study

CONFIG = "configs/stanford_light.py"
_RATE = "optimizer.segmenter.learning_rate"
_ADVERSARY_RATE = "optimizer.adversary.learning_rate"
_UNLABELLED = {"data.unlabelled": "rest"}


def _over(field, values):
    """Points that differ in one field."""
    name = field.rpartition(".")[2]
    return {f"{name}_{value}": {field: value} for value in values}


def _game(*lams, unlabelled=False):
    """Points of an adversary: two lambdas times two of its learning rates."""
    return {
        f"lam_{lam}_rate_{rate}": {"loss.lam": lam, _ADVERSARY_RATE: rate}
        | ({"loss.lam_unlabelled": lam} if unlabelled else {})
        for lam in lams
        for rate in (2e-4, 5e-4)
    }


def _adversarial(grid, variant="adversarial", **fields):
    return Arm(grid, ("standard",), f"{CONFIG}:{variant}", fields)


def _against(other, arms):
    return tuple((arm, other) for arm in arms if arm != other)


# With the average of the weights at the middle rate: all else equal, it is known to help.
STANDARD = Arm(
    {f"rate_{rate}": {_RATE: rate, "train.ema": 0.0} for rate in (2e-3, 4e-3, 8e-3)}
    | {"rate_0.004_ema": {_RATE: 4e-3, "train.ema": 0.99}}
)
FEATURES = _adversarial(_game(0.03, 0.1))
LABEL_MAP = _adversarial(_game(0.03, 0.1), "fully_convolutional")
# What is made of predictions begins with the adversaries' term.
_LATE = {"loss.start": 50}
ENTROPY = Arm(_over("loss.entropy", (0.01, 0.03, 0.1, 0.3)), ("standard",), fields=_LATE)
BOUNDARY = Arm(_over("loss.boundary", (2.0, 3.0, 5.0, 8.0)), ("standard",))

NATURAL = {
    "standard": STANDARD,
    "features": FEATURES,
    "features_scaling": _adversarial(_game(0.03, 0.1), encoding="scaling"),
    "pixels": _adversarial(_game(0.03, 0.1), **{"adversary.image_branch": "pixels"}),
    "label_map": LABEL_MAP,
    "feature_matching": _adversarial(
        _over("loss.lam", (0.03, 0.1, 0.3, 1.0)), **{"loss.feature_matching": True}
    ),
    "entropy": ENTROPY,
    "label_smoothing": Arm(_over("loss.label_smoothing", (0.02, 0.05, 0.1, 0.2)), ("standard",)),
    "boundary": BOUNDARY,
    # The weight of boundaries stays that of "boundary": their difference is the adversary's.
    "boundary_features": Arm(
        _over("loss.lam", (0.01, 0.03, 0.06, 0.1)),
        ("standard", "features", "boundary"),
        f"{CONFIG}:adversarial",
    ),
    "boundary_features_scaling": Arm(
        _over("loss.lam", (0.01, 0.03, 0.06, 0.1)),
        ("standard", "features_scaling", "boundary"),
        f"{CONFIG}:adversarial",
        {"encoding": "scaling"},
    ),
}
BALANCED = {
    "standard": STANDARD,
    "features": FEATURES,
    "label_map": _adversarial(_game(0.1, 0.3), "fully_convolutional"),
    "entropy": ENTROPY,
    "boundary": BOUNDARY,
}
# Arms with unlabelled images have a grid of their own, no larger than that of the controls: what
# they inherited from the arms without would be further settings.
FEW = {
    "standard": STANDARD,
    "features": FEATURES,
    "label_map": LABEL_MAP,
    "boundary": BOUNDARY,
    "features_unlabelled": _adversarial(_game(0.03, 0.1, unlabelled=True), **_UNLABELLED),
    "label_map_unlabelled": _adversarial(
        _game(0.03, 0.1, unlabelled=True), "fully_convolutional", **_UNLABELLED
    ),
    "entropy_unlabelled": Arm(ENTROPY.grid, ("standard",), fields=_UNLABELLED | _LATE),
    "self_training": Arm(
        {
            f"weight_{weight}_from_{threshold}": {
                "loss.pseudo_labels": weight,
                "loss.pseudo_threshold": threshold,
            }
            for weight in (0.3, 1.0)
            for threshold in (0.8, 0.9)
        },
        ("standard",),
        fields=_UNLABELLED | _LATE,
    ),
}
_WITH_UNLABELLED = [name for name, arm in FEW.items() if "data.unlabelled" in arm.fields]

# The fields of all arms of a block, by its name.
_CONDITIONS: dict[str, Fields] = {
    "natural": {},
    "balanced": {"loss.balance": 1.0},
    "few": {"data.fraction": 0.0625, "train.updates": 150, "evaluate.every": 50},
}

# What a longer training might gain as well.
_LONGER = ("standard", "features", "boundary")
_FOLDED = ("standard", "features", "boundary", "boundary_features")
# Of arms that gained in a block, of which the folds had no runs at first.
_FOLDED_LATER = ("features_scaling", "label_smoothing")
_FOLDED_BALANCED = ("standard", "label_map", "boundary")
_ADVERSARIES_FEW = ("features_unlabelled", "label_map_unlabelled")
_FOLDED_FEW = ("standard", *_ADVERSARIES_FEW, "self_training")


def _fold(number, source, arms, pairs, **more):
    """Arms of the block `source` with another division of the images.

    Two subsets test, the next validates, all others train. No image is in the test splits of two
    folds, the standard one included. Subset 7, on which the settings were chosen, is in none.
    """
    first = 2 * (number - 1)
    kept = [f"subset_{i}" for i in range(8) if i not in (first, first + 1, first + 2)]
    splits = {
        "data.train": "+".join([*kept, "test"]),
        "data.validation": f"subset_{first + 2}",
        "data.test": f"subset_{first}+subset_{first + 1}",
    }
    return Block(
        f"As *{source}*, with its settings, on fold {number}: tested on "
        f"`{splits['data.test']}`, validated on `{splits['data.validation']}`. The images tested "
        "here were training images when the settings were chosen, for all arms alike.",
        arms,
        seeds=tuple(range(5)),
        pairs=pairs,
        fields=_CONDITIONS[source] | splits,
        choices=source,
        fold=number,
        **more,
    )


def _folds(number):
    """The blocks of a fold."""
    natural = {name: NATURAL[name] for name in (*_FOLDED, *_FOLDED_LATER)}
    pairs = (
        *_against("standard", natural),
        ("boundary_features", "boundary"),
        ("features", "boundary"),
    )
    balanced = {name: BALANCED[name] for name in _FOLDED_BALANCED}
    shifted = (
        ("label_map", "standard"),
        ("standard_prior", "standard"),
        ("label_map_prior", "standard_prior"),
        ("boundary", "standard"),
        ("label_map_prior", "boundary_prior"),
    )
    few = {name: FEW[name] for name in _FOLDED_FEW}
    few_pairs = (*_against("standard", few), *_against("self_training", _ADVERSARIES_FEW))
    return {
        f"fold_{number}": _fold(number, "natural", natural, pairs, calibrated=_FOLDED),
        f"balanced_fold_{number}": _fold(
            number, "balanced", balanced, shifted, prior=_FOLDED_BALANCED
        ),
        f"few_fold_{number}": _fold(number, "few", few, few_pairs),
    }


# The claims of Section 4, at the settings of *features* in the block *natural*.
# The paper's slow turns of 500 steps would be all that the segmenter has.
_FAST = {"alternation.schedule": "fast"}
_SLOW = {"alternation.schedule": "slow", "alternation.period": 50}
_PRETRAINED = {"alternation.pretrain": 150}
_CLAIMS: dict[str, Fields] = {
    "fast": _FAST,
    "slow": _SLOW,
    "fast_pretrained": _FAST | _PRETRAINED,
    "slow_pretrained": _SLOW | _PRETRAINED,
    "product": {"encoding": "product"},
    "saturating": {"loss.saturating": True},
}
TURNS = {
    name: Arm(config=f"{CONFIG}:adversarial", fields=fields, like="features")
    for name, fields in _CLAIMS.items()
}
TURNS["label_map_rgb"] = Arm(
    config=f"{CONFIG}:fully_convolutional", fields={"encoding": "basic_rgb"}, like="label_map"
)
SECTION_4 = {
    name: NATURAL[name] for name in ("standard", "features", "features_scaling", "label_map")
} | TURNS

STUDY = Study(
    "Where does an adversary on label maps help a segmenter with a pretrained, frozen backbone, "
    "and what do simple controls do that have no adversary? Stanford Background at full size.",
    f"{CONFIG}:standard",
    {
        "natural": Block(
            "All labels, classes as frequent as they are.",
            NATURAL,
            seeds=tuple(range(10)),
            pairs=(
                *_against("standard", NATURAL),
                ("boundary_features", "boundary"),
                ("boundary_features_scaling", "boundary"),
                ("features", "boundary"),
            ),
            tuning_seeds=(100,),
        ),
        "balanced": Block(
            "All labels, classes that count alike in the cross-entropy, as in the paper.",
            BALANCED,
            seeds=tuple(range(10)),
            pairs=(
                *_against("standard", BALANCED),
                ("standard_prior", "standard"),
                *_against("standard_prior", list(BALANCED)[1:]),
                ("features_prior", "standard_prior"),
                ("label_map_prior", "standard_prior"),
                ("label_map_prior", "boundary_prior"),
            ),
            fields=_CONDITIONS["balanced"],
            tuning_seeds=(100,),
            prior=tuple(BALANCED),
        ),
        "few": Block(
            "One label map in sixteen; the other images are used without theirs, or left out.",
            FEW,
            seeds=tuple(range(10)),
            pairs=(
                *_against("standard", FEW),
                *((arm, base) for arm in _WITH_UNLABELLED for base in ("features", "label_map")),
                *itertools.product(_ADVERSARIES_FEW, ("entropy_unlabelled", "self_training")),
            ),
            fields=_CONDITIONS["few"],
            tuning_seeds=(100, 101),
        ),
        "section_4": Block(
            "The paper's claims in Section 4: turns, pre-training, what the adversary is shown.",
            SECTION_4,
            seeds=tuple(range(5)),
            pairs=(
                *_against("features", SECTION_4),
                ("label_map_rgb", "label_map"),
                ("fast_pretrained", "fast"),
                ("slow_pretrained", "slow"),
                ("saturating", "standard"),
            ),
            choices="natural",
            shares="natural",
            histories=True,
        ),
        "longer": Block(
            "As *natural*, with its settings, but four times as many updates.",
            {name: NATURAL[name] for name in _LONGER},
            seeds=tuple(range(10)),
            pairs=_against("standard", _LONGER),
            fields={"train.updates": 2000, "evaluate.every": 200},
            choices="natural",
            histories=True,
        ),
        **_folds(1),
        **_folds(2),
        **_folds(3),
    },
    {
        "train.updates": 500,
        "evaluate.every": 100,
        "train.feature_cache": "{workdir}/features",
    },
    pictured=("standard", "features", "boundary"),
)
