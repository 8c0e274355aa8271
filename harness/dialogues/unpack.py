"""The bytes of a text file as UTF-8: unpacked, and converted from the encoding that the config states."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import Any

from harness.errors import InputError, first_line
from harness.files import read_bytes

PACKED = (".gz", ".zst")
LARGEST = 2 * 2**30  # bytes of a packed file once unpacked; a small file may otherwise expand beyond all memory
OTHER_ENCODING = "if the file has another encoding, name it in dialogues.encoding (Excel: cp1252)"

_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


def read_text_bytes(path: Path, encoding: str | None) -> bytes:
    """Return a text file's content in UTF-8 without a byte-order mark.

    Without ``encoding``, bytes that are not UTF-8 are left as they are: the reader names their line. Raises InputError
    if the file cannot be read or unpacked, or is not in the encoding stated.
    """
    data = read_bytes(path)
    if path.suffix.lower() in PACKED:
        data = _unpacked(path, data)
    if encoding is None and data.startswith(_UTF16_BOMS):
        encoding = "utf-16"
    if encoding is not None:
        try:
            data = data.decode(encoding).encode("utf-8", errors="surrogatepass")
        except LookupError as error:
            raise InputError(f"dialogues.encoding: '{encoding}' is not an encoding that Python knows.") from error
        except UnicodeError as error:
            start = getattr(error, "start", 0)
            line = data.count(b"\n", 0, start) + 1
            raise InputError(f"{path}, line {line}: not {encoding} text. Check dialogues.encoding.") from error
    return data.removeprefix(_UTF8_BOM)


def _unpacked(path: Path, data: bytes) -> bytes:
    opened: Any
    try:
        if path.suffix.lower() == ".gz":
            opened = gzip.GzipFile(fileobj=io.BytesIO(data))
        else:
            import pyarrow  # the extra 'run' has it; the standard library reads zst only from Python 3.14 on

            opened = pyarrow.CompressedInputStream(pyarrow.BufferReader(data), "zstd")
        with opened:
            unpacked: bytes = opened.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be unpacked ({first_line(error)}).") from error
    if len(unpacked) > LARGEST:
        raise InputError(f"{path} unpacks to more than {LARGEST / 2**30:.3g} GiB. Split it into several files.")
    return unpacked
