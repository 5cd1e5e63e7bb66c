"""`segadv_jax report`: a well-formed page that needs no other file and escapes texts."""

import base64
import io
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from finished_runs import make_run
from ml_collections import ConfigDict
from PIL import Image
from small_runs import small_config

from segadv_jax import cli, files
from segadv_jax.data import arrays
from segadv_jax.errors import InputError
from segadv_jax.evaluate import evaluate
from segadv_jax.models import MultiScale
from segadv_jax.prediction import Views
from segadv_jax.predictor import DataPredictor
from segadv_jax.report import compared, html_curves, html_examples, html_parts
from segadv_jax.train import train
from segadv_jax.workdir import Workdir

WICKED = "<script>alert(1)</script>"
NAMED = 'Straße "1" & <b>grün</b>'
SHORT = {"train.updates": 2, "evaluate.every": 1}
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


@pytest.fixture(scope="module")
def trained(data_dir, tmp_path_factory):
    """A tiny run that was trained and evaluated."""
    folder = str(tmp_path_factory.mktemp("runs") / "Läufe eins")
    config = small_config(data_dir, "standard", **SHORT)
    train(config, folder)
    evaluate(config, folder, "test[:7]")
    return folder


@pytest.fixture(scope="module")
def page_of_trained(trained, tmp_path_factory):
    """The page of that run and of a copy."""
    folder = tmp_path_factory.mktemp("report")
    copy = shutil.copytree(trained, folder / "copied")
    return report(folder, f"first={trained}", f"second={copy}", "--images=3")


def test_the_page_needs_no_other_file(page_of_trained):
    page, text = page_of_trained
    assert "http://" not in text and "https://" not in text and "@import" not in text
    assert not {"link", "script", "iframe", "object"} & set(page.tags)
    assert all(s.startswith(("data:image/", "#")) for s in page.sources)
    assert "svg" in page.tags
    assert len(text) < 3e6


def test_names_of_elements_are_unique_and_what_is_referred_to_is_there(page_of_trained):
    page, text = page_of_trained
    names = re.findall(r'\bid="([^"]+)"', text)
    assert names and len(set(names)) == len(names)
    wanted = {s[1:] for s in page.sources if s.startswith("#")}
    assert wanted | set(re.findall(r"url\(#([^)]+)\)", text)) <= set(names)


def test_each_example_has_image_truth_and_both_predictions(page_of_trained):
    page, _ = page_of_trained
    pictures = page.pictures()
    assert len(pictures) == 3 * 4
    for source in pictures:
        picture = Image.open(io.BytesIO(base64.b64decode(source.partition("base64,")[2])))
        assert min(picture.size) > 50
    assert [s[11:15] for s in pictures[:4]] == ["jpeg", "png;", "png;", "png;"]
    assert "first: " in page.text and "% of pixels right" in page.text


def test_the_page_says_with_what_a_run_was_trained(page_of_trained, trained):
    page, _ = page_of_trained
    recorded = Workdir(trained).environment()
    assert recorded["packages"]["jax"] and recorded["started"][:2] == "20"
    for text in (f"Python {recorded['python']}", f"jax {recorded['packages']['jax']}", "4 x"):
        assert text in page.text
    assert trained in page.text


def test_a_resumed_run_keeps_its_environment(trained, data_dir, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "run")
    files.write_json(Workdir(folder).environment_path, {"command": "the first"})
    train(small_config(data_dir, "standard", **SHORT), str(folder))
    assert Workdir(folder).environment() == {"command": "the first"}


def test_confusion_results_and_health_are_on_the_page(page_of_trained):
    page, _ = page_of_trained
    for text in ("What is taken for what", "The health of the runs", "mean IoU, %", "truth ↓"):
        assert text in page.text
    assert "second is level in mean IoU with first" in page.text
    assert "They do not differ." in page.text


def test_what_people_were_warned_of_is_on_the_page(tmp_path):
    folder = made(tmp_path / "run")
    warning = {"segmenter_updates": 7, "kind": "won", "text": "The adversary has won."}
    Workdir(folder).write_warnings([warning])
    page, _ = report(tmp_path, folder)
    assert "At update 7 it was warned: The adversary has won." in page.text


