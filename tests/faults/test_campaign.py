"""The short form of the fault campaign; `python tests/faults/campaign.py long` is the long one."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


def test_no_fault_of_the_short_campaign_fails():
    script = Path(__file__).with_name("campaign.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=800)
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-3000:]
