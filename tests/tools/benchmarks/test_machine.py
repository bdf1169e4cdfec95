"""What is said of the machine beside the figures."""

from laboratory.benchmarks import machine

# Label, user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice: proc_stat(5).
BEFORE = "cpu  100 10 20 5000 300 1 2 7 90 9\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
AFTER = "cpu  160 10 30 5900 400 1 2 37 140 9\ncpu0 2 2 2 2 2 2 2 2 2 2\n"


def test_what_the_host_takes_is_a_share_of_the_time_that_was_wanted(tmp_path, monkeypatch):
    times = tmp_path / "stat"
    monkeypatch.setattr(machine, "_TIMES", times)
    times.write_text(BEFORE)
    taken = machine.TakenTime()
    times.write_text(AFTER)
    # 60 of the user, 10 of the system and 30 taken: idle time, waiting and guests' time are none of it.
    assert taken.note() == "the host took 30% of the processor time that was wanted"


def test_a_system_that_does_not_say_is_not_guessed(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_TIMES", tmp_path / "nothing")
    assert machine.TakenTime().note() is None
