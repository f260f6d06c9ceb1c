"""Tests of the module. Bare: `python3 -m unittest test_heaptape`. In a recording, the harness runs this file as a program and looks at the markers."""

import asyncio
import sys
import unittest

import heaptape


class Bare(unittest.TestCase):
    def test_without_a_recorder_nothing_happens(self):
        self.assertFalse(heaptape.is_recording())
        heaptape.mark("nothing")
        heaptape.start()
        heaptape.stop()
        self.assertFalse(heaptape.is_recording())
        self.assertNotIn("_ctypes", set(sys.modules) - BEFORE)

    def test_a_span_lets_results_and_exceptions_pass(self):
        @heaptape.span("work")
        def work(number):
            """Docs."""
            if number < 0:
                raise ValueError(number)
            return number + 1

        @heaptape.span("coroutine")
        async def coroutine(number):
            await asyncio.sleep(0)
            return work(number)

        self.assertEqual(work(1), 2)
        self.assertEqual((work.__name__, work.__doc__), ("work", "Docs."))
        with self.assertRaises(ValueError):
            work(-1)
        self.assertEqual(asyncio.run(coroutine(5)), 6)
        with heaptape.span("plain") as span:
            self.assertEqual(span.name, "plain")


BEFORE = set(sys.modules)


def recorded():
    assert heaptape.is_recording()
    heaptape.mark("first")
    with heaptape.span("work"):
        pass
    heaptape.stop()
    assert not heaptape.is_recording()
    hidden = [bytearray(70001)]
    heaptape.start()
    seen = [bytearray(70003)]
    heaptape.mark("z\u00fcrich \udcff\0end")
    print(len(hidden[0]), len(seen[0]))


if __name__ == "__main__":
    if sys.argv[1:] == ["recorded"]:
        recorded()
    else:
        unittest.main()
