"""CRC-32C, TensorFlow's checksum, of megabytes in numpy alone: Python, byte by byte, would take minutes.

A checksum is a state of 32 bits that moves on with each bit of the data, and every such move is linear over GF(2). So
the data are cut into equally long lanes, which move on side by side, 16 bits at a step. Neighbours are then joined: the
state of the one in front moves on by as many zeros as the lane behind it is long, which is one product with a matrix,
and the two are added. Zeros in front of all data change nothing, which rounds lengths up.

Source: RFC 3720, appendix B.4 (Castagnoli's polynomial); LevelDB's `crc32c.h` for the mask.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78  # reflected
_START = (84, 100, 31, 100)  # what makes a state of ones, with which a checksum begins, of zero
_LANES = 16384  # so many that a step of numpy is worth its call, and few enough for the processor's caches
_SHORTEST_LANE = 5  # as a power of two, in bytes
_BITS_IN_BYTE = 3  # as a power of two

States = NDArray[np.uint32]


def masked_crc32c(data: NDArray[np.uint8]) -> int:
    """The checksum as TensorFlow stores it: of data that may hold checksums themselves."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: NDArray[np.uint8]) -> int:
    """The checksum of bytes.

    >>> hex(crc32c(np.frombuffer(b"123456789", np.uint8)))
    '0xe3069283'
    """
    exponent = max(_SHORTEST_LANE, (data.size // _LANES).bit_length())
    lanes = -(-(len(_START) + data.size) // 2**exponent)
    padded = np.zeros(lanes * 2**exponent, np.uint8)
    begin = padded.size - data.size
    padded[begin:] = data
    padded[begin - len(_START) : begin] = _START
    states = _lane_states(padded.view("<u2").reshape(lanes, -1))
    while states.size > 1:
        if states.size % 2:
            states = np.concatenate([np.zeros(1, np.uint32), states])
        states = _moved_on(states[::2], exponent + _BITS_IN_BYTE) ^ states[1::2]
        exponent += 1
    return int(states[0]) ^ 0xFFFFFFFF


def _lane_states(words: NDArray[np.uint16]) -> States:
    """What each lane, a row of words, makes of a state of zero."""
    table, states = _word_table(), np.zeros(len(words), np.uint32)
    for column in np.ascontiguousarray(words.T):
        states = table[(states & 0xFFFF) ^ column] ^ (states >> 16)
    return states


@lru_cache(maxsize=1)
def _word_table() -> States:
    return _combinations(_columns(4)[:16])


def _moved_on(states: States, exponent: int) -> States:
    """States behind 2 to the `exponent` zero bits."""
    by_byte = _byte_tables(exponent)
    moved = by_byte[0][states & 0xFF]
    for number in range(1, 4):
        moved = moved ^ by_byte[number][states >> (8 * number) & 0xFF]
    return moved


@lru_cache(maxsize=64)
def _byte_tables(exponent: int) -> tuple[States, ...]:
    """What each byte of a state becomes behind so many zeros; their sum is what the state becomes."""
    columns = _columns(exponent)
    return tuple(_combinations(columns[start : start + 8]) for start in range(0, 32, 8))


@lru_cache(maxsize=64)
def _columns(exponent: int) -> States:
    """The matrix of moving on by 2 to the `exponent` zero bits: what becomes of each bit of a state."""
    if exponent == 0:
        return np.array([_POLYNOMIAL, *(1 << bit for bit in range(31))], np.uint32)
    return _moved_on(_columns(exponent - 1), exponent - 1)


def _combinations(columns: States) -> States:
    """For each number, the sum of the columns that its bits name."""
    table = np.zeros(1, np.uint32)
    for column in columns:
        table = np.concatenate([table, table ^ column])
    return table
