"""A small segmenter on procedurally drawn scenes: nothing to download, minutes on a laptop.

Local appearance in these scenes is ambiguous while their layout obeys rules: consistency is what
tells a good label map from a poor one. Both arms, one after the other, with a comparison at the
end, in about five minutes on two cores:

    make train

and one of them alone:

    python main.py --config=configs/synthetic.py:adversarial --workdir=runs/adversarial
"""

from segadv_jax.configs import common

ARMS = ("standard", "adversarial")


def get_config(arm="adversarial"):
    """The configuration of one of `ARMS`."""
    common.check_arm(arm, ARMS)
    config = common.get_config()
    config.data.name = "synthetic"
    config.segmenter.widths = (8, 32, 64)
    config.segmenter.hidden = 256
    config.adversary.label_features = 32
    config.adversary.image_features = (8, 32)
    config.adversary.fused_features = (64, 64, 128)

    config.train.updates = 600
    config.train.batch_size = 8
    config.train.crop = 80
    config.train.log_every = 50
    config.evaluate.every = 100
    config.evaluate.batch_size = 8
    config.evaluate.train_images = 64
    config.optimizer.segmenter.learning_rate = 0.02
    config.optimizer.segmenter.decay = "poly"

    if arm == "adversarial":
        config.alternation.schedule = "simultaneous"
        config.loss.lam = 2 / 16  # See configs/stanford.py.
        config.optimizer.adversary.learning_rate = 1e-3
    return config
