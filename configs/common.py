"""Fields that all experiments share, with the values that the paper or its references give."""

import ml_collections


def get_config():
    """The fields of every experiment; each configuration sets what is left empty here."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    # The segmenter's starting weights: "scratch"; the path of those of the whole network, or of the
    # folder of a run; "vgg:PATH", a VGG-16 classifier for the front end of Dilated-8; or
    # "efficientnet_lite0", the installed classifier, or "efficientnet_lite0:PATH".
    config.init = "scratch"
    # Folder that keeps what is compiled; empty: in the user's cache folder; "none": none does.
    config.compilation_cache = ""

    config.data = ml_collections.ConfigDict()
    config.data.name = ""
    # Folder with the official archives (empty: download them), or with your own images.
    config.data.archives = ""
    config.data.allow_partial = False  # Accept incomplete archives (voc_sbd).
    config.data.data_dir = ""  # Where prepared data is kept; empty: TFDS's usual folder.
    config.data.fraction = 1.0  # Part of the training images to use, drawn by the seed.
    # Images to train with whose labels nobody sees: "rest", the training images that `fraction`
    # leaves out and those of an image_folder without masks; splits; or a folder of photographs.
    config.data.unlabelled = ""
    # Of an image_folder; docs/own_images.md says more.
    config.data.without_masks = False  # Images without a mask are no error.
    config.data.void = ""  # The labels' void: "255" if empty; another value; or "none".
    config.data.images = ""  # Names of the subfolders, by default images and labels.
    config.data.labels = ""
    config.data.label_suffix = ""  # What label files' names have after the image's, as "_mask".
    config.data.turn_masks = False  # Masks are turned as their photographs' EXIF data says.
    config.data.longest_side = 0  # Larger images are shrunk to so many pixels; 0: none are.
    config.data.train = "train"  # Splits. The test split is read only after training.
    config.data.validation = "validation"
    config.data.test = "test"  # Empty: "test" if there is such a split, otherwise the validation.

    config.segmenter = ml_collections.ConfigDict()
    config.segmenter.name = "multiscale"
    config.segmenter.widths = (16, 64, 256)  # Maps of its three convolutions.
    config.segmenter.hidden = 1024  # Units of the classifier's hidden layer.
    config.segmenter.sparse = True  # Connection tables, as published; False: dense layers.
    config.segmenter.activation = "tanh"  # As published; or "relu".
    config.segmenter.lcn = "levels"  # Normalises each level of the pyramid; or "rgb", the image.
    config.segmenter.shrink = 1  # The networks see the image this many times smaller.
    config.segmenter.dtype = "float32"  # Of the arithmetic; or "bfloat16", on GPUs and TPUs.
    config.segmenter.remat = False  # Compute activations again instead of keeping them.

    config.adversary = ml_collections.ConfigDict()
    config.adversary.name = "two_branch"
    config.adversary.label_features = 64  # Channels of its branch for label maps,
    config.adversary.image_features = (16, 64)  # for the image,
    config.adversary.image_branch = "pixels"  # Or the segmenter's "features", if it offers any.
    config.adversary.fused_features = (128, 256, 512)  # And after both are fused.
    config.adversary.leak = 0.0  # Slope of its ReLU below 0.
    config.adversary.spectral_norm = False  # Miyato et al., ICLR 2018.
    config.adversary.dtype = "float32"  # As config.segmenter.dtype.
    config.encoding = "basic"  # "basic", "product", "scaling" (Section 3.2) or "basic_rgb".

    config.loss = ml_collections.ConfigDict()
    config.loss.lam = 0.0  # Lambda of Eq. 1. Its unit depends on the reduction.
    config.loss.reduction = "mean"  # "mean" or "sum" (Eq. 1 to the letter).
    config.loss.saturating = False  # True keeps the second term of Eq. 3 as printed.
    # Classes count in the cross-entropy, that of pseudo-labels too, by their share of the labels to
    # the power of 1 - balance: with 0 as they are, with 1 all alike. The mean weight is 1.
    config.loss.balance = 0.0
    config.loss.largest_weight = 10.0  # The limit for the weight of a class.
    # Lambda on images without labels (config.data.unlabelled).
    config.loss.lam_unlabelled = 0.0
    # The adversarial term is the distance of the adversary's mean features on both maps.
    config.loss.feature_matching = False
    # Simple terms that might do an adversary's work; controls.py cites the sources.
    config.loss.entropy = 0.0  # Weight of the predictions' entropy.
    config.loss.pseudo_labels = 0.0  # Weight of certain predictions as labels, without labels.
    config.loss.pseudo_threshold = 0.9  # The least probability of a certain one.
    config.loss.boundary = 1.0  # Weight of the label cells beside another class; the others' is 1.
    config.loss.boundary_radius = 1  # How many cells from it.
    config.loss.label_smoothing = 0.0  # Of the cross-entropy.
    # Ways to keep the game alive, none of them the paper's; losses.Objective cites the sources.
    # Updates of the segmenter before the adversarial term, and the two of predictions above, begin.
    config.loss.start = 0
    config.loss.ramp = 0  # Further updates over which lambda then rises.
    config.loss.game = "bce"  # The adversary's loss: "bce", "hinge" or "least_squares".
    config.loss.smoothing = 0.0  # Real maps count as ground truth to 1 - smoothing only.
    config.loss.noise = 0.0  # Standard deviation of the noise on both encoded maps.
    config.loss.r1 = 0.0  # Weight (gamma) of the R1 gradient penalty on the adversary.

    config.alternation = ml_collections.ConfigDict()
    config.alternation.schedule = "standard"  # "standard", "simultaneous", "fast" or "slow".
    config.alternation.period = 500  # Of "slow" (Section 4).
    config.alternation.pretrain = 0  # Adversary-only steps at the start (Section 4).

    config.train = ml_collections.ConfigDict()
    config.train.updates = 0  # Of the segmenter; the adversary's own turns come on top.
    # End after so many validations without a rise of what selects the checkpoint, all of them after
    # loss.start and loss.ramp if a term begins then; 0: never.
    config.train.patience = 0
    config.train.ema = 0.0  # Decay of the average of the segmenter's weights; 0: none is kept.
    config.train.batch_size = 4
    config.train.unlabelled_batch_size = 0  # Beside them, of data.unlabelled; 0: as many.
    # Parts into which each device's images are split, one after the other: the same step with less
    # memory.
    config.train.accumulate = 1
    config.train.crop = 160  # Side of the training patches in pixels; 0: whole images.
    config.train.augment = True  # False: nothing of what follows is drawn, only where a patch is.
    config.train.flip = True
    config.train.rotation = 8.0  # Degrees either way.
    config.train.scale = (0.9, 1.1)  # Smallest and largest factor on the image's size.
    # Random resized crops: the smallest and largest share of the image's area that a patch shows,
    # as (0.25, 1.0), and the smallest and largest width / height of that part, which is resized to
    # the crop. It needs a crop, and a scale of (1.0, 1.0).
    config.train.area = ()
    config.train.aspect = (3 / 4, 4 / 3)
    # With 0.2 it is multiplied by a factor of 0.8 to 1.2; from 0, which is off, to below 1.
    config.train.brightness = 0.0
    config.train.contrast = 0.0
    config.train.saturation = 0.0
    # Folder that keeps what the frozen part of the segmenter computes of each training image, as it
    # is and mirrored; empty: it is computed at each step. It needs a frozen part, whole images, and
    # no augmentation but flips.
    config.train.feature_cache = ""
    config.train.log_every = 50  # Steps of either player.
    config.train.profile = 0  # Steps to profile for TensorBoard, from a start's tenth on.
    # Of batches that may be left out, in all: where a loss is not finite or has exploded, training
    # goes back to the last checkpoint and leaves out that batch; 0: it ends with an error.
    config.train.skips = 0
    config.train.checkpoint_every = 500  # Steps; each validation saves one as well.

    config.optimizer = ml_collections.ConfigDict()
    for player in ("segmenter", "adversary"):
        config.optimizer[player] = ml_collections.ConfigDict()
        config.optimizer[player].name = "sgd"  # "sgd", "adam" or "adamw".
        config.optimizer[player].learning_rate = 0.0
        config.optimizer[player].momentum = 0.9  # Of "sgd" only: nothing to the others.
        # Of "adam" and "adamw"; the adversary's first is that of DCGAN (Radford et al., ICLR 2016).
        config.optimizer[player].betas = (0.9, 0.999) if player == "segmenter" else (0.5, 0.99)
        config.optimizer[player].decay = "constant"  # "constant", "cosine" or "poly".
        # The player's first updates over which its learning rate rises, for large batches.
        config.optimizer[player].warmup = 0
        config.optimizer[player].clip = 0.0  # Largest norm of this player's gradient; 0: no limit.
        # Coefficient of the L2 penalty's gradient; of "adamw" decoupled from Adam's means.
        config.optimizer[player].weight_decay = 0.0
    # Factor on the learning rate of the segmenter's pretrained parts, if it has any.
    config.optimizer.segmenter.backbone_factor = 1.0

    config.evaluate = ml_collections.ConfigDict()
    config.evaluate.every = 500  # Updates of the segmenter.
    # The measure on the validation split that selects the checkpoint: "mean_iou" or
    # "class_accuracy".
    config.evaluate.select = "mean_iou"
    # Which checkpoint --mode=evaluate evaluates: the "selected" one, the "latest", or the best by
    # "mean_iou" or "class_accuracy".
    config.evaluate.checkpoint = "selected"
    config.evaluate.batch_size = 4
    config.evaluate.train_images = 72  # Of the training split, measured without augmentation.
    config.evaluate.pictures = 4  # Validation images shown in the prediction grids.
    config.evaluate.split = ""  # What --mode=evaluate evaluates; empty: data.test.
    # Also measure the structure: BF and Boundary IoU, on the boundaries, and regions; not while
    # training.
    config.evaluate.bf = False
    config.evaluate.history_bf = False  # The same at each validation, on validation images only.
    config.evaluate.bf_background = True  # Whether class 0 counts in BF.
    config.evaluate.tile = 0  # Cells on a side of the tiles of an image; 0: whole images.
    # Average over the mirrored image as well, and over these scales; not while training.
    config.evaluate.flip = False
    config.evaluate.scales = (1.0,)
    # Alpha: alpha * log f is added to the logits, f the classes' shares of the training images'
    # label cells. Undoes a loss.balance of alpha, and more than that where loss.largest_weight
    # limited a class's weight; from -2 to 2; not while training.
    config.evaluate.prior_shift = 0.0
    # Then the logits are divided by this: above 1 all probabilities become more alike; from 0.01 to
    # 100, 1: as they are; not while training.
    config.evaluate.temperature = 1.0
    return config


def check_arm(arm, known):
    """Raises a ValueError unless an arm is one of those known."""
    if arm not in known:
        raise ValueError(f"the arm is one of {', '.join(map(repr, known))}")
