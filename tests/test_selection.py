"""Which measure on the validation split selects the checkpoint, and when it is waited for."""

import jax.numpy as jnp
import numpy as np
import pytest
from small_runs import small_config

from segadv_jax import devices, predictor
from segadv_jax.checkpoints import Checkpoints
from segadv_jax.errors import InputError
from segadv_jax.train import train
from segadv_jax.validation import Validator
from segadv_jax.workdir import CURVES, PATIENCE, UPDATES, End, Workdir

# By updates, those of a validation: (mean IoU, class accuracy).
MEASURED = {4: (0.5, 0.3), 8: (0.4, 0.6), 12: (0.3, 0.5), 16: (0.2, 0.4), 20: (0.1, 0.3)}


@pytest.fixture
def trained(data_dir, tmp_path, monkeypatch):
    """(select, patience) -> (configuration, workdir) of a run that was measured as above."""

    def count(step):
        def play(state, *_):
            metrics = {"mce": jnp.float32(0), "fault": jnp.float32(0)}
            return state._replace(step=state.step + 1), metrics

        return play

    def measure(self, params):
        mean_iou, class_accuracy = next(self.measured)
        measures = {f"{s}_{c}": 0.1 for s in ("train", "validation") for c in CURVES}
        measures["validation_mean_iou"] = mean_iou
        pictures = dict.fromkeys(("predictions", "probabilities"), np.zeros((1, 1, 3), np.uint8))
        return measures | {"validation_class_accuracy": class_accuracy}, pictures

    monkeypatch.setattr(devices, "map_train_step", count)
    monkeypatch.setattr(Validator, "measure", measure)

    def make(select, patience=0):
        monkeypatch.setattr(Validator, "measured", iter(MEASURED.values()), raising=False)
        fields = {"evaluate.select": select, "train.patience": patience, "train.updates": 20}
        config, workdir = small_config(data_dir, "standard", **fields), tmp_path / select
        train(config, str(workdir))
        return config, Workdir(workdir)

    return make


def test_the_measure_selects_the_checkpoint(trained):
    for select, best in (("mean_iou", 4), ("class_accuracy", 8)):
        config, workdir = trained(select)
        assert workdir.end() == End(UPDATES, 20, best)
        with Checkpoints(workdir) as checkpoints:
            assert checkpoints.steps() == [4, 8, 20] and checkpoints.selected_by() == select
    # What evaluates the run need not know by what it was selected, but two are not compared.
    config.evaluate.select = "mean_iou"
    assert predictor.load(config, str(workdir)).step == 8
    for name, step in (("latest", 20), ("mean_iou", 4), ("class_accuracy", 8), ("selected", 8)):
        config.evaluate.checkpoint = name
        assert predictor.load(config, str(workdir)).step == step
    config.train.updates = 24
    with pytest.raises(InputError, match="config.evaluate.select is 'mean_iou', but the checkpoi"):
        train(config, str(workdir))
    assert workdir.end() == End(UPDATES, 20, 8)


def test_patience_counts_from_it(trained):
    assert trained("mean_iou", patience=2)[1].end() == End(PATIENCE, 12, 4)
    assert trained("class_accuracy", patience=2)[1].end() == End(PATIENCE, 16, 8)
