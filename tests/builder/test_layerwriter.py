"""The thread that writes layers behind the next step's back."""

import functools
import threading

from builder.solving.layerwriter import LayerWriter


def test_jobs_run_in_order_and_finish_waits_for_them() -> None:
    done: list[int] = []
    writer = LayerWriter("test", lambda error: None, lambda: None)
    for number in range(50):
        writer.add(functools.partial(done.append, number), lambda error: None)
    writer.finish()
    assert done == list(range(50))


def test_without_jobs_no_thread_is_started() -> None:
    writer = LayerWriter("layers of nothing", lambda error: None, lambda: None)
    assert "layers of nothing" not in {thread.name for thread in threading.enumerate()}
    writer.finish()


def test_jobs_after_a_failed_one_fail_with_its_error_and_do_not_run() -> None:
    told: list[BaseException] = []
    failed: list[BaseException] = []
    ran: list[str] = []
    writer = LayerWriter("test", told.append, lambda: None)

    def broken() -> None:
        raise OSError("disk on fire")

    writer.add(lambda: ran.append("first"), failed.append)
    writer.add(broken, failed.append)
    writer.add(lambda: ran.append("third"), failed.append)
    writer.finish()
    assert ran == ["first"]
    assert [str(error) for error in failed] == ["disk on fire", "disk on fire"]
    assert [str(error) for error in told] == ["disk on fire"]