def test_steps_that_were_left_out_are_on_the_page(tmp_path):
    folder = made(tmp_path / "run")
    page, _ = report(tmp_path, folder)
    assert "left out" not in page.text
    Workdir(folder).write_skipped([3, 12])
    page, _ = report(tmp_path, folder)
    assert "Steps left out, since a loss was not finite or exploded: 3, 12." in page.text


def test_without_data_the_page_says_so_and_goes_on(tmp_path):
    page, _ = report(tmp_path, made(tmp_path / "run"))
    assert "There are no example predictions" in page.text and "no checkpoint is there" in page.text
    assert page.pictures() == []
    assert "Environment: not recorded" in page.text
    assert "Mean IoU 50.0 %" in page.text


def test_what_comes_from_files_is_escaped(tmp_path):
    names = (WICKED, '"quoted" & grün')
    folder = made(tmp_path / "a'b <i>", "adversarial", names=names)
    files.write_json(Workdir(folder).environment_path, {"command": f"train '{WICKED}'"})
    warning = {"segmenter_updates": 7, "kind": "won", "text": f"of {WICKED}"}
    Workdir(folder).write_warnings([warning])
    page, text = report(tmp_path, f"{NAMED}={folder}", f"$x$_{WICKED}={made(tmp_path / 'other')}")
    assert not {"script", "b", "i"} & set(page.tags) - {"b"}
    assert "<script" not in text and "<b>grün" not in text and "<i>" not in text
    for shown in (WICKED, '"quoted" & grün', NAMED, "$x$", "a'b <i>"):
        assert shown in page.text


EVIL = ("'></td><svg onload=alert(1)>", '"><script>alert(1)</script>', '" onmouseover="alert(1)')
EVIL += (
    "javascript:alert(1)//<!--",
    "</style></title><b>&quot;",
    "]]><![CDATA[<i>",
    "&lt;script&gt;",
)


