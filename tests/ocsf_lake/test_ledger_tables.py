"""The ledger's tables are in many modules, and whoever imports one of them has all."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest
import sqlalchemy as sa

from ocsf_lake.ledger import tables

MODULES = [module.name for module in pkgutil.iter_modules(tables.__path__)]


def test_the_package_names_every_table_of_its_modules() -> None:
    named = {getattr(tables, name) for name in tables.__all__ if isinstance(getattr(tables, name), sa.Table)}
    for name in MODULES:
        module = importlib.import_module(f"{tables.__name__}.{name}")
        assert {value for value in vars(module).values() if isinstance(value, sa.Table)} <= named, name
    assert set(tables.METADATA.tables.values()) == named - {tables.OBJECTS}  # which is a view


@pytest.mark.slow
@pytest.mark.parametrize("module", ["", ".alerts"])
def test_whoever_imports_one_module_has_all_tables(module: str) -> None:
    code = f"import {tables.__name__}{module}, sys; print(len(sys.modules['{tables.__name__}'].METADATA.tables))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(shown) == len(tables.METADATA.tables)
