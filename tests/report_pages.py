"""Pages of `segadv_jax report`: runs to make them of, made and read."""

from html.parser import HTMLParser

from finished_runs import make_run
from small_runs import small_config

from segadv_jax import cli

EMPTY = {"meta", "img", "br"}  # Elements without an end.


class Page(HTMLParser):
    """Parses a page, and remembers what it needs of others; a wrong end of an element fails."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.sources, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == [] and text.startswith("<!DOCTYPE html>")

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> has an attribute twice"
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        assert not any(name.startswith("on") for name in names)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def pictures(self):
        return [source for source in self.sources if source.startswith("data:image/")]


def report(folder, *arguments):
    """Carries out the command; returns the parsed page and its text."""
    path = folder / "a page.html"
    cli.run("segadv_jax.commands.report", "report", [*map(str, arguments), f"--out={path}"])
    text = path.read_text(encoding="utf-8")
    return Page(text), text


def made(folder, arm="standard", seed=0, names=("sky", "tree"), iou=0.5, data="synthetic", **more):
    """A finished run without checkpoints."""
    config = small_config("", arm, **{"data.test": "test", "seed": seed, "data.name": data})
    rows = [
        {"step": s, "validation_mean_iou": iou - 0.1 + s / 200, "train_mean_iou": iou}
        | {"validation_mce": 1.0, "train_mce": 0.9}
        for s in (10, 20)
    ]
    if arm == "adversarial":
        game = {"accuracy_real": 0.99, "accuracy_synthetic": 0.98}
        rows = [row | game | {"grad_norm_mce": 0.1, "grad_norm_adversarial": 0.02} for row in rows]
    share = 1 / len(names)
    result = {
        "mean_iou": iou,
        "iou": {name: iou + 0.1 * i for i, name in enumerate(names)},
        "histogram_true": dict.fromkeys(names, share),
        "confusion": [[30, 10], [5, 55]] if len(names) == 2 else None,
        "images": 7,
    }
    return make_run(folder, config, {"test": result | more}, rows)
