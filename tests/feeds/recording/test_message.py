import copy
import pickle
import re
from pathlib import Path

import pytest

import feeds.recording.message as message_module
from feeds.recording import DRAINED, LAST_IN_BATCH, Kind, RawMessage

VALUES = {"ts_recv": 7, "source": 2, "flags": Kind.REPLY, "tag": "BTCUSDT", "payload": b"{}"}


def message(**changes):
    return RawMessage(**(VALUES | changes))


def test_constants_in_c_and_python_agree():
    declarations = Path(message_module.__file__).with_name("message.pxd").read_text()
    in_c = {name: int(value, 0) for name, value in re.findall(r"^    (\w+) = (\w+)", declarations, re.MULTILINE)}
    in_python = {f"KIND_{kind.name}": kind.value for kind in Kind}
    assert in_c == {"KIND_MASK": 0xFF, "LAST_IN_BATCH": LAST_IN_BATCH, "DRAINED": DRAINED} | in_python
    assert (LAST_IN_BATCH, DRAINED) == (0x100, 0x200)


def test_fields_are_kept_and_cannot_be_set():
    m = message()
    assert {name: getattr(m, name) for name in VALUES} == VALUES
    for name in VALUES:
        with pytest.raises(AttributeError):
            setattr(m, name, VALUES[name])


@pytest.mark.parametrize(
    "change", [{"ts_recv": 8}, {"source": 3}, {"flags": Kind.TEXT}, {"tag": "ETHUSDT"}, {"payload": b"[]"}]
)
def test_messages_are_equal_when_all_five_values_are(change):
    assert message() == message()
    assert hash(message()) == hash(message())
    assert message() != message(**change)
    assert message() != (7, 2, Kind.REPLY, "BTCUSDT", b"{}")


def test_copies_are_equal():
    assert pickle.loads(pickle.dumps(message())) == message()
    assert copy.deepcopy(message()) == message()


def test_kind_and_bits():
    assert message(flags=Kind.TEXT | LAST_IN_BATCH).kind is Kind.TEXT
    assert message(flags=Kind.TEXT | LAST_IN_BATCH).last_in_batch
    assert not message(flags=Kind.TEXT | DRAINED).last_in_batch
    unknown = message(flags=77 | 0x1000)
    assert unknown.kind == 77
    assert not isinstance(unknown.kind, Kind)


def test_repr_names_the_flags_and_shows_the_beginning():
    assert repr(message()) == "<RawMessage 7 source=2 REPLY tag='BTCUSDT' b'{}'>"
    long = message(flags=Kind.TEXT | LAST_IN_BATCH | DRAINED, tag="", payload=b"x" * 1000)
    assert repr(long) == f"<RawMessage 7 source=2 TEXT|LAST_IN_BATCH|DRAINED b'{'x' * 40}'... 1000 bytes>"
    assert "77|0x1000" in repr(message(flags=77 | 0x1000))


def test_wrong_types_are_refused():
    with pytest.raises(TypeError):
        message(payload="{}")
    with pytest.raises(TypeError):
        message(tag=None)
    with pytest.raises(OverflowError):
        message(ts_recv=1 << 63)
