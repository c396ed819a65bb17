"""Engines are made once a thread, and a thread that ends leaves its own to the next."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

from ocsf_lake.ingest import engines
from ocsf_mappers import DEFAULT_VERSION, Engine, Mapper, registry


def in_a_thread(mapper: Mapper) -> Engine:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(engines.engine, mapper, DEFAULT_VERSION).result()


def test_threads_at_the_same_time_have_engines_of_their_own_and_leave_them() -> None:
    mapper, both = registry.load("aws_vpc_flow"), Barrier(2)

    def taken() -> Engine:
        found = engines.engine(mapper, DEFAULT_VERSION)
        both.wait(30)
        assert engines.engine(mapper, DEFAULT_VERSION) is found
        return found

    with ThreadPoolExecutor(2) as pool:
        one, other = [future.result() for future in [pool.submit(taken), pool.submit(taken)]]
    assert one is not other
    assert in_a_thread(mapper) in (one, other)


def test_of_a_source_one_other_mapper_stays() -> None:
    first = registry.load("aws_vpc_flow")
    others = [replace(first) for _ in range(3)]
    found = [engines.engine(mapper, DEFAULT_VERSION) for mapper in (first, *others)]
    assert len(set(map(id, found))) == 4
    assert engines.engine(others[-1], DEFAULT_VERSION) is found[-1]
    assert engines.engine(others[-2], DEFAULT_VERSION) is found[-2]
    assert engines.engine(first, DEFAULT_VERSION) is not found[0]
