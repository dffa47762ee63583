"""A question's budget ends before the read's patience: a call that is slow is no sidecar that is silent."""

from rendezvous_api.event import Fail
from rendezvous_api.ids import Bid
from rendezvous_api.limits import RESOLVE_BUDGET_S
from rendezvous_instrumentation.shell.current import Scope
from rendezvous_instrumentation.shell.resolves import question_for
from rendezvous_sidecar.limits import ANSWER_GRACE_S
from rendezvous_testing.channel_peer import Listener
from rendezvous_testing.inside import Start
from rendezvous_testing.replicated import eventually


def test_timed_out_is_told_in_time_even_where_the_sidecar_must_say_it(
    start: Start, sidecar: Listener
) -> None:
    us = start(sidecar=sidecar.path)
    with us.request() as cell:
        us.us.event(cell, us.us.new_bid(), Fail())  # the first event connects
        peer = sidecar.accept()
        eventually(lambda: us.us.link.connected)
        cell.unresolved.add(Bid(99))
        question_for(us.us, Scope(cell))
        asked = peer.read_ask()
    us.us.link.close()
    assert asked.budget_ms / 1000 + ANSWER_GRACE_S < RESOLVE_BUDGET_S