class Skeleton(HTMLParser):
    """The elements of a page and the names of their attributes, in order."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, *(name for name, _ in attrs)))

    def handle_comment(self, data):
        self.found.append("comment")

    def unknown_decl(self, data):
        self.found.append("declaration")


def test_no_text_changes_what_a_page_is_made_of(tmp_path):
    """Classes, arms, folders and values of the configuration, in texts, attributes and SVG."""

    def page_of(place, texts):
        first, second = (
            made(
                place / texts[0].replace("/", "") / name,
                arm,
                names=texts[1:3],
                data=texts[3],
                mean_bf=0.5,
                bf=dict.fromkeys(texts[1:3], 0.4),
            )
            for name, arm in (("one", "standard"), ("two", "adversarial"))
        )
        command = {"command": texts[4], "host": texts[5]}
        files.write_json(Workdir(first).environment_path, command)
        warning = {"segmenter_updates": 7, "kind": texts[6], "text": texts[4]}
        Workdir(second).write_warnings([warning])
        place.mkdir(exist_ok=True)
        return report(place, f"{texts[5]}={first}", f"{texts[6]}={second}")

    tame, plain = page_of(tmp_path / "tame", [f"text{i}" for i in range(len(EVIL))])
    wicked, text = page_of(tmp_path / "wicked", EVIL)
    assert Skeleton(text).found == Skeleton(plain).found
    assert {"svg", "td", "style", "title"} <= set(tame.tags)
    for shown in (EVIL[1], EVIL[2], EVIL[4], EVIL[5], EVIL[6]):
        assert shown in wicked.text


def test_names_of_images_are_escaped_and_the_choice_is_spread_and_telling(tmp_path, monkeypatch):
    random = np.random.RandomState(0)
    labels = [random.randint(0, 2, (20, 24)).astype(np.uint8) for _ in range(12)]
    images = [np.repeat(100 * label[..., None], 3, -1).astype(np.uint8) for label in labels]
    ids = [f"{NAMED}_{i}" for i in range(12)]
    palette = np.array([[0, 0, 0], [250, 100, 20]], np.uint8)
    splits = {"test": arrays.Arrays(ids, images, labels)}
    data_set = arrays.data_set("made", splits, (WICKED, "other"), palette)

    class StandIn(DataPredictor):
        """Right in all, but for the image 7, which it gets wrong in the `second` run."""

        def predict(self, image, size):
            found = (image[..., 0] > 50).astype(int)
            wrong = [np.array_equal(x[:20, :24], images[7]) and self.step == 2 for x in image]
            found = np.where(np.array(wrong)[:, None, None], 1 - found, found)
            return np.eye(2, dtype=np.float32)[found]

    def load(config, folder, views=True):
        step = 2 if folder.endswith("second") else 1
        own = ((WICKED, "other"), palette, MultiScale(2), {}, step, Views(), ConfigDict())
        return StandIn(*own, data_set)

    monkeypatch.setattr(html_examples.predictor, "load", load)
    runs = [made(tmp_path / name) for name in ("first", "second")]
    for run in runs:
        (run / "checkpoints" / "20").mkdir(parents=True)
    runs.append(made(tmp_path / "third"))
    page, text = report(tmp_path, *runs, "--images=3")
    assert "Not shown, as no checkpoint is there: third." in page.text
    assert "<b>grün" not in text and "<script" not in text
    shown = [int(number) for number in re.findall(r"</b>_(\d+)", page.text)]
    assert shown == [3, 9, 7]  # Two that are evenly spread, and where they differ.
    assert "Those of 12 images where they differ most" in page.text
    assert "second: 0 % of pixels right" in page.text and WICKED in page.text


def test_rows_are_spread_evenly_and_never_repeated():
    assert html_examples.spread(12, 3) == [2, 6, 10]
    assert html_examples.spread(2, 5) == [0, 1]
    assert len(set(html_examples.spread(7, 6))) == 6


def test_seeds_of_an_arm_are_put_together(tmp_path):
    arms = {"standard": (0.50, 0.52, 0.54), "adversarial": (0.60, 0.63, 0.63)}
    for arm, ious in arms.items():
        for seed, iou in enumerate(ious):
            made(tmp_path / arm / f"seed_{seed}", arm, seed, iou=iou)
    page, _ = report(tmp_path, tmp_path / "standard", tmp_path / "adversarial", "--images=0")
    assert "52.0 ± 2.0" in page.text and "62.0 ± 1.7" in page.text and "+10.0" in page.text
    assert "adversarial is 10.0 points of mean IoU above standard" in page.text
    # Differences 10, 11, 9: 10 -+ 4.303 * 1 / sqrt(3).
    assert "3 seeds in common" in page.text and "+7.5 to +12.5 points" in page.text
    assert "more than chance explains" in page.text
    assert "Predictions" not in page.text
    assert "The adversary is ahead" in page.text


def test_one_seed_each_says_little(tmp_path):
    runs = made(tmp_path / "a", iou=0.5), made(tmp_path / "b", iou=0.497)
    page, _ = report(tmp_path, *runs)
    said = "b is 0.3 points of mean IoU below a on the split test (49.7 against 50.0 %)"
    assert f"{said}; one seed each, so this says little." in page.text


def test_classes_are_sorted_by_the_difference(tmp_path):
    first = made(tmp_path / "a", iou=0.5)
    second = made(tmp_path / "b", iou=0.5, **{})
    result = Workdir(second).evaluation("test")
    Workdir(second).write_evaluation("test", result | {"iou": {"sky": 0.4, "tree": 0.9}})
    page, _ = report(tmp_path, first, second)
    table = page.text[page.text.index("Sorted by the gain in IoU over a") :]
    assert table.index("tree") < table.index("sky")
    assert "+30.0" in table and "−10.0" in table


def test_runs_of_different_data_are_not_compared(tmp_path):
    runs = made(tmp_path / "a"), made(tmp_path / "b", data="voc_sbd", names=("sky", "car"))
    page, _ = report(tmp_path, *runs)
    assert "cannot be compared: they are of different data sets, synthetic and voc_sbd" in page.text
    assert "The classes are not compared" in page.text
    assert "points of mean IoU" not in page.text
    shutil.rmtree(runs[1] / "eval")  # One that is still to be evaluated is of other data as well.
    page, _ = report(tmp_path, *runs)
    assert "cannot be compared: they are of different data sets, synthetic and voc_sbd" in page.text
    assert "Not shown side by side: they are of different data sets" in page.text


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"names": ("sky", "car")}, "cannot be compared: their classes differ"),
        ({"images": 8}, "cannot be compared: they were measured on different numbers of images"),
    ],
)
def test_figures_of_other_images_are_not_compared(other, said, tmp_path):
    page, _ = report(tmp_path, made(tmp_path / "a"), made(tmp_path / "b", **other))
    assert said in page.text and "points of mean IoU" not in page.text
    page, _ = report(tmp_path, made(tmp_path / "c"), made(tmp_path / "d", iou=0.6))
    assert "cannot be compared" not in page.text


def test_figures_that_may_not_be_the_last_are_marked(tmp_path):
    run = made(tmp_path / "a", step=10)
    page, _ = report(tmp_path, run)
    assert "has not ended" not in page.text
    assert "was evaluated at step 10, but step 20 was selected" in page.text
    (run / "ended.json").unlink()
    page, _ = report(tmp_path, run)
    assert "has not ended: its figures are preliminary" in page.text
    assert "How it was made" in page.text and "How they were made" not in page.text


def test_the_best_figure_is_bold_which_may_be_the_lowest(tmp_path):
    one = made(tmp_path / "a", iou=0.5, ece=0.02, nll=0.5)
    other = made(tmp_path / "b", iou=0.6, ece=0.04, nll=0.25)
    _, text = report(tmp_path, one, other, "--images=0")
    bold = re.findall("<b>([-0-9.]+)</b>", text)
    assert {"60.0", "2.0", "0.250"} <= set(bold) and not {"50.0", "4.0", "0.500"} & set(bold)


def test_a_difference_that_may_be_chance_is_called_so(tmp_path):
    for arm, ious in {"standard": (0.50, 0.52, 0.54), "adversarial": (0.56, 0.50, 0.55)}.items():
        for seed, iou in enumerate(ious):
            made(tmp_path / arm / f"seed_{seed}", arm, seed, iou=iou)
    page, _ = report(tmp_path, tmp_path / "standard", tmp_path / "adversarial", "--images=0")
    assert "this may be chance" in page.text and "more than chance explains" not in page.text


def test_a_run_that_was_not_evaluated_is_named_with_what_to_run(tmp_path):
    run = made(tmp_path / "a b")
    shutil.rmtree(run / "eval")
    page, _ = report(tmp_path, run)
    assert "was not evaluated on the split test" in page.text
    assert f"segadv_jax evaluate --workdir='{run}' --config.evaluate.split=test" in page.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{0}/none"], "there is no folder .*none"),
        (["{0}"], r"no run is in this folder.*did you mean .*/run"),
        (["{0}/run", "x="], "there is no folder"),
        (["a={0}/run", "a={0}/run"], "a: two runs have that name"),
        (["{0}/run", "--split=val"], r"--split=val: no run was evaluated on it; run: segadv_jax"),
        (["{0}/run", "--images=-1"], "--images=-1: give a number from 0 to 100"),
        (["{0}/run", "--out={0}"], "name a file that ends in .html"),
        (["{0}/run", "--out={0}/run/config.json/x.html"], "--out=.* is not a folder"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, message, tmp_path):
    made(tmp_path / "run")
    given = [argument.format(tmp_path) for argument in arguments]
    with pytest.raises(InputError, match=message) as error:
        cli.run("segadv_jax.commands.report", "report", given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "{}", "config.json is damaged"),
        ("config.json", "{", "config.json is damaged"),
        ("environment.json", "[]", "environment.json is damaged"),
        ("eval/test.json", '{"step": 1}', "test.json is damaged"),
        ("history.csv", "step\nx\n", "history.csv is damaged"),
    ],
)
def test_a_damaged_file_is_named(name, content, message, tmp_path):
    (made(tmp_path / "run") / name).write_text(content)
    with pytest.raises(InputError, match=message):
        compared.read([str(tmp_path / "run")])


def test_the_runs_of_a_campaign_are_named_after_their_arms(tmp_path):
    for arm in ("fast", "slow"):
        made(tmp_path / arm / "seed_0")
    arms, split = compared.read([str(tmp_path / arm / "seed_0") for arm in ("fast", "slow")])
    assert [arm.name for arm in arms] == ["fast", "slow"] and split == "test"


def test_no_two_of_many_lines_look_alike():
    looks = {html_curves._look(place) for place in range(36)}
    assert len(looks) == 36


def test_texts_are_escaped_and_markup_is_not():
    made = html_parts.element("p", "<&", html_parts.element("b", '"'), title='a"<')
    assert made == '<p title="a&quot;&lt;">&lt;&amp;<b>&quot;</b></p>'
