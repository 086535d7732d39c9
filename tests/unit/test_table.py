"""Tables for people: as wide as the terminal, never wrapped, the least important columns left out first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_monitor.text.table import Cell, Column, laid_out, plain, unique_beginning
from ha_monitor.text.terminal import Painted
from ha_monitor.text.visible import columns, unescaped, visible

HEADER = [
    Column("ID", 0, 9, grows_last=True),
    Column("STATE", 1),
    Column("EXCEPTION", 2, 10),
    Column("RUNS", 3, right=True),
]
ROWS: list[list[Cell]] = [
    ["8d3b9c4e-1f0a-4b7e-9a51", Painted("FAILURE", "31"), "ValueError('no money')", "12"],
    ["8d3c", "SUCCESS", "", "1"],
]


def drawn(width: int | None, rows: list[list[Cell]] | None = None, *, legend: bool = True) -> list[str]:
    return plain(laid_out(HEADER, ROWS if rows is None else rows, visible, width=width, legend=legend))


def test_without_a_limit_all_is_shown() -> None:
    """Given a pipe, all columns are there, and whole."""
    assert drawn(None) == [
        "ID                       STATE    EXCEPTION               RUNS",
        "8d3b9c4e-1f0a-4b7e-9a51  FAILURE  ValueError('no money')    12",
        "8d3c                     SUCCESS                             1",
    ]


@pytest.mark.parametrize(
    ("width", "row"),
    [
        (80, "8d3b9c4e-1f0a-4b7e-9a51  FAILURE  ValueError('no money')    12"),
        # Of an id the beginning is enough, so that it gets room last.
        (50, "8d3b9c4e-1…  FAILURE  ValueError('no money')    12"),
        # An important text is rather read than a less important number.
        (40, "8d3b9c4e…  FAILURE  ValueError('no mone…"),
        (32, "8d3b9c4e…  FAILURE  ValueError(…"),
        (20, "8d3b9c4e-1…  FAILURE"),
        (10, "8d3b9c4e-…"),
        (4, "8d3…"),
    ],
)
def test_the_least_important_columns_go_first(width: int, row: str) -> None:
    """Given a narrow terminal, texts are cut that may be, and columns left out, the least important first."""
    assert drawn(width)[1] == row


def test_a_column_without_a_value_takes_no_room() -> None:
    """Given no exception at all, a terminal has no column for them."""
    assert drawn(80, [["a", "SUCCESS", "", "1"]]) == ["ID  STATE    RUNS", "a   SUCCESS     1"]


def test_without_a_legend() -> None:
    """Given no legend, there are no headers, and columns are no wider for them."""
    assert drawn(80, [["a", "b", "c", "1"]], legend=False) == ["a  b  c  1"]
    assert drawn(80, [], legend=False) == []


def test_colours_are_of_the_text_alone() -> None:
    """Given a coloured state, the blanks around it have no colour."""
    assert Painted("FAILURE", "31") in laid_out(HEADER, ROWS, visible, width=80)[1]


@given(st.lists(st.lists(st.text(max_size=20), min_size=4, max_size=4), max_size=4), st.integers(1, 90))
def test_no_row_is_wider_than_the_terminal(rows: list[list[str]], width: int) -> None:
    """Given any texts, also of wide, combining and control characters, no row is wider than the terminal, and no
    character of it is one that a terminal obeys."""
    for row in plain(laid_out(HEADER, rows, visible, width=width)):
        assert columns(row) <= width
        assert visible(row) == row


def test_what_tells_ids_apart() -> None:
    """Given ids, the shortest beginnings that tell them apart, but not shorter than asked for."""
    assert unique_beginning(["abc1", "abd1", "x"], 2) == 3
    assert unique_beginning(["order-2026-1", "order-2026-2"], 8) == 12
    assert unique_beginning(["a", "abc"], 1) == 2
    assert unique_beginning([], 8) == 8


@given(st.text(alphabet=st.characters(blacklist_characters="\\"), max_size=20))
def test_what_was_escaped_can_be_typed(text: str) -> None:
    """Given a text as a terminal shows it, the text itself can be told from it."""
    assert unescaped(visible(text)) == text
