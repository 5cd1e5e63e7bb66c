"""The paper's three measures, as they are named in files and shown to people."""

MEASURES = ("class_accuracy", "pixel_accuracy", "mean_iou")


def title(measure):
    """A measure's name as text: "mean IoU"."""
    return measure.replace("_", " ").replace("iou", "IoU")


def percent(fraction, form=".1f"):
    """A fraction in percent as text; a dash where it is None, not defined or not known."""
    return "-" if fraction is None else format(100 * fraction, form)


def describe(result):
    """The three measures of a dict that has them, in percent, as text."""
    return ", ".join(f"{title(name)} {percent(result[name])}" for name in MEASURES)
