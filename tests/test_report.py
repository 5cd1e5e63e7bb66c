"""`segadv_jax report`: a well-formed page that needs no other file and escapes texts."""

import base64
import io
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from report_pages import made, report
from small_runs import small_config

from segadv_jax import cli, files
from segadv_jax.data import arrays
from segadv_jax.errors import InputError
from segadv_jax.evaluate import evaluate
from segadv_jax.models import MultiScale
from segadv_jax.prediction import Views
from segadv_jax.predictor import DataPredictor
from segadv_jax.report import html_curves, html_examples, html_parts
from segadv_jax.train import train
from segadv_jax.workdir import Workdir

WICKED = "<script>alert(1)</script>"
NAMED = 'Straße "1" & <b>grün</b>'
SHORT = {"train.updates": 2, "evaluate.every": 1}


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
    assert not {"script", "i"} & set(page.tags)
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


def test_no_two_of_many_lines_look_alike():
    looks = {html_curves._look(place) for place in range(36)}
    assert len(looks) == 36


def test_texts_are_escaped_and_markup_is_not():
    made = html_parts.element("p", "<&", html_parts.element("b", '"'), title='a"<')
    assert made == '<p title="a&quot;&lt;">&lt;&amp;<b>&quot;</b></p>'
