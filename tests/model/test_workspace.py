"""Pieces of a workspace do not touch, and are the same memory after a release."""

import pytest
import torch

from peft_sentiment.model.workspace import ALIGNMENT, CHUNK_BYTES, Workspace


def test_pieces_do_not_touch_and_are_aligned() -> None:
    workspace = Workspace()
    pieces = [workspace.take(3, n, dtype=torch.bfloat16) for n in (1, 7, 64)]
    for number, piece in enumerate(pieces):
        piece.fill_(number)
    assert [piece.unique().tolist() for piece in pieces] == [[0], [1], [2]]
    assert all(piece.data_ptr() % ALIGNMENT == 0 for piece in pieces)


def test_released_memory_is_handed_out_again() -> None:
    workspace = Workspace()
    kept = workspace.take(5, dtype=torch.float32)
    place = workspace.mark()
    first = workspace.take(100, dtype=torch.float32).data_ptr()
    workspace.release(place)
    assert workspace.take(50, dtype=torch.float32).data_ptr() == first
    workspace.release()
    assert workspace.take(1, dtype=torch.float32).data_ptr() == kept.data_ptr()


@pytest.mark.parametrize("size", [CHUNK_BYTES - 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 1])
def test_a_piece_may_be_larger_than_what_is_left(size: int) -> None:
    workspace = Workspace()
    before = workspace.take(8, dtype=torch.uint8).fill_(7)
    assert workspace.take(size, dtype=torch.uint8).numel() == size
    assert workspace.take(8, dtype=torch.uint8).fill_(1).sum() == 8
    assert before.sum() == 56


def test_memory_first_taken_in_inference_can_be_written_in_training() -> None:
    workspace = Workspace()
    with torch.inference_mode():
        workspace.take(4, dtype=torch.float32)
    workspace.release()
    workspace.take(4, dtype=torch.float32).fill_(1.0)
