"""Bars on a terminal, and a line now and then where there is none."""

import pytest
from absl import logging

from segadv_jax import progress


class Loss:
    """A number that is being computed."""

    def __init__(self, value, is_ready=True):
        self.value, self.is_done = value, is_ready

    def is_ready(self):
        return self.is_done

    def __float__(self):
        return float(self.value)


@pytest.fixture
def shown(monkeypatch):
    """What a terminal shows, with every change of it."""
    monkeypatch.setattr(progress, "is_shown", lambda: True)
    states, make = [], progress.tqdm

    class Watched(make):
        def update(self, n=1):
            super().update(n)
            states.append(str(self))

    monkeypatch.setattr(progress, "tqdm", Watched)
    return states


def test_only_steps_that_are_done_are_shown_and_nobody_waits_for_them(shown):
    bar = progress.UpdatesBar(4, 90)
    bar.add(5, Loss(3.0))
    bar.add(6, late := Loss(2.0, is_ready=False))
    bar.add(7, Loss(1.0))  # Later steps cannot be done.
    assert [state.partition("|")[0] for state in shown] == ["update 5 of 90 "]
    assert shown[0].endswith("| loss 3.00")
    late.is_done = True
    bar.add(7, Loss(0.5, is_ready=False))
    assert [state.rpartition("|")[2] for state in shown[1:]] == [" loss 2.00", " loss 1.00"]
    bar.follow(0)
    assert "loss 0.50" in shown[-1]
    bar.close()


def test_how_long_the_rest_takes_is_not_said_of_steps_that_were_compiled(shown):
    bar = progress.UpdatesBar(0, 90)
    for updates in range(1, 6):
        bar.add(updates, Loss(1.0))
    said = [" left" in state for state in shown]
    assert said == [False, False, False, False, True]  # It takes two to tell.
    bar.restart()
    bar.add(6, Loss(1.0))
    assert " left" not in shown[-1]
    bar.close()


def test_without_a_terminal_a_line_is_said_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr(progress, "is_shown", lambda: False)
    lines, bar = [], progress.UpdatesBar(0, 90)
    monkeypatch.setattr(logging, "info", lambda form, *values: lines.append(form % values))
    monkeypatch.setattr(progress, "SAY", 1e9)
    bar.say(10, 2.0)
    assert lines == []
    monkeypatch.setattr(progress, "SAY", -1.0)
    bar.say(20, 1.5)
    assert lines == ["update 20 of 90, loss 1.50"]
    bar.add(21, Loss(1.0))
    bar.close()
    with progress.bar("evaluating", 3) as images:
        images.update(3)
    assert capsys.readouterr() == ("", "")


def test_a_run_that_has_ended_shows_no_bar(shown, capsys):
    bar = progress.UpdatesBar(90, 90)
    bar.restart()
    bar.close()
    assert capsys.readouterr().err == ""


def test_a_bar_counts_images_and_is_gone_when_all_is_done(shown, capsys):
    with progress.bar("evaluating test", 12) as images:
        images.update(4)
    assert shown[0].startswith("evaluating test |") and shown[0].endswith(" 4 of 12 images")
    assert not capsys.readouterr().err.split("\r")[-1].strip()
    with progress.bar("", 12) as images:
        assert images.disable
