"""The paper's printed figures: they agree with each other and with the data, or are noted."""

from statistics import mean

from segadv_jax.configs import hyperparameters
from segadv_jax.report import paper, tables


def test_printed_figures_agree_between_the_tables():
    assert set(paper.TABLE_2) == {"baseline", *hyperparameters.SELECTED}
    for key, (iou, bf) in paper.TABLE_2.items():
        exact = hyperparameters.SELECTED.get(key, hyperparameters.BASELINE)
        for printed, value in ((iou, exact.mean_iou), (bf, exact.mean_bf)):
            assert abs(float(printed) - value) < 0.05 + 1e-9, key


def test_the_numbers_of_images_and_the_classes_are_those_of_the_data():
    from segadv_jax.data import stanford_background, voc_sbd  # Not above: they take TensorFlow.

    for split, number in (paper.VOC_VAL, paper.VOC_VAL_FULL, paper.VOC_TEST):
        assert voc_sbd.IMAGES[split] == number
    assert paper.TABLE_3_CLASSES == voc_sbd.CLASS_NAMES
    assert ("test", len(stanford_background.read_splits()["test"])) == paper.STANFORD_TEST


def test_misprinted_parameters_are_those_that_the_layers_do_not_have():
    expected = {
        "largefov_light": (871_490, 907_778),
        "largefov": (2_351_170, 2_387_458),
        "smallfov_light": (490_434, 526_722),
        "smallfov": (1_572_802, 1_609_090),
    }
    wrong = set()
    for name, printed in paper.PARAMETERS.items():
        for i, channels in enumerate((21, 63)):
            ours = tables.count_parameters(name, channels)
            assert ours == expected[name][i]
            if float(f"{ours:.1e}") != float(printed[i]):
                wrong.add((name, i))
    assert wrong == set(paper.MISPRINTED_PARAMETERS)
    assert wrong == {("smallfov", 0), ("smallfov", 1), ("smallfov_light", 1)}


def test_one_row_of_table_3_does_not_have_its_printed_mean():
    rows = {key: [float(x) for x in printed] for key, printed in paper.TABLE_3.items()}
    for key, row in rows.items():
        assert len(row) == len(paper.TABLE_3_CLASSES) == 21
        assert (f"{mean(row):.1f}" == paper.TABLE_3_MEAN[key]) == (key != paper.SCALING)
    for background in (92.9, 93.0):
        assert f"{mean([background, *rows[paper.SCALING][1:]]):.1f}" == "73.2"


def test_the_note_on_that_row_has_its_figures():
    row, others = (
        paper.TABLE_3[paper.SCALING],
        (paper.TABLE_3["baseline"], paper.TABLE_3[paper.PRODUCT]),
    )
    printed, ours = float(paper.TABLE_3_MEAN[paper.SCALING]), mean(map(float, row))
    instead = mean(map(float, [others[1][0], *row[1:]]))
    agree = [f"{mean(map(float, other)):.3f}" for other in others]
    for words in (
        f"the other rows have {others[0][0]} and {others[1][0]}.",
        f"a mean of {ours:.3f}, which does not round to the printed {printed};",
        f"with {others[1][0]} in place of {row[0]} it is {instead:.3f}, which does.",
        f"agree with their means ({agree[0]} and {agree[1]}).",
        f"the rounding of {len(row)} cells could account for the {ours - printed - 0.05:.3f} in",
    ):
        assert words in paper.DOUBTFUL_BACKGROUND
