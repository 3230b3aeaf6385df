"""Sentences for what happens to anyone."""

from __future__ import annotations

import errno

import pytest
import torch

from LASegColearnLib.errors import InputError, Problem, is_out_of_memory, recorded_sentence, sentence_for


def test_what_is_kept_names_ids_and_settings_and_no_files() -> None:
    names = ("case_001", "Müller_Jörg_1961.nrrd", "batch_parts", "Mueller.nii.gz")
    kept = recorded_sentence(InputError([Problem(name, "Wanted b.", "Do d.") for name in names]))
    assert (
        kept
        == "The input could not be used (case_001, batch_parts). The reason was shown where the command was started."
    )
    alone = recorded_sentence(InputError(Problem("Mueller.nii.gz", "Wanted b.", "Do d.")))
    assert alone == "The input could not be used. The reason was shown where the command was started."


def _of_windows(number: int) -> OSError:
    """As Windows raises it; elsewhere errors have no such number."""
    error = OSError(errno.EINVAL, "a library in secret path")
    error.winerror = number
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            InputError([Problem("a", "Wanted b, found c.", "Do d."), Problem("e", "F.", "G.")]),
            "a: Wanted b, found c. Do d.",
        ),
        (MemoryError(), "not enough memory"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), "filters=8"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "not enough memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "not enough memory"),
        (RuntimeError("Invalid buffer size: 19.45 GB"), "not enough memory"),
        (_of_windows(1455), "not enough memory"),
        (_of_windows(126), "Install the Microsoft Visual C++ Redistributable"),
        (_of_windows(1114), "Install the Microsoft Visual C++ Redistributable"),
        (OSError(errno.ENOSPC, "No space left on device"), "no space left on the disk"),
        (
            PermissionError(errno.EACCES, "Permission denied", "secret path"),
            "may not be read or written. Ask for access",
        ),
        (PermissionError(errno.EPERM, "Not permitted", "secret path"), "may not be read or written. Ask for access"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "secret path"), "Your disk quota is used up. Delete"),
        (OSError(errno.EIO, "Input/output error", "secret path"), "reports errors. Reconnect it"),
        (OSError(errno.ESTALE, "Stale file handle", "secret path"), "reports errors. Reconnect it"),
        (OSError(errno.EROFS, "Read-only file system", "secret path"), "The disk cannot be written to. Choose"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "secret path"), "Wanted a folder where there is a file."),
        (FileExistsError(errno.EEXIST, "File exists", "secret path"), "Wanted a folder where there is a file."),
        (OSError(errno.ENAMETOOLONG, "File name too long", "secret path"), "longer than this system allows"),
        (ZeroDivisionError("secret path"), "Something unexpected went wrong (ZeroDivisionError)"),
    ],
)
def test_every_error_has_a_sentence(error: Exception, said: str) -> None:
    assert said in sentence_for(error)
    assert "secret" not in sentence_for(error)


def test_want_of_memory_is_known_in_what_another_library_makes_of_it() -> None:
    wrapped = RuntimeError("patch size (64, 64, 48), mode=gaussian, sigma_scale=0.125, device=cuda:0")
    assert not is_out_of_memory(wrapped)
    wrapped.__cause__ = torch.OutOfMemoryError("CUDA out of memory.")
    assert is_out_of_memory(wrapped)
