import pytest

from rsa.training.progress import ProgressDisplay


def test_a_line_says_losses_rate_and_time_left(capsys: pytest.CaptureFixture):
    progress = ProgressDisplay("rsa s0", start=100, total=300, batch_size=64)
    assert capsys.readouterr().out == "rsa s0  continues after step 100\n"
    words = progress.describe({"step": 150, "loss": 1.23456, "beta": 0.4, "tau": 0.99, "lr": 0.05, "weak": 3.0}, seconds=10.0)
    assert words == "loss 1.235  beta 0.4  tau 0.99  lr 0.05  320 images/s  30 s left"
    assert progress.describe({"step": 101, "loss": 1.0}, 30.0).endswith("2 images/s  1.7 h left")
    assert progress.describe({"step": 110, "loss": 1.0}, 10.0).endswith("64 images/s  3 min left")


def test_plain_lines_come_seldom_and_at_the_end(capsys: pytest.CaptureFixture):
    progress = ProgressDisplay("rsa s0", start=0, total=100, batch_size=64)
    for step in (25, 50, 75, 100):
        progress.show(
            {"step": step - 1, "loss": 2.0, **({"online_knn": 43.21} if step == 50 else {})}, {"step": step, "loss": 1.0}
        )
    progress.close()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[1:3] for line in lines] == [["step 25/100", "loss 1"], ["step 100/100", "loss 1"]]
    assert ["online_knn 43.21" in line for line in lines] == [False, True]  # what is seldom found stays to be seen
