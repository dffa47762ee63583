"""``rendezvous status``: figures, a request's tree, and servers that are not there."""

import pytest

from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_server.status import figures, main, tree
from rendezvous_testing.ports import free_port


def test_a_request_is_drawn_below_what_opened_it() -> None:
    reply = pb.ShowReply(
        known=True,
        branches=[
            pb.Branch(bid=1, service="notifier", region="eu", work="rpc", state="closed"),
            pb.Branch(bid=2, parent=1, service="reader", region="us", work="rpc", state="adopted"),
            pb.Branch(bid=3, zone=":0", work="task", state="open"),
        ],
        positions={"rAAAAAAAAAAA": 47},
        links=["B" * 22],
    )
    assert tree("R", reply) == [
        "request R",
        "├ rpc notifier eu: closed",
        "│ └ rpc reader us: adopted",
        "└ task : open zone :0",
        "wrote rAAAAAAAAAAA at 47",
        f"continues {'B' * 22}",
    ]


def test_figures_name_the_log() -> None:
    assert figures(pb.StatusReply(log="L", index=3, holes=1))[0].endswith("L at 3")


def test_a_server_that_is_not_there_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    target = f"127.0.0.1:{free_port()}"
    assert main(["--server", target]) == 1
    assert target in capsys.readouterr().err
