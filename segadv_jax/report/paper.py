"""The figures that Luc et al. (2016) and their supplement print, and what is doubtful about them.

Figures are text, not numbers: the digits are the paper's. Those of the supplement's Table 2 are in
configs/hyperparameters.py.
"""

from segadv_jax.configs import hyperparameters

# A row of a table: "standard" or "adversarial" (Stanford Background), "baseline" or (adversary,
# encoding) (PASCAL VOC).
Key = str | tuple[str, str]

# The split that the paper's figures are of, and how many images it has.
STANFORD_TEST = ("test", 142)
VOC_VAL = ("val", 1_449)
VOC_TEST = ("test", 1_456)
# "to measure the mean BF, we use the 1,103 images ... which were annotated on all pixels".
VOC_VAL_FULL = ("val_full", 1_103)

ADVERSARY_TITLES = {
    "largefov": "LargeFOV",
    "smallfov": "SmallFOV",
    "largefov_light": "LargeFOV-light",
    "smallfov_light": "SmallFOV-light",
}

# Table 1, class accuracy, pixel accuracy and mean IoU in %, and what Farabet et al. (2013) report
# for the same network.
TABLE_1: dict[Key, tuple[str, str, str]] = {
    "standard": ("66.5", "73.3", "51.3"),
    "adversarial": ("68.7", "75.2", "54.3"),
}
FARABET = ("72.4", "78.8", "-")

# Table 2, mean IoU and mean BF in %. Those of the baseline are in the text (Section 4).
_TABLE_2 = """
    72.0 47.2  72.0 47.7  72.0 47.9
    72.0 47.6  71.9 46.4  71.9 47.1
    72.0 47.0  72.0 47.7  72.0 47.4
    71.9 47.2  71.9 47.4  72.0 46.9
""".split()
_PAIRS = zip(_TABLE_2[::2], _TABLE_2[1::2], strict=True)
TABLE_2: dict[Key, tuple[str, str]] = {"baseline": ("71.8", "47.4")}
TABLE_2 |= dict(zip(hyperparameters.SELECTED, _PAIRS, strict=True))

# The supplement's Table 1: parameters for C and for 3C channels, C being VOC's 21 classes.
CLASSES = 21
PARAMETERS = {
    "largefov_light": ("8.7e5", "9.1e5"),
    "largefov": ("2.4e6", "2.4e6"),
    "smallfov_light": ("4.9e5", "9.1e5"),
    "smallfov": ("2.4e6", "2.4e6"),
}
_REPEATED = "A misprint: the cell repeats that of {} and does not fit the layers of the same column"
# {(adversary, 0 for C or 1 for 3C channels): what is wrong}.
MISPRINTED_PARAMETERS = {
    ("smallfov", 0): _REPEATED.format("LargeFOV")
    + "; even if every kernel were 3x3 there would be 2.20e6.",
    ("smallfov", 1): _REPEATED.format("LargeFOV") + ".",
    ("smallfov_light", 1): _REPEATED.format("LargeFOV-light") + ".",
}

# The supplement's Table 3: IoU of each class on VOC's test set in %, and its mean.
TABLE_3_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep"),
    *("sofa", "train", "tv monitor"),
)
PRODUCT, SCALING = ("largefov", "product"), ("largefov", "scaling")
TABLE_3: dict[Key, list[str]] = {
    "baseline": (
        "92.9 87.2 38.2 84.5 62.3 69.7 88.0 82.3 86.4 34.6 80.5 60.5 81.0 86.3 83.0 82.7 53.6 83.9 "
        "54.5 79.3 63.7"
    ).split(),
    PRODUCT: (
        "93.0 87.1 38.5 84.9 63.2 69.7 88.0 82.5 86.8 34.5 80.3 61.5 80.9 85.8 83.3 82.6 55.0 83.5 "
        "54.7 79.7 62.9"
    ).split(),
    SCALING: (
        "94.9 87.1 38.3 84.8 63.3 69.8 88.1 82.2 87.0 34.7 80.4 60.4 81.0 86.1 83.1 82.7 54.5 83.4 "
        "53.9 79.5 63.4"
    ).split(),
}
TABLE_3_MEAN: dict[Key, str] = {"baseline": "73.1", PRODUCT: "73.3", SCALING: "73.2"}
# Of the background with SCALING.
DOUBTFUL_BACKGROUND = (
    "Doubtful: the other rows have 92.9 and 93.0. The printed cells of this row have a mean of "
    "73.267, which does not round to the printed 73.2; with 93.0 in place of 94.9 it is 73.176, "
    "which does. The other two rows agree with their means (73.100 and 73.257). This is no proof: "
    "the rounding of 21 cells could account for the 0.017 in question, though that is unlikely."
)
