"""The list of planted faults fits the library's text; whether the tests notice them is for the command to tell."""

import pathlib

import pytest

from experiments.faults import FAULTS

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.what for fault in FAULTS])
def test_what_is_replaced_occurs_once_and_its_tests_exist(fault):
    assert (ROOT / fault.file).read_text().count(fault.old) == 1
    assert fault.new != fault.old
    file, _, name = fault.tests.split(" ")[0].partition("::")
    assert f"def {name.split('[')[0]}(" in (ROOT / file).read_text()
