"""Reads the pictures of QR codes as a phone does: painted into pixels, and given to ZXing, which knows nothing of ours."""

import re
import struct
import zlib

import zxingcpp


def text_of_png(png: bytes) -> str:
    """Of a grey PNG of one bit a pixel, with the filters None and Up."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, at = {}, 8
    while at < len(png):
        length = struct.unpack(">I", png[at : at + 4])[0]
        kind = png[at + 4 : at + 8]
        chunks[kind] = chunks.get(kind, b"") + png[at + 8 : at + 8 + length]
        at += 12 + length
    width, height, depth, colours = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert (depth, colours) == (1, 0)
    rows = zlib.decompress(chunks[b"IDAT"])
    step = 1 + (width + 7) // 8
    pixels = bytearray()
    above = bytes(step - 1)
    for top in range(0, height * step, step):
        row = rows[top + 1 : top + step]
        assert rows[top] in {0, 2}
        above = row if rows[top] == 0 else bytes((a + b) % 256 for a, b in zip(row, above, strict=True))
        bits = "".join(f"{byte:08b}" for byte in above)[:width]
        pixels += bytes(255 * int(bit) for bit in bits)
    return _read(bytes(pixels), width, height)


def size_of_png(png: bytes) -> tuple[int, int]:
    return struct.unpack(">II", png[16:24])


def text_of_svg(svg: str, scale: int = 4) -> str:
    """Of a path that consists of horizontal lines, one module thick."""
    side = int(re.search(r'viewBox="0 0 (\d+) \1"', svg)[1])
    path = re.search(r'class="qrline"[^>]* d="([^"]*)"', svg)[1]
    modules = [bytearray(b"\xff" * side) for _ in range(side)]
    x = y = 0.0
    for command, numbers in re.findall(r"([Mmh])([-\d. ]*)", path):
        values = [float(number) for number in re.findall(r"-?[\d.]+", numbers)]
        if command == "M":
            x, y = values
        elif command == "m":
            x, y = x + values[0], y + values[1]
        else:
            for column in range(int(x), int(x + values[0])):
                modules[int(y)][column] = 0
            x += values[0]
    rows = [bytes(value for value in row for _ in range(scale)) for row in modules]
    return _read(b"".join(row for row in rows for _ in range(scale)), side * scale, side * scale)


def _read(pixels: bytes, width: int, height: int) -> str:
    (code,) = zxingcpp.read_barcodes(memoryview(pixels).cast("B", shape=[height, width]))
    assert code.valid
    return code.text
