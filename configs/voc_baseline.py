"""Dilated-8 on PASCAL VOC 2012, fine-tuned with the cross-entropy alone: the paper's baseline.

    python main.py --config=configs/voc_baseline.py --config.init=dilation8_pascal_voc.caffemodel \\
        --config.data.archives=FOLDER --workdir=runs/voc/baseline

The weights are those that Yu and Koltun released. To start from a VGG-16 classifier, use
--config.init=vgg:PATH; to start from nothing, --config.init=scratch with
--config.segmenter.padding=same. Neither is the paper's, and both need larger learning rates and
--config.optimizer.segmenter.clip=1. The paper reports mean IoU 71.79 and mean BF 47.36 on the
validation set. Only single steps were run here: one patch of 128 pixels takes 10 seconds on two CPU
cores and 9 GiB of memory (python -m pytest -m slow -s tests/test_voc_configs.py).
"""

import ml_collections

from segadv_jax.configs import common, hyperparameters


def get_config(variant=""):
    """The baseline's configuration; those with an adversary build on it. It has no variants."""
    if variant:
        raise ValueError("it has neither variants nor an adversary")
    config = common.get_config()
    config.init = ""  # The starting weights must be named.
    config.data.name = "voc_sbd"
    config.data.train = "train_aug"
    config.data.validation = "val"
    config.data.test = "val"

    config.segmenter = ml_collections.ConfigDict()
    config.segmenter.name = "dilated8"
    config.segmenter.context = "large"  # "large" (as released), "basic" or "none".
    config.segmenter.padding = "reflect"  # "reflect" (as published) or "same".
    config.segmenter.width = 1.0  # Multiplies the numbers of maps.
    config.segmenter.dropout = 0.5
    config.segmenter.dtype = "float32"  # Or "bfloat16".
    config.segmenter.remat = False  # Compute activations again instead of keeping them.
    config.segmenter.sampled_colours = False  # "product" shows a pixel, not the cell's mean.

    config.adversary = field_of_view()

    # Ours: the paper states none of these. Dilated-8 was trained with momentum 0.9, this weight
    # decay and mirror images only; patches of 320 pixels are 40 label cells wide, more than the
    # adversaries' field of view. The adversary's learning rates of up to 0.5 are too large for
    # momentum, and without clipping it was seen to stop learning.
    config.train.batch_size = 8
    config.train.crop = 320
    config.train.updates = 20_000
    config.train.rotation = 0.0
    config.train.scale = (1.0, 1.0)
    config.optimizer.segmenter.weight_decay = 5e-4
    config.optimizer.adversary.momentum = 0.0
    config.optimizer.adversary.clip = 1.0
    config.evaluate.every = 2_000
    config.evaluate.batch_size = 8
    config.evaluate.bf = True
    config.evaluate.tile = 66  # That of the released program.
    config.evaluate.train_images = 64

    config.optimizer.segmenter.learning_rate = hyperparameters.BASELINE.slr
    return config


def field_of_view():
    """The fields of the paper's adversaries for VOC: LargeFOV, unless it is given another name."""
    adversary = ml_collections.ConfigDict()
    adversary.name = "largefov"
    adversary.padding = "same"  # Or "valid".
    adversary.width = 1.0
    adversary.leak = 0.0
    adversary.spectral_norm = False
    adversary.dtype = "float32"
    return adversary


def adversarial(adversary, encoding):
    """The baseline with an adversary, in the paper's slow schedule (Section 4)."""
    config = get_config()
    config.alternation.schedule = "slow"
    hyperparameters.select(config, adversary, encoding)
    return config
