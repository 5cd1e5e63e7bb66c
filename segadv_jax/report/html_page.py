"""The page of one or several runs, put together from its parts."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging
from flax.traverse_util import flatten_dict

from segadv_jax import configuration, health
from segadv_jax.errors import InputError
from segadv_jax.report import compared, html_examples, html_tables
from segadv_jax.report.compared import Arm
from segadv_jax.report.html_curves import curves
from segadv_jax.report.html_parts import (
    Html,
    details,
    element,
    join,
    listed,
    page,
    paragraph,
    section,
    table,
)

# Fields that say where files lie and what is written, not what is trained.
_PLACES = ("data.archives", "data.data_dir", "train.feature_cache", "train.log_every", "seed")


def write(arms: Sequence[Arm], split: str, images: int, overrides: Sequence[str] = ()) -> str:
    """The whole page, as HTML.

    Args:
        arms: what it is about.
        split: on which they were evaluated.
        images: how many examples to show.
        overrides: fields of `config.data` and `config.evaluate`, for reading the data set.
    """
    apart = compared.why_apart(arms)
    names = [arm.name for arm in arms]
    heading = f"{names[0]}" if len(arms) == 1 else f"{', '.join(names[1:])} against {names[0]}"
    parts = [
        _head(arms, split, heading, apart),
        _results(arms, split, apart),
        _health(arms, split),
        section("Curves", _curves(arms)),
        section("Predictions", _examples(arms, split, images, apart, overrides)) if images else "",
        _classes(arms, split, apart),
        _confusions(arms),
        _configuration(arms),
        _origin(arms),
    ]
    return page(heading, *parts)


def _head(arms, split, heading, apart):
    data = list(dict.fromkeys(arm.first.config["data"]["name"] for arm in arms))
    counts = {result["images"] for arm in arms for result in arm.results if "images" in result}
    tested = f"split {split}" + (f" ({counts.pop()} images)" if len(counts) == 1 else "")
    said = [f"Data: {', '.join(data)}; measured on the {tested}."]
    # Those of the configuration are what the run was begun with, and patience may have ended it.
    updates = {int(arm.first.history[-1]["segmenter_updates"]) for arm in arms if arm.first.history}
    said.append(f"Updates of the segmenter: {', '.join(f'{u:,}' for u in sorted(updates))}.")
    findings = []
    if apart:
        findings.append(f"These runs cannot be compared: {apart}.")
    elif len(arms) == 1:
        mean = compared.mean(arms[0], "mean_iou")
        if mean is not None:
            of = f", the mean of {len(arms[0].results)} seeds" if len(arms[0].results) > 1 else ""
            findings.append(f"Mean IoU {100 * mean:.1f} % on the split {split}{of}.")
    else:
        findings = [compared.finding(arm, arms[0], split) for arm in arms[1:]]
    made = [paragraph(each, class_="finding") for each in findings if each]
    return element("header", element("h1", heading), *made, paragraph(" ".join(said)))


def _results(arms, split, apart):
    notes = []
    for arm in arms:
        for run in arm.runs:
            selected = run.end.selected_step if run.end else None
            if run.result is None:
                alone = Arm(arm.name, [run])
                notes.append(
                    f"{run.workdir} was not evaluated on the split {split}; "
                    f"{compared.remedy(alone, split)}"
                )
            elif run.end is None:
                notes.append(f"{run.workdir} has not ended: its figures are preliminary.")
            elif selected is not None and run.result.get("step") != selected:
                notes.append(
                    f"{run.workdir} was evaluated at step {run.result.get('step')}, but step "
                    f"{selected} was selected; {compared.remedy(Arm(arm.name, [run]), split)}"
                )
    if apart:
        notes.append(f"No differences are shown: {apart}.")
    measured = any(arm.results for arm in arms)
    body = html_tables.results(arms, split, apart) if measured else ""
    return section("Results", body, listed(notes) if notes else "")


def _health(arms, split):
    parts: list[Html] = []
    for arm in arms:
        for run in arm.runs:
            label = arm.name
            if len(arm.runs) > 1:
                label += f", seed {run.config['seed']}"
            config = configuration.complete(run.config)
            found = health.read(run.history, config, run.result, ended=run.end is not None)
            said = [
                element("span", each.text, class_="alarm") if each.alarm else each.text
                for each in found
            ]
            said += [
                f"At update {each['segmenter_updates']} it was warned: {each['text']}"
                for each in run.warnings
            ]
            skipped = run.workdir.skipped()
            if skipped:
                steps = ", ".join(map(str, skipped))
                said.append(f"Steps left out, since a loss was not finite or exploded: {steps}.")
            parts += [element("h3", label), listed(said)]
    return section("The health of the runs", *parts)


def _curves(arms):
    drawn = curves({arm.name: [run.history for run in arm.runs] for arm in arms})
    if not drawn:
        return paragraph("No validation has been recorded yet.")
    note = "At each validation. The adversary's accuracies and the gradients are of single batches."
    if any(len(arm.runs) > 1 for arm in arms):
        note += " Of several seeds the mean is drawn, as far as most of them got, "
        note += "and a band from the lowest to the highest."
    return join(drawn, paragraph(note, class_="soft"))


def _examples(arms, split, images, apart, overrides):
    if apart:
        return paragraph(f"Not shown side by side: {apart}.")
    try:
        return html_examples.examples(arms, split, images, overrides)
    except (InputError, OSError) as error:
        reason = " ".join(str(error).split())
        logging.warning("no example predictions: %s", reason)
        return paragraph(f"There are no example predictions: {reason}.")


def _classes(arms, split, apart):
    if not any(arm.results for arm in arms):
        return ""
    if apart:
        return section("Classes", paragraph(f"The classes are not compared: {apart}."))
    return section("Classes", html_tables.classes(arms))


def _confusions(arms):
    made = [html_tables.confusion(arm) for arm in arms]
    return section("What is taken for what", *made) if any(made) else ""


def _configuration(arms):
    """The fields that differ between the arms, and all of them, folded."""
    configs = {arm.name: _flat(arm.first.config) for arm in arms}
    fields = sorted(set().union(*configs.values()))
    differing = [
        name for name in fields if len({_text(each.get(name)) for each in configs.values()}) > 1
    ]
    differing.sort(key=lambda name: name in _PLACES)

    def rows(names: Sequence[str]):
        for name in names:
            values = [_text(each.get(name)) for each in configs.values()]
            yield [name, *(element("td", value, class_="text") for value in values)]

    heads = ["config.", *configs]
    parts = []
    if len(arms) > 1:
        said = (
            f"The arms differ in {len(differing)} fields." if differing else "They do not differ."
        )
        parts = [paragraph(said), _left(table(heads, rows(differing))) if differing else ""]
    folded = details("The whole configuration", _left(table(heads, rows(fields))))
    return section("Configuration", *parts, folded)


def _left(made: Html) -> Html:
    """A table of texts."""
    return element("div", made, class_="left")


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    return flatten_dict(configuration.complete(config), sep=".")


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_text, value))})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _lines(command: str) -> str:
    """A command with a line for each of its options, still to be pasted."""
    try:
        words = [shlex.quote(word) for word in shlex.split(command)]
    except ValueError:
        return command
    return "".join(f" \\\n    {word}" if word[:2] == "--" else f" {word}" for word in words)[1:]


def _origin(arms):
    """How each run was made, and with what."""
    parts: list[object] = []
    for arm in arms:
        for run in arm.runs:
            said = [f"Folder: {run.workdir}"]
            about = run.environment
            if about is None:
                said.append("Environment: not recorded")
            else:
                packages = about.get("packages")
                packages = packages if isinstance(packages, Mapping) else {}
                devices = about.get("devices")
                versions = [f"{name} {version}" for name, version in packages.items()]
                said += [
                    f"Started: {about.get('started')}",
                    f"Devices: {', '.join(map(str, devices or []))}",
                    f"Python {about.get('python')} on {about.get('system')}",
                    f"Packages: {', '.join(versions)}",
                    f"Commit: {about.get('commit') or 'not recorded'}",
                ]
            command = (
                element("pre", _lines(run.command)) if run.command else paragraph("Not recorded.")
            )
            name = arm.name if len(arm.runs) == 1 else f"{arm.name}, seed {run.config['seed']}"
            body = [listed(said), paragraph("The command that trains it again:"), command]
            whole = len(arm.runs) == 1
            made = [element("h3", name), *body] if whole else [details(name, *body)]
            parts += made
    one = sum(len(arm.runs) for arm in arms) == 1
    return section("How it was made" if one else "How they were made", *parts)
