"""The benchmark runs every way and says what each is over the first."""

import re
from collections.abc import Callable

from tests.verbs import Ended, script


def test_every_way_is_measured_beside_the_sequential_network(command: Callable[..., Ended]) -> None:
    ended = command(
        script("depth_parallel.py"), "--pixels", "32", "--frames", "3", "--turns", "1", "--sub-networks", "3"
    )
    assert ended.code == 0, ended.err
    rows = re.findall(r"^\| (.+?) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| (\d) \|$", ended.out, flags=re.MULTILINE)
    assert [(row[0], row[4]) for row in rows] == [
        ("sequential, one thread", "0"),
        ("sequential, two intra-op threads", "0"),
        ("2 sub-networks, a thread each", "1"),
        ("3 sub-networks, a thread each", "2"),
    ]
    assert rows[0][2] == "1.00"
    first = float(rows[0][1])
    assert all(abs(float(row[1]) / first - float(row[2])) < 0.02 + 0.1 / first for row in rows)
