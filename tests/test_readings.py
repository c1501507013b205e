"""What a worker reads of itself, at any moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

READS = """
import importlib, sys, threading
from modescape.readings import Reader
begun, go_on = threading.Event(), threading.Event()
sys.modules["waits"] = type(sys)("waits")
sys.modules["waits"].begun, sys.modules["waits"].go_on = begun, go_on
loading = threading.Thread(target=importlib.import_module, args=("torch",))
loading.start()
begun.wait(10)
assert "torch" in sys.modules
print(sorted(Reader().read()))
go_on.set()
loading.join()
print(sorted(Reader().read()))
"""
TORCH = """
import waits
waits.begun.set()
waits.go_on.wait(10)
from torch import cuda
"""
CUDA = """
def is_available(): return True
is_initialized = is_available
def mem_get_info(): return 1, 3
def memory_reserved(): return 1
"""


def test_a_worker_is_read_while_torch_is_being_loaded(tmp_path: Path) -> None:
    """Seconds, in which its reaper must go on."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(TORCH, encoding="utf-8")
    (tmp_path / "torch" / "cuda.py").write_text(CUDA, encoding="utf-8")
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{READS}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    before, after = done.stdout.splitlines()
    assert before == "['cpu', 'memory_bytes']"
    assert "gpu_memory_bytes" in after
