"""The claims of Section 4, one by one, on Stanford Background with the budget of a CPU.

    python -m tools.ablations train --archives=FOLDER_WITH_iccv09Data.tar.gz --workdir=W
    python -m tools.ablations report --workdir=W

train all arms with several seeds and write docs/ablations.md, which has the scores to expect. One
arm takes about two minutes on one core:

    python main.py --config=configs/ablations.py:fast --config.data.archives=... --workdir=W

Arms differ from "simultaneous", the adversary as the paper prints it, in what their name says.
Images are seen at half size and training is short: what longer training would do is not shown.
"""

from segadv_jax.configs import common, stanford, voc_baseline

# Fields that differ from those of "simultaneous".
ARMS = {
    "standard": {},
    "simultaneous": {},
    "fast": {"alternation.schedule": "fast"},
    # The paper's 500 steps would be more than all the steps that the segmenter has here.
    "slow": {"alternation.schedule": "slow", "alternation.period": 50},
    "fast_pretrained": {"alternation.schedule": "fast", "alternation.pretrain": 150},
    "slow_pretrained": {
        "alternation.schedule": "slow",
        "alternation.period": 50,
        "alternation.pretrain": 150,
    },
    "product": {"encoding": "product"},
    "scaling": {"encoding": "scaling"},
    "saturating": {"loss.saturating": True},
    # An adversary that sees label maps only, and with the image beside them.
    "label_map": {},
    "label_map_rgb": {"encoding": "basic_rgb"},
}


def get_config(arm="simultaneous"):
    """Args: arm: one of `ARMS`."""
    common.check_arm(arm, ARMS)
    config = stanford.get_config("standard_half" if arm == "standard" else "printed_half")
    config.train.crop = 160
    config.train.updates = 300
    config.train.patience = 0
    config.evaluate.every = 100
    if arm.startswith("label_map"):
        config.adversary = voc_baseline.field_of_view()
        config.adversary.name = "smallfov_light"
        # As in configs/voc_baseline.py: this network is initialised differently.
        config.optimizer.adversary.learning_rate = 0.1
        config.optimizer.adversary.momentum = 0.0
        config.optimizer.adversary.clip = 1.0
    config.update_from_flattened_dict(ARMS[arm])
    return config
