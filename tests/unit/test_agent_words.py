"""What an agent says, to readers that are slow or gone."""

import os

from launch.agent.words import Words


def test_what_finds_no_room_is_lost_and_counted():
    reading, writing = os.pipe()
    words = Words(writing)
    os.write(writing, b"." * (1 << 16))

    words.say("one")
    words.say("two")
    os.read(reading, 1 << 16)
    words.say("three")
    words.say("four")

    said = os.read(reading, 1 << 16)
    assert said == b"agent: 2 sentences that nobody read are lost; three\nagent: four\n"
    os.close(reading)
    os.close(writing)


def test_a_long_sentence_is_cut_to_what_a_pipe_takes_at_once():
    reading, writing = os.pipe()

    Words(writing).say("long " * 10_000)

    said = os.read(reading, 1 << 16)
    assert (len(said), said[-1:]) == (4096, b"\n")
    os.close(reading)
    os.close(writing)


def test_a_reader_who_has_gone_is_no_trouble():
    reading, writing = os.pipe()
    os.close(reading)

    Words(writing).say("anybody?")

    os.close(writing)
