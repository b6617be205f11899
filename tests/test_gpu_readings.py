import pytest

from bot.gpu_readings import Gpu, pci_key


@pytest.mark.parametrize("written", ["00000000:3B:00.0", "0000:3b:00.0", "PCI:0000:3b:00", "0000:3B:00", "3b:00"])
def test_one_address_has_many_spellings(written):
    assert pci_key(written) == "0000:3b:00"


def test_domains_are_told_apart():
    assert pci_key("00010000:3B:00.0") == "10000:3b:00"
    assert pci_key("0009:01:00") == "0009:01:00"


def test_what_is_no_address_is_left_as_it_is():
    assert pci_key("N/A") == "n/a"


def test_a_gpu_is_named_by_what_is_known_of_it():
    uuid = "GPU-8128e920-19ed-f13e-6774-229cb9ff00df"
    assert Gpu(3, uuid=uuid, pci="00000000:3B:00.0").label == "GPU 3 (GPU-8128e920, 3b:00)"
    assert Gpu(3).label == "GPU 3"
