"""What is measured of a study's finished run beside its own evaluation: corrections of what it
predicts, other checkpoints, other splits."""

from pathlib import Path
from typing import Any, NamedTuple

from segadv_jax import configuration, corrections, evaluate, files
from segadv_jax.campaign.runs import Run
from segadv_jax.metrics.names import SELECTING
from segadv_jax.report.study_definition import CALIBRATED, CHECKPOINTS, PRIOR, Study


class Correction(NamedTuple):
    """Chosen after training by a run's validation images; its test images are measured with it."""

    field: str  # Of `config.evaluate`.
    file: str  # In the run's folder.
    chosen: str  # What the file calls the value,
    column: str  # and `<study>.csv`.


CORRECTIONS = {
    PRIOR: Correction("prior_shift", "prior.json", "alpha", "prior_alpha"),
    CALIBRATED: Correction("temperature", "temperature.json", "temperature", "temperature"),
}


def measure_beside(run: Run, what: str) -> None:
    """Measures a finished run once more, as `Block.beside` names it."""
    if beside(run, what) is None:
        config = configuration.recorded(run.workdir)
        split = what
        if what in CHECKPOINTS:
            split, config.evaluate.checkpoint = config.data.test, what
        evaluate.evaluate(config, run.folder, split)


def beside(run: Run, what: str) -> dict[str, Any] | None:
    """What `measure_beside` found; None if it is not done for this checkpoint."""
    name = what
    if what in CHECKPOINTS:
        name = f"{configuration.recorded(run.workdir).data.test}_{what}"
    found = run.workdir.evaluation(name)
    return found if found is not None and found["step"] == _step_beside(run, what) else None


def _step_beside(run: Run, what: str) -> float | None:
    """The step of the checkpoint that is measured beside a run's test images."""
    end = run.workdir.end()
    if what in SELECTING:  # As `checkpoints.best_step` chooses: of equal ones the latest.
        score = f"validation_{what}"
        rows = [(row[score], row["step"]) for row in run.workdir.history() if score in row]
        return max(rows)[1] if rows else None
    return end and (end.step if what == "latest" else end.selected_step)


def correct(run: Run, end: str, study: Study) -> None:
    """Makes a correction, of `CORRECTIONS`, of a finished run: chooses and measures."""
    if corrected(run, end, study) is not None:
        return
    correction, config = CORRECTIONS[end], configuration.recorded(run.workdir)
    choose = corrections.choose_prior_shift if end == PRIOR else corrections.choose_temperature
    tried = _tried(study, end)
    chosen, _ = choose(config, run.folder, config.data.validation, tried)
    result = run.workdir.result()
    if chosen != evaluate.UNCORRECTED[correction.field]:
        config.evaluate[correction.field] = chosen
        result = evaluate.evaluate(config, run.folder, config.data.test)
    found = {correction.chosen: chosen, "tried": tried, "result": result}
    files.write_json(Path(run.folder, correction.file), found)


def _tried(study: Study, end: str) -> list[float]:
    return list(study.alphas if end == PRIOR else study.temperatures)


def corrected(run: Run, end: str, study: Study) -> dict[str, Any] | None:
    """{name of the value: value, "result"} of `correct`; None if it is not done.

    It is to be done again for another checkpoint, or where the study tries other values.
    """
    correction, result = CORRECTIONS[end], run.workdir.result()
    path = Path(run.folder, correction.file)
    if result is None or not path.exists():
        return None
    remedy = "delete it and train again"
    found = files.read_json(path, remedy, (correction.chosen, "result"))
    if not isinstance(found["result"], dict) or "step" not in found["result"]:
        raise files.damaged(path, "its result is no evaluation", remedy)
    tried = _tried(study, end)  # Older files have no "tried": they count as made with these.
    same = found["result"]["step"] == result["step"] and found.get("tried", tried) == tried
    return found if same else None
