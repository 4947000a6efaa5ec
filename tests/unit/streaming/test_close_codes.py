"""The table of close codes."""

from streaming.close_codes import ClientAction, CloseCode


def test_table_is_that_of_the_protocol() -> None:
    assert {(each.code, each.action) for each in CloseCode} == {
        (1000, ClientAction.DONE),
        (1001, ClientAction.RECONNECT),
        (1011, ClientAction.RECONNECT),
        (4400, ClientAction.STOP),
        (4401, ClientAction.STOP),
        (4404, ClientAction.STOP),
        (4408, ClientAction.RECONNECT),
        (4429, ClientAction.RECONNECT),
    }


def test_actions_are_said_as_the_protocol_says_them() -> None:
    assert [str(action) for action in ClientAction] == ["done", "reconnect with cursor", "stop"]


def test_every_code_is_one_row_that_may_travel_with_its_meaning_as_reason() -> None:
    assert len({each.code for each in CloseCode}) == len(CloseCode)
    for each in CloseCode:
        assert each.code in (1000, 1001, 1011) or 4000 <= each.code <= 4999
        assert 0 < len(each.meaning.encode()) <= 123
