import subprocess
import sys

LOOKS = """
import gc
looked = []
gc.callbacks.append(lambda phase, info: looked.append(info["generation"]))
import bot.__main__
print(2 in looked, gc.isenabled(), gc.get_freeze_count() > 100_000)
"""


def test_what_imports_make_is_not_looked_through_for_garbage():
    ran = subprocess.run([sys.executable, "-c", LOOKS], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False True True"
