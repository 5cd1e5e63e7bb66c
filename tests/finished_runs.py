"""Runs whose training has ended, with all that the reports read of them."""

from segadv_jax import files
from segadv_jax.metrics.names import PAPER_MEASURES
from segadv_jax.workdir import HISTORY_COLUMNS, UPDATES, End, Workdir

HISTORY = ({"step": 10, "validation_mean_iou": 0.5}, {"step": 20, "validation_mean_iou": 0.6})


def make_run(folder, config, evaluations, history=HISTORY, selected=20, ended=True):
    """Makes the folder of a run; returns it.

    Args:
        folder: of the run.
        config: ConfigDict.
        evaluations: {split: fields of its evaluation}, the measures being 0.5 unless given.
        history: rows, in which the segmenter has made an update in every step.
        selected: the step of the checkpoint that the validation selected.
        ended: whether the training has.
    """
    workdir = Workdir(folder)
    workdir.record_config(config.to_dict())
    rows = [{"segmenter_updates": row["step"]} | row for row in history]
    files.write_csv(workdir.history_path, HISTORY_COLUMNS, rows)
    if ended:
        workdir.mark_ended(End(UPDATES, rows[-1]["step"], selected))
    for split, given in evaluations.items():
        result = dict.fromkeys(PAPER_MEASURES, 0.5) | {"step": selected, "mce": 1.0}
        workdir.write_evaluation(split, result | given)
    return folder
