"""What a run leaves in its folder, and the only code that knows the names of these files.

The folder may be a URL, as gs://bucket/run.

config.json          the configuration that the run was started with
classes.json         the names of the classes and their colours
trained_on.txt       the names of the images that it was trained on with their labels
validated_on.txt     those of the images that it is validated on
environment.json     the command that started it, versions of libraries, devices
parameters.txt       the networks' parameters, layer by layer
history.csv          a row per validation: the curves of the paper's Figure 4
predictions/*.png    validation images with their predictions
eval/*.json          what an evaluation measured on a split
checkpoints/         the latest and the best whole state (see `checkpoints.py`)
ended.json           that training has ended, and why
warnings.json        what the watcher warned of, and when (see `watcher.py`)
watched.json         what it knew of the adversary where the history lacks it
skipped.json         the steps that were left out, because they were not sound
training.lock        is locked while a process of this machine trains here
events.*             TensorBoard
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from segadv_jax import files
from segadv_jax.errors import InputError
from segadv_jax.files import AnyPath
from segadv_jax.metrics.names import PAPER_MEASURES

# Measured at each validation, on validation and on training images.
CURVES = ("mce", "pixel_accuracy", "class_accuracy", "mean_iou", "certainty", "ece", "nll")
# Measured on validation images as well if `config.evaluate.history_bf` is set, else empty.
STRUCTURE = ("mean_bf", "mean_boundary_iou", "regions", "specks")
# How often the adversary is right, on real and on synthetic maps.
RIGHT = ("accuracy_real", "accuracy_synthetic")
# The health of the game at the step of the validation, a turn of the segmenter's. What that turn
# does not compute is empty: in the standard arm all but the first norm, under the schedules
# "fast" and "slow" the accuracy on real maps.
GAME = (*RIGHT, "grad_norm_mce", "grad_norm_adversarial")
# The sum of the two terms of Eq. 2, where the step of the validation is the adversary's turn too.
ADVERSARY_LOSS = "adversary_loss"
HISTORY_COLUMNS = (
    *("step", "segmenter_updates", "epoch"),
    *(f"{split}_{curve}" for split in ("train", "validation") for curve in CURVES),
    *(f"validation_{curve}" for curve in STRUCTURE),
    *GAME,
    ADVERSARY_LOSS,
)

# Why a run ended.
UPDATES, PATIENCE = "updates", "patience"


class End(NamedTuple):
    """That training has ended."""

    reason: str  # UPDATES, all of them are done, or PATIENCE, the validation no longer improved.
    step: int  # The last one.
    selected_step: int | None  # That of the checkpoint that the validation selected, if any.


class Workdir:
    """The folder of a run. What reads a file raises an InputError if the file is damaged."""

    def __init__(self, folder: files.PathLike):
        if not str(folder):  # An unset variable of the shell, say.
            raise InputError("--workdir is empty: name a folder")
        self.folder = files.to_path(folder)
        self.config_path = self.folder / "config.json"
        self.classes_path = self.folder / "classes.json"
        self.parameters_path = self.folder / "parameters.txt"
        self.history_path = self.folder / "history.csv"
        self.checkpoints_path = self.folder / "checkpoints"
        self.environment_path = self.folder / "environment.json"
        self._end_path = self.folder / "ended.json"
        self._warnings_path = self.folder / "warnings.json"
        self._watched_path = self.folder / "watched.json"
        self._skipped_path = self.folder / "skipped.json"
        self._trained_on_path = self.folder / "trained_on.txt"
        self._validated_on_path = self.folder / "validated_on.txt"

    def __str__(self) -> str:
        return str(self.folder)

    def make(self) -> None:
        """Makes the folder; raises an InputError if it cannot be made or written."""
        files.writable_folder(self.folder, "--workdir")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keeps other processes of this machine from training here.

        A bucket's folder is not held, nor one on a file system that knows no locks.

        Raises:
            InputError: another one trains here.
        """
        with contextlib.ExitStack() as stack:
            if not files.is_remote(self.folder):
                lock: int | None = -1
                with contextlib.suppress(OSError):
                    lock = stack.enter_context(files.locked(self.folder / "training.lock"))
                if lock is None:
                    raise InputError(
                        f"--workdir={self}: another process is training there: wait for it, stop "
                        "it, or choose another --workdir"
                    )
            yield

    def has_checkpoints(self) -> bool:
        """Whether the run has saved a checkpoint from which it can be resumed."""
        with files.reaching(self.folder):
            if not self.checkpoints_path.is_dir():
                return False
            return any(path.name.isdigit() for path in self.checkpoints_path.iterdir())

    def recorded_config(self) -> dict[str, Any] | None:
        """The configuration that the run was started with; None before that."""
        remedy = (
            "delete it to have it written again from the configuration given, which must be the "
            "one that the run was started with"
        )
        return self._read(self.config_path, remedy)

    def record_config(self, config: Mapping[str, Any]) -> None:
        """Writes the configuration."""
        files.write_json(self.config_path, config)

    def classes(self) -> tuple[list[str], list[list[int]]] | None:
        """The names of the classes and their RGB colours; None if they are not recorded."""
        remedy = "delete it and run the training command again, which writes it"
        content = self._read(self.classes_path, remedy, ("class_names", "palette"))
        if content is None:
            return None
        names, palette = content["class_names"], content["palette"]
        if len(names) != len(palette):
            reason = f"{len(names)} names, {len(palette)} colours"
            raise files.damaged(self.classes_path, reason, remedy)
        return names, palette

    def write_classes(self, names: Sequence[str], palette: Sequence[Sequence[int]]) -> None:
        """Records the classes."""
        files.write_json(self.classes_path, {"class_names": [*names], "palette": [*palette]})

    def trained_on(self) -> set[str]:
        """The names of the images that the run was trained on; empty if they are not recorded."""
        return _names(self._trained_on_path)

    def write_trained_on(self, names: Iterable[str]) -> None:
        """Records the names of the images that the run was trained on."""
        _write_names(self._trained_on_path, names)

    def validated_on(self) -> set[str]:
        """The names of the images that the run is validated on; empty if they are not recorded."""
        return _names(self._validated_on_path)

    def write_validated_on(self, names: Iterable[str]) -> None:
        """Records the names of the images that the run is validated on."""
        _write_names(self._validated_on_path, names)

    def flattering(self, split: str, names: Iterable[str]) -> str:
        """What to warn of if the run was trained on some of these images of a split; else ""."""
        both = sorted(self.trained_on() & {*names})
        if not both:
            return ""
        few = ", ".join(both[:3]) + (", ..." if len(both) > 3 else "")
        of = f"{split} has names of images that the run was trained on ({len(both)}: {few})"
        return f"{of}: figures on them flatter"

    def environment(self) -> dict[str, Any] | None:
        """With what the run was begun, as `environment.describe` says it; None if not recorded."""
        return self._read(self.environment_path, "delete it: nothing else needs it")

    def write_environment(self, content: Mapping[str, Any]) -> None:
        """Records with what the run is begun."""
        files.write_json(self.environment_path, content)

    def history(self) -> list[dict[str, float]]:
        """The rows of the history, none before the first validation; empty fields are left out."""
        rows = self._history_rows()
        try:
            return [{name: float(text) for name, text in row.items() if text} for row in rows]
        except ValueError as error:
            raise files.damaged(self.history_path, error, _MEND_HISTORY) from error

    def cut_history(self, step: int) -> None:
        """Drops the rows after `step`: a run resumed there writes them again.

        A history that was begun with fewer columns gets the others, empty.
        """
        rows = self._history_rows()
        try:
            rows = [row for row in rows if int(row["step"]) <= step]
        except ValueError as error:
            reason = "a row has no number in the column step"
            raise files.damaged(self.history_path, reason, _MEND_HISTORY) from error
        files.write_csv(self.history_path, HISTORY_COLUMNS, rows)

    def add_validation(self, row: Mapping[str, Any]) -> None:
        """Appends a row to the history: its keys are of `HISTORY_COLUMNS`, None is left empty."""
        files.append_csv(self.history_path, HISTORY_COLUMNS, row)

    def _history_rows(self) -> list[dict[str, str]]:
        try:
            return files.read_csv(self.history_path, _MEND_HISTORY, needed="step")
        except FileNotFoundError:
            return []

    def picture_path(self, updates: int) -> AnyPath:
        """Where the predictions after so many updates of the segmenter are drawn."""
        return self.folder / "predictions" / f"{updates:07d}.png"

    def evaluation_path(self, name: str) -> AnyPath:
        """Where the evaluation `name` lies: a split, with its views and corrections."""
        return self.folder / "eval" / f"{name}.json"

    def write_evaluation(self, name: str, result: Mapping[str, Any]) -> AnyPath:
        """Writes an evaluation; returns its path."""
        files.write_json(self.evaluation_path(name), result)
        return self.evaluation_path(name)

    def evaluation(self, name: str) -> dict[str, Any] | None:
        """What an evaluation measured; None if there is none."""
        path, remedy = self.evaluation_path(name), "delete it and evaluate again"
        result = self._read(path, remedy, (*PAPER_MEASURES, "step"))
        for measure in PAPER_MEASURES if result else ():
            value = result[measure]
            if value is not None and not (isinstance(value, int | float) and 0 <= value <= 1):
                raise files.damaged(path, f"{measure} is {value!r}", remedy)
        return result

    def mark_ended(self, end: End) -> None:
        """Records that training has ended."""
        files.write_json(self._end_path, end._asdict())

    def mark_unfinished(self) -> None:
        """Takes back `mark_ended`: there is more to train."""
        with files.reaching(self.folder):
            self._end_path.unlink(missing_ok=True)

    def warnings(self) -> list[dict[str, Any]]:
        """What the watcher warned of: {"segmenter_updates", "kind", "text"} each."""
        content = self._read(self._warnings_path, "delete it: nothing else needs it", ("warnings",))
        return content["warnings"] if content else []

    def write_warnings(self, warnings: Sequence[Mapping[str, Any]]) -> None:
        """Records what the watcher warned of."""
        files.write_json(self._warnings_path, {"warnings": [*warnings]})

    def watched(self) -> list[dict[str, Any]]:
        """What the watcher knew beside the history: {"segmenter_updates", ...} of a row each."""
        content = self._read(self._watched_path, "delete it: nothing else needs it", ("rows",))
        return content["rows"] if content else []

    def write_watched(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Records what the watcher knows beside the history."""
        files.write_json(self._watched_path, {"rows": [*rows]})

    def skipped(self) -> list[int]:
        """The steps, counted from 1, that are left out."""
        remedy = "restore it, or delete it to have all steps played"
        content = self._read(self._skipped_path, remedy, ("steps",))
        return content["steps"] if content else []

    def write_skipped(self, steps: Sequence[int]) -> None:
        """Records the steps that are left out."""
        files.write_json(self._skipped_path, {"steps": [*steps]})

    def end(self) -> End | None:
        """How training ended; None while it has not."""
        remedy = "delete it and run the training command again, which writes it"
        content = self._read(self._end_path, remedy, End._fields)
        return content and End(*(content[name] for name in End._fields))

    @staticmethod
    def _read(path, remedy, needed=()):
        """The JSON in a file; None if it is not there."""
        try:
            return files.read_json(path, remedy, needed)
        except FileNotFoundError:
            return None

    def result(self, split: str = "") -> dict[str, Any] | None:
        """What a run arrived at on a split, by default its test split; None while it is not done.

        A run is done when its training has ended and the checkpoint that the validation selected is
        evaluated on that split.

        Returns:
            The evaluation with `split`, its name, and `segmenter_updates` and `validation_mean_iou`
            of the validation that selected the checkpoint.
        """
        end, config = self.end(), self.recorded_config()
        if end is None or config is None:
            return None
        try:
            split = split or config["data"]["test"]
        except (KeyError, TypeError) as error:
            raise files.damaged(self.config_path, "it lacks data.test", "restore it") from error
        result = self.evaluation(split)
        if result is None or result["step"] != end.selected_step:
            return None
        row = {row.get("step"): row for row in self.history()}.get(result["step"])
        if row is None:
            reason = f"it has no row of step {result['step']}, which was selected"
            raise files.damaged(self.history_path, reason, _MEND_HISTORY)
        return result | {
            "split": split,
            "segmenter_updates": int(row["segmenter_updates"]),
            "validation_mean_iou": row.get("validation_mean_iou"),
        }

    def progress(self) -> tuple[int, int, float] | None:
        """(updates at the last validation, updates in all, its mean IoU on the validation split).

        None before the first validation, and for a moment while a file is being written.
        """
        try:
            config, rows = self.recorded_config(), self.history()
            if not config or not rows:
                return None
            last = rows[-1]
            total = int(config["train"]["updates"])
            return int(last["segmenter_updates"]), total, last["validation_mean_iou"]
        except (InputError, KeyError, TypeError, ValueError):
            return None


_MEND_HISTORY = "mend it, or move it away to begin a new one"


def _names(path: files.AnyPath) -> set[str]:
    """The lines of a file; none without it."""
    try:
        with files.reading(path, "delete it: nothing else needs it"):
            return set(files.read_text(path).split("\n")) - {""}
    except FileNotFoundError:
        return set()


def _write_names(path: files.AnyPath, names: Iterable[str]) -> None:
    with files.replacing(path) as file:
        file.writelines(f"{name}\n" for name in sorted(names))
