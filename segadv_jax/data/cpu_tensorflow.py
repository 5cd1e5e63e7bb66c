"""TensorFlow and TFDS for input only: import them from here, so that they never take a GPU."""

import tensorflow as tf
import tensorflow_datasets as tfds

tf.config.set_visible_devices([], "GPU")
tfds.disable_progress_bar()
