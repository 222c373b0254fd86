"""Every network family, without PyTorch: golden values, exact conversion, and folding."""

import numpy as np
import pytest

from ports.architectures import ARCHITECTURES
from ports.convert import convert, export
from tests.golden.make_ports import CASES, COMPUTED, FILE, run, tensors


@pytest.fixture(scope="module")
def golden():
    with np.load(FILE) as arrays:
        return dict(arrays)


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize("name", COMPUTED)
def test_golden_embeddings_and_gradients(name, golden):
    embeddings, gradient = run(CASES[name])
    np.testing.assert_allclose(embeddings, golden[f"{name}/embeddings"], rtol=1e-9, atol=1e-9)
    expected = golden[f"{name}/gradient"]
    np.testing.assert_allclose(gradient[:, ::5, ::5], expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_conversion_is_exact_both_ways(name):
    case = CASES[name]
    source = tensors(case)
    back = export(convert(source, case.table, case.abstract()), case.table)
    assert back.keys() == source.keys()
    for key, tensor in source.items():
        np.testing.assert_array_equal(back[key], tensor, err_msg=key, strict=True)


def test_every_family_has_a_golden_case():
    # the black boxes and SFace, dlib have golden values of their own runtimes elsewhere
    elsewhere = {"sface", "dlib_resnet", "frfeat", "expo", "faceres"}
    tables = {id(case.build) for case in CASES.values()}
    for name, known in ARCHITECTURES.items():
        build = getattr(known.build, "func", known.build)
        assert id(build) in tables or build.__module__.split(".")[-1] in elsewhere, name
