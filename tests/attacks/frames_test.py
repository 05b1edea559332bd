"""The examples of RFC 7541, appendix C, and round trips: what writes and reads the frames of group H2 is right itself.

Run as a program, also before each merge.
"""

import random
import unittest

import frames
from frames import Decoder, Fault, Reader

FIRST = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")]


class Hpack(unittest.TestCase):
    def test_examples(self):
        for name, blocks in [("C.3", ["828684410f7777772e6578616d706c652e636f6d", "828684be58086e6f2d6361636865"]),
                             ("C.4", ["828684418cf1e3c2e5f23a6ba0ab90f4ff", "828684be5886a8eb10649cbf"])]:
            with self.subTest(name):
                decoder = Decoder()
                self.assertEqual(decoder.decode(bytes.fromhex(blocks[0])), FIRST)
                self.assertEqual(decoder.decode(bytes.fromhex(blocks[1])), [*FIRST, ("cache-control", "no-cache")])
                self.assertEqual(decoder.size, 110)

    def test_integers(self):
        self.assertEqual(frames.integer(1337, 5), bytes.fromhex("1f9a0a"))
        for value in [0, 30, 31, 127, 128, 65535, 1 << 30]:
            self.assertEqual(Decoder.integer(frames.integer(value, 5), 0, 5), (value, len(frames.integer(value, 5))))

    def test_strings(self):
        rng = random.Random(1)
        for size in range(80):
            text = rng.randbytes(size)
            self.assertEqual(frames.unhuffman(frames.huffman(text)), text)

    def test_faults(self):
        for broken in ["80", "be", "0001788100", "000178820fff", "3fe2ff7f", "8220", "00017884ffffffff", "0001"]:
            with self.subTest(broken), self.assertRaises(Fault):
                Decoder().decode(bytes.fromhex(broken))

    def test_a_smaller_table_is_owed(self):
        decoder = Decoder()
        decoder.set(0)
        with self.assertRaises(Fault):
            decoder.decode(frames.indexed(2))
        decoder = Decoder()
        decoder.set(0)
        self.assertEqual(decoder.decode(frames.table_size(0) + frames.indexed(2)), [(":method", "GET")])


class Frames(unittest.TestCase):
    def test_pieces(self):
        data = frames.headers(1, frames.block(FIRST), pieces=3) + frames.data(1, b"x" * 40_000, True) + frames.ping()
        whole, found, reader = list(Reader().feed(data)), [], Reader()
        for byte in data:
            found += reader.feed(bytes([byte]))
        for read in [whole, found]:
            self.assertEqual([one.kind for one in read], [frames.HEADERS, 0, 0, 0, frames.PING])
            self.assertEqual(read[0].fields, FIRST)
            self.assertEqual([one.ends() for one in read], [True, False, False, True, False])

    def test_faults(self):
        for data in [frames.frame(frames.DATA, 0, 1, bytes(16385)), frames.frame(frames.CONTINUATION, 4, 1),
                     frames.frame(frames.HEADERS, 0, 1) + frames.ping()]:
            with self.assertRaises(Fault):
                list(Reader().feed(data))


if __name__ == "__main__":
    unittest.main(verbosity=0)
